//! Appending and reading.

use crate::common::*;
use fastlog_log::{LastStop, LogError};
use fastlog_protocol::ErrorCode;

#[test]
fn what_was_appended_is_read_over_many_segments() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    fill(&log, 300);
    assert!(log.segment_count() > 3, "{} segments", log.segment_count());
    assert_eq!(values(&log), expected(0, 300));
    for from in [1, 77, 299] {
        assert_eq!(values_below(&log, from, 300, 1).unwrap(), expected(from, 300));
    }
}

#[test]
fn a_read_never_passes_the_bound() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    while log.log_end_offset() < 600 {
        let first = log.log_end_offset();
        let all: Vec<_> = (first..first + 3).map(|offset| format!("value-{offset}")).collect();
        append(&log, &batch(&all.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    }
    for bound in [0, 1, 2, 3, 100, 299, 300, 301, 597, 600] {
        let whole = bound - bound % 3;
        assert_eq!(values_below(&log, 0, bound, 500).unwrap(), expected(0, whole), "bound {bound}");
    }
}

#[test]
fn between_bound_and_end_is_nothing_and_beyond_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    fill(&log, 10);
    assert!(log.read(5, 1000, 5, true).unwrap().is_none());
    assert!(log.read(10, 1000, 5, true).unwrap().is_none());
    for offset in [-1, 11] {
        let error = log.read(offset, 1000, 5, true).unwrap_err();
        assert_eq!(error.code(), ErrorCode::OFFSET_OUT_OF_RANGE);
        assert!(matches!(error, LogError::OffsetOutOfRange { .. }));
    }
}

#[test]
fn the_first_batch_is_whole_only_where_asked() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &batch(&["x".repeat(1000).as_str()])).unwrap();
    assert!(log.read(0, 100, 1, false).unwrap().is_none());
    let slice = log.read(0, 100, 1, true).unwrap().unwrap();
    assert!(slice.length > 1000);
}

#[test]
fn a_clean_close_opens_at_once_with_all_there() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    fill(&log, 200);
    log.advance_high_watermark(150);
    log.close(true).unwrap();
    assert_eq!(log.recovery_point(), 200);
    let (log, report) = open(directory.path(), config(), LastStop::Clean);
    assert_eq!(report.cut, None);
    assert_eq!(report.log_end_offset, 200);
    fill(&log, 250);
    assert_eq!(values(&log), expected(0, 250));
}

#[test]
fn appends_after_close_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    fill(&log, 3);
    log.close(true).unwrap();
    log.close(true).unwrap();
    let error = append(&log, &batch(&["late"])).unwrap_err();
    assert_eq!(error.code, ErrorCode::KAFKA_STORAGE_ERROR);
}
