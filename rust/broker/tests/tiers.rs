//! What brokers keep on their disks, ask an object store for and put there, over stores that are away and that lose things.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use fastlog_broker::{
    AllowAll, Assignment, Broker, BrokerConfig, LogManager, OpenPartition, Partition, ReplicaChange,
    SystemClock, Tiers,
};
use fastlog_log::file_system::atomic_file;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{AppendOptions, Checkpoint, Identity, Log, LogConfig, Storage};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_tiers::memory::{Fault, MemoryStore};
use fastlog_tiers::{IDENTITY, KnownStore};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const LOCAL_RETENTION_MS: i64 = 1_000;
const RETENTION_MS: i64 = 100_000;
/// Local retention takes what was written at [`NOW_MS`].
const LATER_MS: i64 = NOW_MS + 2 * LOCAL_RETENTION_MS;
/// And all retention.
const END_MS: i64 = NOW_MS + 2 * RETENTION_MS;

/// Which store it is.
const NOTE: &str = "/data/fastlog.store";

/// A broker with tiered topics of one partition.
struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
}

impl Node {
    fn start(disk: &MemoryFileSystem, store: &Arc<MemoryStore>, is_clustered: bool) -> Self {
        let tiers = Tiers::of(store.clone(), 1 << 20, is_clustered).expect("a store");
        Self::start_with(disk, Some(tiers))
    }

    fn start_with(disk: &MemoryFileSystem, tiers: Option<Arc<Tiers>>) -> Self {
        let storage = Storage::new(Arc::new(disk.clone()), PathBuf::from("/data"), 100);
        let broker =
            Broker::without_threads(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock));
        let broker = broker.expect("a broker");
        tiers.into_iter().for_each(|it| broker.set_tiers(it));
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let logs = LogManager::open(broker.clone(), vec![storage], &identity).expect("a directory");
        Self { broker, logs }
    }

    fn open(&self, topics: usize) {
        for number in 0..topics {
            self.logs.open_partition(&wanted(number), NOW_MS).expect("opened");
        }
        self.logs.finish_opening().expect("opened");
    }

    fn partition(&self, number: usize) -> Arc<Partition> {
        self.broker.partitions().get(&topic(number), 0).expect("open")
    }

    /// Segments of a few records each.
    fn append(&self, number: usize, records: usize) {
        let partition = self.partition(number);
        for _ in 0..records {
            let mut builder = Builder::new();
            builder.append(NOW_MS, None, Some(&[b'v'; 1000]));
            let batch = builder.seal(Compression::None).expect("a batch");
            partition.append(&batch, NOW_MS, AppendOptions::default()).expect("appended");
        }
        let log = partition.log();
        log.advance_high_watermark(log.log_end_offset());
        log.flush().expect("synced");
    }

    /// Another broker leads from now on.
    fn follow(&self, number: usize) {
        let to = Assignment {
            leader: 2,
            leader_epoch: 1,
            partition_epoch: 1,
            replicas: vec![2, 1],
            isr: vec![2, 1],
            held: Some(false),
        };
        let change = ReplicaChange { partition: wanted(number), to };
        self.logs.change_replicas(&[change], NOW_MS).remove(0).expect("it follows");
    }

    /// Turns until nothing is left to do.
    fn run(&self, now_ms: i64) {
        while self.logs.run_tiers(now_ms, 1) {}
    }

    fn told(&self) -> String {
        format!("{:?}", self.broker.events().drain())
    }
}

fn topic(number: usize) -> String {
    format!("topic-{number}")
}

fn wanted(number: usize) -> OpenPartition {
    let config = LogConfig {
        segment_bytes: 4096,
        remote_storage: true,
        remote_copy: true,
        local_retention_ms: LOCAL_RETENTION_MS,
        retention_ms: RETENTION_MS,
        ..LogConfig::default()
    };
    OpenPartition {
        topic: topic(number).as_str().into(),
        topic_id: Uuid::from_u128(number as u128 + 1),
        index: 0,
        leader_epoch: 0,
        config: Arc::new(config),
        min_insync_replicas: 1,
    }
}

/// A broker that uploaded all full segments of topics, and has them on its disk.
fn uploaded(topics: usize, is_clustered: bool) -> (MemoryFileSystem, Arc<MemoryStore>, Node) {
    let (disk, store) = (MemoryFileSystem::new(1), Arc::new(MemoryStore::default()));
    let node = Node::start(&disk, &store, is_clustered);
    node.open(topics);
    for number in 0..topics {
        node.append(number, 20);
    }
    node.run(NOW_MS);
    assert_eq!(node.logs.enforce_retention(0, NOW_MS).expect("deleted"), 0);
    (disk, store, node)
}

fn log_objects(store: &MemoryStore) -> Vec<String> {
    store.keys().into_iter().filter(|key| key.ends_with(".log")).collect()
}

fn places(log: &Log) -> (i64, i64) {
    (log.log_start_offset(), log.local_log_start_offset())
}

