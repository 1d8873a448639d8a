//! The logs of a data directory over restarts, deletions and namesakes.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use fastlog_broker::{
    AllowAll, Assignment, Broker, BrokerConfig, CleanerSettings, LogManager, OpenPartition, ReplicaChange,
    SystemClock,
};
use fastlog_log::{AppendOptions, Checkpoint, Durability, Identity, LastStop, LogConfig, LogError, Storage};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;

struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
}

fn start(path: &Path) -> Node {
    let broker =
        Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock)).expect("a broker");
    let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
    let logs =
        LogManager::open(broker.clone(), vec![Storage::real(path)], &identity).expect("a data directory");
    Node { broker, logs }
}

/// As a kill -9 leaves it: nothing is closed.
fn kill(node: Node) {
    node.broker.shutdown();
    drop(node);
}

fn partition(topic: &str, id: u128, index: i32) -> OpenPartition {
    OpenPartition {
        topic: topic.into(),
        topic_id: Uuid::from_u128(id),
        index,
        leader_epoch: 0,
        config: Arc::new(LogConfig { file_delete_delay_ms: 1000, ..LogConfig::default() }),
        min_insync_replicas: 1,
    }
}

fn append(node: &Node, topic: &str, index: i32, count: usize) {
    let partition = node.broker.partitions().get(topic, index).expect("an open partition");
    for _ in 0..count {
        let mut builder = Builder::new();
        builder.append(NOW_MS, None, Some(b"value"));
        let batch = builder.seal(Compression::None).expect("a batch");
        partition.append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).expect("a directory").map(|it| it.expect("an entry"));
    let directories = entries.filter(|it| it.path().is_dir());
    let mut names: Vec<_> = directories.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn delete_topic(node: &Node, topic: &str, id: u128) -> Result<usize, LogError> {
    node.logs.delete_topics(&[(topic, Uuid::from_u128(id))], NOW_MS).remove(0)
}

fn offsets(node: &Node, topic: &str) -> (i64, i64, i64) {
    let partition = node.broker.partitions().get(topic, 0).expect("an open partition");
    (partition.log().log_start_offset(), partition.log().high_watermark(), partition.log().log_end_offset())
}

#[test]
fn records_and_the_log_start_survive_clean_and_unclean_ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    node.logs.finish_opening().expect("done");
    append(&node, "orders", 0, 10);
    assert_eq!(node.logs.delete_records("orders", 0, 4).expect("deleted"), 4);
    kill(node);

    let node = start(dir.path());
    assert_eq!(node.logs.last_stop(), LastStop::ProcessDied);
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "orders"), (4, 10, 10));
    node.logs.close().expect("closed");
    node.logs.close().expect("again is harmless");
    kill(node);

    let node = start(dir.path());
    assert_eq!(node.logs.last_stop(), LastStop::Clean);
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "orders"), (4, 10, 10));
    assert_eq!(node.logs.finish_opening().expect("done"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_deleted_topic_is_renamed_at_once_and_purged_after_its_delay() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    for index in 0..2 {
        node.logs.open_partition(&partition("orders", 1, index), NOW_MS).expect("open");
    }
    node.logs.open_partition(&partition("clicks", 2, 0), NOW_MS).expect("open");
    append(&node, "orders", 0, 3);
    assert_eq!(delete_topic(&node, "orders", 1).expect("deleted"), 2);
    assert_eq!(delete_topic(&node, "orders", 1).expect("again"), 0);
    assert_eq!(names(dir.path()).iter().filter(|it| it.ends_with("-delete")).count(), 2);
    assert_eq!(node.logs.purge_deleted(0, NOW_MS + 999).expect("purged"), 0);
    assert_eq!(node.logs.purge_deleted(0, NOW_MS + 1000).expect("purged"), 2);
    assert_eq!(names(dir.path()), ["clicks-0"]);
}

#[test]
fn a_tiered_topic_is_marked_for_the_store_though_nothing_of_it_was_uploaded() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    let plain = partition("orders", 1, 0);
    let config = LogConfig { remote_storage: true, ..LogConfig::clone(&plain.config) };
    node.logs.open_partition(&OpenPartition { config: Arc::new(config), ..plain }, NOW_MS).expect("open");
    node.logs.open_partition(&partition("clicks", 2, 0), NOW_MS).expect("open");
    // an upload that is under way may write its first copy of a manifest after the look for one
    assert_eq!(delete_topic(&node, "orders", 1).expect("deleted"), 1);
    assert_eq!(delete_topic(&node, "clicks", 2).expect("deleted"), 1);
    let is_marked = |name: &String| dir.path().join(name).join("remote-log-deleted").exists();
    let marked: Vec<_> = names(dir.path()).into_iter().filter(is_marked).collect();
    assert!(matches!(&marked[..], [one] if one.starts_with("orders-0.")), "{marked:?}");
    assert_eq!(node.logs.purge_deleted(0, NOW_MS + 1000).expect("purged"), 2, "nothing is waited for");
}

