//! What a pass of the cleaner holds of a batch that expands far, and of one of very many records. One test, alone in its
//! process: it measures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::sync::Arc;

use fastlog_log::{AppendOptions, CleanerLimits, LastStop, Log, LogConfig, LogOptions, Storage, Unpaced};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

const NOW_MS: i64 = 1_700_000_000_000;
const MIB: usize = 1 << 20;

/// The most memory that this process has had since the last `forget_peak`.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Sets the peak to what there is now (proc(5), clear_refs).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// A log of one batch, which may be cleaned.
fn log_of(directory: &std::path::Path, batch: &[u8]) -> Log {
    let config = LogConfig {
        cleanup_compact: true,
        cleanup_delete: false,
        max_message_bytes: 16 * MIB,
        ..LogConfig::default()
    };
    let options = LogOptions { config: Arc::new(config), ..LogOptions::new("t", 0, LastStop::Clean) };
    let (log, _) = Log::open(&Storage::real(directory), options, NOW_MS).unwrap();
    log.append(batch, 0, NOW_MS, AppendOptions::default()).unwrap();
    log.set_config(Arc::new(LogConfig { segment_ms: -1, ..LogConfig::clone(&log.config()) }));
    let mut last = Builder::new();
    last.append(NOW_MS, Some(b"last"), Some(b"last"));
    log.append(&last.seal(Compression::None).unwrap(), 0, NOW_MS, AppendOptions::default()).unwrap();
    log.advance_high_watermark(log.log_end_offset());
    log
}

/// `count` records with keys of their own and values of `value_bytes` zeros, a tombstone behind them.
fn batch_of(count: u32, value_bytes: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    let value = vec![0; value_bytes];
    for key in 0..count {
        builder.append(NOW_MS, Some(&key.to_be_bytes()), Some(&value));
    }
    builder.append(NOW_MS, Some(b"gone"), None);
    builder.seal(Compression::Lz4).unwrap()
}

/// How much memory a pass over that batch took.
fn grown_by_cleaning(count: u32, value_bytes: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let log = log_of(directory.path(), &batch_of(count, value_bytes));
    let limits = CleanerLimits { map_bytes_max: MIB, ..CleanerLimits::default() };
    forget_peak();
    let before = peak_bytes();
    // the tombstone's time begins, so that all records are written anew
    let cleaned = log.clean(0, limits, &Unpaced, NOW_MS).unwrap().unwrap();
    assert_eq!(cleaned.records_kept, u64::from(count) + 1);
    peak_bytes() - before
}

#[test]
fn a_batch_is_held_twice_at_most() {
    // decompressed, and what stays of it; buffers grow by halves or double
    let grown = grown_by_cleaning(32, MIB);
    assert!(grown < (64 + 16) * MIB, "32 MiB took {} MiB", grown / MIB);
    // 6 MiB of them, 8 with their new times
    let grown = grown_by_cleaning(500_000, 0);
    assert!(grown < 28 * MIB, "500,000 records took {} MiB", grown / MIB);
}
