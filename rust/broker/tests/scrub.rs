//! The scrub over the logs of a data directory: when, what it tells, where it goes on after another start.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use fastlog_broker::{AllowAll, Broker, BrokerConfig, LogManager, OpenPartition, ScrubSettings, SystemClock};
use fastlog_log::{AppendOptions, Identity, LogConfig, Storage};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const DAILY: ScrubSettings = ScrubSettings { interval_ms: Some(DAY_MS), bytes_per_second: None };

struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
}

fn start(path: &Path, topics: &[&str]) -> Node {
    let broker =
        Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock)).expect("a broker");
    let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
    let logs =
        LogManager::open(broker.clone(), vec![Storage::real(path)], &identity).expect("a data directory");
    let node = Node { broker, logs };
    for (topic, id) in topics.iter().zip(1..) {
        let wanted = OpenPartition {
            topic: (*topic).into(),
            topic_id: Uuid::from_u128(id),
            index: 0,
            leader_epoch: 0,
            config: Arc::new(LogConfig { segment_bytes: 2000, ..LogConfig::default() }),
            min_insync_replicas: 1,
        };
        node.logs.open_partition(&wanted, NOW_MS).expect("open");
    }
    node
}

fn append(node: &Node, topic: &str, count: usize) {
    let partition = node.broker.partitions().get(topic, 0).expect("an open partition");
    for _ in 0..count {
        let mut builder = Builder::new();
        builder.append(NOW_MS, None, Some(b"value"));
        let batch = builder.seal(Compression::None).expect("a batch");
        partition.append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
    }
}

/// How many segments, or empty logs, are looked at until nothing is due.
fn scrub(node: &Node, settings: &ScrubSettings, now_ms: i64) -> usize {
    std::iter::from_fn(|| node.logs.scrub_next(settings, now_ms).expect("a scrub").then_some(())).count()
}

fn messages(node: &Node) -> Vec<String> {
    let (events, _) = node.broker.events().drain();
    events.iter().map(|it| format!("{} {:?}", it.message, it.fields)).collect()
}

fn turn(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a segment");
    *bytes.get_mut(70).expect("a byte") ^= 1;
    std::fs::write(path, &bytes).expect("written");
}

#[test]
fn a_pass_is_due_once_in_its_interval_from_the_first_start_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), &["a", "b"]);
    append(&node, "a", 100);
    assert_eq!(scrub(&node, &DAILY, NOW_MS), 0, "nothing is old yet");
    assert_eq!(scrub(&node, &DAILY, NOW_MS + DAY_MS - 1), 0);
    let segments = node.broker.partitions().get("a", 0).expect("open").log().segment_count();
    assert!(segments > 3);
    assert_eq!(scrub(&node, &DAILY, NOW_MS + DAY_MS), segments + 1, "and b, which is empty");
    assert_eq!(scrub(&node, &DAILY, NOW_MS + DAY_MS + 1), 0);
    let told = messages(&node);
    assert!(told.iter().any(|it| it.starts_with("scrubbed the logs") && it.contains("(\"damages\", \"0\")")));
    drop(node);
    let node = start(dir.path(), &["a", "b"]);
    assert_eq!(scrub(&node, &DAILY, NOW_MS + DAY_MS + 2), 0, "it is known after another start");
    let never = ScrubSettings { interval_ms: None, ..DAILY };
    assert_eq!(scrub(&node, &never, NOW_MS + 9 * DAY_MS), 0);
    assert_eq!(scrub(&node, &DAILY, NOW_MS - DAY_MS), segments + 1, "a clock that was set back");
}

#[test]
fn what_turned_is_told_with_its_place_and_what_to_do_and_the_rest_is_scrubbed() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), &["a", "b"]);
    append(&node, "a", 100);
    append(&node, "b", 100);
    assert_eq!(scrub(&node, &DAILY, NOW_MS), 0);
    turn(&dir.path().join("a-0/00000000000000000000.log"));
    turn(&dir.path().join("b-0/00000000000000000000.log"));
    scrub(&node, &DAILY, NOW_MS + DAY_MS);
    let told = messages(&node);
    let told: Vec<_> = told.iter().filter(|it| it.starts_with("the scrub found records")).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    let first = told.first().expect("a line");
    for part in ["\"a\"", "00000000000000000000.log", "\"offset\", \"0\"", "\"position\", \"0\"", "seek to"] {
        assert!(first.contains(part), "{part}: {first}");
    }
    assert_eq!(node.logs.damages_found().expect("a count"), 2);
    assert_eq!(node.logs.damaged().len(), 2);
}

#[test]
fn a_pass_that_a_stop_ended_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path(), &["a", "b", "c"]);
    ["a", "b", "c"].iter().for_each(|topic| append(&node, topic, 5));
    assert_eq!(scrub(&node, &DAILY, NOW_MS), 0);
    let at = NOW_MS + DAY_MS;
    // a look later than the last time that it was written down
    assert!(node.logs.scrub_next(&DAILY, at).expect("a"));
    assert!(node.logs.scrub_next(&DAILY, at + 60_000).expect("b"));
    node.logs.stop_scrub();
    assert!(!node.logs.scrub_next(&DAILY, at + 60_000).expect("stopped"));
    drop(node);
    let node = start(dir.path(), &["a", "b", "c"]);
    assert_eq!(scrub(&node, &DAILY, at + 60_001), 1, "c alone");
    assert_eq!(scrub(&node, &DAILY, at + DAY_MS - 1), 0);
    assert_eq!(scrub(&node, &DAILY, at + DAY_MS), 3, "a day after the pass began");
}
