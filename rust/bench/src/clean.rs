//! Compacting: a log of small records with random keys, cleaned by one pass.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastlog_log::{AppendOptions, CleanerLimits, LastStop, Log, LogConfig, LogOptions, Storage, Unpaced};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

/// Bytes of a record's value: with key and framing some 100 bytes a record.
const VALUE_BYTES: usize = 85;
/// Records of a batch: 16 KiB, as a producer of many small records sends.
const BATCH_RECORDS: usize = 160;
const NOW_MS: i64 = 1_700_000_000_000;

/// What a pass did, and how long it took.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Bytes of the log before.
    pub bytes_before: u64,
    /// Bytes after.
    pub bytes_after: u64,
    /// Records before.
    pub records_before: u64,
    /// Records that stayed.
    pub records_kept: u64,
    /// How long the pass took, its syncs included.
    pub took: Duration,
}

/// Fills a log in `directory` with about `bytes` of records with `key_count` random keys, and cleans it. Blocks.
///
/// # Errors
/// Whatever the log says.
pub fn clean(directory: &Path, bytes: u64, key_count: u64) -> io::Result<Figures> {
    let storage = Storage::real(directory);
    let config = Arc::new(LogConfig { cleanup_compact: true, cleanup_delete: false, ..LogConfig::default() });
    let options = LogOptions { config, ..LogOptions::new("clean", 0, LastStop::Clean) };
    let (log, _) = Log::open(&storage, options, NOW_MS).map_err(io::Error::other)?;
    fill(&log, bytes, key_count)?;
    // the active segment is not cleaned
    log.set_config(Arc::new(LogConfig { segment_ms: -1, ..LogConfig::clone(&log.config()) }));
    append(&log, 0, 1, key_count)?;
    log.advance_high_watermark(log.log_end_offset());
    let bytes_before = log.size_bytes();
    let records_before = log.log_end_offset().unsigned_abs();
    let began = Instant::now();
    let cleaned = log.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS).map_err(io::Error::other)?;
    let took = began.elapsed();
    let records_kept = cleaned.map_or(0, |cleaned| cleaned.records_kept);
    Ok(Figures { bytes_before, bytes_after: log.size_bytes(), records_before, records_kept, took })
}

fn fill(log: &Log, bytes: u64, key_count: u64) -> io::Result<()> {
    let mut number = 1;
    while log.size_bytes() < bytes {
        append(log, number, BATCH_RECORDS, key_count)?;
        number += BATCH_RECORDS as u64;
    }
    Ok(())
}

fn append(log: &Log, first: u64, count: usize, key_count: u64) -> io::Result<()> {
    let mut builder = Builder::new();
    for number in (first..).take(count) {
        // Fibonacci hashing: keys in no order
        let key = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) % key_count.max(1);
        builder.append(NOW_MS, Some(&key.to_be_bytes()), Some(&[b'v'; VALUE_BYTES]));
    }
    let batch = builder.seal(Compression::None).map_err(io::Error::other)?;
    log.append(&batch, 0, NOW_MS, AppendOptions::default()).map_err(io::Error::other)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_each_key_stays() {
        let directory = tempfile::tempdir().unwrap();
        let figures = clean(directory.path(), 1 << 20, 1_000).unwrap();
        assert!((1_000..1_000 + 2 * BATCH_RECORDS as u64).contains(&figures.records_kept), "{figures:?}");
        assert!(figures.bytes_after < figures.bytes_before / 5);
    }
}
