//! Readers beside a writer that rolls, deletes and flushes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::*;
use fastlog_log::{LastStop, Log, LogConfig};
use fastlog_protocol::ErrorCode;

const END: i64 = 6000;

/// Follows the tail up to the high watermark; each record exactly once, in order, none above the bound.
fn follow(log: &Log, done: &AtomicBool) -> usize {
    let (mut offset, mut seen) = (0, 0);
    loop {
        let finished = done.load(Ordering::Acquire);
        let bound = log.high_watermark();
        match values_below(log, offset, bound, 2000) {
            Ok(found) => {
                assert_eq!(found, expected(offset, bound));
                seen += found.len();
                offset = bound;
            }
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::OFFSET_OUT_OF_RANGE, "{error}");
                offset = offset.max(log.log_start_offset());
            }
        }
        if finished && offset >= log.high_watermark() {
            return seen;
        }
    }
}

/// Reads from places all over the log.
fn roam(log: &Log, done: &AtomicBool) -> usize {
    let mut reads = 0;
    while !done.load(Ordering::Acquire) {
        let (start, bound) = (log.log_start_offset(), log.high_watermark());
        for part in 0..4 {
            let offset = start + (bound - start) * part / 4;
            match log.read(offset, 700, bound, true) {
                Ok(slice) => assert!(slice.is_none_or(|slice| bytes_of(&slice).len() == slice.length)),
                Err(error) => assert_eq!(error.code(), ErrorCode::OFFSET_OUT_OF_RANGE, "{error}"),
            }
            log.available_bytes(offset, bound);
            log.offset_for_timestamp(NOW_MS, bound).unwrap();
            reads += 1;
        }
    }
    reads
}

#[test]
fn readers_see_each_record_once_while_segments_come_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    let keep = LogConfig { retention_bytes: 60_000, file_delete_delay_ms: 0, ..config() };
    let (log, done) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
    /// Ends the readers also when the writer fails.
    struct EndReaders<'a>(&'a AtomicBool);
    impl Drop for EndReaders<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    thread::scope(|scope| {
        let writing = EndReaders(&done);
        let followers = [(); 2].map(|()| scope.spawn(|| follow(&log, &done)));
        let roamer = scope.spawn(|| roam(&log, &done));
        let flusher = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                log.flush().unwrap();
                thread::yield_now();
            }
        });
        while log.log_end_offset() < END {
            fill(&log, log.log_end_offset() + 50);
            log.advance_high_watermark(log.log_end_offset());
            if log.log_end_offset() % 1000 == 0 {
                log.set_config(keep.clone().into());
                log.enforce_retention(NOW_MS).unwrap();
                log.purge_deleted(NOW_MS).unwrap();
            }
        }
        drop(writing);
        for follower in followers {
            assert!(follower.join().unwrap() > 0);
        }
        assert!(roamer.join().unwrap() > 0);
        flusher.join().unwrap();
    });
    assert!(log.log_start_offset() > 0);
    assert_eq!(values(&log), expected(log.log_start_offset(), END));
}
