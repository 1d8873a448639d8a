//! Rolling, retention, deletion, truncation, epochs.

use std::fs;
use std::path::Path;

use crate::common::*;
use fastlog_log::{AppendOptions, LastStop, Log, LogConfig, LogError};
use fastlog_protocol::ErrorCode;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn names(directory: &Path, part: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory.join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(part))
        .collect();
    names.sort();
    names
}

fn committed(directory: &Path, config: LogConfig, end: i64) -> Log {
    let (log, _) = open(directory, config, LastStop::Clean);
    fill(&log, end);
    log.advance_high_watermark(end);
    log
}

#[test]
fn a_segment_rolls_by_size_age_and_full_index() {
    let directory = tempfile::tempdir().unwrap();
    let wide = LogConfig { segment_bytes: 1 << 20, segment_ms: HOUR_MS, ..config() };
    let (log, _) = open(directory.path(), wide.clone(), LastStop::Clean);
    let start = NOW_MS - 2 * HOUR_MS;
    append(&log, &batch_at(start, &["a"])).unwrap();
    append(&log, &batch_at(start + HOUR_MS, &["not yet"])).unwrap();
    assert_eq!(log.segment_count(), 1);
    append(&log, &batch_at(start + HOUR_MS + 1, &["older than an hour"])).unwrap();
    assert_eq!(log.segment_count(), 2);
    log.set_config(LogConfig { segment_index_bytes: 4 * 12, ..wide }.into());
    fill(&log, 100);
    assert!(log.segment_count() > 4, "{}", log.segment_count());
    for name in names(directory.path(), ".index") {
        let length = fs::metadata(directory.path().join("t-0").join(&name)).unwrap().len();
        assert!(length <= 48, "{name} has {length} bytes");
    }
    assert_eq!(values(&log).len(), 100);
}

/// What ten thousand topics that nobody writes to are made of.
#[test]
fn a_log_without_records_is_one_file_also_after_it_led_and_was_closed() {
    let directory = tempfile::tempdir().unwrap();
    for (epoch, last_stop) in [(0, LastStop::Clean), (3, LastStop::ProcessDied), (3, LastStop::Clean)] {
        let (log, _) = open(directory.path(), config(), last_stop);
        log.start_epoch(epoch).unwrap();
        assert_eq!(log.leader_epoch(), Some(epoch));
        log.close(true).unwrap();
        assert_eq!(names(directory.path(), ""), ["00000000000000000000.log"]);
    }
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    log.start_epoch(4).unwrap();
    fill(&log, 3);
    log.close(true).unwrap();
    let made: Vec<_> =
        names(directory.path(), "").iter().map(|name| name.trim_start_matches('0').to_owned()).collect();
    assert_eq!(made, [".index", ".log", ".timeindex", "3.snapshot", "leader-epoch-checkpoint"]);
}

/// A batch may have only an epoch that the file has.
#[test]
fn the_first_batch_of_an_epoch_is_written_after_its_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("t-0/leader-epoch-checkpoint");
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    for epoch in [2, 5, 5, 9] {
        let end = log.log_end_offset();
        log.start_epoch(epoch).unwrap();
        let before = fs::read_to_string(&file).unwrap_or_default();
        assert!(epoch == 5 || !before.contains(&format!("{epoch} {end}\n")), "{before:?}");
        log.append(&batch(&["a"]), epoch, NOW_MS, AppendOptions::default()).unwrap();
        let after = fs::read_to_string(&file).unwrap();
        assert!(epoch == 5 || after.ends_with(&format!("\n{epoch} {end}\n")), "{after:?}");
    }
    // led without a record, and then followed a log that goes on in the epoch before
    log.start_epoch(11).unwrap();
    assert_eq!(log.leader_epoch(), Some(11));
    let mut bytes = batch(&["of 9"]);
    bytes[..8].copy_from_slice(&4i64.to_be_bytes());
    bytes[12..16].copy_from_slice(&9i32.to_be_bytes());
    log.append_replica(&bytes, 9, NOW_MS).unwrap();
    assert_eq!(log.leader_epoch(), Some(9));
    drop(log);
    let (log, _) = open(directory.path(), config(), LastStop::ProcessDied);
    let epochs: Vec<_> = log.epochs().iter().map(|it| (it.epoch, it.start_offset)).collect();
    assert_eq!(epochs, [(2, 0), (5, 1), (9, 3)]);
}

