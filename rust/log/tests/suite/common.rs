//! What the tests of the log share.

use std::path::Path;
use std::sync::Arc;

use fastlog_log::file_system::read_exact_at;
use fastlog_log::{
    AppendError, AppendOptions, Appended, LastStop, Log, LogConfig, LogError, LogOptions, RecoveryReport,
    Slice, Storage,
};
use fastlog_protocol::batch::{BatchHeader, Builder, batches, check_crc, records};
use fastlog_protocol::compression::Compression;

/// The broker's time in tests.
pub(crate) const NOW_MS: i64 = 1_700_000_000_000;

pub(crate) fn config() -> LogConfig {
    LogConfig { segment_bytes: 4096, index_interval_bytes: 256, ..LogConfig::default() }
}

/// The options of partition `t-0`.
pub(crate) fn options(config: LogConfig, last_stop: LastStop) -> LogOptions {
    LogOptions { config: Arc::new(config), ..LogOptions::new("t", 0, last_stop) }
}

pub(crate) fn storage(directory: &Path) -> Arc<Storage> {
    Storage::real(directory)
}

pub(crate) fn open(directory: &Path, config: LogConfig, last_stop: LastStop) -> (Log, RecoveryReport) {
    Log::open(&storage(directory), options(config, last_stop), NOW_MS).unwrap()
}

pub(crate) fn create(directory: &Path) -> Log {
    open(directory, config(), LastStop::Clean).0
}

/// A batch of values, the first one at `timestamp_ms` and each 1 ms later.
pub(crate) fn batch_at(timestamp_ms: i64, values: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new();
    for (value, timestamp) in values.iter().zip(timestamp_ms..) {
        builder.append(timestamp, Some(b"k"), Some(value.as_bytes()));
    }
    builder.seal(Compression::None).unwrap()
}

pub(crate) fn batch(values: &[&str]) -> Vec<u8> {
    batch_at(NOW_MS, values)
}

/// One record of an idempotent producer.
pub(crate) fn idempotent(producer_id: i64, epoch: i16, sequence: i32, value: &str) -> Vec<u8> {
    let mut builder = Builder::new().producer(producer_id, epoch, sequence);
    builder.append(NOW_MS, None, Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

pub(crate) fn append(log: &Log, batch: &[u8]) -> Result<Appended, AppendError> {
    log.append(batch, 0, NOW_MS, AppendOptions::default())
}

pub(crate) fn bytes_of(slice: &Slice) -> Vec<u8> {
    let mut bytes = vec![0; slice.length];
    read_exact_at(&*slice.file, &mut bytes, slice.position).unwrap();
    bytes
}

/// Offset and value of each record from `from` on below `bound`, as a consumer would see them.
pub(crate) fn values_below(
    log: &Log,
    from: i64,
    bound: i64,
    max_bytes: usize,
) -> Result<Vec<(i64, String)>, LogError> {
    let mut found = Vec::new();
    let mut offset = from;
    while let Some(slice) = log.read(offset, max_bytes, bound, true)? {
        let (next, values) = values_in(&bytes_of(&slice), offset);
        assert!(next > offset, "no progress at {offset}");
        assert!(next <= bound);
        found.extend(values);
        offset = next;
    }
    Ok(found)
}

/// What a slice that was read from `from` on holds: the offset behind it, and offset and value of each record.
pub(crate) fn values_in(bytes: &[u8], from: i64) -> (i64, Vec<(i64, String)>) {
    let mut found = Vec::new();
    let mut next = from;
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        check_crc(batch).unwrap();
        let header = BatchHeader::parse(batch).unwrap();
        assert!(header.last_offset() >= next, "the slice starts before the batch of offset {next}");
        records(batch, |record| {
            if record.offset >= from {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                found.push((record.offset, value));
            }
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
        next = header.next_offset();
    }
    (next, found)
}

pub(crate) fn values(log: &Log) -> Vec<(i64, String)> {
    values_below(log, log.log_start_offset(), log.log_end_offset(), 700).unwrap()
}

/// `first..first + count` with the values that [`fill`] appends.
pub(crate) fn expected(first: i64, end: i64) -> Vec<(i64, String)> {
    (first..end).map(|offset| (offset, format!("value-{offset}"))).collect()
}

/// Appends one record a batch until the log ends at `end`.
pub(crate) fn fill(log: &Log, end: i64) {
    while log.log_end_offset() < end {
        append(log, &batch(&[&format!("value-{}", log.log_end_offset())])).unwrap();
    }
}

/// Copies the partition's files as they are, as a crash of the process would leave them.
pub(crate) fn copy_log(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("t-0")).unwrap();
    for entry in std::fs::read_dir(from.join("t-0")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join("t-0").join(entry.file_name())).unwrap();
    }
}
