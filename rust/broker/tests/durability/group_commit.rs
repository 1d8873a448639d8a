//! Appends do not wait for the disk; answers and readers do.

use crate::node::*;
use fastlog_broker::BrokerConfig;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{LastStop, LogConfig};
use fastlog_protocol::ErrorCode;
use std::sync::Arc;
use std::time::Duration;

const ALL: i16 = -1;
const LEADER: i16 = 1;
const NONE: i16 = 0;

/// A broker with a synced topic `t` of one record, whose next sync does not end.
fn held() -> Node {
    let node = Node::start(&MemoryFileSystem::new(1));
    node.topic("t", fsync());
    assert_eq!(node.produce("t", ALL, &value("first")).answer(), (ErrorCode::NONE, 0));
    hold(&node);
    node
}

fn hold(node: &Node) {
    node.files.set_faults(Faults { hold_syncs: true, ..Faults::default() });
}

fn release(node: &Node) {
    node.files.set_faults(Faults::default());
}

#[test]
fn many_appends_share_one_sync() {
    let node = held();
    let before = node.files.syncs();
    let first = node.produce("t", ALL, &value("1"));
    eventually("the sync of the first", || node.files.syncs() == before + 1);
    // these come while it runs: none of them waits for the disk, and one sync is enough for all
    let others: Vec<_> = (2..=10).map(|number| node.produce("t", ALL, &value(&number.to_string()))).collect();
    assert!(first.is_waiting() && others.iter().all(Sent::is_waiting));
    release(&node);
    assert_eq!(first.answer(), (ErrorCode::NONE, 1));
    for (sent, offset) in others.iter().zip(2..) {
        assert_eq!(sent.answer(), (ErrorCode::NONE, offset));
    }
    assert_eq!(node.files.syncs(), before + 2, "10 appends");
}

#[test]
fn nothing_is_shown_or_acknowledged_before_it_is_synced() {
    let node = held();
    let sent = [ALL, LEADER].map(|acks| node.produce("t", acks, &value("unsynced")));
    let unheard = node.produce("t", NONE, &value("unsynced"));
    assert!(!unheard.is_waiting(), "acks=0 waits for nothing");
    let partition = node.broker.partitions().get("t", 0).unwrap();
    assert_eq!(partition.log().log_end_offset(), 4);
    for shown in [node.consume("t", 0), node.follow("t", 0)] {
        assert_eq!((shown.error, shown.high_watermark, shown.values.len()), (ErrorCode::NONE, 1, 1));
    }
    assert_eq!(node.latest("t"), 1);
    assert_eq!(partition.delete_records(-1).unwrap(), 1, "the high watermark");
    assert!(partition.delete_records(2).is_err(), "it might name another record after a power cut");
    assert!(sent.iter().all(Sent::is_waiting));
    release(&node);
    assert!(sent.iter().all(|it| it.answer().0 == ErrorCode::NONE));
    eventually("the record of acks=0 is shown", || node.latest("t") == 4);
    assert_eq!(node.consume("t", 1).values.len(), 3);
    assert_eq!(node.follow("t", 1).values.len(), 3);
}

#[test]
fn a_sync_without_a_descriptor_is_done_when_there_is_one() {
    let node = Node::start(&MemoryFileSystem::new(1));
    node.topic("t", fsync());
    hold(&node);
    let sent = node.produce("t", ALL, &value("first"));
    eventually("the sync of the file of epochs", || node.files.held() == 1);
    // what comes next is the partition's metadata, which nobody has open
    node.files.set_faults(Faults { no_descriptors: true, ..Faults::default() });
    std::thread::sleep(Duration::from_millis(50));
    assert!(sent.is_waiting());
    release(&node);
    assert_eq!(sent.answer(), (ErrorCode::NONE, 0));
    assert_eq!(node.produce("t", ALL, &value("second")).answer(), (ErrorCode::NONE, 1));
}

#[test]
fn a_duplicate_waits_for_the_sync_of_the_original() {
    let node = held();
    for acks in [ALL, LEADER] {
        let sequence = i32::from(acks == LEADER);
        let batch = idempotent(7, sequence, "once");
        let original = node.produce("t", acks, &batch);
        let again = node.produce("t", acks, &batch);
        assert!(original.is_waiting() && again.is_waiting());
        release(&node);
        let answer = original.answer();
        assert_eq!(answer, (ErrorCode::NONE, 1 + i64::from(sequence)));
        assert_eq!(again.answer(), answer);
        hold(&node);
    }
    release(&node);
}

