//! Looks of threads that may not wait for a disk: they find what others find, or nothing, and leave no trace.

use std::fs::{self, File};
use std::path::Path;

use crate::common::*;
use fastlog_log::{LastStop, Log, LogConfig, LogOptions, NotInMemory, only_in_memory};

const END: i64 = 600;

/// A log of several segments that was closed and opened again; nobody looked at it yet.
fn reopened(directory: &Path) -> Log {
    let config = || LogConfig { segment_bytes: 64 << 10, ..config() };
    let log = open(directory, config(), LastStop::Clean).0;
    for _ in 0..END {
        append(&log, &batch(&[&"v".repeat(500)])).unwrap();
    }
    log.close(true).unwrap();
    drop(log);
    open_synced(directory, config(), END)
}

/// As a start does after a clean stop: nothing is read of what was synced.
fn open_synced(directory: &Path, config: LogConfig, end: i64) -> Log {
    let options = LogOptions { recovery_point: end, ..options(config, LastStop::Clean) };
    Log::open(&storage(directory), options, NOW_MS).unwrap().0
}

/// Has the page cache forget the log; false where it does not (tmpfs).
fn forget(directory: &Path) -> bool {
    let files =
        fs::read_dir(directory.join("t-0")).unwrap().map(|it| File::open(it.unwrap().path()).unwrap());
    let each = files.map(|file| {
        file.sync_all().unwrap();
        let length = file.metadata().unwrap().len();
        fastlog_sys::page_cache::drop_from_memory(&file, 0, length).unwrap();
        length == 0 || !fastlog_sys::page_cache::is_in_memory(&file, 0, length)
    });
    // all are tried
    each.filter(|is_dropped| !is_dropped).count() == 0
}

/// What a client may look for, each for an answer that can be compared.
fn looks(log: &Log) -> [(&'static str, String); 4] {
    let slice = log.read(77, 4096, END, true).map(|slice| slice.map(|it| (it.position, it.length)));
    [
        ("read", format!("{slice:?}")),
        ("time", format!("{:?}", log.offset_for_timestamp(NOW_MS, END))),
        ("newest", format!("{:?}", log.max_timestamp(END))),
        ("aborted", format!("{:?}", log.aborted_transactions(0, END))),
    ]
}

#[test]
fn a_look_for_what_is_not_in_memory_finds_nothing_out_and_leaves_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let log = reopened(directory.path());
    // the indexes are to be read, whether they lie in memory or not
    assert!(matches!(only_in_memory(|| log.read(77, 4096, END, true)), Err(NotInMemory)));
    assert!(matches!(only_in_memory(|| log.offset_for_timestamp(NOW_MS, END)), Err(NotInMemory)));
    let found = looks(&log);
    assert!(found.iter().all(|(_, it)| it.starts_with("Ok(")), "{found:?}");
    assert_eq!(only_in_memory(|| looks(&log)), Ok(found.clone()), "now all of it is in memory");
    if forget(directory.path()) {
        assert!(matches!(only_in_memory(|| log.read(77, 4096, END, true)), Err(NotInMemory)));
        assert!(matches!(only_in_memory(|| log.max_timestamp(END)), Err(NotInMemory)));
        // errors on the way are swallowed there, as one looks for a place to begin
        assert_eq!(only_in_memory(|| log.available_bytes(77, END)), Err(NotInMemory));
    }
    assert_eq!(looks(&log), found);
    assert!(log.damaged_ranges().unwrap().is_empty());
    assert_eq!(values(&log).len(), usize::try_from(END).unwrap());
}

#[test]
fn leader_epochs_are_not_answered_before_the_batches_were_seen() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    for epoch in 1..4 {
        log.start_epoch(epoch).unwrap();
        let appended = log.append(&batch(&["v"]), epoch, NOW_MS, fastlog_log::AppendOptions::default());
        appended.unwrap();
    }
    log.close(true).unwrap();
    drop(log);
    let log = open_synced(directory.path(), config(), 3);
    if forget(directory.path()) {
        assert_eq!(only_in_memory(|| log.end_offset_for_epoch(2).unwrap()), Err(NotInMemory));
    }
    assert_eq!(log.end_offset_for_epoch(2).unwrap(), (2, 2));
    assert_eq!(only_in_memory(|| log.end_offset_for_epoch(2).unwrap()), Ok((2, 2)));
}
