//! A log of which the disk cannot read all is moved: what was left out is damage on the new disk for good, though it can be read there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::scrub::{fetched, scrub};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{Commit, FileSystem, FutureLog, LastStop, Log, LogConfig, LogOptions, Storage};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

/// Records of each log here, one a batch, each of three pages.
const END: i64 = 12;
/// The batch of which the middle page is bad: its header, and those around it, can be read.
const BAD: i64 = 5;
const PAGE_BYTES: u64 = 4096;

fn wide(number: i64) -> Vec<u8> {
    let mut builder = Builder::new();
    let value = format!("{number:012}").repeat(1000);
    builder.append(NOW_MS, None, Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

/// All in one segment, the active one; or a segment a batch.
fn config_of(segments: usize) -> LogConfig {
    let segment_bytes = if segments == 1 { 1 << 20 } else { 30_000 };
    LogConfig { segment_bytes, ..config() }
}

fn storage_of(files: &MemoryFileSystem, directory: &str) -> Arc<Storage> {
    Storage::new(Arc::new(files.clone()), PathBuf::from(directory), 8)
}

fn filled(files: &MemoryFileSystem, segments: usize) -> Log {
    let options = options(config_of(segments), LastStop::Clean);
    let (log, _) = Log::open(&storage_of(files, "/a"), options, NOW_MS).unwrap();
    log.start_epoch(0).unwrap();
    while log.log_end_offset() < END {
        append(&log, &wide(log.log_end_offset())).unwrap();
    }
    log.advance_high_watermark(END);
    log.flush().unwrap();
    log
}

/// Where the bad page is: the file, and a byte of it.
fn bad_page(log: &Log) -> (PathBuf, usize) {
    let slice = log.read(BAD, 1, i64::MAX, true).unwrap().unwrap();
    let page = (slice.position + 100).next_multiple_of(PAGE_BYTES);
    assert!(page + PAGE_BYTES < slice.position + slice.length as u64, "all of it is of that batch");
    let file = PathBuf::from(format!("/a/t-0/{:020}.log", slice.segment_base_offset));
    (file, usize::try_from(page).unwrap())
}

fn hand_over(log: &Log, copy: &mut FutureLog) {
    for _ in 0..3 {
        while !log.copy_next(copy).unwrap() {}
        // the first time it may come upon what the disk cannot read
        let Some(mut hand_over) = log.hand_over(copy).unwrap() else { continue };
        assert!(matches!(hand_over.commit(), Commit::Moved(_)));
        return;
    }
    panic!("it is not moved");
}

/// Everything but the bad batch is there, which is refused.
fn check(log: &Log, when: &str) {
    assert_eq!(log.log_end_offset(), END, "{when}");
    for offset in 0..END {
        let read = log.read(offset, 1, END, true);
        if offset == BAD {
            assert!(read.is_err(), "{when}: a page of zeros is given as a record");
        } else {
            let bytes = bytes_of(&read.unwrap().unwrap());
            let (found, expected) = (bytes.get(61..), wide(offset));
            assert_eq!(found, expected.get(61..), "{when}: {offset}");
        }
    }
}

fn started(files: &MemoryFileSystem, segments: usize, recovery_point: i64, last_stop: LastStop) -> Log {
    let options =
        LogOptions { recovery_point, high_watermark: END, ..options(config_of(segments), last_stop) };
    Log::open(&storage_of(files, "/b"), options, NOW_MS).unwrap().0
}

#[test]
fn no_start_takes_the_zeros_for_what_was_there() {
    for segments in [1, 2] {
        for last_stop in [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied] {
            let disks = [1, 2].map(MemoryFileSystem::new);
            let log = filled(&disks[0], segments);
            let (file, page) = bad_page(&log);
            assert!(disks[0].make_unreadable(&file, page));
            let mut copy = FutureLog::begin(&log, &storage_of(&disks[1], "/b")).unwrap();
            hand_over(&log, &mut copy);
            check(&log, "after the move");
            if last_stop == LastStop::Clean {
                log.close(true).unwrap();
            }
            let recovery_point = log.recovery_point();
            drop((log, copy));
            if last_stop == LastStop::MachineDied {
                disks[1].restart_machine();
            }
            let log = started(&disks[1], segments, recovery_point, last_stop);
            check(&log, &format!("{last_stop:?}, {segments} segments"));
            // another start, another move: it stays so until it is mended
            let mut copy = FutureLog::begin(&log, &storage_of(&disks[0], "/c")).unwrap();
            hand_over(&log, &mut copy);
            check(&log, "moved again");
            let good = filled(&MemoryFileSystem::new(3), segments);
            let ranges = log.damaged_ranges().unwrap();
            let [range] = &ranges[..] else { panic!("{ranges:?}") };
            log.mend(range.offset, &fetched(&good, range), NOW_MS).unwrap();
            assert_eq!(bytes_of(&log.read(BAD, 1, END, true).unwrap().unwrap()).len(), wide(BAD).len());
            assert!(!disks[0].exists(Path::new("/c/t-0/damaged-segments")).unwrap());
        }
    }
}

#[test]
fn what_is_found_later_keeps_the_zeros_in_the_list_when_the_machine_dies() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let log = filled(&disks[0], 2);
    let (file, page) = bad_page(&log);
    assert!(disks[0].make_unreadable(&file, page));
    let mut copy = FutureLog::begin(&log, &storage_of(&disks[1], "/b")).unwrap();
    hand_over(&log, &mut copy);
    // the list is written anew for another segment
    assert!(disks[1].corrupt(Path::new("/b/t-0/00000000000000000000.log"), 70));
    assert_eq!(scrub(&log).len(), 1);
    let recovery_point = log.recovery_point();
    drop((log, copy));
    disks[1].restart_machine();
    let log = started(&disks[1], 2, recovery_point, LastStop::MachineDied);
    assert!(log.read(0, 1, END, true).is_err());
    assert!(log.read(BAD, 1, END, true).is_err(), "a page of zeros is given as a record");
}

#[test]
fn what_the_disk_reads_again_in_time_is_copied_as_it_is() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let log = filled(&disks[0], 2);
    let (file, page) = bad_page(&log);
    assert!(disks[0].make_unreadable(&file, page));
    let mut copy = FutureLog::begin(&log, &storage_of(&disks[1], "/b")).unwrap();
    while !log.copy_next(&mut copy).unwrap() {}
    assert!(disks[0].make_readable(&file));
    scrub(&log);
    assert!(log.read(BAD, 1, END, true).is_ok(), "it is known for good by now");
    hand_over(&log, &mut copy);
    let good = filled(&MemoryFileSystem::new(3), 2);
    let bytes = |log: &Log| bytes_of(&log.read(BAD, 1, END, true).unwrap().unwrap());
    assert_eq!(bytes(&log), bytes(&good));
}