#[test]
fn partitions_that_are_not_held_up_go_on() {
    let node = Node::start(&MemoryFileSystem::new(1));
    let topics: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    topics.iter().for_each(|topic| drop(node.topic(topic, fsync())));
    node.topic("os", os());
    hold(&node);
    let sent: Vec<_> = topics.iter().map(|topic| node.produce(topic, ALL, &value("v"))).collect();
    assert!(sent.iter().all(Sent::is_waiting));
    let before = node.files.syncs();
    assert_eq!(node.produce("os", ALL, &value("v")).answer(), (ErrorCode::NONE, 0));
    assert!(node.files.syncs() <= before + 4, "it asked for no sync");
    release(&node);
    assert!(sent.iter().all(|it| it.answer() == (ErrorCode::NONE, 0)), "none is forgotten");
}

#[test]
fn a_sync_that_takes_too_long_times_the_request_out() {
    let node = held();
    for acks in [ALL, LEADER] {
        assert_eq!(
            node.produce_within("t", acks, &value("late"), 5).answer(),
            (ErrorCode::REQUEST_TIMED_OUT, -1)
        );
    }
    release(&node);
    eventually("the records come all the same", || node.latest("t") == 3);
}

#[test]
fn too_many_waiting_requests_are_answered_at_once() {
    let config = BrokerConfig { waiters_max: 2, ..BrokerConfig::default() };
    let node = Node::start_with(&MemoryFileSystem::new(1), config);
    node.topic("t", fsync());
    hold(&node);
    let waiting = [0, 1].map(|_| node.produce("t", ALL, &value("v")));
    assert_eq!(node.produce("t", ALL, &value("v")).answer(), (ErrorCode::REQUEST_TIMED_OUT, -1));
    release(&node);
    assert!(waiting.iter().all(|it| it.answer().0 == ErrorCode::NONE));
}

#[test]
fn a_failed_sync_is_told_to_all_and_never_tried_again() {
    let node = held();
    node.topic("other", fsync());
    let before = node.files.syncs();
    let first = node.produce("t", ALL, &value("lost"));
    eventually("a sync", || node.files.syncs() == before + 1);
    let others = [LEADER, ALL].map(|acks| node.produce("t", acks, &value("lost")));
    node.files.set_faults(Faults { sync_error: true, ..Faults::default() });
    assert_eq!(first.answer(), (ErrorCode::KAFKA_STORAGE_ERROR, -1));
    assert!(others.iter().all(|it| it.answer() == (ErrorCode::KAFKA_STORAGE_ERROR, -1)));
    release(&node);
    for topic in ["t", "other"] {
        assert_eq!(node.produce(topic, ALL, &value("refused")).answer().0, ErrorCode::KAFKA_STORAGE_ERROR);
    }
    assert_eq!(node.files.syncs(), before + 1);
    let shown = node.consume("t", 0);
    assert_eq!((shown.error, shown.values), (ErrorCode::NONE, vec![(0, "first".to_owned())]), "reads go on");
}

#[test]
fn requests_that_wait_elsewhere_hear_of_a_failed_sync_too() {
    let node = Node::start(&MemoryFileSystem::new(1));
    let topics: Vec<_> = (0..20).map(|number| format!("t{number}")).collect();
    topics.iter().for_each(|topic| drop(node.topic(topic, fsync())));
    hold(&node);
    let sent: Vec<_> = topics.iter().map(|topic| node.produce(topic, LEADER, &value("v"))).collect();
    node.files.set_faults(Faults { sync_error: true, ..Faults::default() });
    assert!(sent.iter().all(|it| it.answer() == (ErrorCode::KAFKA_STORAGE_ERROR, -1)));
}

#[test]
fn a_full_disk_refuses_serves_and_resumes() {
    let node = held();
    node.files.set_faults(Faults { room: Some(40), ..Faults::default() });
    assert_eq!(node.produce("t", ALL, &value("no room")).answer(), (ErrorCode::KAFKA_STORAGE_ERROR, -1));
    assert_eq!(node.consume("t", 0).values.len(), 1);
    release(&node);
    assert_eq!(node.produce("t", ALL, &value("room")).answer(), (ErrorCode::NONE, 1));
}

