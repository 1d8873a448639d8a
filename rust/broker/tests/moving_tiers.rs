//! Replicas that are moved, and object stores that are given something of others meanwhile: neither waits for the other.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use fastlog_broker::{
    AllowAll, Broker, BrokerConfig, LogManager, MoveSettings, OpenPartition, SystemClock, Tiers,
    WantedReplica,
};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{AppendOptions, FileSystem, Identity, LogConfig, Storage};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_tiers::memory::MemoryStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const PLACES: [&str; 2] = ["/first", "/second"];

/// A broker with `plain-0` and `tiered-0`, of several segments each, in the first of two data directories.
struct Node {
    disks: [MemoryFileSystem; 2],
    broker: Arc<Broker>,
    logs: LogManager,
    tiers: Arc<Tiers>,
}

fn asked(topic: &str, id: u128, to: &str) -> WantedReplica {
    let topic_id = Uuid::from_u128(id);
    WantedReplica { topic: topic.to_owned(), topic_id, index: 0, directory: PathBuf::from(to) }
}

impl Node {
    fn start() -> Self {
        let disks = [1, 2].map(MemoryFileSystem::new);
        let storages = disks.iter().zip(PLACES);
        let storages =
            storages.map(|(disk, path)| Storage::new(Arc::new(disk.clone()), PathBuf::from(path), 100));
        let broker =
            Broker::without_threads(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock));
        let broker = broker.expect("a broker");
        let tiers = Tiers::of(Arc::new(MemoryStore::default()), 1 << 20, false).expect("a store");
        broker.set_tiers(tiers.clone());
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let logs = LogManager::open(broker.clone(), storages.collect(), &identity).expect("directories");
        let node = Self { disks, broker, logs, tiers };
        for (topic, id, remote_storage) in [("plain", 1, false), ("tiered", 2, true)] {
            let config =
                LogConfig { segment_bytes: 4096, remote_storage, remote_copy: true, ..LogConfig::default() };
            let wanted = OpenPartition {
                topic: topic.into(),
                topic_id: Uuid::from_u128(id),
                index: 0,
                leader_epoch: 0,
                config: Arc::new(config),
                min_insync_replicas: 1,
            };
            // where one is to be that is not here yet
            let mut answers = node.logs.move_replicas(&[asked(topic, id, PLACES[0])]);
            answers.remove(0).expect_err("it is not here");
            node.logs.open_partition(&wanted, NOW_MS).expect("made");
            node.append(topic, 20);
        }
        node.logs.finish_opening().expect("opened");
        node
    }

    fn append(&self, topic: &str, count: usize) {
        let partition = self.broker.partitions().get(topic, 0).expect("open");
        for _ in 0..count {
            let mut builder = Builder::new();
            builder.append(NOW_MS, None, Some(&[b'v'; 1000]));
            let batch = builder.seal(Compression::None).expect("a batch");
            partition.append(&batch, NOW_MS, AppendOptions::default()).expect("appended");
        }
        partition.log().advance_high_watermark(partition.log().log_end_offset());
        partition.log().flush().expect("synced");
    }

    fn place(&self) -> PathBuf {
        let log_directory = self.broker.partitions().get("plain", 0).expect("open").log().directory();
        log_directory.parent().expect("a data directory").to_owned()
    }

    fn move_all(&self) {
        self.logs.move_replicas(&[asked("plain", 1, PLACES[1])]).remove(0).expect("asked");
        while self.logs.move_next(&MoveSettings::default(), NOW_MS).expect("a step") {}
    }
}

/// Whether it comes to be so, within what is long for a machine with other work.
fn comes(is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() && began.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    is_so()
}

#[test]
fn a_replica_is_handed_over_while_an_upload_of_another_waits_for_its_quota() {
    let node = Node::start();
    node.tiers.set_limits(Some(1), None);
    std::thread::scope(|scope| {
        let uploads = scope.spawn(|| while node.logs.run_tiers(NOW_MS, 2) {});
        // the first thing of an upload
        let copy = Path::new("/first/tiered-0/remote-log-manifest");
        let has_begun = comes(|| node.disks[0].exists(copy).expect("asked"));
        let mover = scope.spawn(|| node.move_all());
        let is_moved = comes(|| node.place() == Path::new(PLACES[1]));
        let is_uploading = !uploads.is_finished();
        node.tiers.stop();
        mover.join().expect("a mover");
        uploads.join().expect("uploads");
        let (events, _) = node.broker.events().drain();
        assert!(has_begun && is_uploading, "there was no upload to wait for: {events:?}");
        assert!(is_moved, "it waited for the upload");
    });
}

#[test]
fn uploads_go_on_while_another_replica_is_handed_over() {
    let node = Node::start();
    node.disks[1].set_faults(Faults { hold_directory_renames: true, ..Faults::default() });
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| node.move_all());
        let is_held = comes(|| node.disks[1].held() > 0);
        let uploads = scope.spawn(|| {
            let mut count = 0;
            while node.logs.run_tiers(NOW_MS, 2) {
                count += 1;
            }
            count
        });
        let are_done = comes(|| uploads.is_finished());
        node.disks[1].stop_holding();
        mover.join().expect("a mover");
        let count = uploads.join().expect("uploads");
        assert!(is_held, "the rename did not begin");
        assert!(are_done && count > 2, "they waited for the hand-over, or there were none: {count}");
    });
    assert_eq!(node.place(), Path::new(PLACES[1]));
}