#[test]
fn preallocated_blocks_are_given_back_at_roll_and_close() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), LogConfig { segment_bytes: 1 << 20, ..config() }, LastStop::Clean);
    fill(&log, 10);
    let path = directory.path().join("t-0/00000000000000000000.log");
    let reserved = fs::metadata(&path).unwrap();
    assert_eq!(reserved.len(), log.size_bytes());
    log.close(true).unwrap();
    let closed = fs::metadata(&path).unwrap();
    assert_eq!(closed.len(), reserved.len());
    assert!(closed.blocks() <= 16, "{} blocks", closed.blocks());
}

#[test]
fn retention_by_time_takes_the_oldest_and_also_the_active_segment() {
    let directory = tempfile::tempdir().unwrap();
    let log = committed(directory.path(), LogConfig { retention_ms: HOUR_MS, ..config() }, 100);
    let segments = log.segment_count();
    assert_eq!(log.enforce_retention(NOW_MS + HOUR_MS).unwrap(), 0);
    assert_eq!(log.enforce_retention(NOW_MS + HOUR_MS + 1).unwrap(), segments);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size_bytes()), (100, 100, 0));
    assert_eq!(log.segment_count(), 1);
    let error = log.read(0, 100, 100, true).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OFFSET_OUT_OF_RANGE);
    fill(&log, 120);
    assert_eq!(values(&log), expected(100, 120));
    log.close(true).unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    assert_eq!(values(&log), expected(100, 120));
}

#[test]
fn retention_stops_at_the_first_segment_to_keep_and_at_the_high_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), LogConfig { retention_ms: HOUR_MS, ..config() }, LastStop::Clean);
    append(&log, &batch_at(NOW_MS, &["x".repeat(3999).as_str()])).unwrap();
    append(&log, &batch_at(NOW_MS + HOUR_MS / 2, &["x".repeat(3999).as_str()])).unwrap();
    append(&log, &batch_at(NOW_MS, &["x".repeat(3999).as_str()])).unwrap();
    append(&log, &batch_at(NOW_MS, &["active"])).unwrap();
    assert_eq!(log.segment_count(), 4);
    assert_eq!(log.enforce_retention(NOW_MS + HOUR_MS + 1).unwrap(), 0, "nothing is committed");
    log.advance_high_watermark(4);
    assert_eq!(log.enforce_retention(NOW_MS + HOUR_MS + 1).unwrap(), 1);
    assert_eq!(log.log_start_offset(), 1);
}

#[test]
fn retention_by_size_keeps_at_least_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let limit = 10_000;
    let log = committed(directory.path(), LogConfig { retention_bytes: limit, ..config() }, 500);
    assert!(log.enforce_retention(NOW_MS).unwrap() > 0);
    let size = log.size_bytes() as i64;
    assert!((limit..limit + 4096).contains(&size), "{size}");
    assert_eq!(values(&log), expected(log.log_start_offset(), 500));
    assert_eq!(log.enforce_retention(NOW_MS).unwrap(), 0);
}

#[test]
fn deleted_files_wait_and_readers_in_flight_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = committed(directory.path(), LogConfig { retention_ms: HOUR_MS, ..config() }, 100);
    let slice = log.read(0, 200, 100, true).unwrap().unwrap();
    let before = bytes_of(&slice);
    let later = NOW_MS + 2 * HOUR_MS;
    let count = log.enforce_retention(later).unwrap();
    assert_eq!(names(directory.path(), ".log.deleted").len(), count);
    assert_eq!(bytes_of(&slice), before);
    assert_eq!(log.purge_deleted(later + 59_999).unwrap(), 0);
    assert_eq!(log.purge_deleted(later + 60_000).unwrap(), count);
    assert_eq!(names(directory.path(), ".deleted"), Vec::<String>::new());
    assert_eq!(bytes_of(&slice), before, "an open file outlives its name");
}

#[test]
fn purging_a_segment_that_was_cut_leaves_the_files_of_its_successor() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    // one without indexes
    fill(&log, 1);
    assert_eq!(names(directory.path(), "index"), [""; 0]);
    assert!(log.truncate_to(0, NOW_MS, || Ok(())).unwrap());
    fill(&log, 40);
    let before = names(directory.path(), "index");
    assert!(before.contains(&"00000000000000000000.index".to_owned()), "{before:?}");
    assert_eq!(log.purge_deleted(NOW_MS + HOUR_MS).unwrap(), 1);
    assert_eq!(names(directory.path(), "index"), before);
    assert_eq!(values(&log), expected(0, 40));
}

