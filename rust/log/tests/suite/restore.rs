//! A log that is restored: the batches of another one, at their offsets (`fastlog.restoring`).

use crate::common::*;
use crate::compaction_model::{Model, Random, compacted, marker};
use crate::compaction_reader::{batches_from, read_committed};
use fastlog_log::{AppendError, CleanerLimits, LastStop, Log, LogConfig, RESTORED_EPOCH, Unpaced};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, Builder};
use fastlog_protocol::compression::Compression;

const LEADER_EPOCH: i32 = 3;

fn restoring() -> LogConfig {
    LogConfig { restoring: true, ..config() }
}

/// A batch as the one who restores sends it.
fn kept(header: &BatchHeader, batch: &[u8]) -> Vec<u8> {
    let header = BatchHeader { partition_leader_epoch: RESTORED_EPOCH, ..header.clone() };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(&batch[bytes.len()..]);
    bytes
}

fn batch_of(base_offset: i64, values: &[&str]) -> Vec<u8> {
    let mut builder = Builder::new().base_offset(base_offset).leader_epoch(RESTORED_EPOCH);
    for value in values {
        builder.append(NOW_MS, None, Some(value.as_bytes()));
    }
    builder.seal(Compression::None).unwrap()
}

/// A batch whose records the cleaner took, and whose offsets go on to `last_offset`.
fn empty_batch(base_offset: i64, last_offset: i64) -> Vec<u8> {
    let one = batch_of(base_offset, &["v"]);
    let mut header = BatchHeader::parse(&one).unwrap();
    let head = header.encode().len();
    header.record_count = 0;
    header.last_offset_delta = i32::try_from(last_offset - base_offset).unwrap();
    header.batch_length = i32::try_from(head - 12).unwrap();
    header.encode_with_crc(&[]).to_vec()
}

fn restore(log: &Log, batch: &[u8]) -> Result<i64, AppendError> {
    log.append(batch, LEADER_EPOCH, NOW_MS, fastlog_log::AppendOptions::default()).map(|it| it.base_offset)
}

#[test]
fn records_keep_their_offsets_and_gaps_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), restoring(), LastStop::Clean);
    let two = [batch_of(100, &["a", "b"]), batch_of(110, &["c"])].concat();
    assert_eq!(restore(&log, &two).unwrap(), 100);
    restore(&log, &empty_batch(111, 119)).unwrap();
    let expected: Vec<_> = [(100, "a"), (101, "b"), (110, "c")].map(|(at, it)| (at, it.to_owned())).into();
    assert_eq!(values(&log), expected);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 120));
    assert_eq!(log.leader_epoch(), Some(LEADER_EPOCH), "the epoch is this cluster's");
    log.advance_high_watermark(120);
    assert_eq!(log.delete_records(100).unwrap(), 100);
    log.close(true).unwrap();
    let (again, _) = open(directory.path(), config(), LastStop::Clean);
    assert_eq!(values(&again), expected);
    assert_eq!(append(&again, &batch(&["d"])).unwrap().base_offset, 120, "it is a topic like any other then");
}

#[test]
fn an_offset_names_one_record_for_ever() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), restoring(), LastStop::Clean);
    restore(&log, &batch_of(5, &["a", "b"])).unwrap();
    for base_offset in [0, 5, 6] {
        let error = restore(&log, &batch_of(base_offset, &["x"])).unwrap_err();
        assert_eq!(error.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    assert_eq!(log.log_end_offset(), 7);
}

#[test]
fn a_plain_client_is_refused_and_so_is_a_damaged_batch() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), restoring(), LastStop::Clean);
    assert_eq!(append(&log, &batch(&["v"])).unwrap_err().code, ErrorCode::POLICY_VIOLATION);
    let mut damaged = batch_of(0, &["value"]);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(restore(&log, &damaged).unwrap_err().code, ErrorCode::CORRUPT_MESSAGE);
    assert!(restore(&log, &batch_of(0, &["cut"])[..70]).is_err());
    assert!(restore(&log, &[]).is_err());
    let negative = batch_of(-3, &["a"]);
    assert!(restore(&log, &negative).is_err());
    assert_eq!(log.log_end_offset(), 0);
    let (plain, _) = open(tempfile::tempdir().unwrap().path(), config(), LastStop::Clean);
    assert_eq!(restore(&plain, &batch_of(100, &["v"])).unwrap_err().code, ErrorCode::INVALID_RECORD);
}