#[test]
fn a_topic_is_found_by_the_id_of_its_present_incarnation() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for index in 0..2 {
        node.logs.open_partition(&partition("orders", 1, index), NOW_MS).expect("open");
    }
    let table = node.broker.partitions();
    let found = |id, index| table.get_by_id(id, index).map(|it| (it.topic().to_string(), it.index()));
    assert_eq!(found(old, 1), Some(("orders".to_owned(), 1)));
    assert_eq!((found(old, 2), found(new, 0), table.name(new)), (None, None, None));

    // one partition of the topic that was made again is open, while one of the deleted topic still is
    assert!(node.broker.delete_partition("orders", 0).expect("deleted"));
    node.logs.open_partition(&partition("orders", 2, 0), NOW_MS).expect("open");
    assert_eq!((found(old, 0), found(new, 0)), (None, Some(("orders".to_owned(), 0))));
    assert_eq!((table.name(old).as_deref(), table.name(new).as_deref()), (Some("orders"), Some("orders")));

    assert!(node.broker.delete_partition("orders", 1).expect("deleted"));
    assert_eq!((found(old, 1), table.name(old)), (None, None), "nothing of it is left");
    assert_eq!(table.of_topic("orders").len(), 1);
    assert!(!node.broker.delete_partition("orders", 1).expect("there is none"));
    assert_eq!(found(new, 0), Some(("orders".to_owned(), 0)));
}

#[test]
fn a_deletion_left_half_done_is_finished_by_id_and_leaves_others_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    node.logs.open_partition(&partition("clicks", 2, 0), NOW_MS).expect("open");
    append(&node, "clicks", 0, 5);
    node.logs.delete_records("clicks", 0, 3).expect("deleted");
    kill(node);

    let node = start(dir.path());
    assert_eq!(delete_topic(&node, "orders", 9).expect("another id"), 0);
    assert_eq!(delete_topic(&node, "orders", 1).expect("deleted"), 1);
    // the offsets of what is not open yet are kept
    kill(node);
    let node = start(dir.path());
    node.logs.open_partition(&partition("clicks", 2, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "clicks"), (3, 5, 5));
    assert_eq!(node.logs.purge_deleted(0, NOW_MS).expect("purged"), 1, "nobody reads it after a restart");
    assert_eq!(names(dir.path()), ["clicks-0"]);
}

#[test]
fn a_topic_made_anew_starts_from_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    append(&node, "orders", 0, 10);
    node.logs.delete_records("orders", 0, 8).expect("deleted");
    node.logs.write_checkpoint(Checkpoint::HighWatermark).expect("written");
    delete_topic(&node, "orders", 1).expect("deleted");
    node.logs.open_partition(&partition("orders", 2, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "orders"), (0, 0, 0));
    append(&node, "orders", 0, 2);
    kill(node);
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 2, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "orders"), (0, 2, 2));
}

#[test]
fn a_checkpoint_that_is_written_in_its_turn_has_what_changed_since() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    let turn = || {
        node.logs.write_checkpoint(Checkpoint::HighWatermark).expect("written");
        std::fs::read_to_string(dir.path().join("replication-offset-checkpoint")).expect("a file")
    };
    node.logs.open_partition(&partition("a", 1, 0), NOW_MS).expect("open");
    append(&node, "a", 0, 3);
    assert_eq!(turn(), "0\n2\na 0 3\na  0  3\n");
    assert_eq!(turn(), "0\n2\na 0 3\na  0  3\n");
    // another one that ends where the first did, and that in its place
    node.logs.open_partition(&partition("b", 2, 0), NOW_MS).expect("open");
    append(&node, "b", 0, 3);
    assert_eq!(turn(), "0\n4\na 0 3\nb 0 3\na  0  3\nb  0  3\n");
    delete_topic(&node, "a", 1).expect("deleted");
    node.logs.open_partition(&partition("c", 3, 0), NOW_MS).expect("open");
    append(&node, "c", 0, 3);
    assert_eq!(turn(), "0\n4\nb 0 3\nc 0 3\nb  0  3\nc  0  3\n");
    append(&node, "c", 0, 1);
    assert_eq!(turn(), "0\n4\nb 0 3\nc 0 4\nb  0  3\nc  0  4\n");
}