#[test]
fn a_broker_that_was_started_keeps_what_the_store_lost_and_uploads_it_again() {
    let (disk, store, node) = uploaded(1, false);
    let full_end = node.partition(0).log().full_end_offset();
    drop(node);
    let all = log_objects(&store);
    assert!(all.len() > 3);
    let lost = all.get(1).expect("a second segment");
    store.lose(lost);
    store.set_fault(Some(Fault::Unreachable));
    let node = Node::start(&disk, &store, false);
    node.open(1);
    for _ in 0..3 {
        node.run(LATER_MS);
        assert_eq!(
            node.logs.enforce_retention(0, LATER_MS).expect("deleted"),
            0,
            "the store is away, and nobody knows what it has"
        );
    }
    let told = node.told();
    let kept = node.partition(0).log().kept_bytes(LATER_MS).expect("counted");
    assert!(kept > 0 && told.contains(&format!("(\"kept_bytes\", \"{kept}\")")), "{told}");
    // one turn: the first segment is there, the next one is not
    store.set_fault(None);
    node.logs.run_tiers(LATER_MS, 1);
    node.logs.enforce_retention(0, LATER_MS).expect("deleted");
    let (start, local_start) = places(node.partition(0).log());
    assert_eq!(start, 0);
    assert!(
        all.get(1).is_some_and(|key| key.contains(&format!("/{local_start:020}-"))),
        "{local_start}: {all:?}"
    );
    // and then all is there, and may go from here
    node.run(LATER_MS);
    assert!(node.logs.enforce_retention(0, LATER_MS).expect("deleted") > 1);
    assert_eq!(places(node.partition(0).log()), (0, full_end));
    let again = log_objects(&store);
    assert_eq!(again.len(), all.len());
    assert!(!again.contains(lost), "under another name: manifests tell which");
}

#[test]
fn a_follower_gives_up_what_the_store_still_has_and_nothing_else() {
    let (_disk, store, node) = uploaded(1, true);
    node.follow(0);
    let all = log_objects(&store);
    let (lost, mut bytes) = (all.get(2).expect("a third segment"), Vec::new());
    store.change(lost, |it| bytes.clone_from(it));
    store.lose(lost);
    store.set_fault(Some(Fault::Unreachable));
    node.run(LATER_MS);
    assert_eq!(node.logs.enforce_retention(0, LATER_MS).expect("deleted"), 0);
    store.set_fault(None);
    for _ in 0..3 {
        node.run(LATER_MS);
        node.logs.enforce_retention(0, LATER_MS).expect("deleted");
        let (start, local_start) = places(node.partition(0).log());
        assert_eq!(start, 0);
        assert!(lost.contains(&format!("/{local_start:020}-")), "{local_start}: {all:?}");
    }
    assert_eq!(node.told().matches("tiered storage failed").count(), 1, "the store was away once");
    // somebody puts it back
    store.change(lost, |it| it.clone_from(&bytes));
    node.run(LATER_MS);
    node.logs.enforce_retention(0, LATER_MS).expect("deleted");
    let log_end = node.partition(0).log().full_end_offset();
    assert_eq!(places(node.partition(0).log()), (0, log_end));
}

#[test]
fn followers_that_know_all_there_is_ask_the_store_for_nothing() {
    let (_disk, store, node) = uploaded(5, true);
    (0..5).for_each(|number| node.follow(number));
    let before = store.requests();
    for _ in 0..50 {
        node.run(NOW_MS);
    }
    assert_eq!(store.requests(), before);
    // one that has more than its leader uploaded looks for it, less and less often
    let more = Node::start(&MemoryFileSystem::new(2), &store, true);
    more.open(1);
    more.append(0, 20);
    more.follow(0);
    let before = store.requests();
    more.run(NOW_MS);
    assert!(more.partition(0).log().tiered_end().is_some(), "what others uploaded is found at once");
    let found = store.requests();
    // the store's name, as it is noted and as it is used, a listing, the manifest, and a look whether that is still the newest
    assert_eq!(found, before + 5);
    assert_eq!(more.logs.enforce_retention(0, LATER_MS).expect("deleted"), 0);
    for _ in 0..50 {
        more.run(NOW_MS);
    }
    assert_eq!(store.requests(), found, "nothing is left to look for");
}

#[test]
fn a_follower_looks_less_and_less_often_for_what_its_leader_does_not_upload() {
    let (_disk, store, node) = uploaded(1, true);
    node.append(0, 20);
    node.follow(0);
    let looks = |turns: usize| {
        let before = store.requests();
        for _ in 0..turns {
            node.run(NOW_MS);
        }
        store.requests() - before
    };
    assert_eq!(looks(100), 8);
    assert!(looks(100) <= 4);
}