#[test]
fn deleted_records_stay_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let log = committed(directory.path(), config(), 100);
    append(&log, &batch(&["not committed"])).unwrap();
    assert_eq!(log.delete_records(101).unwrap_err().code(), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(log.delete_records(55).unwrap(), 55);
    assert_eq!(log.delete_records(20).unwrap(), 55, "the start never goes back");
    assert_eq!(log.read(54, 100, 100, true).unwrap_err().code(), ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(values_below(&log, 55, 100, 300).unwrap(), expected(55, 100));
    assert!(log.enforce_retention(NOW_MS).unwrap() > 0, "whole segments below the start go");
    assert_eq!(log.log_start_offset(), 55);
    assert_eq!(log.delete_records(-1).unwrap(), 100);
    drop(log);
    let options =
        fastlog_log::LogOptions { log_start_offset: 100, ..options(config(), LastStop::ProcessDied) };
    let (log, _) = Log::open(&storage(directory.path()), options, NOW_MS).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (100, 101));
}

#[test]
fn records_of_a_compacted_topic_cannot_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let compacted = LogConfig { cleanup_compact: true, cleanup_delete: false, ..config() };
    let log = committed(directory.path(), compacted, 10);
    assert_eq!(log.delete_records(5).unwrap_err().code(), ErrorCode::POLICY_VIOLATION);
}

#[test]
fn a_follower_truncates_to_any_offset() {
    for offset in [0, 1, 40, 41, 99, 100, 150] {
        let directory = tempfile::tempdir().unwrap();
        let log = committed(directory.path(), config(), 100);
        log.start_epoch(5).unwrap();
        let end = offset.min(100);
        assert_eq!(log.truncate_to(offset, NOW_MS, || Ok(())).unwrap(), offset < 100);
        assert_eq!((log.log_end_offset(), log.high_watermark()), (end, end));
        assert_eq!(values(&log), expected(0, end));
        assert_eq!(log.leader_epoch(), Some(0).filter(|_| end > 0), "epoch 5 never wrote");
        fill(&log, 130);
        assert_eq!(values(&log), expected(0, 130), "truncated to {offset}");
        drop(log);
        let (log, report) = open(directory.path(), config(), LastStop::ProcessDied);
        assert_eq!(report.cut, None);
        assert_eq!(values(&log), expected(0, 130), "truncated to {offset}, opened again");
    }
}

#[test]
fn truncation_takes_a_batch_whole_and_forgets_its_sequences() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    append(&log, &idempotent(9, 0, 0, "v")).unwrap();
    append(&log, &batch(&["a", "b", "c"])).unwrap();
    append(&log, &idempotent(9, 0, 1, "v")).unwrap();
    assert!(log.truncate_to(2, NOW_MS, || Ok(())).unwrap());
    assert_eq!(log.log_end_offset(), 1);
    assert!(append(&log, &idempotent(9, 0, 0, "v")).unwrap().duplicate);
    assert!(!append(&log, &idempotent(9, 0, 1, "v")).unwrap().duplicate);
}

#[test]
fn a_follower_may_start_anew_at_its_leaders_start() {
    let directory = tempfile::tempdir().unwrap();
    let log = committed(directory.path(), config(), 100);
    log.truncate_fully_and_start_at(5000, NOW_MS, || Ok(())).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (5000, 5000));
    assert_eq!((log.high_watermark(), log.leader_epoch()), (5000, None));
    fill(&log, 5050);
    assert_eq!(values(&log), expected(5000, 5050));
    drop(log);
    let (log, _) = open(directory.path(), config(), LastStop::ProcessDied);
    assert_eq!(values(&log), expected(5000, 5050));
}