#[test]
fn topics_that_are_deleted_together_leave_each_checkpoint_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    let topics: Vec<_> = (0..20).map(|number| (format!("t{number}"), Uuid::from_u128(number + 1))).collect();
    for ((topic, _), id) in topics.iter().zip(1..) {
        node.logs.open_partition(&partition(topic, id, 0), NOW_MS).expect("open");
    }
    append(&node, "t7", 0, 3);
    append(&node, "t19", 0, 2);
    node.logs.write_checkpoint(Checkpoint::RecoveryPoint).expect("written");
    node.logs.write_checkpoint(Checkpoint::LogStart).expect("written");
    node.logs.write_checkpoint(Checkpoint::HighWatermark).expect("written");
    let path = dir.path().join("replication-offset-checkpoint");
    let file = || {
        let text = std::fs::read_to_string(&path).expect("a file");
        (std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&path).expect("a file")), text)
    };
    let before = file();
    assert_eq!(before.1, "0\n4\nt19 0 2\nt7 0 3\nt19  0  2\nt7  0  3\n");
    let delete = |topics: &[(String, Uuid)]| -> Vec<usize> {
        node.logs.delete_topics(topics, NOW_MS).into_iter().map(|it| it.expect("deleted")).collect()
    };
    // nobody ever wrote to these: there is nothing to drop
    assert_eq!(delete(topics.get(..5).expect("five")), [1; 5]);
    assert_eq!(file(), before);
    assert_eq!(delete(topics.get(5..19).expect("fourteen")), [1; 14]);
    assert_eq!(file().1, "0\n2\nt19 0 2\nt19  0  2\n");
    kill(node);
    let node = start(dir.path());
    node.logs.open_partition(&partition("t19", 20, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "t19"), (0, 2, 2));
    assert_eq!(node.logs.finish_opening().expect("done"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn strays_are_told_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    append(&node, "orders", 0, 3);
    kill(node);

    let node = start(dir.path());
    assert_eq!(node.logs.finish_opening().expect("done"), [dir.path().join("orders-0")]);
    let namesake = node.logs.open_partition(&partition("orders", 2, 0), NOW_MS);
    assert!(matches!(namesake, Err(LogError::InconsistentTopicId { .. })), "{namesake:?}");
    node.logs.purge_deleted(0, i64::MAX).expect("purged");
    node.logs.close().expect("closed");
    kill(node);
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    assert_eq!(offsets(&node, "orders"), (0, 3, 3));
}

#[test]
fn an_end_is_not_called_clean_while_a_directory_was_not_recovered() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    kill(node);

    let node = start(dir.path());
    node.logs.close().expect("closed");
    kill(node);
    let node = start(dir.path());
    assert_eq!(node.logs.last_stop(), LastStop::ProcessDied);
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    node.logs.close().expect("closed");
    kill(node);
    assert_eq!(start(dir.path()).logs.last_stop(), LastStop::Clean);
}

#[test]
fn with_fsync_what_is_appended_is_on_the_disk_soon_and_shown_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    let log = node.broker.partitions().get("orders", 0).expect("an open partition");
    append(&node, "orders", 0, 1);
    assert_eq!(log.log().recovery_point(), 0, "left to the operating system");
    let fsync = LogConfig { durability: Durability::Fsync, ..LogConfig::default() };
    node.broker.configure_topic("orders", &Arc::new(fsync), 1);
    append(&node, "orders", 0, 2);
    let start = std::time::Instant::now();
    while log.log().high_watermark() < 3 {
        assert!(start.elapsed().as_secs() < 20, "no sync came");
        std::thread::yield_now();
    }
    assert_eq!(log.log().recovery_point(), 3);
}