#[test]
fn a_gap_wider_than_a_segment_takes_batches_without_records() {
    const FAR: i64 = 7_000_000_000;
    const SPAN: i64 = i32::MAX as i64;
    for last_stop in [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied] {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = open(directory.path(), restoring(), LastStop::Clean);
        restore(&log, &batch_of(3, &["near"])).unwrap();
        assert_eq!(restore(&log, &batch_of(FAR, &["far"])).unwrap_err().code, ErrorCode::INVALID_RECORD);
        while FAR - log.log_end_offset() >= SPAN {
            let end = log.log_end_offset();
            restore(&log, &empty_batch(end, end + SPAN)).unwrap();
        }
        restore(&log, &batch_of(FAR, &["far"])).unwrap();
        restore(&log, &batch_of(FAR + 10, &["farther"])).unwrap();
        let expected: Vec<_> =
            [(3, "near"), (FAR, "far"), (FAR + 10, "farther")].map(|(at, it)| (at, it.to_owned())).into();
        assert_eq!(values(&log), expected);
        let other = tempfile::tempdir().unwrap();
        copy_log(directory.path(), other.path());
        let (again, report) = open(other.path(), restoring(), last_stop);
        assert_eq!(values(&again), expected, "{last_stop:?} {report:?}");
        assert_eq!(again.log_end_offset(), FAR + 11);
        restore(&again, &batch_of(FAR + 11, &["farthest"])).unwrap();
    }
}

#[test]
fn nothing_is_deleted_or_cleaned_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let old = LogConfig { retention_ms: 1, min_cleanable_dirty_ratio: 0.0, ..compacted() };
    let config = LogConfig { cleanup_delete: true, restoring: true, ..old };
    let (log, _) = open(directory.path(), config.clone(), LastStop::Clean);
    for offset in 0..50 {
        restore(&log, &batch_of(offset, &["some value"])).unwrap();
    }
    log.advance_high_watermark(50);
    let later = NOW_MS + 1_000_000;
    assert!(log.segment_count() > 2);
    assert_eq!(log.enforce_retention(later).unwrap(), 0);
    assert!(!log.cleanable(None, later).unwrap().is_due);
    log.set_config(std::sync::Arc::new(LogConfig { restoring: false, ..config }));
    assert!(log.cleanable(None, later).unwrap().is_due);
    assert!(log.enforce_retention(later).unwrap() > 0);
}

#[test]
fn a_copy_of_a_cleaned_log_with_transactions_reads_as_the_original_does() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (original, _) = open(from.path(), compacted(), LastStop::Clean);
        let mut model = Model::default();
        for _ in 0..60 {
            model.append(&original, &mut random);
        }
        marker(&original, 7, 0, true);
        original.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS).unwrap();
        let (copy, _) = open(to.path(), LogConfig { restoring: true, ..compacted() }, LastStop::Clean);
        for (header, batch) in batches_from(&original, 0) {
            restore(&copy, &kept(&header, &batch)).unwrap();
        }
        copy.advance_high_watermark(copy.log_end_offset());
        let same = |log: &Log| {
            assert_eq!(log.log_end_offset(), original.log_end_offset(), "seed {seed}");
            assert_eq!(read_committed(log, 0), read_committed(&original, 0), "seed {seed}");
            assert_eq!(log.last_stable_offset(), original.last_stable_offset(), "seed {seed}");
            let bytes = |log: &Log| batches_from(log, 0).into_iter().map(|(_, it)| it[16..].to_vec());
            assert!(bytes(log).eq(bytes(&original)), "seed {seed}");
        };
        same(&copy);
        copy.close(true).unwrap();
        let (again, _) = open(to.path(), compacted(), LastStop::Clean);
        again.advance_high_watermark(again.log_end_offset());
        same(&again);
    }
}
