//! What an unclean stop leaves, and what opening makes of it (semantics rows 50 and 51; architecture, Promises).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::common::*;
use fastlog_log::{LastStop, Log, LogConfig, LogError, LogOptions, RecoveryReport};
use fastlog_protocol::ErrorCode;

/// One segment, unless a test wants more.
fn one_segment() -> LogConfig {
    LogConfig { segment_bytes: 1 << 20, ..config() }
}

fn partition(directory: &Path) -> PathBuf {
    directory.join("t-0")
}

/// The segments' files, ascending.
fn log_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(partition(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files
}

/// A log of `end` records, left without a close.
fn killed(directory: &Path, config: LogConfig, end: i64) -> Vec<PathBuf> {
    let (log, _) = open(directory, config, LastStop::Clean);
    log.start_epoch(0).unwrap();
    fill(&log, end);
    drop(log);
    log_files(directory)
}

fn reopen(
    directory: &Path,
    config: LogConfig,
    last_stop: LastStop,
    recovery_point: i64,
) -> (Log, RecoveryReport) {
    let options = LogOptions { recovery_point, high_watermark: 40, ..options(config, last_stop) };
    Log::open(&storage(directory), options, NOW_MS).unwrap()
}

/// The position of the batch of record `offset`, all in one segment.
fn position_of(directory: &Path, offset: i64) -> u64 {
    let copy = tempfile::tempdir().unwrap();
    copy_log(directory, copy.path());
    let (log, _) = open(copy.path(), one_segment(), LastStop::ProcessDied);
    log.read(offset, 1, i64::MAX, true).unwrap().unwrap().position
}

fn flip(path: &Path, position: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], position).unwrap();
}

fn cut_bytes(path: &Path, bytes: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
}

fn append_bytes(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, file.metadata().unwrap().len()).unwrap();
}

#[test]
fn after_kill_9_everything_is_there() {
    for config in [one_segment(), config()] {
        let directory = tempfile::tempdir().unwrap();
        killed(directory.path(), config.clone(), 100);
        let (log, report) = reopen(directory.path(), config, LastStop::ProcessDied, 0);
        assert_eq!(report.cut, None);
        assert!(!report.below_high_watermark);
        assert_eq!(values(&log), expected(0, 100));
        assert_eq!(log.leader_epoch(), Some(0));
        fill(&log, 120);
        assert_eq!(values(&log), expected(0, 120));
    }
}

#[test]
fn a_torn_last_batch_is_cut_and_said() {
    for last_stop in [LastStop::ProcessDied, LastStop::MachineDied] {
        for torn in [1, 30, 70] {
            let directory = tempfile::tempdir().unwrap();
            let files = killed(directory.path(), one_segment(), 50);
            let position = position_of(directory.path(), 49);
            cut_bytes(&files[0], torn);
            let (log, report) = reopen(directory.path(), one_segment(), last_stop, 20);
            let cut = report.cut.unwrap();
            assert_eq!((cut.offset, cut.position, &cut.file), (49, position, &files[0]));
            assert!(!report.below_high_watermark);
            assert_eq!(fs::metadata(&files[0]).unwrap().len(), position);
            assert_eq!(values(&log), expected(0, 49));
            fill(&log, 60);
            assert_eq!(values(&log), expected(0, 60));
        }
    }
}

#[test]
fn a_cut_below_the_high_watermark_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    flip(&files[0], position_of(directory.path(), 30) + 70);
    let (log, report) = reopen(directory.path(), one_segment(), LastStop::MachineDied, 0);
    assert_eq!(report.cut.unwrap().offset, 30);
    assert!(report.below_high_watermark);
    assert_eq!(log.high_watermark(), 30);
}

#[test]
fn when_the_machine_died_the_log_is_cut_at_the_first_bad_batch_and_later_segments_go() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), config(), 200);
    assert!(files.len() > 3);
    flip(&files[1], 70);
    let (log, report) = reopen(directory.path(), config(), LastStop::MachineDied, 10);
    let cut = report.cut.unwrap();
    assert_eq!(cut.segments_removed, files.len() - 2);
    assert_eq!(log_files(directory.path()), files[..2]);
    assert_eq!(values(&log), expected(0, cut.offset));
    fill(&log, 250);
    assert_eq!(values(&log), expected(0, 250));
}

#[test]
fn zeros_at_the_end_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    append_bytes(&files[0], &[0; 8192]);
    let (log, report) = reopen(directory.path(), one_segment(), LastStop::MachineDied, 50);
    let cut = report.cut.unwrap();
    assert_eq!((cut.offset, cut.bytes), (50, 8192));
    assert_eq!(values(&log), expected(0, 50));
}

