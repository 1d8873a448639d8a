//! Logs in a cluster of which an object store has the front: another leader's history there, segments with other borders, and
//! followers that begin where the store ends.

use std::path::Path;

use fastlog_log::file_system::read_exact_at;
use fastlog_log::{AfterTier, AppendOptions, EpochStart, LastStop, Log, LogConfig, LogOptions, TieredRange};

use crate::common::{NOW_MS, batch_at, config, idempotent, options, storage};

fn tiered_config() -> LogConfig {
    LogConfig { remote_storage: true, remote_copy: true, local_retention_ms: 0, ..config() }
}

fn epochs(all: &[(i32, i64)]) -> Vec<EpochStart> {
    all.iter()
        .map(|(epoch, start_offset)| EpochStart { epoch: *epoch, start_offset: *start_offset })
        .collect()
}

fn open(directory: &Path, start: i64, range: (i64, i64), told: &[(i32, i64)]) -> Log {
    let options = LogOptions {
        tiered: Some(TieredRange { start_offset: range.0, end_offset: range.1 }),
        tiered_epochs: epochs(told),
        log_start_offset: start,
        ..options(tiered_config(), LastStop::ProcessDied)
    };
    Log::open(&storage(directory), options, NOW_MS).unwrap().0
}

/// One batch a record, epoch 1 from 0, epoch 3 from 30 on, up to 60; and where segments begin.
fn log_of_two_epochs(directory: &Path) -> (Log, Vec<i64>) {
    let options = options(tiered_config(), LastStop::Clean);
    let log = Log::open(&storage(directory), options, NOW_MS).unwrap().0;
    let mut bases = vec![0];
    for offset in 0..60 {
        let epoch = if offset < 30 { 1 } else { 3 };
        if [0, 30].contains(&offset) {
            log.start_epoch(epoch).unwrap();
        }
        let batch = batch_at(NOW_MS, &["0123456789".repeat(30).as_str()]);
        log.append(&batch, epoch, NOW_MS, AppendOptions::default()).unwrap();
        if log.full_end_offset() > *bases.last().unwrap() {
            bases.push(log.full_end_offset());
        }
    }
    log.advance_high_watermark(60);
    log.flush().unwrap();
    log.set_keep_from(i64::MAX);
    (log, bases)
}

#[test]
fn where_the_store_ends_within_a_segment_the_rest_of_it_is_offered() {
    let directory = tempfile::tempdir().unwrap();
    let (log, bases) = log_of_two_epochs(directory.path());
    let whole = log.next_to_upload().unwrap().unwrap();
    let within = bases[1] - 3;
    log.set_tiered_end(Some(within));
    let rest = log.next_to_upload().unwrap().unwrap();
    assert_eq!((rest.base_offset, rest.next_offset), (within, bases[1]));
    assert_eq!(rest.position + rest.size_bytes, whole.size_bytes);
    let mut header = [0; 8];
    read_exact_at(&*rest.log, &mut header, rest.position).unwrap();
    assert_eq!(i64::from_be_bytes(header), within, "it begins with that batch");
    // a segment that the start of the log lies in is whole
    log.set_tiered_end(None);
    log.delete_records(3).unwrap();
    assert_eq!(log.next_to_upload().unwrap().unwrap().base_offset, 0);
}

#[test]
fn what_the_store_lost_is_not_deleted_by_local_retention() {
    let directory = tempfile::tempdir().unwrap();
    let (log, bases) = log_of_two_epochs(directory.path());
    log.set_keep_from(bases[1]);
    log.set_tiered_end(Some(bases[3]));
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 1);
    assert_eq!(log.local_log_start_offset(), bases[1]);
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 0);
    log.set_keep_from(i64::MAX);
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 2);
}