#[test]
fn all_retention_goes_on_while_the_store_is_away_and_also_there_when_it_is_back() {
    let (disk, store, node) = uploaded(1, false);
    drop(node);
    let node = Node::start(&disk, &store, false);
    node.open(1);
    store.set_fault(Some(Fault::Unreachable));
    node.append(0, 20);
    let log = node.partition(0);
    let (log, uploaded_end) = (log.log(), log.log().tiered_end().expect("uploaded"));
    node.run(LATER_MS);
    assert_eq!((node.logs.enforce_retention(0, LATER_MS).expect("deleted"), places(log)), (0, (0, 0)));
    node.run(END_MS);
    assert!(node.logs.enforce_retention(0, END_MS).expect("deleted") > 3);
    let full_end = log.full_end_offset();
    assert!(full_end > uploaded_end);
    assert_eq!(places(log), (full_end, full_end));
    assert!(log_objects(&store).len() > 3);
    store.set_fault(None);
    node.run(END_MS);
    assert_eq!(log_objects(&store), Vec::<String>::new());
    // what comes now is uploaded
    node.append(0, 8);
    node.run(NOW_MS);
    assert!(!log_objects(&store).is_empty());
}

#[test]
fn the_starts_of_many_logs_are_written_down_once_before_the_store_forgets() {
    const TOPICS: usize = 12;
    let (disk, store, node) = uploaded(TOPICS, false);
    // what a file takes that is replaced
    let before = disk.syncs();
    node.logs.write_checkpoint(Checkpoint::HighWatermark).expect("written");
    let of_a_file = disk.syncs() - before;
    assert!(of_a_file > 0);
    let before = disk.syncs();
    node.run(END_MS);
    assert_eq!(log_objects(&store), Vec::<String>::new());
    assert_eq!(
        disk.syncs() - before,
        of_a_file * (TOPICS as u64 + 1),
        "a copy of each manifest, and one checkpoint"
    );
    // by it the logs start where they should when the process dies now
    drop(node);
    disk.kill_process();
    disk.restart_process();
    let node = Node::start(&disk, &store, false);
    node.open(TOPICS);
    for number in 0..TOPICS {
        let partition = node.partition(number);
        assert_eq!(partition.log().log_start_offset(), partition.log().full_end_offset());
    }
}

#[test]
fn a_broker_that_died_between_the_name_of_its_store_and_the_note_goes_on_with_that_name() {
    let (disk, store) = (MemoryFileSystem::new(1), Arc::new(MemoryStore::default()));
    let named = KnownStore::new(store.clone()).name(Uuid::from_u128(7)).expect("named");
    let node = Node::start(&disk, &store, false);
    node.open(1);
    node.append(0, 20);
    node.run(NOW_MS);
    assert_eq!(KnownStore::new(store.clone()).id().expect("read"), Some(named));
    let note = atomic_file::read(&disk, Path::new(NOTE)).expect("read").expect("a note");
    assert!(String::from_utf8_lossy(&note).contains(&named.simple().to_string()), "{note:?}");
    assert!(!log_objects(&store).is_empty());
}

#[test]
fn a_disk_that_cannot_note_which_store_it_is_puts_nothing_there() {
    let (disk, store) = (MemoryFileSystem::new(1), Arc::new(MemoryStore::default()));
    let node = Node::start(&disk, &store, false);
    node.open(1);
    node.append(0, 20);
    atomic_file::replace(&disk, Path::new(NOTE), b"version: 9\n?").expect("written");
    node.run(LATER_MS);
    assert_eq!(store.keys(), Vec::<String>::new());
    assert!(node.told().contains(&format!("the object {IDENTITY} of the store")));
    assert_eq!(node.logs.enforce_retention(0, LATER_MS).expect("deleted"), 0);
    // a person empties it
    atomic_file::replace(&disk, Path::new(NOTE), b"").expect("written");
    node.run(LATER_MS);
    assert!(!log_objects(&store).is_empty());
}

#[test]
fn deleted_topics_are_not_forgotten_by_a_store_that_is_another_one() {
    let (disk, store, node) = uploaded(1, false);
    drop(node);
    let other = Arc::new(MemoryStore::default());
    let node = Node::start(&disk, &other, false);
    node.open(1);
    node.logs.delete_topics(&[(topic(0), Uuid::from_u128(1))], 0).remove(0).expect("deleted");
    node.run(LATER_MS);
    assert_eq!(other.keys(), Vec::<String>::new());
    drop(node);
    assert!(!log_objects(&store).is_empty());
    let node = Node::start(&disk, &store, false);
    node.run(LATER_MS);
    assert_eq!(log_objects(&store), Vec::<String>::new(), "it is still known what was there");
}

#[test]
fn a_partition_that_waits_for_its_store_is_told_of_as_that_and_not_as_of_no_topic() {
    let (disk, store, node) = uploaded(1, false);
    drop(node);
    let node = Node::start_with(&disk, None);
    let error = node.logs.open_partition(&wanted(0), NOW_MS).expect_err("it needs the store").to_string();
    assert!(error.contains("set remote.log.storage.system.enable") && !error.contains("read"), "{error}");
    assert_eq!(node.logs.finish_opening().expect("opened"), Vec::<PathBuf>::new());
    drop(node);
    let node = Node::start(&disk, &store, false);
    node.open(1);
    assert!(node.partition(0).log().tiered_end().is_some());
}