/// Damage: nothing is deleted, what is good is served, at the bad place is error 56 with file, position and the next
/// readable offset.
fn assert_damage(
    directory: &Path,
    config: LogConfig,
    last_stop: LastStop,
    recovery_point: i64,
    bad: i64,
    end: i64,
) {
    let before: Vec<_> = log_files(directory).iter().map(|path| fs::read(path).unwrap()).collect();
    let (log, report) = reopen(directory, config, last_stop, recovery_point);
    assert_eq!(report.cut, None);
    assert_eq!(log.log_end_offset(), end);
    let Some(LogError::Corrupt { offset, next_readable_offset, .. }) = report.damages.first() else {
        panic!("{:?}", report.damages)
    };
    assert_eq!((*offset, *next_readable_offset), (bad, Some(bad + 1)));
    assert_eq!(values_below(&log, 0, bad, 300).unwrap(), expected(0, bad));
    assert_eq!(values_below(&log, bad + 1, end, 300).unwrap(), expected(bad + 1, end));
    let error = values_below(&log, 0, end, 300).unwrap_err();
    assert_eq!(error.code(), ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(matches!(error, LogError::Corrupt { offset, .. } if offset == bad));
    fill(&log, end + 10);
    assert_eq!(values_below(&log, bad + 1, end + 10, 300).unwrap(), expected(bad + 1, end + 10));
    drop(log);
    for (path, bytes) in log_files(directory).iter().zip(&before) {
        assert!(fs::read(path).unwrap().starts_with(bytes), "{} changed", path.display());
    }
}

#[test]
fn a_bad_batch_with_good_ones_after_it_is_damage_when_only_the_process_died() {
    // in the payload, in the CRC, in the length (the batch seems longer), in the magic, in the base offset
    for place in [70, 18, 9, 16, 1] {
        let directory = tempfile::tempdir().unwrap();
        let files = killed(directory.path(), one_segment(), 50);
        flip(&files[0], position_of(directory.path(), 30) + place);
        assert_damage(directory.path(), one_segment(), LastStop::ProcessDied, 0, 30, 50);
    }
}

#[test]
fn a_bad_last_batch_of_an_old_segment_is_damage_when_only_the_process_died() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), config(), 200);
    let bad: i64 = files[2].file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap() - 1;
    let length = fs::metadata(&files[1]).unwrap().len();
    flip(&files[1], length - 3);
    assert_damage(directory.path(), config(), LastStop::ProcessDied, 0, bad, 200);
}

#[test]
fn below_the_recovery_point_nothing_is_cut_whoever_died() {
    for last_stop in [LastStop::ProcessDied, LastStop::MachineDied] {
        let directory = tempfile::tempdir().unwrap();
        let files = killed(directory.path(), one_segment(), 50);
        // a header that is none, since CRCs below the recovery point are not read again
        flip(&files[0], position_of(directory.path(), 30) + 16);
        assert_damage(directory.path(), one_segment(), last_stop, 45, 30, 50);
    }
}

#[test]
fn a_damaged_end_takes_no_appends_but_serves_what_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    flip(&files[0], position_of(directory.path(), 49) + 70);
    let length = fs::metadata(&files[0]).unwrap().len();
    for recovery_point in [50, 50] {
        let (log, report) = reopen(directory.path(), one_segment(), LastStop::Clean, 49);
        assert_eq!(report.damages.len(), 1, "recovery point {recovery_point}");
        assert_eq!(values_below(&log, 0, 49, 300).unwrap(), expected(0, 49));
        let error = append(&log, &batch(&["x"])).unwrap_err();
        assert_eq!(error.code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(log.flush().unwrap(), 49);
        log.close(true).unwrap();
        assert_eq!(fs::metadata(&files[0]).unwrap().len(), length);
    }
}

#[test]
fn synced_records_that_are_missing_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    let position = position_of(directory.path(), 35);
    OpenOptions::new().write(true).open(&files[0]).unwrap().set_len(position).unwrap();
    let (log, report) = reopen(directory.path(), one_segment(), LastStop::ProcessDied, 45);
    assert!(report.below_recovery_point && report.below_high_watermark);
    assert_eq!((log.log_end_offset(), log.recovery_point()), (35, 35));
}

/// Where each offset leads, and the first record at or after each time.
fn answers(log: &Log) -> (Vec<u64>, Vec<Option<i64>>) {
    let end = log.log_end_offset();
    let position = |offset| log.read(offset, 1, end, true).unwrap().unwrap().position;
    let by_time = |time| log.offset_for_timestamp(time, end).unwrap().map(|found| found.offset);
    ((0..end).map(position).collect(), (NOW_MS - 1..NOW_MS + 2 * end).step_by(3).map(by_time).collect())
}