#[test]
fn what_was_uploaded_is_offered_again_as_the_segments_that_make_it_up() {
    let directory = tempfile::tempdir().unwrap();
    let (log, bases) = log_of_two_epochs(directory.path());
    let offsets = |from, until| {
        let found = log.closed_segments(from, until, NOW_MS).unwrap()?;
        Some(found.iter().map(|it| (it.base_offset, it.next_offset, it.position)).collect::<Vec<_>>())
    };
    assert_eq!(offsets(bases[1], bases[2]), Some(vec![(bases[1], bases[2], 0)]));
    let two = offsets(bases[1] + 1, bases[3]).unwrap();
    assert_eq!((two[0].0, two[0].1, two[1]), (bases[1] + 1, bases[2], (bases[2], bases[3], 0)));
    assert!(two[0].2 > 0, "it begins within a file");
    assert_eq!(offsets(bases[1], bases[2] - 1), Some(vec![(bases[1], bases[2] - 1, 0)]));
    let last = *bases.last().unwrap();
    assert_eq!(offsets(last, 60), Some(vec![(last, 60, 0)]), "what is not full here was so elsewhere");
    assert_eq!(offsets(last, 61), None, "it ends before");
    log.set_tiered_end(Some(bases[2]));
    log.enforce_retention(NOW_MS + 10).unwrap();
    assert_eq!(offsets(bases[1], bases[3]), None, "the disk gave up the front");
}

#[test]
fn another_history_in_the_store_is_no_leave_to_delete_and_none_to_begin_there() {
    let directory = tempfile::tempdir().unwrap();
    let bases = {
        let (log, bases) = log_of_two_epochs(directory.path());
        log.set_tiered_end(Some(bases[1]));
        assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 1);
        bases
    };
    let tiered_end = |told: &[(i32, i64)]| {
        let log = open(directory.path(), 0, (0, 50), told);
        (log.log_start_offset(), log.tiered_end())
    };
    assert_eq!(tiered_end(&[(1, 0), (3, 30)]), (0, Some(50)));
    assert_eq!(tiered_end(&[(1, 0), (2, 30)]), (0, Some(30)), "another one led from 30 on");
    assert_eq!(tiered_end(&[(1, 0), (2, 20)]), (0, Some(20)));
    assert_eq!(tiered_end(&[(0, 0)]), (bases[1], None));
    let log = open(directory.path(), 0, (0, 50), &[(1, 0), (2, 30)]);
    assert_eq!(log.agreed_end(&epochs(&[(1, 0), (3, 30)]), 0, 55), 55);
    assert_eq!(log.agreed_end(&epochs(&[(1, 0), (3, 30)]), 0, 99), 60, "it has no more");
}

#[test]
fn epochs_of_what_only_the_store_has_are_built_from_its_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let bases = {
        let (log, bases) = log_of_two_epochs(directory.path());
        log.set_tiered_end(Some(60));
        assert!(log.enforce_retention(NOW_MS + 10).unwrap() > 3);
        assert!(log.local_log_start_offset() > 30);
        bases
    };
    std::fs::remove_file(directory.path().join("t-0/leader-epoch-checkpoint")).unwrap();
    let log = open(directory.path(), 0, (0, *bases.last().unwrap()), &[(1, 0), (3, 30)]);
    assert_eq!(log.log_start_offset(), 0);
    assert_eq!(log.end_offset_for_epoch(1).unwrap(), (1, 30));
    assert_eq!((log.epoch_for_offset(29), log.epoch_for_offset(30)), (Some(1), Some(3)));
    let text = std::fs::read_to_string(directory.path().join("t-0/leader-epoch-checkpoint")).unwrap();
    assert_eq!(text, "0\n2\n1 0\n3 30\n", "and written down");
}

#[test]
fn a_cut_below_the_disk_keeps_what_the_store_has() {
    let directory = tempfile::tempdir().unwrap();
    let (log, bases) = log_of_two_epochs(directory.path());
    log.set_tiered_end(Some(bases[3]));
    log.enforce_retention(NOW_MS + 10).unwrap();
    let cut = bases[2] - 1;
    assert!(log.truncate_to(cut, NOW_MS, || Ok(())).unwrap());
    let state = |log: &Log| (log.log_start_offset(), log.local_log_start_offset(), log.log_end_offset());
    assert_eq!((state(&log), log.tiered_end()), ((0, cut, cut), Some(cut)));
    assert!(log.is_tiered(cut - 1));
    log.append(&batch_at(NOW_MS, &["new"]), 5, NOW_MS, AppendOptions::default()).unwrap();
    log.flush().unwrap();
    drop(log);
    // and after a restart, by a copy of the manifest that names more
    let log = open(directory.path(), 0, (0, bases[3]), &[(1, 0), (3, 30)]);
    assert_eq!((state(&log), log.tiered_end()), ((0, cut, cut + 1), Some(cut)));
}

