//! Followers: verbatim copies, truncation by epochs, new starts.

use crate::node::*;
use fastlog_broker::FetchResult;
use fastlog_protocol::ErrorCode;

#[test]
fn what_is_acknowledged_is_on_every_replica_and_followers_learn_it() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    let sent = leader.produce(ALL, "a");
    assert_eq!(leader.offsets(), (0, 0, 1));
    second.follow(leader);
    second.follow(leader);
    assert_eq!(leader.offsets(), (0, 0, 1), "one of two followers has it");
    third.follow(leader);
    third.follow(leader);
    assert_eq!(sent.produced(), (ErrorCode::NONE, 0));
    second.follow(leader);
    third.follow(leader);
    for node in &trio.nodes {
        assert_eq!((node.offsets(), node.records()), ((0, 1, 1), vec![(0, "a".to_owned())]));
    }
    assert_eq!(second.consume(0).values.len(), 1, "a consumer may read from a follower");
}

#[test]
fn a_waiting_follower_hears_of_the_high_watermark_at_once() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    leader.write("a");
    second.follow(leader);
    let poll = leader.fetch(2, second.asks(), 60_000, true);
    third.follow(leader);
    third.follow(leader);
    let told = shown(&poll.bytes());
    assert_eq!((told.error, told.high_watermark, told.values.len()), (ErrorCode::NONE, 1, 0));
}

/// Leader 1 writes what nobody has, 2 leads, then 1 comes back.
#[test]
fn a_log_that_parts_is_cut_by_epochs_and_not_by_the_high_watermark() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    first.write("kept");
    second.catch_up(first);
    third.catch_up(first);
    first.write("lost");
    assert_eq!(second.offsets().1, 0, "its high watermark is older than what was acknowledged");
    trio.elect(2, 1, &[2, 3]);
    second.write("new");
    third.catch_up(second);
    first.catch_up(second);
    let expected = vec![(0, "kept".to_owned()), (1, "new".to_owned())];
    for node in &trio.nodes {
        assert_eq!(node.records(), expected, "node {}", node.id);
    }
}

/// KIP-279: leaders changed quickly, and the logs part in several epochs.
#[test]
fn several_epochs_that_part_are_cut_one_after_another() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    first.write("a0");
    second.catch_up(first);
    third.catch_up(first);
    first.write("b0");
    // 2 leads alone in epoch 1, 1 in epochs 2 and 3: neither knows what the other wrote
    second.change(2, 1, &[2]).unwrap();
    second.write("b1");
    second.write("c1");
    first.change(1, 2, &[1]).unwrap();
    first.write("c2");
    first.change(1, 3, &[1]).unwrap();
    first.write("d3");
    trio.elect(2, 4, &[2]);
    second.write("d4");
    first.catch_up(second);
    third.catch_up(second);
    let expected: Vec<_> = (0..).zip(["a0", "b1", "c1", "d4"].map(str::to_owned)).collect();
    for node in &trio.nodes {
        assert_eq!(node.records(), expected, "node {}", node.id);
    }
}

#[test]
fn a_leader_that_never_wrote_does_not_part_for_ever() {
    let trio = Trio::start();
    let [first, second, third] = &trio.nodes;
    first.write("a");
    second.catch_up(first);
    third.change(3, 1, &[3]).unwrap();
    trio.elect(1, 2, &[1, 2]);
    third.catch_up(first);
    assert_eq!(third.records(), first.records());
}

/// Found by the simulation: such a follower asked with its own epoch for ever, was told that the logs part at its end, and
/// found nothing to cut.
#[test]
fn a_follower_that_led_and_never_wrote_asks_with_the_epoch_of_its_last_record() {
    let trio = Trio::start();
    let [first, second, _] = &trio.nodes;
    first.write("a");
    second.catch_up(first);
    let written_in = second.asks().last_fetched_epoch;
    second.change(2, 1, &[2]).unwrap();
    trio.elect(1, 2, &[1, 2]);
    assert_eq!(second.asks().last_fetched_epoch, written_in);
    assert!(matches!(second.follow(first), FetchResult::Appended(_)), "nothing parts");
}