#[test]
fn no_flipped_bit_of_an_index_changes_an_answer() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    for number in 0..55 {
        // the newest record lies in the middle of a segment
        let time = if number < 30 { number * 3 } else { number % 5 };
        append(&log, &batch_at(NOW_MS + time, &["some value"])).unwrap();
    }
    log.close(true).unwrap();
    assert!(log.segment_count() > 1);
    let expected = answers(&reopen(directory.path(), config(), LastStop::Clean, 55).0);
    // the low bytes of the two numbers of an entry: where a change is hardest to tell from the truth
    for (name, entry_bytes, low_bytes) in
        [("00000000000000000000.index", 8, [3, 7]), ("00000000000000000000.timeindex", 12, [7, 11])]
    {
        let path = partition(directory.path()).join(name);
        let sound = fs::read(&path).unwrap();
        let places = (0..sound.len()).filter(|place| low_bytes.contains(&(place % entry_bytes)));
        for (place, bit) in places.flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut flipped = sound.clone();
            flipped[place] ^= 1 << bit;
            fs::write(&path, flipped).unwrap();
            let (log, _) = reopen(directory.path(), config(), LastStop::Clean, 55);
            assert_eq!(answers(&log), expected, "bit {bit} of byte {place} of {name}");
        }
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn reading_goes_on_after_a_batch_whose_header_claims_the_offsets_of_others() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    // the last offset delta: the batch seems to hold 64 offsets more
    flip(&files[0], position_of(directory.path(), 30) + 26);
    let (log, _) = reopen(directory.path(), one_segment(), LastStop::ProcessDied, 0);
    assert_eq!(values_below(&log, 0, 30, 300).unwrap(), expected(0, 30));
    assert_eq!(log.read(30, 300, 50, true).unwrap_err().code(), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(values_below(&log, 31, 50, 300).unwrap(), expected(31, 50));
}

#[test]
fn a_batch_that_claims_the_offsets_of_others_hides_none_where_no_crc_is_looked_at() {
    for damage_index in [empty as fn(&Path), clear_first_entry] {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = open(directory.path(), config(), LastStop::Clean);
        fill(&log, 200);
        log.close(true).unwrap();
        drop(log);
        let files = log_files(directory.path());
        let bad = 3;
        flip(&files[0], position_of(directory.path(), bad) + 26);
        for offset in [0, bad + 1, 199] {
            // it is walked over from its beginning then, and all of it is below the recovery point
            damage_index(&files[0].with_extension("index"));
            let (log, _) = reopen(directory.path(), config(), LastStop::Clean, 200);
            let end = if offset < bad { bad } else { 200 };
            assert_eq!(values_below(&log, offset, end, 300).unwrap(), expected(offset, end));
            assert_eq!(values_below(&log, bad + 1, 200, 300).unwrap(), expected(bad + 1, 200));
            let error = log.read(bad, 300, 200, true).unwrap_err();
            assert!(matches!(error, LogError::Corrupt { offset, .. } if offset == bad), "{error}");
            log.close(true).unwrap();
        }
    }
}

fn empty(path: &Path) {
    fs::write(path, []).unwrap();
}

fn clear_first_entry(path: &Path) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len().min(8);
    file.write_all_at(&[0; 8][..length as usize], 0).unwrap();
}

#[test]
fn a_batch_that_claims_fewer_offsets_than_it_has_records_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), one_segment(), LastStop::Clean);
    for first in [0, 5, 10] {
        append(&log, &batch(&["a", "b", "c", "d", "e"])).unwrap();
        assert_eq!(log.log_end_offset(), first + 5);
    }
    drop(log);
    // its last offset delta: 4 becomes 0, and whoever asks for one of the others was led past them
    let files = log_files(directory.path());
    let place = position_of(directory.path(), 5) + 26;
    let file = OpenOptions::new().write(true).open(&files[0]).unwrap();
    file.write_all_at(&[0], place).unwrap();
    let (log, _) = reopen(directory.path(), one_segment(), LastStop::Clean, 15);
    for offset in 5..10 {
        assert_eq!(log.read(offset, 300, 15, true).unwrap_err().code(), ErrorCode::KAFKA_STORAGE_ERROR);
    }
    assert!(log.read(10, 300, 15, true).unwrap().is_some());
}

