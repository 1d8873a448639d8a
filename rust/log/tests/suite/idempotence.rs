//! Sequences of idempotent producers (semantics rows 33–36).

use crate::common::*;
use fastlog_log::LastStop;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

#[test]
fn a_duplicate_of_the_last_five_gets_its_first_offset_and_older_ones_are_out_of_order() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    for sequence in 0..7 {
        assert!(!append(&log, &idempotent(9, 0, sequence, "v")).unwrap().duplicate);
    }
    for sequence in 2..7 {
        let again = append(&log, &idempotent(9, 0, sequence, "v")).unwrap();
        assert!(again.duplicate);
        assert_eq!((again.base_offset, again.last_offset), (i64::from(sequence), i64::from(sequence)));
    }
    for sequence in [0, 1, 8] {
        let error = append(&log, &idempotent(9, 0, sequence, "v")).unwrap_err();
        assert_eq!(error.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert_eq!(log.log_end_offset(), 7);
}

#[test]
fn sequences_wrap_to_zero() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &idempotent(9, 0, i32::MAX - 1, "v")).unwrap();
    let mut builder = Builder::new().producer(9, 0, i32::MAX);
    for value in ["a", "b", "c"] {
        builder.append(NOW_MS, None, Some(value.as_bytes()));
    }
    let across = builder.seal(Compression::None).unwrap();
    append(&log, &across).unwrap();
    assert!(append(&log, &across).unwrap().duplicate);
    append(&log, &idempotent(9, 0, 2, "v")).unwrap();
}

#[test]
fn a_new_epoch_starts_at_zero_and_an_old_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &idempotent(9, 3, 17, "unknown producers start anywhere")).unwrap();
    let error = append(&log, &idempotent(9, 4, 18, "v")).unwrap_err();
    assert_eq!(error.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    append(&log, &idempotent(9, 4, 0, "v")).unwrap();
    let error = append(&log, &idempotent(9, 3, 18, "v")).unwrap_err();
    assert_eq!(error.code, ErrorCode::INVALID_PRODUCER_EPOCH);
}

#[test]
fn sequences_survive_a_clean_stop_and_a_crash() {
    for clean in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let log = create(directory.path());
        fill(&log, 100);
        for sequence in 0..7 {
            append(&log, &idempotent(9, 0, sequence, "v")).unwrap();
        }
        if clean {
            log.close(true).unwrap();
        }
        drop(log);
        let stop = if clean { LastStop::Clean } else { LastStop::ProcessDied };
        let (log, _) = open(directory.path(), config(), stop);
        assert_eq!(log.producer_count(), 1);
        for sequence in 2..7 {
            let again = append(&log, &idempotent(9, 0, sequence, "v")).unwrap();
            assert!(again.duplicate, "clean: {clean}");
            assert_eq!(again.base_offset, 100 + i64::from(sequence));
        }
        for sequence in [0, 1, 8] {
            let error = append(&log, &idempotent(9, 0, sequence, "v")).unwrap_err();
            assert_eq!(error.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        }
        append(&log, &idempotent(9, 0, 7, "v")).unwrap();
    }
}

#[test]
fn sequences_survive_in_snapshots_of_full_segments() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    for sequence in 0..7 {
        append(&log, &idempotent(9, 0, sequence, "v")).unwrap();
    }
    // so much that the batches lie segments before the last snapshot
    fill(&log, 500);
    assert!(log.segment_count() > 3);
    drop(log);
    let (log, _) = open(directory.path(), config(), LastStop::ProcessDied);
    for sequence in 2..7 {
        assert_eq!(append(&log, &idempotent(9, 0, sequence, "v")).unwrap().base_offset, i64::from(sequence));
    }
}

