//! What is appended is written to the disk steadily, without a sync.

use std::sync::Arc;

use crate::common::*;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{LastStop, Log, LogConfig, Storage};

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn each_byte_is_written_once_in_order_and_the_page_that_still_grows_later() {
    let files = MemoryFileSystem::new(1);
    let storage = Storage::new(Arc::new(files.clone()), "/data".into(), 100);
    let config = LogConfig { segment_bytes: 11 * MEBIBYTE, ..LogConfig::default() };
    let log = Log::open(&storage, options(config, LastStop::Clean), NOW_MS).unwrap().0;
    let mut called = 0;
    for _ in 0..80 {
        append(&log, &batch(&[&"v".repeat(500_000)])).unwrap();
        if log.takes_write_back() {
            assert!(!log.takes_write_back(), "once for each stretch");
            log.start_write_back().unwrap();
            called += 1;
        }
    }
    assert!(log.segment_count() > 3);
    let written = files.write_backs();
    assert!((8..=10).contains(&called), "{called} times for 40 MB");
    let mut ends = written.iter().scan(0, |end, (position, length)| {
        let follows = *position == *end || *position == 0;
        *end = position + length;
        Some(follows)
    });
    assert!(ends.all(|follows| follows), "{written:?}");
    let bytes: u64 = written.iter().map(|(_, length)| length).sum();
    assert!(bytes <= log.size_bytes() && bytes > log.size_bytes() - 5 * MEBIBYTE, "{bytes}");
    assert_eq!(files.syncs(), 0);
    log.start_write_back().unwrap();
    log.start_write_back().unwrap();
    let (position, length) = *files.write_backs().last().unwrap();
    assert_eq!((position + length) % 4096, 0, "the last page is left");
    assert!(files.write_backs().len() <= written.len() + 1, "nothing is written twice");
}

#[test]
fn a_log_that_was_cut_is_written_steadily_from_there_on() {
    let files = MemoryFileSystem::new(1);
    let storage = Storage::new(Arc::new(files.clone()), "/data".into(), 100);
    let config = LogConfig { segment_bytes: 11 * MEBIBYTE, ..LogConfig::default() };
    let log = Log::open(&storage, options(config, LastStop::Clean), NOW_MS).unwrap().0;
    let append_some = |count: usize| {
        for _ in 0..count {
            append(&log, &batch(&[&"v".repeat(500_000)])).unwrap();
        }
        log.start_write_back().unwrap();
    };
    append_some(60);
    // to the first segment
    log.truncate_to(10, NOW_MS, || Ok(())).unwrap();
    let before = files.write_backs().len();
    append_some(5);
    let bytes: u64 = files.write_backs().iter().skip(before).map(|(_, length)| length).sum();
    assert!((5 * 500_000 - 2 * 4096..5 * 501_000 + 4096).contains(&bytes), "{bytes}");
}
