//! Deleted records are waited for on every live replica (semantics row 42).

use crate::node::*;
use fastlog_protocol::ErrorCode;
use std::time::Duration;

/// Three records on all three brokers, two of which are deleted.
fn deleted() -> Trio {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    for value in ["a", "b", "c"] {
        leader.write(value);
    }
    second.catch_up(leader);
    third.catch_up(leader);
    assert_eq!(leader.logs.delete_records("t", 0, 2).unwrap(), 2);
    trio
}

fn wait(node: &Node, timeout: Duration) -> Result<i64, ErrorCode> {
    node.broker.wait_deleted(&[("t".to_owned(), 0, 2)], timeout).remove(0)
}

#[test]
fn the_answer_comes_when_the_last_replica_has_told_its_log_start() {
    let trio = deleted();
    let [leader, second, third] = &trio.nodes;
    assert_eq!(wait(leader, Duration::ZERO), Err(ErrorCode::REQUEST_TIMED_OUT));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(leader, PATIENCE));
        second.catch_up(leader);
        assert_eq!(wait(leader, Duration::from_millis(1)), Err(ErrorCode::REQUEST_TIMED_OUT));
        assert!(!waiting.is_finished(), "the third still has them");
        third.catch_up(leader);
        assert_eq!(waiting.join().unwrap(), Ok(2));
    });
    assert_eq!((second.offsets().0, third.offsets().0), (2, 2));
}

#[test]
fn who_does_not_live_is_not_waited_for() {
    let trio = deleted();
    let [leader, second, _] = &trio.nodes;
    second.catch_up(leader);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(leader, PATIENCE));
        leader.broker.set_broker_epochs([1, 2].map(|id| (id, broker_epoch(id))).into());
        assert_eq!(waiting.join().unwrap(), Ok(2));
    });
}

#[test]
fn the_wait_ends_with_the_leadership_and_with_the_broker() {
    let trio = deleted();
    let leader = &trio.nodes[0];
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(leader, PATIENCE));
        leader.change(2, 1, &[2, 3]).unwrap();
        assert_eq!(waiting.join().unwrap(), Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    });
    leader.change(1, 2, &[1, 2, 3]).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(leader, PATIENCE));
        leader.broker.finish_waiting();
        assert_eq!(waiting.join().unwrap(), Err(ErrorCode::REQUEST_TIMED_OUT));
    });
    let absent = leader.broker.wait_deleted(&[("absent".to_owned(), 0, 1)], PATIENCE);
    assert_eq!(absent, [Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
}
