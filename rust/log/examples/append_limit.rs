//! How fast the log appends 1 MiB batches, against bare pwrite(2) to a file that is preallocated the same way.
//!
//!     cargo run --release -p fastlog-log --example append_limit [-- DIRECTORY [MEBIBYTES [PAIRS]]]
//!
//! Log and limit take turns in the same directory, validation on; the median of the pairs' ratios is what counts. Both
//! write each byte once into the page cache and sync nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fastlog_log::{
    AppendOptions, FileSystem, LastStop, Log, LogConfig, LogOptions, OpenMode, RealFileSystem, Storage,
};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

const NOW_MS: i64 = 1_700_000_000_000;
const VALUE_BYTES: usize = 100;
/// As much as the log reserves ahead at a time.
const RESERVED_BYTES: u64 = 64 << 20;

/// A batch of just under 1 MiB of 100-byte records.
fn batch() -> Vec<u8> {
    let mut builder = Builder::new();
    for number in 0..(1 << 20) / (VALUE_BYTES + 10) {
        builder.append(NOW_MS + number as i64 % 7, None, Some(&[b'x'; VALUE_BYTES]));
    }
    builder.seal(Compression::None).unwrap()
}

/// Bytes a second of the log.
fn log_rate(directory: &Path, batch: &[u8], count: usize) -> f64 {
    let storage = Storage::real(directory);
    let config = LogConfig { max_message_bytes: 2 << 20, ..LogConfig::default() };
    let options = LogOptions { config: Arc::new(config), ..LogOptions::new("bench", 0, LastStop::Clean) };
    let (log, _) = Log::open(&storage, options, NOW_MS).unwrap();
    let start = Instant::now();
    for _ in 0..count {
        log.append(batch, 0, NOW_MS, AppendOptions::default()).unwrap();
    }
    let rate = (batch.len() * count) as f64 / start.elapsed().as_secs_f64();
    log.close(false).unwrap();
    std::fs::remove_dir_all(directory.join("bench-0")).unwrap();
    rate
}

/// Bytes a second of bare writes.
fn limit_rate(directory: &Path, batch: &[u8], count: usize) -> f64 {
    let path = directory.join("limit");
    let file = RealFileSystem.open(&path, OpenMode::Create).unwrap();
    let start = Instant::now();
    let (mut position, mut reserved) = (0, 0);
    for _ in 0..count {
        if position + batch.len() as u64 > reserved {
            file.allocate(position, RESERVED_BYTES).unwrap();
            reserved = position + RESERVED_BYTES;
        }
        let parts = [std::io::IoSlice::new(batch)];
        assert_eq!(file.write_vectored_at(&parts, position).unwrap(), batch.len());
        position += batch.len() as u64;
    }
    let rate = (batch.len() * count) as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let mebibytes: usize = arguments.next().map_or(512, |text| text.parse().unwrap());
    let pairs: usize = arguments.next().map_or(9, |text| text.parse().unwrap());
    let directory = parent.join(format!("append-limit-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let batch = batch();
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        let (log, limit) = if pair % 2 == 0 {
            let log = log_rate(&directory, &batch, mebibytes);
            (log, limit_rate(&directory, &batch, mebibytes))
        } else {
            let limit = limit_rate(&directory, &batch, mebibytes);
            (log_rate(&directory, &batch, mebibytes), limit)
        };
        ratios.push(log / limit);
        println!("log {:.2} GB/s, pwrite {:.2} GB/s, ratio {:.2}", log / 1e9, limit / 1e9, log / limit);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median ratio {:.2} of {pairs} pairs: {mebibytes} batches of {} bytes, {VALUE_BYTES}-byte records, validation on, no sync",
        ratios[pairs / 2],
        batch.len()
    );
    std::fs::remove_dir_all(directory).unwrap();
}
