//! A broker on disks in memory.

use fastlog_broker::{
    AllowAll, Broker, BrokerConfig, ChangeError, LogManager, MoveSettings, OpenPartition, SystemClock,
    WantedReplica,
};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::file_system::read_exact_at;
use fastlog_log::{AppendOptions, FileSystem, Identity, LogConfig, LogError, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{Builder, batches, records};
use fastlog_protocol::compression::Compression;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const FIRST: &str = "/first";
pub(crate) const SECOND: &str = "/second";
pub(crate) const THIRD: &str = "/third";

/// A broker with a partition, on two disks, which may be one file system.
pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) logs: LogManager,
}

pub(crate) fn wanted() -> OpenPartition {
    let config = LogConfig { segment_bytes: 4096, index_interval_bytes: 256, ..LogConfig::default() };
    OpenPartition {
        topic: "t".into(),
        topic_id: Uuid::from_u128(1),
        index: 0,
        leader_epoch: 0,
        config: Arc::new(config),
        min_insync_replicas: 1,
    }
}

impl Node {
    pub(crate) fn start(disks: &[MemoryFileSystem]) -> Result<Self, LogError> {
        Self::start_with(disks, &[wanted()])
    }

    /// With these partitions, opened or made.
    pub(crate) fn start_with(disks: &[MemoryFileSystem], wanted: &[OpenPartition]) -> Result<Self, LogError> {
        let storages = disks.iter().zip([FIRST, SECOND, THIRD]);
        let storages =
            storages.map(|(disk, path)| Storage::new(Arc::new(disk.clone()), PathBuf::from(path), 100));
        let clock = Arc::new(SystemClock);
        let broker = Broker::without_threads(BrokerConfig::default(), Arc::new(AllowAll), clock);
        let broker = broker.expect("a broker");
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let logs = LogManager::open(broker.clone(), storages.collect(), &identity)?;
        wanted.iter().try_for_each(|it| logs.open_partition(it, NOW_MS))?;
        logs.finish_opening()?;
        Ok(Self { broker, logs })
    }

    /// Has it moved, or made there as the topic with the id 2 where it is not here.
    pub(crate) fn ask(&self, topic: &str, to: &str) -> Result<(), ChangeError> {
        let open = self.broker.partitions().get(topic, 0);
        let topic_id = open.map_or(Uuid::from_u128(2), |it| it.topic_id());
        let asked =
            WantedReplica { topic: topic.to_owned(), topic_id, index: 0, directory: PathBuf::from(to) };
        self.logs.move_replicas(&[asked]).remove(0)
    }

    pub(crate) fn append(&self) -> Result<(), ErrorCode> {
        self.append_of(500)
    }

    pub(crate) fn append_of(&self, bytes: usize) -> Result<(), ErrorCode> {
        self.append_to("t", bytes)
    }

    pub(crate) fn append_to(&self, topic: &str, bytes: usize) -> Result<(), ErrorCode> {
        let partition = self.broker.partitions().get(topic, 0).expect("an open partition");
        let value = format!("value-{}-{}", partition.log().log_end_offset(), "x".repeat(bytes));
        let mut builder = Builder::new();
        builder.append(NOW_MS, None, Some(value.as_bytes()));
        let batch = builder.seal(Compression::None).expect("a batch");
        let appended = partition.append(&batch, NOW_MS, AppendOptions::default());
        appended.map(|_| ()).map_err(|error| error.code)
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.place_of("t")
    }

    pub(crate) fn place_of(&self, topic: &str) -> PathBuf {
        let partition = self.broker.partitions().get(topic, 0).expect("an open partition");
        partition.log().directory().parent().expect("a data directory").to_owned()
    }

    /// Moves until there is nothing to move.
    pub(crate) fn move_all(&self) -> Result<(), LogError> {
        while self.logs.move_next(&MoveSettings::default(), NOW_MS)? {}
        Ok(())
    }

    /// Where the log starts, and its end; all records between are as they were sent.
    pub(crate) fn check(&self) -> (i64, i64) {
        let partition = self.broker.partitions().get("t", 0).expect("an open partition");
        let log = partition.log();
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let mut at = start;
        while let Some(slice) = log.read(at, 10_000, end, true).expect("records") {
            let mut bytes = vec![0; slice.length];
            read_exact_at(&*slice.file, &mut bytes, slice.position).expect("bytes");
            for batch in batches(&bytes) {
                records(batch.expect("a batch"), |record| {
                    let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                    assert!(
                        value.starts_with(&format!("value-{}-", record.offset)),
                        "{}: {value}",
                        record.offset
                    );
                    at = at.max(record.offset + 1);
                    ControlFlow::Continue(())
                })
                .expect("records");
            }
        }
        assert_eq!(at, end, "nothing is missing");
        (start, end)
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        let (events, _) = self.broker.events().drain();
        let of = |it: fastlog_broker::Event| format!("{} {:?}", it.message, it.fields);
        events.into_iter().map(of).collect()
    }
}

/// Directories of the partition that are there, in which data directory.
pub(crate) fn found(disks: &[MemoryFileSystem]) -> Vec<&'static str> {
    let is_there =
        |disk: &MemoryFileSystem, path: &str| disk.exists(&Path::new(path).join("t-0")).expect("asked");
    let all = disks.iter().zip([FIRST, SECOND, THIRD]);
    all.filter(|(disk, path)| is_there(disk, path)).map(|(_, path)| path).collect()
}

pub(crate) fn restarted(disks: &[MemoryFileSystem], restart: impl Fn(&MemoryFileSystem)) -> Node {
    disks.iter().for_each(restart);
    Node::start(disks).expect("a start after that")
}
