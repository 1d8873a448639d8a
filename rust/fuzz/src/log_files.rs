//! A small data directory as it lies on the disk, and what its log must say.

use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::file_system::{read_exact_at, read_up_to_at, write_all_at};
use fastlog_log::{
    AbortedTxn, AppendOptions, Checkpoint, FileSystem, Identity, LastStop, Log, LogConfig, LogDir, LogError,
    LogOptions, Offsets, OpenMode, RecoveryReport, Slice, Storage,
};
use fastlog_protocol::batch::{Attributes, BatchHeader, Builder, batches, crc_is_valid};
use fastlog_protocol::compression::Compression;
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const TOPIC: &str = "t";
const TOPIC_ID: Uuid = Uuid::from_u128(7);
const ROOT: &str = "/data";
const BATCHES: i64 = 24;

/// Files by path.
pub(crate) type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What was written.
pub(crate) struct Written {
    pub(crate) files: Files,
    /// Each batch as it lies in the log, by its base offset.
    pub(crate) batches: BTreeMap<i64, Vec<u8>>,
    /// The timestamp of each record, by offset.
    pub(crate) timestamps: Vec<i64>,
    pub(crate) aborted: Vec<AbortedTxn>,
    pub(crate) log_end_offset: i64,
}

/// Three segments with indexes, two producers, two leader epochs, an aborted and a committed transaction;
/// closed clean.
pub(crate) static WRITTEN: LazyLock<Written> = LazyLock::new(write);

pub(crate) fn config() -> LogConfig {
    LogConfig { segment_bytes: 700, index_interval_bytes: 150, ..LogConfig::default() }
}

pub(crate) fn identity() -> Identity {
    Identity { cluster_id: "cluster".to_owned(), node_id: 1 }
}

pub(crate) fn partition_directory() -> PathBuf {
    Path::new(ROOT).join(format!("{TOPIC}-0"))
}

fn storage(file_system: MemoryFileSystem) -> Arc<Storage> {
    Storage::new(Arc::new(file_system), PathBuf::from(ROOT), 64)
}

fn write() -> Written {
    let file_system = MemoryFileSystem::new(1);
    let directory = LogDir::open(storage(file_system.clone()), &identity()).unwrap();
    let options = LogOptions {
        config: Arc::new(config()),
        topic_id: Some(TOPIC_ID),
        ..directory.log_options(TOPIC, 0)
    };
    let (log, _) = Log::open(directory.storage(), options, NOW_MS).unwrap();
    for number in 0..BATCHES {
        append(&log, number);
    }
    let end = log.advance_high_watermark(log.log_end_offset());
    let (batches, timestamps) = contents(&log);
    let aborted = log.aborted_transactions(0, end).unwrap();
    assert_eq!((log.segment_count(), aborted.len()), (3, 1), "the log has all that is to be spoilt");
    log.close(true).unwrap();
    for checkpoint in [Checkpoint::RecoveryPoint, Checkpoint::HighWatermark] {
        let offsets = Offsets::from([((TOPIC.to_owned(), 0), end)]);
        directory.write_checkpoint(checkpoint, &offsets).unwrap();
    }
    directory.write_checkpoint(Checkpoint::LogStart, &Offsets::from([((TOPIC.to_owned(), 0), 0)])).unwrap();
    directory.close_clean().unwrap();
    let mut files = Files::new();
    read_files(&file_system, Path::new(ROOT), &mut files);
    Written { files, batches, timestamps, aborted, log_end_offset: end }
}

