//! Starts on a full disk, where markers of aborted transactions are in the log without their entries in the index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::*;
use crate::compaction_reader::read_committed;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::file_system::{FileSystem, OpenMode};
use fastlog_log::{
    CleanerLimits, Commit, FutureLog, LastStop, Log, LogConfig, LogError, LogOptions, Storage, Unpaced,
};
use proptest::prelude::*;

/// No byte more, no file more, and nothing gets another name.
fn full() -> Faults {
    Faults { room: Some(0), full_from_call: Some(0), ..Faults::default() }
}

fn storage_on(files: &MemoryFileSystem, directory: &str) -> Arc<Storage> {
    Storage::new(Arc::new(files.clone()), PathBuf::from(directory), 8)
}

fn open_in(storage: &Arc<Storage>, recovery_point: i64, last_stop: LastStop) -> Log {
    let config = LogConfig { cleanup_compact: false, cleanup_delete: true, ..compacted() };
    let options = LogOptions { recovery_point, high_watermark: i64::MAX, ..options(config, last_stop) };
    Log::open(storage, options, NOW_MS).unwrap().0
}

fn open_at(files: &MemoryFileSystem, recovery_point: i64, last_stop: LastStop) -> Log {
    open_in(&storage_on(files, "/data"), recovery_point, last_stop)
}

/// Logs whose processes died when the marker of their only transaction was written, and its entry was not.
fn without_entry() -> impl Iterator<Item = (MemoryFileSystem, Model)> {
    let lacks_entry = |files: &MemoryFileSystem| {
        let index = files
            .open(Path::new(LOG_DIRECTORY).join("00000000000000000000.txnindex").as_path(), OpenMode::Read);
        index.map_or(0, |index| index.length().unwrap()) < 34
    };
    (0..40).map(died_at_marker).filter(move |(files, _)| lacks_entry(files)).take(12)
}

/// What the dying process wrote of the entry is left to chance.
fn died_at_marker(seed: u64) -> (MemoryFileSystem, Model) {
    let files = MemoryFileSystem::new(seed);
    let log = open_at(&files, 0, LastStop::Clean);
    let mut model = Model { compresses: false, ..Model::default() };
    let mut random = Random(seed);
    model.batch(&log, &mut random, None, false);
    log.flush().unwrap();
    model.batch(&log, &mut random, Some(7), true);
    let room = Some(marker_batch(7, 0, false).len() as u64);
    let mut calls = 0;
    // the same each time but for the first, which looks at more; the last dies before it takes the marker back
    for dies in [false, false, true] {
        let before = files.calls();
        let die_at_call = dies.then_some(before + calls - 2);
        files.set_faults(Faults { room, die_at_call, ..Faults::default() });
        append_marker(&log, 7, 0, false).unwrap_err();
        calls = files.calls() - before;
    }
    assert!(files.is_dead());
    drop(log);
    files.set_faults(Faults::default());
    files.restart_process();
    model
        .aborted
        .extend(model.written.iter().filter(|(_, (_, id))| *id == Some(7)).map(|(offset, _)| *offset));
    (files, model)
}

fn check(log: &Log, model: &Model) {
    assert_eq!(read_committed(log, 0), model.committed_from(0));
    assert_eq!(log.last_stable_offset(), log.log_end_offset());
}

#[test]
fn a_start_on_a_full_disk_serves_what_a_marker_without_its_entry_aborts_to_nobody() {
    let mut seed = 0;
    for (files, mut model) in without_entry() {
        seed += 1;
        for _ in 0..2 {
            files.set_faults(full());
            let log = open_at(&files, 1, LastStop::ProcessDied);
            let end = log.log_end_offset();
            check(&log, &model);
            check(&log, &model);
            // nothing vouches for the marker while its entry is not on the disk
            assert_eq!(log.flush().unwrap(), end - 1);
            assert_eq!(log.recovery_point(), end - 1);
            assert!(matches!(log.close(true), Err(LogError::DiskFull { .. })));
            log.storage().check().unwrap();
            drop(log);
            files.restart_process();
        }
        files.set_faults(full());
        let log = open_at(&files, 1, LastStop::ProcessDied);
        files.set_faults(Faults::default());
        let is_appended_first = seed % 2 == 0;
        if is_appended_first {
            model.batch(&log, &mut Random(seed), Some(8), true);
            model.end(&log, 8, false, false);
        }
        let end = log.flush().unwrap();
        assert_eq!(end, log.log_end_offset());
        check(&log, &model);
        drop(log);
        files.restart_machine();
        let log = open_at(&files, end, LastStop::MachineDied);
        check(&log, &model);
        assert_eq!(log.aborted_transactions(0, end).unwrap().len(), 1 + usize::from(is_appended_first));
    }
    assert_eq!(seed, 12);
}

/// A log whose machine died when an aborted transaction was in a segment that was full, and of all files that index lost its
/// name, and what was noted of it.
fn without_index() -> (MemoryFileSystem, Model) {
    let files = MemoryFileSystem::new(1);
    let log = open_at(&files, 0, LastStop::Clean);
    let mut model = Model { compresses: false, ..Model::default() };
    model.batch(&log, &mut Random(1), Some(7), true);
    model.end(&log, 7, false, false);
    while log.segment_count() < 3 {
        model.batch(&log, &mut Random(1), None, false);
    }
    drop(log);
    files.restart_process();
    for name in ["00000000000000000000.txnindex", "aborted-transactions-checkpoint"] {
        files.remove_file(&Path::new(LOG_DIRECTORY).join(name)).unwrap();
    }
    (files, model)
}

