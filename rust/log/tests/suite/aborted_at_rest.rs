//! The index of aborted transactions of the segment that takes appends, changed while no broker ran. What the next run adds to
//! it, and that the segment becomes full in that run, vouch for nothing that was in it before.

use std::path::{Path, PathBuf};

use crate::common::*;
use crate::compaction_model::*;
use crate::compaction_reader::read_committed;
use fastlog_log::{LastStop, Log, LogConfig, LogOptions};

/// Bytes of an entry.
const ENTRY: usize = 34;

fn open_at(directory: &Path, last_stop: LastStop, recovery_point: i64) -> Log {
    let config = LogConfig { segment_bytes: 4096, ..LogConfig::default() };
    let options = LogOptions { recovery_point, high_watermark: i64::MAX, ..options(config, last_stop) };
    Log::open(&storage(directory), options, NOW_MS).unwrap().0
}

fn index(directory: &Path) -> PathBuf {
    directory.join("t-0").join("00000000000000000000.txnindex")
}

/// A transaction of `id`, aborted.
fn abort(model: &mut Model, log: &Log, id: i64) {
    model.batch(log, &mut Random(id as u64), Some(id), true);
    model.end(log, id, false, false);
}

/// A log with two aborted transactions, stopped well: its end.
fn two_aborted(directory: &Path, ids: [i64; 2]) -> (Model, i64) {
    let log = open_at(directory, LastStop::Clean, 0);
    let mut model = Model { compresses: false, ..Model::default() };
    ids.iter().for_each(|id| abort(&mut model, &log, *id));
    assert_eq!(log.segment_count(), 1);
    log.close(true).unwrap();
    (model, log.log_end_offset())
}

fn fill_segment(model: &mut Model, log: &Log) {
    while log.segment_count() == 1 {
        model.batch(log, &mut Random(1), None, false);
    }
}

/// What the file may be at the start: each with a name.
fn spoilt(sound: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let other = tempfile::tempdir().unwrap();
    two_aborted(other.path(), [8, 7]);
    let foreign = std::fs::read(index(other.path())).unwrap();
    assert_ne!(foreign, sound);
    let turned: Vec<u8> = sound.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 17)).collect();
    vec![
        ("missing", None),
        ("empty", Some(Vec::new())),
        ("without its last entry", Some(sound[..ENTRY].to_vec())),
        ("without its first entry", Some(sound[ENTRY..].to_vec())),
        ("zeros", Some(vec![0; sound.len()])),
        ("of another log", Some(foreign)),
        ("with a bit that turned", Some(turned)),
        ("with entries too many", Some([sound, sound].concat())),
    ]
}

fn put(path: &Path, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => std::fs::write(path, bytes).unwrap(),
        None => std::fs::remove_file(path).unwrap(),
    }
}

fn check(log: &Log, model: &Model, aborted: usize, what: &str) {
    assert_eq!(read_committed(log, 0), model.committed_from(0), "{what}");
    assert_eq!(log.aborted_transactions(0, log.log_end_offset()).unwrap().len(), aborted, "{what}");
}

#[test]
fn an_index_that_was_damaged_before_the_start_is_not_vouched_for_when_its_segment_becomes_full() {
    for (last_stop, aborts, restarts) in [
        (LastStop::Clean, true, true),
        (LastStop::Clean, true, false),
        (LastStop::Clean, false, true),
        (LastStop::ProcessDied, true, true),
        (LastStop::ProcessDied, false, true),
        (LastStop::MachineDied, true, true),
        (LastStop::MachineDied, false, false),
    ] {
        for number in 0..8 {
            let directory = tempfile::tempdir().unwrap();
            let (mut model, mut end) = two_aborted(directory.path(), [7, 8]);
            let sound = std::fs::read(index(directory.path())).unwrap();
            let (name, bytes) = spoilt(&sound).swap_remove(number);
            put(&index(directory.path()), bytes.as_deref());
            let what = format!("{name}, after {last_stop:?}, aborts {aborts}, restarts {restarts}");
            let log = open_at(directory.path(), last_stop, end);
            if aborts {
                abort(&mut model, &log, 9);
            }
            fill_segment(&mut model, &log);
            let count = 2 + usize::from(aborts);
            if !restarts {
                check(&log, &model, count, &what);
            }
            log.close(true).unwrap();
            end = log.log_end_offset();
            drop(log);
            let log = open_at(directory.path(), LastStop::Clean, end);
            check(&log, &model, count, &what);
            log.close(true).unwrap();
            let mended = std::fs::read(index(directory.path())).unwrap();
            assert!(mended.len() == count * ENTRY && mended.starts_with(&sound), "{what}");
        }
    }
}

/// Nothing vouches for it, but that it had something is known: gone altogether it is built anew too.
#[test]
fn an_index_that_nothing_vouched_for_is_missed_when_it_is_gone() {
    for is_full in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let log = open_at(directory.path(), LastStop::Clean, 0);
        let mut model = Model { compresses: false, ..Model::default() };
        abort(&mut model, &log, 7);
        // the process dies before anything is noted
        drop(log);
        let log = open_at(directory.path(), LastStop::ProcessDied, 0);
        if is_full {
            fill_segment(&mut model, &log);
        }
        log.close(true).unwrap();
        let end = log.log_end_offset();
        drop(log);
        std::fs::remove_file(index(directory.path())).unwrap();
        check(&open_at(directory.path(), LastStop::Clean, end), &model, 1, "gone");
    }
}

/// An index that is as it was noted stays vouched for, so that no start walks over the batches for it.
#[test]
fn an_index_that_is_sound_is_noted_when_its_segment_becomes_full() {
    let directory = tempfile::tempdir().unwrap();
    let (mut model, end) = two_aborted(directory.path(), [7, 8]);
    let log = open_at(directory.path(), LastStop::Clean, end);
    abort(&mut model, &log, 9);
    fill_segment(&mut model, &log);
    log.close(true).unwrap();
    let noted =
        std::fs::read_to_string(directory.path().join("t-0/aborted-transactions-checkpoint")).unwrap();
    assert!(noted.starts_with("0\n1\n0 3 "), "{noted}");
}