#[test]
fn from_os_to_fsync_what_was_shown_stays_and_what_comes_waits() {
    let node = Node::start(&MemoryFileSystem::new(1));
    let partition = node.topic("t", os());
    assert_eq!(node.produce("t", ALL, &value("os")).answer(), (ErrorCode::NONE, 0));
    hold(&node);
    assert_eq!(partition.log().recovery_point(), 0);
    node.broker.configure_topic("t", &Arc::new(fsync()), 1);
    let sent = node.produce("t", ALL, &value("fsync"));
    assert!(sent.is_waiting());
    assert_eq!(node.latest("t"), 1, "never back");
    release(&node);
    assert_eq!(sent.answer(), (ErrorCode::NONE, 1));
    assert_eq!(partition.log().recovery_point(), 2);
}

#[test]
fn the_change_to_fsync_itself_syncs_what_is_there() {
    let node = Node::start(&MemoryFileSystem::new(1));
    let partition = node.topic("t", os());
    assert_eq!(node.produce("t", LEADER, &value("os")).answer(), (ErrorCode::NONE, 0));
    node.broker.configure_topic("t", &Arc::new(fsync()), 1);
    eventually("a sync", || partition.log().recovery_point() == 1);
}

#[test]
fn from_fsync_to_os_those_who_wait_are_answered() {
    let node = held();
    let sent = [ALL, LEADER].map(|acks| node.produce("t", acks, &value("waits")));
    assert!(sent.iter().all(Sent::is_waiting));
    node.broker.configure_topic("t", &Arc::new(os()), 1);
    assert!(sent.iter().all(|it| it.answer().0 == ErrorCode::NONE));
    assert_eq!(node.latest("t"), 3);
    assert_eq!(node.produce("t", ALL, &value("at once")).answer(), (ErrorCode::NONE, 3));
    release(&node);
}

#[test]
fn the_deletion_of_a_topic_answers_those_who_wait() {
    let node = held();
    node.topic("kept", fsync());
    let sent = [ALL, LEADER].map(|acks| node.produce("t", acks, &value("waits")));
    let kept = node.produce("kept", ALL, &value("waits"));
    std::thread::scope(|scope| {
        // the directory is renamed only when the sync is through
        let held = node.files.hold_syncs();
        let deletion = scope.spawn(|| node.broker.delete_partition("t", 0).unwrap());
        assert!(sent.iter().all(|it| it.answer() == (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1)));
        assert!(kept.is_waiting());
        drop(held);
        assert!(deletion.join().unwrap());
    });
    assert_eq!(kept.answer(), (ErrorCode::NONE, 0));
}

#[test]
fn a_stop_answers_those_who_wait_for_a_sync_with_what_it_brings() {
    let node = held();
    let before = node.produce("t", ALL, &value("waits"));
    node.broker.finish_waiting();
    let after = node.produce("t", LEADER, &value("waits too"));
    assert!(before.is_waiting() && after.is_waiting());
    release(&node);
    assert_eq!(before.answer(), (ErrorCode::NONE, 1));
    assert_eq!(after.answer(), (ErrorCode::NONE, 2));
    node.broker.shutdown();
    let late = node.produce("t", ALL, &value("nobody syncs it"));
    assert_eq!(late.answer(), (ErrorCode::KAFKA_STORAGE_ERROR, -1));
}

#[test]
fn a_stop_does_not_wait_for_replicas() {
    let node = held();
    let partition = node.broker.partitions().get("t", 0).unwrap();
    partition.update_replication(|it| {
        it.set_replicas(vec![1, 2], vec![1, 2]);
        it.note_position(2, 1);
    });
    let all = node.produce("t", ALL, &value("v"));
    let leader = node.produce("t", LEADER, &value("v"));
    node.broker.finish_waiting();
    assert_eq!(all.answer(), (ErrorCode::REQUEST_TIMED_OUT, -1));
    assert!(leader.is_waiting());
    release(&node);
    assert_eq!(leader.answer(), (ErrorCode::NONE, 2));
}

#[test]
fn acks_1_waits_for_our_disk_alone_and_acks_all_for_the_replicas_too() {
    let node = held();
    let partition = node.broker.partitions().get("t", 0).unwrap();
    partition.update_replication(|it| {
        it.set_replicas(vec![1, 2], vec![1, 2]);
        it.note_position(2, 1);
    });
    let (leader, all) = (node.produce("t", LEADER, &value("v")), node.produce("t", ALL, &value("v")));
    // a follower that tells more than we vouch for does not commit it
    partition.update_replication(|it| it.note_position(2, 3));
    assert!(leader.is_waiting() && all.is_waiting());
    assert_eq!(node.latest("t"), 1);
    partition.update_replication(|it| it.note_position(2, 2));
    release(&node);
    assert_eq!(leader.answer(), (ErrorCode::NONE, 1));
    eventually("the high watermark moves", || node.latest("t") == 2);
    assert!(all.is_waiting());
    partition.update_replication(|it| it.note_position(2, 3));
    assert_eq!(all.answer(), (ErrorCode::NONE, 2));
}