#[test]
fn opening_again_changes_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open");
    append(&node, "orders", 0, 1);
    node.logs.open_partition(&partition("orders", 1, 0), NOW_MS).expect("open already");
    assert_eq!(offsets(&node, "orders"), (0, 1, 1));
    assert_eq!(node.logs.sizes().len(), 1);
    assert_eq!(node.logs.enforce_retention(0, NOW_MS).expect("deleted"), 0);
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    assert_eq!(
        LogManager::cluster_id(dir.path()).expect("readable").as_deref(),
        Some("AAAAAAAAAAAAAAAAAAAAAQ")
    );
    let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
    let second = LogManager::open(node.broker.clone(), vec![Storage::real(dir.path())], &identity);
    assert!(matches!(second, Err(LogError::Refused { .. })));
}

fn compacted(topic: &str, id: u128) -> OpenPartition {
    let config = LogConfig { segment_bytes: 1000, cleanup_compact: true, ..LogConfig::default() };
    OpenPartition { config: Arc::new(config), ..partition(topic, id, 0) }
}

fn append_keyed(node: &Node, topic: &str, count: usize) {
    let partition = node.broker.partitions().get(topic, 0).expect("an open partition");
    for _ in 0..count {
        let mut builder = Builder::new();
        builder.append(NOW_MS, Some(b"key"), Some(&[b'v'; 200]));
        let batch = builder.seal(Compression::None).expect("a batch");
        partition.append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
    }
}

fn clean_all(node: &Node) -> usize {
    let settings = CleanerSettings::default();
    std::iter::from_fn(|| node.logs.clean_one(&settings, NOW_MS).expect("a pass").then_some(())).count()
}

#[test]
fn the_cleaner_takes_what_is_due_and_knows_it_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    for (topic, id) in [("a", 1), ("b", 2), ("small", 3)] {
        node.logs.open_partition(&compacted(topic, id), NOW_MS).expect("open");
    }
    node.logs.open_partition(&partition("kept", 4, 0), NOW_MS).expect("open");
    append_keyed(&node, "a", 20);
    append_keyed(&node, "b", 30);
    append_keyed(&node, "small", 1);
    append_keyed(&node, "kept", 20);
    assert_eq!(clean_all(&node), 2);
    assert_eq!(clean_all(&node), 0, "nothing new");
    let text = || std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).expect("a file");
    assert_eq!(text(), "0\n4\na 0 18\nb 0 27\na  0  18\nb  0  27\n");
    kill(node);
    let node = start(dir.path());
    for (topic, id) in [("a", 1), ("b", 2)] {
        node.logs.open_partition(&compacted(topic, id), NOW_MS).expect("open");
    }
    assert_eq!(clean_all(&node), 0, "clean already");
    delete_topic(&node, "a", 1).expect("deleted");
    assert_eq!(text(), "0\n2\nb 0 27\nb  0  27\n", "a namesake starts anew");
    append_keyed(&node, "b", 30);
    node.logs.stop_cleaner();
    assert_eq!(clean_all(&node), 0, "it was stopped");
}

#[test]
fn what_takes_the_place_of_what_a_follower_cut_is_cleaned_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&compacted("a", 1), NOW_MS).expect("open");
    append_keyed(&node, "a", 20);
    assert_eq!(clean_all(&node), 1);
    let to = Assignment {
        leader: 2,
        leader_epoch: 1,
        partition_epoch: 1,
        replicas: vec![2, 1],
        isr: vec![2],
        held: Some(false),
    };
    let change = ReplicaChange { partition: compacted("a", 1), to };
    node.logs.change_replicas(&[change], NOW_MS).remove(0).expect("it follows");
    assert!(node.logs.truncate("a", 0, 1, 4, NOW_MS).expect("cut"));
    let text = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).expect("a file");
    // the cleaner took the record before the cut, and the log ends behind the one before that
    assert_eq!(text, "0\n2\na 0 3\na  0  3\n");
}