#[test]
fn checkpoints_come_down_before_the_log_does() {
    let directory = tempfile::tempdir().unwrap();
    let log = committed(directory.path(), config(), 100);
    log.delete_records(60).unwrap();
    log.flush().unwrap();
    let seen = |log: &Log| (log.recovery_point(), log.log_start_offset(), log.log_end_offset());
    let refused = log.truncate_to(80, NOW_MS, || {
        assert_eq!(seen(&log), (80, 60, 100));
        Err(LogError::Invalid { reason: "no checkpoint".to_owned() })
    });
    assert!(refused.is_err());
    assert_eq!((seen(&log), log.high_watermark()), ((80, 60, 100), 100), "nothing was cut");
    let cut = log.truncate_to(50, NOW_MS, || {
        assert_eq!(seen(&log), (50, 50, 100));
        Ok(())
    });
    assert!(cut.unwrap());
    assert_eq!((seen(&log), log.high_watermark()), ((50, 50, 50), 50));
}

#[test]
fn a_deleted_log_gets_kafkas_name_and_takes_no_appends() {
    let directory = tempfile::tempdir().unwrap();
    let storage = storage(directory.path());
    let (log, _) = Log::open(&storage, options(config(), LastStop::Clean), NOW_MS).unwrap();
    fill(&log, 100);
    log.advance_high_watermark(100);
    let slice = log.read(0, 200, 100, true).unwrap().unwrap();
    let path = log.mark_deleted().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("t-0.") && name.ends_with("-delete"), "{name}");
    assert_eq!(name.len(), "t-0.".len() + 32 + "-delete".len());
    assert!(path.exists() && !directory.path().join("t-0").exists());
    assert_eq!(bytes_of(&slice).len(), slice.length);
    assert_eq!(values(&log), expected(0, 100), "reads in flight go on");
    let error = append(&log, &batch(&["late"])).unwrap_err();
    assert_eq!(error.code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(log.flush().unwrap_err().code(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    fs::remove_dir_all(&path).unwrap();
    assert!(log.flush().is_err() && log.purge_deleted(NOW_MS).is_ok());
    // made anew under the same name: offsets from 0, whatever a checkpoint says of the old one
    let stale = fastlog_log::LogOptions {
        log_start_offset: 70,
        high_watermark: 100,
        recovery_point: 100,
        ..options(config(), LastStop::Clean)
    };
    let (log, report) = Log::open(&storage, stale, NOW_MS).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.high_watermark()), (0, 0, 0));
    assert!(!report.below_high_watermark);
}

#[test]
fn epochs_tell_followers_where_they_diverge() {
    let directory = tempfile::tempdir().unwrap();
    let log = create(directory.path());
    log.start_epoch(2).unwrap();
    fill_in_epoch(&log, 2, 10);
    log.start_epoch(4).unwrap();
    fill_in_epoch(&log, 4, 25);
    assert_eq!(log.end_offset_for_epoch(4).unwrap(), (4, 25));
    assert_eq!(log.end_offset_for_epoch(3).unwrap(), (2, 10));
    assert_eq!(log.end_offset_for_epoch(2).unwrap(), (2, 10));
    assert_eq!(log.end_offset_for_epoch(1).unwrap(), (1, 0));
    assert_eq!(log.end_offset_for_epoch(5).unwrap(), (-1, -1));
    let text = fs::read_to_string(directory.path().join("t-0/leader-epoch-checkpoint")).unwrap();
    assert_eq!(text, "0\n2\n2 0\n4 10\n");
}

fn fill_in_epoch(log: &Log, epoch: i32, end: i64) {
    while log.log_end_offset() < end {
        log.append(&batch(&["v"]), epoch, NOW_MS, Default::default()).unwrap();
    }
}

#[test]
fn a_leader_that_wrote_nothing_follows_a_log_without_its_epoch() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (leader, follower) = (create(first.path()), create(second.path()));
    leader.start_epoch(1).unwrap();
    leader.append(&batch(&["a", "b"]), 1, NOW_MS, Default::default()).unwrap();
    let slice = leader.read(0, 1 << 20, 2, true).unwrap().unwrap();
    // elected in epoch 2 with nothing, and gone before it had a record; its followers know nothing of that epoch
    follower.start_epoch(2).unwrap();
    follower.append_replica(&bytes_of(&slice), 3, NOW_MS).unwrap();
    assert_eq!(follower.end_offset_for_epoch(1).unwrap(), (1, 2));
    assert_eq!(follower.leader_epoch(), Some(1));
    follower.close(true).unwrap();
    drop(follower);
    let (follower, _) = open(second.path(), config(), LastStop::Clean);
    assert_eq!(follower.end_offset_for_epoch(1).unwrap(), (1, 2));
}