#[test]
fn a_cut_and_what_is_appended_after_it_survive_a_crash_in_between() {
    let mut trio = Trio::start();
    let [first, second, _] = &trio.nodes;
    first.write("a");
    second.catch_up(first);
    for number in 0..5 {
        first.write(&format!("lost {number}"));
    }
    first.logs.write_checkpoint(fastlog_log::Checkpoint::RecoveryPoint).unwrap();
    second.change(2, 1, &[2]).unwrap();
    second.write("new");
    first.change(2, 1, &[2]).unwrap();
    let told = shown(&second.fetch(1, first.asks(), 0, true).bytes());
    assert_eq!((told.diverging, told.values.len()), (Some((0, 1)), 0));
    let positions = second.partition().replication().followers().clone();
    assert_eq!(positions[&1].log_end_offset, -1, "a position in another history is none");
    assert_eq!(first.follow(second), FetchResult::Diverging(0, 1));
    assert_eq!(first.offsets().2, 1, "cut, and nothing appended");
    let [first, second, third] = trio.nodes;
    first.kill();
    let first = Node::start(1, trio.directories[0].path());
    first.change(2, 1, &[2]).unwrap();
    first.catch_up(&second);
    assert_eq!(first.records(), second.records());
    trio.nodes = [first, second, third];
}

#[test]
fn a_wiped_follower_copies_all_and_one_that_is_too_far_behind_starts_anew() {
    let trio = Trio::start();
    let [leader, second, third] = &trio.nodes;
    for number in 0..5 {
        leader.write(&number.to_string());
    }
    second.catch_up(leader);
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    assert_eq!(leader.offsets().1, 5);
    assert_eq!(leader.logs.delete_records("t", 0, 3).unwrap(), 3);
    second.follow(leader);
    assert_eq!(second.offsets(), (3, 5, 5), "the log start follows");
    assert!(matches!(third.follow(leader), FetchResult::Failed(ErrorCode::OFFSET_OUT_OF_RANGE, _)));
    assert_eq!(third.offsets(), (3, 3, 3));
    third.catch_up(leader);
    assert_eq!(third.records(), leader.records());
}

#[test]
fn an_answer_to_an_older_epoch_or_to_another_offset_changes_nothing() {
    let trio = Trio::start();
    let [leader, second, _] = &trio.nodes;
    leader.write("a");
    let asked = second.asks();
    let answer = leader.fetch(2, asked, 0, true).bytes();
    second.change(1, 1, &[1, 2, 3]).unwrap();
    let refused = second.take(&answer, 0, 0);
    assert!(matches!(refused, FetchResult::Failed(ErrorCode::NOT_LEADER_OR_FOLLOWER, _)), "{refused:?}");
    leader.change(1, 1, &[1, 2, 3]).unwrap();
    second.catch_up(leader);
    let again = second.take(&answer, 1, 0);
    assert!(matches!(again, FetchResult::Failed(ErrorCode::INVALID_REQUEST, _)), "{again:?}");
    assert_eq!(second.records(), [(0, "a".to_owned())]);
}

#[test]
fn damaged_bytes_are_not_stored() {
    let trio = Trio::start();
    let [leader, second, _] = &trio.nodes;
    leader.write("a long value");
    let mut answer = leader.fetch(2, second.asks(), 0, true).bytes();
    let place = answer.windows(4).position(|it| it == b"long").unwrap();
    answer[place] ^= 1;
    let refused = second.take(&answer, 0, 0);
    assert!(matches!(refused, FetchResult::Failed(ErrorCode::CORRUPT_MESSAGE, _)), "{refused:?}");
    assert_eq!(second.offsets(), (0, 0, 0));
}