/// A batch of one to three records. Timestamps go up and down, as producers' clocks do.
fn append(log: &Log, number: i64) {
    let timestamp = NOW_MS + [0, 70, 30, 50, 20][number as usize % 5] + number * 10;
    let epoch = i32::from(number >= BATCHES / 2);
    let mut options = AppendOptions::default();
    let mut builder = match number {
        9 | 15 => {
            options.from_client = false;
            let ends = Attributes::default().with_control(true).with_transactional(true);
            Builder::new().producer(9, 0, -1).attributes(ends)
        }
        5 | 14 => {
            let opens = Attributes::default().with_transactional(true);
            Builder::new().producer(9, 0, if number == 5 { 0 } else { 1 }).attributes(opens)
        }
        _ if number % 3 == 1 => Builder::new().producer(4, 0, number as i32 / 3),
        _ => Builder::new(),
    };
    match number {
        // an abort, then a commit: version and kind, version and coordinator epoch
        9 => builder.append(timestamp, Some(&[0, 0, 0, 0]), Some(&[0, 0, 0, 0, 0, 3])),
        15 => builder.append(timestamp, Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 0, 0, 3])),
        _ => builder.append(timestamp, Some(b"k"), Some(format!("value {number}").as_bytes())),
    };
    let codec = match number {
        3 | 11 | 18 => {
            builder.append(timestamp + 3, None, Some(b"second")).append(timestamp - 3, None, None);
            Compression::Zstd
        }
        _ => Compression::None,
    };
    log.append(&builder.seal(codec).unwrap(), epoch, NOW_MS, options).unwrap();
}

fn read_files(file_system: &MemoryFileSystem, directory: &Path, files: &mut Files) {
    for entry in file_system.list(directory).unwrap() {
        let path = directory.join(entry.name);
        if entry.is_directory {
            read_files(file_system, &path, files);
        } else {
            let file = file_system.open(&path, OpenMode::Read).unwrap();
            let mut bytes = vec![0; file.length().unwrap() as usize];
            read_exact_at(&*file, &mut bytes, 0).unwrap();
            files.insert(path, bytes);
        }
    }
}

/// A file system with these files.
pub(crate) fn on_disk(files: &Files) -> MemoryFileSystem {
    let file_system = MemoryFileSystem::new(1);
    for (path, bytes) in files {
        let file = file_system.open(path, OpenMode::Create).unwrap();
        write_all_at(&*file, &mut [IoSlice::new(bytes)], 0).unwrap();
    }
    file_system
}

/// How a directory and its log are opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// As if the last run had ended so; else what the files say.
    pub(crate) last_stop: Option<LastStop>,
    /// As if everything below had been synced; else what the checkpoint says.
    pub(crate) recovery_point: Option<i64>,
}

pub(crate) struct Opened {
    pub(crate) directory: LogDir,
    pub(crate) log: Log,
    pub(crate) report: RecoveryReport,
}

pub(crate) fn open(file_system: &MemoryFileSystem, opening: Opening) -> Result<Opened, LogError> {
    let directory = LogDir::open(storage(file_system.clone()), &identity())?;
    directory.partitions()?;
    let mut options = LogOptions {
        config: Arc::new(config()),
        topic_id: Some(TOPIC_ID),
        ..directory.log_options(TOPIC, 0)
    };
    options.last_stop = opening.last_stop.unwrap_or(options.last_stop);
    options.recovery_point = opening.recovery_point.unwrap_or(options.recovery_point);
    let (log, report) = Log::open(directory.storage(), options, NOW_MS)?;
    Ok(Opened { directory, log, report })
}

/// The bytes of a slice, as far as the file has them.
pub(crate) fn bytes_of(slice: &Slice) -> Vec<u8> {
    let mut bytes = vec![0; slice.length];
    let read = read_up_to_at(&*slice.file, &mut bytes, slice.position).unwrap();
    bytes.truncate(read);
    bytes
}

/// All batches of a good log by base offset, and the timestamps of its records.
pub(crate) fn contents(log: &Log) -> (BTreeMap<i64, Vec<u8>>, Vec<i64>) {
    let (mut all, mut timestamps) = (BTreeMap::new(), Vec::new());
    let mut offset = log.log_start_offset();
    while let Some(slice) = log.read(offset, 1 << 20, log.log_end_offset(), true).unwrap() {
        for batch in batches(&bytes_of(&slice)) {
            let batch = batch.unwrap();
            assert!(crc_is_valid(batch));
            let header = BatchHeader::parse(batch).unwrap();
            assert_eq!(header.base_offset, offset, "no gap");
            offset = header.next_offset();
            fastlog_protocol::batch::records(batch, |record| {
                timestamps.push(record.timestamp);
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
            all.insert(header.base_offset, batch.to_vec());
        }
    }
    assert_eq!(offset, log.log_end_offset());
    (all, timestamps)
}