#[test]
fn a_follower_begins_behind_the_store_with_epochs_and_producers_from_there() {
    let from = tempfile::tempdir().unwrap();
    let options_ = options(tiered_config(), LastStop::Clean);
    let leader = Log::open(&storage(from.path()), options_, NOW_MS).unwrap().0;
    leader.start_epoch(2).unwrap();
    for sequence in 0..40 {
        let batch = idempotent(7, 0, sequence, &"0123456789".repeat(30));
        leader.append(&batch, 2, NOW_MS, AppendOptions::default()).unwrap();
    }
    leader.advance_high_watermark(40);
    let closed = leader.next_to_upload().unwrap().unwrap();
    let begin = AfterTier {
        offset: closed.next_offset,
        log_start_offset: 4,
        epochs: closed.epochs.clone(),
        snapshot: closed.snapshot.clone(),
    };
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = log_of_two_epochs(directory.path());
    let mut checkpointed = None;
    log.restart_after_tier(&begin, NOW_MS, || {
        checkpointed = Some(log.log_start_offset());
        Ok(())
    })
    .unwrap();
    assert_eq!(checkpointed, Some(0), "the start is down before anything goes");
    let state = |log: &Log| {
        let known = log.producers().unwrap().first().map(|it| it.producer_id);
        (log.log_start_offset(), log.local_log_start_offset(), log.log_end_offset(), known)
    };
    let expected = (4, begin.offset, begin.offset, Some(7));
    assert_eq!(state(&log), expected);
    assert_eq!(log.epoch_for_offset(begin.offset - 1), Some(2));
    assert!(log.is_tiered(4) && !log.is_tiered(3));
    assert_eq!(log.high_watermark(), begin.offset);
    // what comes next is what the leader has next, also of that producer
    let next = idempotent(7, 0, i32::try_from(begin.offset).unwrap(), "next");
    assert!(log.append(&next, 2, NOW_MS, AppendOptions::default()).is_ok());
    drop(log);
    let log = open(directory.path(), 0, (4, begin.offset), &[(2, 0)]);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (4, begin.offset + 1));
    assert_eq!(log.producers().unwrap().len(), 1);
}

#[test]
fn dying_as_it_begins_leaves_a_log_that_begins_again() {
    // what is on the disk after each step: no segments; epochs; a snapshot
    for step in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = log_of_two_epochs(directory.path());
        drop(log);
        let folder = directory.path().join("t-0");
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with('0') {
                std::fs::remove_file(path).unwrap();
            }
        }
        if step > 0 {
            std::fs::write(folder.join("leader-epoch-checkpoint"), "0\n2\n1 0\n4 50\n").unwrap();
        }
        if step > 1 {
            std::fs::write(folder.join("00000000000000000055.snapshot"), "torn").unwrap();
        }
        let log = open(directory.path(), 0, (0, 55), &[(1, 0), (4, 50)]);
        assert_eq!((log.log_start_offset(), log.log_end_offset(), log.tiered_end()), (0, 0, None), "{step}");
        let begin = AfterTier {
            offset: 55,
            log_start_offset: 0,
            epochs: epochs(&[(1, 0), (4, 50)]),
            snapshot: Vec::new(),
        };
        log.restart_after_tier(&begin, NOW_MS, || Ok(())).unwrap();
        drop(log);
        let log = open(directory.path(), 0, (0, 55), &[(1, 0), (4, 50)]);
        assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 55));
        assert_eq!((log.tiered_end(), log.epoch_for_offset(54)), (Some(55), Some(4)));
    }
}