#[test]
fn a_base_offset_that_the_next_batch_contradicts_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let files = killed(directory.path(), one_segment(), 50);
    // it lies outside the CRC; 30 becomes 94, or more by 2^22
    for byte in [7, 5] {
        let place = position_of(directory.path(), 30) + byte;
        flip(&files[0], place);
        let (log, report) = reopen(directory.path(), one_segment(), LastStop::ProcessDied, 0);
        assert_eq!(report.damages.len(), 1, "{report:?}");
        assert_eq!(log.log_end_offset(), 50);
        assert_eq!(values_below(&log, 0, 30, 300).unwrap(), expected(0, 30));
        assert_eq!(log.read(30, 300, 50, true).unwrap_err().code(), ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(values_below(&log, 31, 50, 300).unwrap(), expected(31, 50));
        drop(log);
        flip(&files[0], place);
    }
}

#[test]
fn garbage_is_no_witness_against_the_batch_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), one_segment(), LastStop::Clean);
    for (epoch, end) in [(0, 10), (1, 12)] {
        log.start_epoch(epoch).unwrap();
        while log.log_end_offset() < end {
            log.append(&batch(&["value"]), epoch, NOW_MS, Default::default()).unwrap();
        }
    }
    drop(log);
    // what lies behind the first batch of epoch 1 seems to be of epoch 0, and has another checksum
    let files = log_files(directory.path());
    let place = position_of(directory.path(), 11);
    let file = OpenOptions::new().write(true).open(&files[0]).unwrap();
    file.write_all_at(&[0; 4], place + 12).unwrap();
    flip(&files[0], place + 62);
    for last_stop in [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied] {
        let (log, _) = reopen(directory.path(), one_segment(), last_stop, 12);
        let slice = log.read(10, 300, 11, true).unwrap().unwrap();
        assert_eq!(slice.position + slice.length as u64, place, "{last_stop:?}");
    }
}

#[test]
fn a_length_that_turned_hides_no_good_batch_behind_it() {
    for last_stop in [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied] {
        let directory = tempfile::tempdir().unwrap();
        let files = killed(directory.path(), one_segment(), 40);
        // its batch seems to end within the last one, where nothing good follows
        flip(&files[0], position_of(directory.path(), 37) + 11);
        let (log, report) = reopen(directory.path(), one_segment(), last_stop, 40);
        assert_eq!(log.log_end_offset(), 40, "{last_stop:?}");
        assert_eq!(report.damages.len(), 1, "{last_stop:?}");
        assert_eq!(values_below(&log, 0, 37, 700).unwrap(), expected(0, 37));
        assert!(log.read(37, 1, i64::MAX, true).is_err());
        assert_eq!(values_below(&log, 38, 40, 700).unwrap(), expected(38, 40));
        assert_eq!(append(&log, &batch(&["value-40"])).unwrap().base_offset, 40);
    }
}

#[test]
fn damage_is_known_after_a_clean_stop_and_forgotten_when_it_is_mended() {
    for config in [one_segment(), config()] {
        let directory = tempfile::tempdir().unwrap();
        let files = killed(directory.path(), config.clone(), 50);
        let position = position_of(directory.path(), 30);
        let base_of = |path: &Path| path.file_stem().unwrap().to_str().unwrap().parse::<i64>().unwrap();
        let file = files.iter().rfind(|path| base_of(path) <= 30).unwrap();
        // the last offset delta: whoever believes it takes the records behind it for those of this batch
        flip(file, position + 26);
        let (log, report) = reopen(directory.path(), config.clone(), LastStop::ProcessDied, 0);
        assert_eq!(report.damages.len(), 1);
        log.close(true).unwrap();
        drop(log);
        for _ in 0..2 {
            let (log, report) = reopen(directory.path(), config.clone(), LastStop::Clean, 50);
            assert_eq!(report.damages.len(), 1);
            assert_eq!(log.read(30, 300, 50, true).unwrap_err().code(), ErrorCode::KAFKA_STORAGE_ERROR);
            assert_eq!(values_below(&log, 31, 50, 300).unwrap(), expected(31, 50));
            log.close(true).unwrap();
        }
        let list = partition(directory.path()).join("damaged-segments");
        assert_eq!(fs::read_to_string(&list).unwrap(), format!("0\n1\n{}\n", base_of(file)));
        flip(file, position + 26);
        let (log, report) = reopen(directory.path(), config.clone(), LastStop::Clean, 50);
        assert!(report.damages.is_empty());
        assert_eq!(values_below(&log, 0, 50, 300).unwrap(), expected(0, 50));
        assert!(!list.exists());
    }
}

