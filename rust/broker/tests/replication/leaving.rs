//! Leaderships that are given up, high watermarks that are held, replicas that are put away.

use crate::node::*;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::FetchPartition;
use std::path::Path;
use uuid::Uuid;

/// The names of the directories of partitions, those of deleted ones shortened.
fn directories(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap().map(|it| it.unwrap());
    let names = entries.filter(|it| it.file_type().unwrap().is_dir()).map(|it| it.file_name());
    let mut names: Vec<_> = names.map(|it| it.into_string().unwrap()).collect();
    names.iter_mut().filter(|it| it.ends_with("-delete")).for_each(|it| *it = "deleted".to_owned());
    names.sort();
    names
}

#[test]
fn who_resigns_leads_nothing_until_a_later_epoch() {
    let trio = Trio::start();
    let [first, second, _] = &trio.nodes;
    let sent = first.produce(ALL, "a");
    let wanted = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let poll = first.fetch(-1, wanted, 60_000, false);
    assert_eq!((first.broker.resign(), second.broker.resign()), (1, 0));
    assert_eq!(sent.produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(shown(&poll.bytes()).error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!((first.partition().leader_id(), first.partition().leader_epoch()), (-1, 0));
    assert_eq!(first.produce(1, "b").produced().0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let follower = first.fetch(2, second.asks(), 0, true);
    assert_eq!(shown(&follower.bytes()).error, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    first.change(1, 0, &[1, 2, 3]).unwrap();
    assert_eq!(first.latest().0, ErrorCode::NOT_LEADER_OR_FOLLOWER, "the word of its old session");
    assert_eq!(first.broker.resign(), 0);
    first.change(1, 1, &[1, 2]).unwrap();
    assert_eq!(first.write("c"), 1);
}

#[test]
fn a_held_high_watermark_stands_still_until_it_is_let_go() {
    let trio = Trio::start();
    let [leader, second, _] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, true).unwrap();
    leader.write("a");
    let sent = leader.produce(ALL, "b");
    second.catch_up(leader);
    assert_eq!(leader.offsets(), (0, 0, 2), "all in sync have it, but others are eligible who do not");
    assert!(sent.is_waiting());
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 2, false).unwrap();
    assert_eq!(sent.produced(), (ErrorCode::NONE, 1));
    assert_eq!(leader.offsets(), (0, 2, 2));
}

#[test]
fn a_leader_may_be_elected_with_a_held_high_watermark() {
    let trio = Trio::start();
    let leader = &trio.nodes[0];
    leader.change_held(1, 1, &[1, 2], Some(true)).unwrap();
    let [_, second, _] = &trio.nodes;
    second.change(1, 1, &[1, 2]).unwrap();
    leader.write("a");
    second.catch_up(leader);
    assert_eq!(leader.offsets(), (0, 0, 1));
    leader.change_held(1, 2, &[1, 2], None).unwrap();
    second.change(1, 2, &[1, 2]).unwrap();
    second.catch_up(leader);
    assert_eq!(leader.offsets(), (0, 1, 1), "another leadership says it anew");
}

#[test]
fn a_replica_is_put_away_unless_it_is_of_a_later_epoch() {
    let trio = Trio::start();
    let (first, path) = (&trio.nodes[0], trio.directories[0].path());
    first.change(1, 5, &[1, 2]).unwrap();
    first.write("a");
    let poll =
        first.fetch(-1, FetchPartition { fetch_offset: 1, ..FetchPartition::default() }, 60_000, false);
    let delete = |topic_id, leader_epoch| {
        first.logs.delete_replicas("t", topic_id, &[(0, leader_epoch)], false, NOW_MS).unwrap()
    };
    assert_eq!(delete(TOPIC_ID, 4), 0, "an old word");
    assert_eq!(delete(Uuid::from_u128(8), 5), 0, "another topic");
    assert!(poll.is_waiting());
    assert_eq!(directories(path), ["t-0"]);
    assert_eq!(delete(TOPIC_ID, 5), 1);
    assert_eq!(shown(&poll.bytes()).error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(directories(path), ["deleted"]);
    assert_eq!(delete(TOPIC_ID, 5), 0, "again is harmless");
    first.change(2, 6, &[2]).unwrap();
    assert_eq!(first.offsets(), (0, 0, 0), "it comes back empty");
    assert_eq!(directories(path), ["deleted", "t-0"]);
}

#[test]
fn a_replica_that_was_not_opened_yet_is_put_away_too() {
    let trio = Trio::start();
    let Trio { nodes: [first, ..], directories: [directory, ..] } = trio;
    first.write("a");
    first.kill();
    let again = Node::start(1, directory.path());
    let delete =
        |topic_id, index| again.logs.delete_replicas("t", topic_id, &[(index, 0)], true, NOW_MS).unwrap();
    assert_eq!((delete(Uuid::from_u128(8), 0), delete(TOPIC_ID, 1)), (0, 0));
    assert_eq!(directories(directory.path()), ["t-0"]);
    assert_eq!(delete(TOPIC_ID, 0), 1);
    assert_eq!(directories(directory.path()), ["deleted"]);
}