#[test]
fn what_a_start_found_out_and_had_no_room_for_the_next_one_finds_out_again() {
    let (files, model) = without_index();
    files.set_faults(full());
    drop(open_at(&files, 0, LastStop::MachineDied));
    files.restart_process();
    files.set_faults(full());
    let log = open_at(&files, 0, LastStop::ProcessDied);
    check(&log, &model);
    let first_waiting = log.flush().unwrap();
    assert!(first_waiting < log.log_end_offset() && log.has_full_segment_to_flush());
    files.set_faults(Faults::default());
    let end = log.flush().unwrap();
    assert_eq!(end, log.log_end_offset());
    drop(log);
    files.restart_machine();
    check(&open_at(&files, end, LastStop::MachineDied), &model);
}

#[test]
fn entries_that_wait_for_room_come_along_when_a_log_is_moved_off_the_full_disk() {
    let of_active = without_entry().next().unwrap();
    for (files, model) in [of_active, without_index()] {
        let other = MemoryFileSystem::new(2);
        let target = storage_on(&other, "/other");
        files.set_faults(full());
        let log = open_at(&files, 0, LastStop::MachineDied);
        let mut copy = FutureLog::begin(&log, &target).unwrap();
        while !log.copy_next(&mut copy).unwrap() {}
        let mut hand_over = log.hand_over(&mut copy).unwrap().unwrap();
        let Commit::Moved(mut handed) = hand_over.commit() else { panic!("it was not moved") };
        drop(hand_over);
        handed.sync();
        check(&log, &model);
        let end = log.log_end_offset();
        drop(log);
        other.restart_machine();
        check(&open_in(&target, end, LastStop::Clean), &model);
    }
}

fn machine_dies_and_the_disk_is_full(seed: u64, batches: usize) {
    let mut random = Random(seed);
    let files = MemoryFileSystem::new(seed);
    let log = open_at(&files, 0, LastStop::Clean);
    let mut model = Model { compresses: false, ..Model::default() };
    model.append(&log, &mut random);
    let mut recovery_point = log.flush().unwrap();
    for _ in 0..batches {
        model.append(&log, &mut random);
        if random.one_in(20) {
            recovery_point = log.flush().unwrap();
        }
    }
    drop(log);
    files.restart_machine();
    let check = |log: &Log, model: &Model| {
        let stable = log.last_stable_offset();
        let below = |mut records: Vec<_>| {
            records.retain(|(offset, _): &(i64, _)| *offset < stable);
            records
        };
        assert_eq!(below(read_committed(log, 0)), below(model.committed_from(0)));
    };
    files.set_faults(full());
    let log = open_at(&files, recovery_point, LastStop::MachineDied);
    if random.one_in(2) {
        check(&log, &model);
    }
    if random.one_in(2) {
        recovery_point = log.flush().unwrap();
    }
    drop(log);
    files.restart_process();
    files.set_faults(full());
    let log = open_at(&files, recovery_point, LastStop::ProcessDied);
    check(&log, &model);
    files.set_faults(Faults::default());
    let cut_at = log.log_end_offset();
    model.cut(&log, cut_at);
    model.aborted.retain(|offset| *offset < cut_at);
    log.advance_high_watermark(log.log_end_offset());
    // what the others wrote last may be lost, and with it their sequences
    for id in (300..).take(random.below(12) as usize) {
        model.batch(&log, &mut random, Some(id), true);
        let commits = random.one_in(2);
        model.end(&log, id, commits, false);
    }
    log.close(true).unwrap();
    let end = log.log_end_offset();
    drop(log);
    files.restart_process();
    let log = open_at(&files, end, LastStop::Clean);
    assert_eq!(log.last_stable_offset(), end);
    assert_eq!(read_committed(&log, 0), model.committed_from(0));
}

proptest! {
    #![proptest_config(few_cases(64))]

    #[test]
    fn a_machine_that_died_starts_on_a_full_disk_and_shows_no_aborted_record(
        seed in any::<u64>(),
        batches in 1usize..60,
    ) {
        machine_dies_and_the_disk_is_full(seed, batches);
    }
}

/// What the cleaner would have to sync first is not to be had.
#[test]
fn nothing_is_cleaned_while_entries_wait_for_room() {
    let (files, mut model) = without_entry().next().unwrap();
    files.set_faults(full());
    let log = open_in(&storage_on(&files, "/data"), 1, LastStop::ProcessDied);
    files.set_faults(Faults::default());
    log.set_config(Arc::new(compacted()));
    while log.segment_count() < 3 {
        model.batch(&log, &mut Random(1), None, false);
    }
    files.set_faults(full());
    let error = log.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS).unwrap_err();
    assert!(matches!(error, LogError::DiskFull { .. }), "{error}");
    log.storage().check().unwrap();
    files.set_faults(Faults::default());
    clean_at(&log, 0, NOW_MS).unwrap();
    model.compare(&log);
}