#[test]
fn what_a_dead_process_left_unsynced_is_on_the_disk_before_it_is_shown() {
    let files = MemoryFileSystem::new(3);
    let node = Node::start(&files);
    node.topic("t", os());
    for number in 0..5 {
        node.produce("t", LEADER, &value(&number.to_string())).answer();
    }
    drop(node);
    files.restart_process();
    let node = Node::start(&files);
    node.open("t", fsync(), LastStop::ProcessDied).unwrap();
    assert_eq!(node.consume("t", 0).values.len(), 5);
    drop(node);
    files.restart_machine();
    let node = Node::start(&files);
    node.open("t", fsync(), LastStop::MachineDied).unwrap();
    assert_eq!(node.consume("t", 0).values.len(), 5);
}

#[test]
fn full_segments_are_synced_whatever_the_durability() {
    let node = Node::start_with(&MemoryFileSystem::new(1), synced_when_full_for(Duration::ZERO));
    let partition = node.topic("t", os());
    hold(&node);
    for number in 0..40 {
        assert_eq!(node.produce("t", ALL, &value("v")).answer(), (ErrorCode::NONE, number), "nobody waits");
    }
    assert!(partition.log().segment_count() > 1);
    release(&node);
    let synced = partition.log().full_end_offset();
    eventually("a recovery point", || partition.log().recovery_point() == synced);
    assert!(synced < 40, "the rest is left to the system");
    node.files.restart_machine();
    let again = Node::start(&node.files);
    again.open("t", os(), LastStop::MachineDied).unwrap();
    assert!(again.latest("t") >= synced);
}

fn synced_when_full_for(delay: Duration) -> BrokerConfig {
    BrokerConfig { full_segment_sync_delay: delay, ..BrokerConfig::default() }
}

#[test]
fn segments_that_become_full_while_others_wait_for_their_sync_are_synced_without_another_append() {
    let delay = Duration::from_millis(100);
    let node = Node::start_with(&MemoryFileSystem::new(1), synced_when_full_for(delay));
    let partition = node.topic("t", os());
    while partition.log().segment_count() < 6 {
        node.produce("t", ALL, &value("v")).answer();
    }
    let synced = partition.log().full_end_offset();
    eventually("a recovery point", || partition.log().recovery_point() == synced);
}

#[test]
fn segments_that_are_not_full_for_long_are_not_synced_nor_does_a_stop_wait_for_that() {
    let node = Node::start_with(&MemoryFileSystem::new(1), synced_when_full_for(Duration::from_secs(3600)));
    let partition = node.topic("t", os());
    let before = node.files.syncs();
    for _ in 0..40 {
        node.produce("t", ALL, &value("v")).answer();
    }
    assert!(partition.log().has_full_segment_to_flush());
    node.broker.shutdown();
    assert_eq!((node.files.syncs(), partition.log().recovery_point()), (before, 0));
}

#[test]
fn a_deleted_topic_whose_segments_wait_for_their_sync_keeps_nothing_open() {
    let node = Node::start_with(&MemoryFileSystem::new(1), synced_when_full_for(Duration::from_secs(3600)));
    let partition = node.topic("t", os());
    while partition.log().segment_count() < 3 {
        node.produce("t", ALL, &value("v")).answer();
    }
    let left = Arc::downgrade(&partition);
    drop(partition);
    assert!(node.broker.delete_partition("t", 0).unwrap());
    assert!(left.upgrade().is_none());
}

#[test]
fn os_topics_ask_for_no_sync() {
    let node = Node::start(&MemoryFileSystem::new(1));
    node.topic("t", LogConfig { segment_bytes: 1 << 20, ..os() });
    let before = node.files.syncs();
    for number in 0..50 {
        assert_eq!(node.produce("t", ALL, &value("v")).answer(), (ErrorCode::NONE, number));
    }
    node.broker.shutdown();
    assert_eq!(node.files.syncs(), before);
}