#[test]
fn a_cut_within_a_batch_leaves_nothing_clean_beyond_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    node.logs.open_partition(&compacted("a", 1), NOW_MS).expect("open");
    let partition = node.broker.partitions().get("a", 0).expect("open");
    for number in 0..8u8 {
        let mut builder = Builder::new();
        for place in 0..5 {
            builder.append(NOW_MS, Some(&[number, place]), Some(&[b'v'; 60]));
        }
        let batch = builder.seal(Compression::None).expect("a batch");
        partition.append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
    }
    assert_eq!(clean_all(&node), 1);
    let to = Assignment {
        leader: 2,
        leader_epoch: 1,
        partition_epoch: 1,
        replicas: vec![2, 1],
        isr: vec![2],
        held: Some(false),
    };
    let change = ReplicaChange { partition: compacted("a", 1), to };
    node.logs.change_replicas(&[change], NOW_MS).remove(0).expect("it follows");
    // offsets 10 to 14 are one batch
    assert!(node.logs.truncate("a", 0, 1, 13, NOW_MS).expect("cut"));
    assert_eq!(partition.log().log_end_offset(), 10);
    let text = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).expect("a file");
    assert_eq!(text, "0\n2\na 0 10\na  0  10\n");
}

#[test]
fn a_damaged_log_is_told_once_and_does_not_keep_others_from_being_cleaned() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = start(dir.path());
    for (topic, id) in [("bad", 1), ("good", 2)] {
        node.logs.open_partition(&compacted(topic, id), NOW_MS).expect("open");
        append_keyed(&node, topic, 20);
    }
    let path = dir.path().join("bad-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).expect("a segment");
    *bytes.get_mut(100).expect("a byte") ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let _earlier = node.broker.events().drain();
    assert_eq!(clean_all(&node), 1);
    append_keyed(&node, "good", 40);
    assert_eq!(clean_all(&node), 1);
    let (events, _) = node.broker.events().drain();
    let told = events.iter().filter(|event| event.message.contains("damaged log is not cleaned")).count();
    assert_eq!(told, 1);
    assert_eq!(std::fs::read(&path).expect("a segment"), bytes);
}

/// As after another start of the machine.
fn change_boot_id(dir: &Path) {
    let run = dir.join("fastlog.run");
    let text = std::fs::read_to_string(&run).expect("a file");
    let changed = text.lines().map(|it| if it.starts_with("boot_id") { "boot_id: other" } else { it });
    std::fs::write(&run, changed.map(|it| format!("{it}\n")).collect::<String>()).expect("written");
}

#[test]
fn a_log_that_could_not_be_opened_after_a_power_cut_is_recovered_as_such_when_it_can() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = |node: &Node, topic: &str, id| node.logs.open_partition(&partition(topic, id, 0), NOW_MS);
    let node = start(dir.path());
    open(&node, "lost", 1).expect("open");
    open(&node, "other", 2).expect("open");
    append(&node, "lost", 0, 10);
    node.broker.partitions().get("lost", 0).expect("open").log().flush().expect("synced");
    node.logs.write_checkpoint(Checkpoint::RecoveryPoint).expect("written");
    append(&node, "lost", 0, 10);
    kill(node);
    // of what was not synced a batch is missing, and good ones are behind it
    let segment = dir.path().join("lost-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).expect("a segment");
    bytes.truncate(bytes.iter().rposition(|it| *it != 0).map_or(0, |last| last + 1));
    let batch_bytes = bytes.len().div_ceil(20);
    bytes.get_mut(14 * batch_bytes..15 * batch_bytes).expect("the batch of offset 14").fill(0);
    std::fs::write(&segment, &bytes).expect("written");
    change_boot_id(dir.path());

    let metadata = dir.path().join("lost-0/partition.metadata");
    let good = std::fs::read(&metadata).expect("a file");
    for _ in 0..2 {
        std::fs::write(&metadata, b"x").expect("written");
        let node = start(dir.path());
        assert_eq!(node.logs.last_stop(), LastStop::MachineDied);
        open(&node, "lost", 1).expect_err("its metadata does not read");
        open(&node, "other", 2).expect("open");
        node.logs.finish_opening().expect("done");
        kill(node);
    }
    std::fs::write(&metadata, good).expect("written");
    let node = start(dir.path());
    assert_eq!(node.logs.last_stop(), LastStop::MachineDied, "it is not recovered yet");
    open(&node, "lost", 1).expect("open");
    open(&node, "other", 2).expect("open");
    assert_eq!(offsets(&node, "lost").2, 14, "the log was cut");
    append(&node, "lost", 0, 1);
    node.logs.finish_opening().expect("done");
    kill(node);
    assert_eq!(start(dir.path()).logs.last_stop(), LastStop::ProcessDied);
}