#[test]
fn indexes_are_hints() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 6] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, b"").unwrap(),
        |path| cut_bytes(path, 5),
        |path| append_bytes(path, &[0; 4096]),
        |path| fs::write(path, [0xff; 96]).unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31).wrapping_add(7));
            fs::write(path, bytes).unwrap();
        },
    ];
    for (number, spoil) in spoils.iter().enumerate() {
        for suffix in ["index", "timeindex"] {
            let directory = tempfile::tempdir().unwrap();
            let (log, _) = open(directory.path(), config(), LastStop::Clean);
            fill(&log, 200);
            log.close(true).unwrap();
            drop(log);
            let files = log_files(directory.path());
            let good: Vec<_> =
                files.iter().map(|path| fs::read(path.with_extension(suffix)).unwrap()).collect();
            files.iter().for_each(|path| spoil(&path.with_extension(suffix)));
            let (log, report) = reopen(directory.path(), config(), LastStop::Clean, 200);
            assert!(report.damages.is_empty(), "{suffix} spoilt by {number}");
            for from in [0, 17, 60, 111, 199] {
                assert_eq!(values_below(&log, from, 200, 300).unwrap(), expected(from, 200));
            }
            let found = log.offset_for_timestamp(NOW_MS, 200).unwrap().unwrap();
            assert_eq!(found.offset, 0);
            log.close(true).unwrap();
            for (path, good) in files.iter().zip(&good) {
                let now = fs::read(path.with_extension(suffix)).unwrap();
                assert_eq!(&now, good, "{} is not built anew after {number}", path.display());
            }
        }
    }
}

#[test]
fn what_half_done_deletions_left_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    fill(&log, 20);
    log.close(true).unwrap();
    let partition = partition(directory.path());
    for name in [
        "00000000000000000900.index",
        "00000000000000000900.timeindex",
        "00000000000000000900.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000900.snapshot",
    ] {
        fs::write(partition.join(name), b"x").unwrap();
    }
    let (log, _) = reopen(directory.path(), config(), LastStop::Clean, 20);
    assert_eq!(values(&log), expected(0, 20));
    for entry in fs::read_dir(&partition).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("900") && !name.ends_with(".tmp"), "{name}");
    }
}

#[test]
fn epochs_are_built_anew_from_the_batches() {
    for spoil in ["remove", "garbage"] {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = open(directory.path(), config(), LastStop::Clean);
        for epoch in 1..4 {
            let value = format!("value-{}", log.log_end_offset());
            log.append(&batch(&[&value]), epoch, NOW_MS, Default::default()).unwrap();
            log.append(&batch(&[&value]), epoch, NOW_MS, Default::default()).unwrap();
        }
        let before = log.epochs();
        assert_eq!(before.len(), 3);
        log.close(true).unwrap();
        let path = partition(directory.path()).join("leader-epoch-checkpoint");
        if spoil == "remove" {
            fs::remove_file(path).unwrap()
        } else {
            fs::write(path, "0\n9\n").unwrap()
        }
        let (log, _) = reopen(directory.path(), config(), LastStop::Clean, 6);
        assert_eq!(log.epochs(), before, "{spoil}");
    }
}

#[test]
fn epochs_of_records_whose_deletion_was_not_noted_down_are_known_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    for epoch in 1..4 {
        for _ in 0..2 {
            log.append(&batch(&["value"]), epoch, NOW_MS, Default::default()).unwrap();
        }
    }
    let before = log.epochs();
    log.advance_high_watermark(6);
    // in the middle of an epoch, which the file of epochs is then cut to
    assert_eq!(log.delete_records(3).unwrap(), 3);
    assert_eq!(log.end_offset_for_epoch(1).unwrap(), (1, 3));
    drop(log);
    let (log, _) = open(directory.path(), config(), LastStop::ProcessDied);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 6));
    assert_eq!(log.epochs(), before);
    assert_eq!(
        log.end_offset_for_epoch(1).unwrap(),
        (1, 2),
        "what a follower goes by that has to cut its log"
    );
}

#[test]
fn a_torn_snapshot_is_passed_over_for_an_older_one() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), config(), LastStop::Clean);
    for sequence in 0..150 {
        append(&log, &idempotent(9, 0, sequence, "some value to fill segments")).unwrap();
    }
    log.close(true).unwrap();
    let mut snapshots: Vec<_> = fs::read_dir(partition(directory.path()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "snapshot"))
        .collect();
    snapshots.sort();
    assert!(snapshots.len() > 2);
    cut_bytes(snapshots.last().unwrap(), 4);
    flip(&snapshots[snapshots.len() - 2], 20);
    let (log, _) = reopen(directory.path(), config(), LastStop::Clean, 150);
    assert!(append(&log, &idempotent(9, 0, 149, "some value to fill segments")).unwrap().duplicate);
    append(&log, &idempotent(9, 0, 150, "v")).unwrap();
}
