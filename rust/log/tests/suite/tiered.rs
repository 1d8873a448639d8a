//! Logs of which an object store has the front: what goes there, what goes from the disk, and where they begin.

use std::path::Path;

use fastlog_log::{LastStop, Log, LogConfig, LogError, TieredRange};

use crate::common::{NOW_MS, append, batch_at, config, open, options, storage};

fn tiered_config() -> LogConfig {
    LogConfig { remote_storage: true, remote_copy: true, local_retention_ms: 0, ..config() }
}

/// Segments of about ten batches each; answers their base offsets.
fn fill(log: &Log, segments: usize) -> Vec<i64> {
    let mut bases = vec![0];
    while bases.len() < segments {
        append(log, &batch_at(NOW_MS, &["0123456789".repeat(30).as_str()])).unwrap();
        if log.full_end_offset() > *bases.last().unwrap() {
            bases.push(log.full_end_offset());
        }
    }
    log.advance_high_watermark(log.log_end_offset());
    bases
}

fn reopen(directory: &Path, log_start_offset: i64, range: Option<(i64, i64)>) -> Log {
    let tiered = range.map(|(start_offset, end_offset)| TieredRange { start_offset, end_offset });
    let options = fastlog_log::LogOptions {
        tiered,
        log_start_offset,
        ..options(tiered_config(), LastStop::ProcessDied)
    };
    Log::open(&storage(directory), options, NOW_MS).unwrap().0
}

#[test]
fn full_segments_are_offered_in_order_synced_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), tiered_config(), LastStop::Clean);
    let bases = fill(&log, 4);
    for pair in bases.windows(2) {
        let closed = log.next_to_upload().unwrap().unwrap();
        assert_eq!((closed.base_offset, closed.next_offset), (pair[0], pair[1]));
        assert!(log.recovery_point() >= closed.next_offset);
        assert_eq!(closed.log.length().unwrap(), closed.size_bytes);
        assert_eq!(closed.offset_index.len() % 8, 0);
        assert!(!closed.time_index.is_empty());
        assert!(log.has_segment(closed.base_offset, closed.next_offset, closed.size_bytes));
        assert!(!log.has_segment(closed.base_offset, closed.next_offset, closed.size_bytes + 1));
        log.set_tiered_end(Some(closed.next_offset));
    }
    assert!(log.next_to_upload().unwrap().is_none(), "the active segment is not full");
}

#[test]
fn what_is_not_committed_is_not_offered() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), tiered_config(), LastStop::Clean);
    for _ in 0..40 {
        append(&log, &batch_at(NOW_MS, &["0123456789".repeat(30).as_str()])).unwrap();
    }
    assert!(log.full_end_offset() > 0);
    assert!(log.next_to_upload().unwrap().is_none());
    log.advance_high_watermark(log.full_end_offset() - 1);
    let before = log.next_to_upload().unwrap().map_or(0, |it| it.next_offset);
    assert!(before < log.full_end_offset());
}

#[test]
fn only_what_is_uploaded_goes_from_the_disk_and_the_log_still_starts_there() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), tiered_config(), LastStop::Clean);
    let bases = fill(&log, 5);
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 0);
    log.set_tiered_end(Some(bases[2]));
    assert_eq!(log.local_retention_end(NOW_MS + 10).unwrap(), Some(bases[2]));
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 0, "the store was not asked");
    log.set_keep_from(bases[4]);
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 2);
    assert_eq!(log.local_retention_end(NOW_MS + 10).unwrap(), None);
    assert_eq!((log.log_start_offset(), log.local_log_start_offset()), (0, bases[2]));
    assert!(log.is_tiered(0) && log.is_tiered(bases[2] - 1) && !log.is_tiered(bases[2]));
    let error = log.read(0, 1 << 20, i64::MAX, true).unwrap_err();
    assert!(
        matches!(error, LogError::Tiered { offset: 0, local_start_offset } if local_start_offset == bases[2])
    );
    assert!(log.read(bases[2], 1 << 20, i64::MAX, true).unwrap().is_some());
    // retention of the whole log, and DeleteRecords, move the start in the store
    assert!(log.advance_start(bases[1]).unwrap());
    assert!(!log.is_tiered(0) && log.is_tiered(bases[1]));
    assert!(matches!(log.read(0, 1 << 20, i64::MAX, true), Err(LogError::OffsetOutOfRange { .. })));
    log.delete_records(bases[3]).unwrap();
    log.enforce_retention(NOW_MS + 10).unwrap();
    assert_eq!(log.local_log_start_offset(), bases[3]);
}

#[test]
fn what_waits_for_the_store_is_counted_and_where_all_retention_ends_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { retention_ms: 1_000, retention_bytes: 1, ..tiered_config() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    let bases = fill(&log, 4);
    assert_eq!((log.kept_bytes(NOW_MS).unwrap(), log.local_retention_end(NOW_MS + 10).unwrap()), (0, None));
    let full = log.size_bytes_from(0) - log.size_bytes_from(bases[3]);
    assert_eq!(log.kept_bytes(NOW_MS + 10).unwrap(), full);
    assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 0);
    // by time, and by bytes; the segment that is not full is none of it
    assert_eq!(log.full_retention_ends(NOW_MS + 10).unwrap(), (None, Some(bases[3])));
    assert_eq!(log.full_retention_ends(NOW_MS + 1_001).unwrap(), (Some(bases[3]), Some(bases[3])));
}

#[test]
fn without_uploads_retention_is_that_of_the_whole_log() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { remote_copy: false, retention_ms: 0, ..tiered_config() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    let bases = fill(&log, 4);
    log.set_tiered_end(Some(bases[1]));
    assert!(log.enforce_retention(NOW_MS + 10).unwrap() >= 3);
    assert!(log.log_start_offset() >= bases[3]);
}

#[test]
fn a_log_is_opened_where_the_store_begins_unless_records_are_missing_between() {
    let directory = tempfile::tempdir().unwrap();
    let bases = {
        let (log, _) = open(directory.path(), tiered_config(), LastStop::Clean);
        let bases = fill(&log, 5);
        log.set_tiered_end(Some(bases[3]));
        log.set_keep_from(bases[3]);
        assert_eq!(log.enforce_retention(NOW_MS + 10).unwrap(), 3);
        log.flush().unwrap();
        bases
    };
    let starts = |start, range| {
        let log = reopen(directory.path(), start, range);
        (log.log_start_offset(), log.is_tiered(bases[2]))
    };
    assert_eq!(starts(0, Some((0, bases[3]))), (0, true));
    assert_eq!(starts(bases[1] + 1, Some((0, bases[3]))), (bases[1] + 1, true));
    assert_eq!(starts(0, Some((bases[1], bases[3]))), (bases[1], true));
    assert_eq!(starts(0, Some((0, bases[4]))), (0, true));
    // nothing is known of the store, or it ends before the disk begins
    assert_eq!(starts(0, None), (bases[3], false));
    assert_eq!(starts(0, Some((0, bases[3] - 1))), (bases[3], false));
}