#[test]
fn an_idle_producer_is_forgotten_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &idempotent(9, 0, 0, "v")).unwrap();
    log.close(true).unwrap();
    let day_ms = 24 * 60 * 60 * 1000;
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    log.advance_high_watermark(1);
    log.enforce_retention(NOW_MS + day_ms - 1).unwrap();
    assert_eq!(log.producer_count(), 1);
    log.enforce_retention(NOW_MS + day_ms).unwrap();
    assert_eq!(log.producer_count(), 0);
}

#[test]
fn an_idle_producer_is_forgotten_and_may_start_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &idempotent(9, 0, 0, "v")).unwrap();
    log.advance_high_watermark(1);
    let day_ms = 24 * 60 * 60 * 1000;
    log.enforce_retention(NOW_MS + day_ms - 1).unwrap();
    assert_eq!(log.producer_count(), 1);
    log.enforce_retention(NOW_MS + day_ms).unwrap();
    assert_eq!(log.producer_count(), 0);
    append(&log, &idempotent(9, 0, 40, "v")).unwrap();
}

#[test]
fn a_follower_takes_what_the_leader_wrote_whatever_its_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    for (offset, sequence) in [(0, 5), (1, 90), (2, 3)] {
        let mut builder = Builder::new().base_offset(offset).leader_epoch(2).producer(9, 0, sequence);
        builder.append(NOW_MS, None, Some(b"v"));
        log.append_replica(&builder.seal(Compression::None).unwrap(), 2, NOW_MS).unwrap();
    }
    assert_eq!(log.log_end_offset(), 3);
    assert_eq!(log.leader_epoch(), Some(2));
}

#[test]
fn a_producer_is_known_after_its_records_were_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    for sequence in 0..3 {
        append(&log, &idempotent(9, 0, sequence, "v")).unwrap();
    }
    fill(&log, 500);
    log.advance_high_watermark(log.log_end_offset());
    let segments = log.segment_count();
    log.delete_records(400).unwrap();
    log.enforce_retention(NOW_MS).unwrap();
    assert!(log.segment_count() < segments, "the segment of its batches is gone");
    let knows = |log: &fastlog_log::Log, next| {
        assert!(append(log, &idempotent(9, 0, next - 1, "v")).unwrap().duplicate);
        let gap = append(log, &idempotent(9, 0, next + 1, "v")).unwrap_err();
        assert_eq!(gap.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    };
    knows(&log, 3);
    log.close(true).unwrap();
    drop(log);
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    knows(&log, 3);
    append(&log, &idempotent(9, 0, 3, "v")).unwrap();
}

#[test]
fn a_follower_takes_nothing_that_its_leader_cannot_have() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let of_epoch = |offset, epoch| {
        let mut builder = Builder::new().base_offset(offset).leader_epoch(epoch);
        builder.append(NOW_MS, None, Some(b"v"));
        builder.seal(Compression::None).unwrap()
    };
    let bytes = [of_epoch(0, 2), of_epoch(1, 3), of_epoch(2, 3)].concat();
    assert_eq!(log.append_replica(&bytes, 2, NOW_MS), Ok(1), "epoch 3 is later than the leader's");
    let mut flipped = of_epoch(1, 2);
    *flipped.last_mut().unwrap() ^= 1;
    let bytes = [of_epoch(1, 2), flipped].concat();
    assert_eq!(log.append_replica(&bytes, 2, NOW_MS).unwrap_err().code, ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(log.log_end_offset(), 2, "what comes before the flipped bit is there");
    let before_the_end = log.append_replica(&of_epoch(1, 2), 2, NOW_MS);
    assert_eq!(before_the_end.unwrap_err().code, ErrorCode::UNKNOWN_SERVER_ERROR);
}

#[test]
fn an_append_of_a_leadership_that_is_over_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    let append = |epoch| log.append(&batch(&["v"]), epoch, NOW_MS, Default::default());
    append(3).unwrap();
    log.fence_epochs_before(5);
    log.fence_epochs_before(4);
    assert_eq!(append(4).unwrap_err().code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(append(5).unwrap().base_offset, 1);
}
