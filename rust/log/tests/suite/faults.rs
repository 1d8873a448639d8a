//! Writes that fail while the process lives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::file_system::{FileSystem, OpenMode, atomic_file};
use fastlog_log::{Durability, LastStop, Log, LogConfig, LogError, LogOptions, Storage};
use fastlog_protocol::ErrorCode;

fn start() -> (MemoryFileSystem, Arc<Storage>, Log) {
    let file_system = MemoryFileSystem::new(7);
    let storage = Storage::new(Arc::new(file_system.clone()), PathBuf::from("/data"), 64);
    let (log, _) = Log::open(&storage, options(config(), LastStop::Clean), NOW_MS).unwrap();
    (file_system, storage, log)
}

#[test]
fn short_writes_are_completed() {
    let (file_system, _, log) = start();
    for limit in [1, 7, 60, 61, 62, 100] {
        file_system.set_faults(Faults { short_write: Some(limit), ..Faults::default() });
        fill(&log, log.log_end_offset() + 5);
    }
    assert_eq!(values(&log), expected(0, 30));
}

#[test]
fn a_full_disk_refuses_appends_serves_reads_and_resumes_by_itself() {
    let (file_system, storage, log) = start();
    fill(&log, 20);
    for room in [0, 1, 61, 70, 500] {
        file_system.set_faults(Faults { room: Some(room), ..Faults::default() });
        let refused = loop {
            let value = format!("value-{}", log.log_end_offset());
            if let Err(error) = append(&log, &batch(&[&value])) {
                break error;
            }
        };
        assert_eq!(refused.code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert!(refused.message.contains("free some space"), "{}", refused.message);
        let end = log.log_end_offset();
        assert_eq!(values(&log), expected(0, end));
        // the leader epochs cannot be written anew; that alone must not take anything offline
        let _ = log.flush();
        storage.check().unwrap();
        file_system.set_faults(Faults::default());
        fill(&log, end + 3);
    }
    let end = log.log_end_offset();
    drop(log);
    let (log, report) = Log::open(&storage, options(config(), LastStop::ProcessDied), NOW_MS).unwrap();
    assert_eq!(report.cut, None, "a refused append leaves no torn batch");
    assert_eq!(values(&log), expected(0, end));
}

#[test]
fn without_descriptors_a_log_refuses_and_resumes_by_itself_and_promises_nothing() {
    let (file_system, storage, log) = start();
    for _ in 0..5 {
        fill(&log, log.log_end_offset() + 7);
        storage.open_files.close_idle();
        storage.open_files.close_idle();
        file_system.set_faults(Faults { no_descriptors: true, ..Faults::default() });
        let recovery_point = log.recovery_point();
        log.flush().expect_err("nothing can be opened to be synced");
        assert_eq!(log.recovery_point(), recovery_point);
        // until the segment is full at the latest
        let refused = (0..50).find_map(|_| append(&log, &batch(&["x"])).err());
        assert_eq!(refused.expect("no segment can be made").code, ErrorCode::KAFKA_STORAGE_ERROR);
        storage.check().expect("the disk has nothing to do with it");
        file_system.set_faults(Faults::default());
    }
    fill(&log, log.log_end_offset() + 7);
    let (end, written) = (log.flush().unwrap(), values(&log));
    assert_eq!(end, log.log_end_offset());
    drop(log);
    file_system.restart_machine();
    let options = LogOptions { recovery_point: end, ..options(config(), LastStop::MachineDied) };
    let (log, _) = Log::open(&storage, options, NOW_MS).unwrap();
    assert_eq!(values(&log), written);
}

const STOPS: [LastStop; 3] = [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied];

/// Ends the run so, all of it synced, and looks whether the next one has just those records and goes on behind them.
fn check_next_run(
    file_system: &MemoryFileSystem,
    storage: &Arc<Storage>,
    log: Log,
    stop: LastStop,
    context: &str,
) {
    let (written, recovery_point) = (values(&log), log.flush().unwrap());
    let end = log.log_end_offset();
    if stop == LastStop::Clean {
        log.close(true).unwrap();
    }
    drop(log);
    if stop == LastStop::MachineDied {
        file_system.restart_machine();
    }
    let recovery_point = if stop == LastStop::Clean { recovery_point } else { 0 };
    let options = LogOptions { recovery_point, ..options(config(), stop) };
    let (log, report) = Log::open(storage, options, NOW_MS).unwrap();
    assert_eq!((report.cut, report.damages.len()), (None, 0), "{context}");
    assert_eq!(log.log_end_offset(), end, "{context}");
    for (offset, value) in written {
        let slice = log.read(offset, 1, end, true).unwrap().unwrap();
        assert_eq!(values_in(&bytes_of(&slice), offset).1.first(), Some(&(offset, value)), "{context}");
    }
    assert_eq!(append(&log, &batch(&["next"])).unwrap().base_offset, end, "{context}");
}

/// A smaller batch takes the offset in the segment before, and the new segment is not to be there.
#[test]
fn a_roll_that_fails_half_way_for_want_of_descriptors_leaves_nothing_behind() {
    let mut refused = 0;
    for stop in STOPS {
        for (opens, rolls_on) in (0..8).flat_map(|opens| [(opens, false), (opens, true)]) {
            let (file_system, storage, log) = start();
            fill(&log, 30);
            let segments = log.segment_count();
            (0..2).for_each(|_| _ = storage.open_files.close_idle());
            file_system.set_faults(Faults { opens_left: Some(opens), ..Faults::default() });
            let large = "x".repeat(3_000);
            refused += usize::from(append(&log, &batch(&[&large])).is_err());
            file_system.set_faults(Faults::default());
            storage.check().expect("the disk has nothing to do with it");
            let end = log.log_end_offset() + if rolls_on { 100 } else { 3 };
            fill(&log, end);
            assert_eq!(log.segment_count() > segments + 1, rolls_on);
            let names = file_system.list("/data/t-0".as_ref()).unwrap();
            let files = names.iter().filter(|it| it.name.ends_with(".log")).count();
            assert_eq!(files, log.segment_count(), "{stop:?}, {opens} files");
            let context = format!("{stop:?}, {opens} files, rolls on: {rolls_on}");
            check_next_run(&file_system, &storage, log, stop, &context);
        }
    }
    assert!(refused > STOPS.len() * 2 * 3, "{refused} were refused");
}

/// Whoever made it, and should its removal not have come to the disk.
#[test]
fn an_empty_segment_within_the_log_is_not_its_end() {
    for stop in STOPS {
        for (end, has_indexes) in [33, 200].into_iter().flat_map(|end| [(end, false), (end, true)]) {
            let (file_system, storage, log) = start();
            fill(&log, end);
            log.flush().unwrap();
            for kind in ["log", "index", "timeindex"].iter().take(if has_indexes { 3 } else { 1 }) {
                let path = format!("/data/t-0/{:020}.{kind}", 31);
                file_system.open(path.as_ref(), OpenMode::Create).unwrap().sync_data().unwrap();
            }
            file_system.sync_directory("/data/t-0".as_ref()).unwrap();
            let context = format!("{stop:?}, {end}, indexes: {has_indexes}");
            check_next_run(&file_system, &storage, log, stop, &context);
        }
    }
}

#[test]
fn a_failed_write_takes_the_directory_offline() {
    let (file_system, storage, log) = start();
    fill(&log, 20);
    file_system.set_faults(Faults { write_error: true, ..Faults::default() });
    append(&log, &batch(&["lost"])).unwrap_err();
    file_system.set_faults(Faults::default());
    let error = append(&log, &batch(&["refused"])).unwrap_err();
    assert_eq!(error.code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(matches!(storage.check(), Err(LogError::Poisoned { .. })));
    assert_eq!(values(&log), expected(0, 20), "reads go on");
    assert!(log.close(true).is_err(), "no clean close of what nobody can vouch for");
    assert!(Log::open(&storage, options(config(), LastStop::Clean), NOW_MS).is_err());
}

#[test]
fn a_failed_fsync_is_never_tried_again() {
    let (file_system, storage, log) = start();
    fill(&log, 20);
    file_system.set_faults(Faults { sync_error: true, ..Faults::default() });
    log.flush().unwrap_err();
    assert_eq!(log.recovery_point(), 0);
    file_system.set_faults(Faults::default());
    assert!(matches!(log.flush(), Err(LogError::Poisoned { .. })));
    assert!(append(&log, &batch(&["refused"])).is_err());
    assert!(storage.check().is_err());
}

/// The kernel may forget what it could not write of a file that nobody has open.
#[test]
fn a_full_segment_stays_open_until_it_is_synced() {
    let (file_system, storage, log) = start();
    fill(&log, 120);
    assert!(log.segment_count() > 2);
    let idle = || (0..3).map(|_| storage.open_files.close_idle()).sum::<usize>();
    idle();
    let full = log.segment_count() - 1;
    assert_eq!(file_system.open_count(), full);
    log.flush_full_segments(log.full_end_offset()).unwrap();
    idle();
    assert_eq!(file_system.open_count(), 0);
    // many would take the descriptors of those who read
    fill(&log, 120 * 20);
    idle();
    assert_eq!(file_system.open_count(), 64 / 4);
}

#[test]
fn appends_go_on_during_a_flush_which_promises_what_was_there_before() {
    let (file_system, storage, log) = start();
    fill(&log, 5);
    let before = file_system.syncs();
    let point = std::thread::scope(|scope| {
        let held = file_system.hold_syncs();
        let flush = scope.spawn(|| log.flush().unwrap());
        while file_system.syncs() == before {
            std::thread::yield_now();
        }
        fill(&log, 9);
        drop(held);
        flush.join().unwrap()
    });
    assert_eq!((point, log.recovery_point()), (5, 5));
    let fsync = LogConfig { durability: Durability::Fsync, ..config() };
    for (durable, config) in [(9, config()), (5, fsync)] {
        log.set_config(Arc::new(config));
        assert_eq!(log.durable_end_offset(), durable);
    }
    drop(log);
    file_system.restart_machine();
    let (log, _) = Log::open(&storage, options(config(), LastStop::MachineDied), NOW_MS).unwrap();
    assert_eq!(values(&log)[..5], expected(0, 5));
}

#[test]
fn a_small_file_that_is_replaced_without_descriptors_stays_what_it_was() {
    let path = Path::new("/data/small");
    for left in 0.. {
        let file_system = MemoryFileSystem::new(left);
        file_system.create_directory(Path::new("/data")).unwrap();
        atomic_file::replace(&file_system, path, b"old").unwrap();
        file_system.set_faults(Faults { opens_left: Some(left), ..Faults::default() });
        let replaced = atomic_file::replace(&file_system, path, b"new");
        file_system.set_faults(Faults::default());
        if replaced.is_ok() {
            assert_eq!(left, 2, "its directory and what is renamed");
            break;
        }
        // neither the process nor the next one after a power cut sees anything of it
        assert_eq!(atomic_file::read(&file_system, path).unwrap().unwrap(), b"old");
        file_system.sync_directory(path).unwrap();
        file_system.restart_machine();
        assert_eq!(atomic_file::read(&file_system, path).unwrap().unwrap(), b"old");
    }
}
