//! The high watermark, acknowledgements and what is shown.

use crate::node::*;
use fastlog_broker::Notice;
use fastlog_protocol::ErrorCode;

#[test]
fn it_stands_still_under_min_insync_replicas_and_acks_all_is_refused() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.write("a");
    second.catch_up(leader);
    third.catch_up(leader);
    assert_eq!(leader.offsets(), (0, 1, 1));
    let sent = leader.produce(ALL, "b");
    leader.partition().set_isr(0, vec![1], vec![1], 1, false).unwrap();
    assert!(sent.is_waiting(), "nothing commits any more");
    assert_eq!(leader.produce(ALL, "c").produced(), (ErrorCode::NOT_ENOUGH_REPLICAS, -1));
    leader.write("d");
    second.catch_up(leader);
    assert_eq!(leader.offsets(), (0, 1, 3), "not even with a copy elsewhere");
    assert_eq!(leader.consume(1).values, [], "what is not committed is not shown");
}

#[test]
fn a_proposed_member_counts_at_once_and_one_that_leaves_until_it_has_left() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    leader.write("a");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 1);
    third.catch_up(leader);
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2, 3], 1, false).unwrap();
    leader.write("b");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 1, "3 is proposed and does not have it");
    third.catch_up(leader);
    assert_eq!(leader.offsets().1, 2);
    let stale = leader.partition().set_isr(0, vec![1], vec![1], 0, false);
    assert_eq!(stale, Err(ErrorCode::INVALID_UPDATE_VERSION));
}

#[test]
fn it_waits_for_a_caught_up_follower_that_is_about_to_join_but_not_for_one_that_is_gone() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    third.catch_up(leader);
    leader.write("a");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 0, "3 was caught up just now");
    leader.broker.set_broker_epochs([(1, broker_epoch(1)), (2, broker_epoch(2))].into());
    assert_eq!(leader.offsets().1, 1);
    leader.broker.set_broker_epochs((1..=3).map(|id| (id, broker_epoch(id))).collect());
    leader.clock.pass_seconds(31);
    leader.write("b");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 2, "3 fell behind");
}

#[test]
fn it_does_not_wait_for_whoever_was_taken_out_before_that_fetches_again() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.write("a");
    second.catch_up(leader);
    third.catch_up(leader);
    // its process is dead, and its session lasts
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    leader.write("b");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 2);
    third.catch_up(leader);
    leader.write("c");
    second.catch_up(leader);
    assert_eq!(leader.offsets().1, 2, "it is back, and about to join");
}

#[test]
fn a_follower_outside_is_told_of_when_it_may_join() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    leader.write("a");
    second.catch_up(leader);
    assert_eq!(leader.broker.notices().drain(), []);
    third.follow(leader);
    assert_eq!(leader.broker.notices().drain(), [], "it has asked and not got it yet");
    third.follow(leader);
    let joinable = Notice::Joinable { topic: "t".into(), index: 0, replica_id: 3 };
    assert_eq!(leader.broker.notices().drain(), [joinable]);
}

#[test]
fn a_new_leader_does_not_tell_its_end_before_its_own_epoch_is_committed() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    first.write("a");
    second.catch_up(first);
    third.catch_up(first);
    assert_eq!((first.latest(), second.offsets()), ((ErrorCode::NONE, 1), (0, 0, 1)));
    trio.elect(2, 1, &[2, 3]);
    assert_eq!(second.latest().0, ErrorCode::OFFSET_NOT_AVAILABLE);
    assert_eq!(second.consume(1).error, ErrorCode::OFFSET_NOT_AVAILABLE, "it was shown by the leader before");
    assert_eq!(second.consume(0).error, ErrorCode::NONE);
    second.broker.set_lease(0);
    assert_eq!(second.latest().0, ErrorCode::OFFSET_NOT_AVAILABLE, "nor without a lease");
    second.broker.set_lease(i64::MAX);
    third.catch_up(second);
    assert_eq!(second.latest(), (ErrorCode::NONE, 1));
    assert_eq!(second.consume(1).error, ErrorCode::NONE);
}
