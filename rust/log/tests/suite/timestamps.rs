//! Offsets by time (semantics rows 39–41), and LogAppendTime (rows 25 and 30).

use crate::common::*;
use fastlog_log::{LastStop, LogConfig};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, Builder, TimestampType, check_crc};
use fastlog_protocol::compression::Compression;

#[test]
fn the_first_record_at_or_after_a_time_is_found_whatever_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    // CreateTime out of order: 0, 7, 14, … modulo 100
    let times: Vec<i64> = (0..400).map(|number| number * 7 % 100 + number / 4).collect();
    for chunk in times.chunks(3) {
        let mut builder = Builder::new();
        for time in chunk {
            builder.append(*time, Some(b"k"), Some(b"some value to fill the segments"));
        }
        append(&log, &builder.seal(Compression::Lz4).unwrap()).unwrap();
    }
    assert!(log.segment_count() > 3);
    for reopened in [false, true] {
        let log = if reopened {
            log.close(true).unwrap();
            open(directory.path(), config(), LastStop::Clean).0
        } else {
            open(directory.path(), config(), LastStop::ProcessDied).0
        };
        for target in [-5, 0, 1, 50, 99, 100, 150, 180, 198, 199, 200, 1000] {
            for bound in [400, 201, 30] {
                let wanted = times.iter().take(bound).position(|time| *time >= target);
                let found = log.offset_for_timestamp(target, bound as i64).unwrap();
                assert_eq!(found.map(|found| found.offset), wanted.map(|offset| offset as i64), "{target}");
                if let (Some(found), Some(wanted)) = (found, wanted) {
                    assert_eq!(found.timestamp, times[wanted]);
                    assert_eq!(found.leader_epoch, 0);
                }
            }
        }
        let newest = *times.iter().max().unwrap();
        let first = times.iter().position(|time| *time == newest).unwrap();
        let found = log.max_timestamp(400).unwrap().unwrap();
        assert_eq!((found.timestamp, found.offset), (newest, first as i64));
    }
}

#[test]
fn deleted_records_are_not_found() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &batch_at(1000, &["a", "b", "c", "d"])).unwrap();
    log.advance_high_watermark(4);
    log.delete_records(2).unwrap();
    assert_eq!(log.offset_for_timestamp(0, 4).unwrap().unwrap().offset, 2);
    assert_eq!(log.offset_for_timestamp(2000, 4).unwrap(), None);
}

#[test]
fn an_empty_log_has_no_times() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    assert_eq!(log.offset_for_timestamp(0, 100).unwrap(), None);
    assert_eq!(log.max_timestamp(100).unwrap(), None);
}

#[test]
fn log_append_time_is_stamped_with_a_crc_that_fits() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..config() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    let original = batch_at(5, &["a", "b"]);
    let copy = original.clone();
    let appended = append(&log, &original).unwrap();
    assert_eq!(original, copy, "the caller's buffer is never written to");
    assert_eq!(appended.log_append_time_ms, NOW_MS);
    let bytes = bytes_of(&log.read(0, 1000, 2, true).unwrap().unwrap());
    check_crc(&bytes).unwrap();
    let header = BatchHeader::parse(&bytes).unwrap();
    assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, NOW_MS);
    let found = log.offset_for_timestamp(NOW_MS, 2).unwrap().unwrap();
    assert_eq!((found.offset, found.timestamp), (0, NOW_MS));
}

#[test]
fn the_stored_batch_differs_from_the_sent_one_in_offset_and_epoch_only() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    fill(&log, 5);
    let sent = batch(&["a", "b"]);
    let appended = log.append(&sent, 7, NOW_MS, Default::default()).unwrap();
    assert_eq!((appended.base_offset, appended.last_offset, appended.log_append_time_ms), (5, 6, -1));
    let stored = bytes_of(&log.read(5, 1000, 7, true).unwrap().unwrap());
    assert_eq!(stored[..8], 5i64.to_be_bytes());
    assert_eq!(stored[12..16], 7i32.to_be_bytes());
    assert_eq!(stored[8..12], sent[8..12]);
    assert_eq!(stored[16..], sent[16..]);
    check_crc(&stored).unwrap();
}

#[test]
fn bad_batches_are_refused_and_leave_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let good = batch(&["value"]);
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        (flipped, ErrorCode::CORRUPT_MESSAGE),
        (Vec::new(), ErrorCode::INVALID_RECORD),
        ([good.clone(), good.clone()].concat(), ErrorCode::INVALID_RECORD),
        (batch_at(NOW_MS + 2 * 60 * 60 * 1000, &["from the future"]), ErrorCode::INVALID_TIMESTAMP),
        (batch(&["x".repeat(5000).as_str()]), ErrorCode::RECORD_LIST_TOO_LARGE),
        (batch(&["x".repeat(1_100_000).as_str()]), ErrorCode::MESSAGE_TOO_LARGE),
    ];
    for (bytes, code) in cases {
        assert_eq!(append(&log, &bytes).unwrap_err().code, code);
    }
    assert_eq!((log.log_end_offset(), log.size_bytes()), (0, 0));
}
