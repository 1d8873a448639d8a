//! Files that are whole, and not this segment's or not this log's: taken from another one, swapped, or without their ends.
//! Nothing of what they say is believed, and nothing is lost by them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::*;
use crate::compaction_model::*;
use crate::compaction_reader::read_committed;
use fastlog_log::{AbortedTxn, LastStop, Log, LogConfig, LogError, LogOptions};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;

fn partition(directory: &Path) -> PathBuf {
    directory.join("t-0")
}

/// The files with that ending, by name.
fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(partition(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == suffix)).collect();
    found.sort();
    found
}

fn open_after(directory: &Path, config: LogConfig, last_stop: LastStop, end: i64) -> Log {
    let options = LogOptions { recovery_point: end, high_watermark: end, ..options(config, last_stop) };
    let (log, report) = Log::open(&storage(directory), options, NOW_MS).unwrap();
    assert!(report.damages.is_empty() && report.cut.is_none(), "{report:?}");
    assert_eq!(log.log_end_offset(), end);
    log
}

/// Values of different lengths, and timestamps that go up and down.
fn filled(directory: &Path, seed: u64) -> i64 {
    let (log, _) = open(directory, config(), LastStop::Clean);
    let mut random = Random(seed);
    for _ in 0..110 {
        let value = "v".repeat(1 + random.below(200) as usize);
        let number = log.log_end_offset();
        append(&log, &batch_at(NOW_MS + number * 3 + random.below(400) as i64, &[&value, "x"])).unwrap();
    }
    log.close(true).unwrap();
    assert!(log.segment_count() > 4);
    log.log_end_offset()
}

/// Where each offset leads, how far a read of some bytes from there reaches, and the first record at or after each time.
fn answers(directory: &Path, end: i64) -> (Vec<(u64, usize)>, Vec<Option<i64>>) {
    let log = open_after(directory, config(), LastStop::Clean, end);
    let place = |offset| {
        let slice = log.read(offset, 900, end, true).unwrap().unwrap();
        assert!(!values_below(&log, offset, (offset + 2).min(end), 900).unwrap().is_empty());
        (slice.position, slice.length)
    };
    let by_time = |time| log.offset_for_timestamp(time, end).unwrap().map(|found| found.offset);
    let times = (NOW_MS - 1..NOW_MS + 3 * end + 500).step_by(41);
    ((0..end).step_by(3).map(place).collect(), times.map(by_time).collect())
}

fn spoil(
    path: &Path,
    bytes: &[u8],
    directory: &Path,
    expected: &(Vec<(u64, usize)>, Vec<Option<i64>>),
    end: i64,
) {
    let sound = fs::read(path).unwrap();
    if sound == bytes {
        return;
    }
    fs::write(path, bytes).unwrap();
    assert!(&answers(directory, end) == expected, "{} with {} bytes", path.display(), bytes.len());
    fs::write(path, sound).unwrap();
}

#[test]
fn an_index_that_lost_its_last_entries_is_completed() {
    let directory = tempfile::tempdir().unwrap();
    let end = filled(directory.path(), 1);
    let expected = answers(directory.path(), end);
    for (suffix, entry_bytes) in [("index", 8), ("timeindex", 12)] {
        for path in files(directory.path(), suffix) {
            let sound = fs::read(&path).unwrap();
            for length in (0..sound.len()).step_by(entry_bytes) {
                spoil(&path, &sound[..length], directory.path(), &expected, end);
            }
        }
    }
}

#[test]
fn indexes_of_another_segment_or_another_log_are_not_believed() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let end = filled(directory.path(), 1);
    filled(other.path(), 2);
    let expected = answers(directory.path(), end);
    for suffix in ["index", "timeindex"] {
        let own = files(directory.path(), suffix);
        let foreign = [own.clone(), files(other.path(), suffix)].concat();
        for (path, from) in own.iter().flat_map(|path| foreign.iter().map(move |from| (path, from))) {
            spoil(path, &fs::read(from).unwrap(), directory.path(), &expected, end);
        }
    }
}

/// Three batches, fewer bytes than an index interval: the second is the youngest.
fn short(directory: &Path) -> PathBuf {
    let (log, _) = open(directory, LogConfig::default(), LastStop::Clean);
    for time in [10, 30, 20] {
        append(&log, &batch_at(NOW_MS + time, &["x"])).unwrap();
    }
    log.close(true).unwrap();
    partition(directory).join("00000000000000000000.timeindex")
}

fn time_entry(timestamp: i64, offset: i32) -> Vec<u8> {
    [&timestamp.to_be_bytes()[..], &offset.to_be_bytes()].concat()
}

#[test]
fn the_only_entry_of_a_time_index_is_compared_with_the_batches() {
    let directory = tempfile::tempdir().unwrap();
    let path = short(directory.path());
    let sound = time_entry(NOW_MS + 30, 1);
    assert_eq!(fs::read(&path).unwrap(), sound);
    let wrong = [(NOW_MS + 20, 2), (NOW_MS + 40, 1), (NOW_MS + 30, 0), (NOW_MS + 10, 0), (i64::MAX, 2)];
    let wrong = wrong.map(|(timestamp, offset)| time_entry(timestamp, offset));
    for bytes in [sound.clone(), Vec::new(), vec![0; 5]].into_iter().chain(wrong) {
        for last_stop in [LastStop::Clean, LastStop::ProcessDied] {
            fs::write(&path, &bytes).unwrap();
            let log = open_after(directory.path(), LogConfig::default(), last_stop, 3);
            let found = |time| log.offset_for_timestamp(NOW_MS + time, 3).unwrap().map(|it| it.offset);
            assert_eq!([0, 11, 30, 31].map(found), [Some(0), Some(1), Some(1), None], "{bytes:?}");
            log.close(true).unwrap();
            assert_eq!(fs::read(&path).unwrap(), sound, "{bytes:?}");
        }
    }
}

#[test]
fn a_log_that_nobody_uses_is_not_written_to_by_a_start_and_a_stop() {
    let directory = tempfile::tempdir().unwrap();
    short(directory.path());
    let written = || -> Vec<_> {
        let entries = fs::read_dir(partition(directory.path())).unwrap().map(|it| it.unwrap());
        let mut found: Vec<_> =
            entries.map(|it| (it.file_name(), it.metadata().unwrap().modified().unwrap())).collect();
        found.sort();
        found
    };
    let before = written();
    // longer than the clock of the file system takes for a step
    std::thread::sleep(std::time::Duration::from_millis(30));
    open_after(directory.path(), LogConfig::default(), LastStop::Clean, 3).close(true).unwrap();
    assert_eq!(written(), before);
}

#[test]
fn both_indexes_of_two_segments_that_changed_places_are_built_anew() {
    let directory = tempfile::tempdir().unwrap();
    let end = filled(directory.path(), 1);
    let expected = answers(directory.path(), end);
    let bases: Vec<_> = files(directory.path(), "log").iter().map(|path| path.with_extension("")).collect();
    for pair in bases.windows(2) {
        let both = |path: &Path| ["index", "timeindex"].map(|suffix| path.with_extension(suffix));
        for (first, second) in both(&pair[0]).into_iter().zip(both(&pair[1])) {
            let (one, two) = (fs::read(&first).unwrap(), fs::read(&second).unwrap());
            fs::write(&first, two).unwrap();
            fs::write(&second, one).unwrap();
        }
        assert!(answers(directory.path(), end) == expected, "{pair:?}");
    }
}

/// Small segments with transactions, some of which were aborted.
fn transactional(directory: &Path, seed: u64) -> (Model, i64) {
    let (log, _) = open(directory, uncompacted(), LastStop::Clean);
    let (mut model, mut random) = (Model::default(), Random(seed));
    for _ in 0..40 {
        model.append(&log, &mut random);
    }
    log.close(true).unwrap();
    (model, log.log_end_offset())
}

fn uncompacted() -> LogConfig {
    LogConfig { cleanup_compact: false, cleanup_delete: true, ..compacted() }
}

/// The aborted transactions that readers of parts of the log are told of.
fn aborted(log: &Log) -> BTreeSet<(i64, i64, i64)> {
    let key = |txn: AbortedTxn| (txn.producer_id, txn.first_offset, txn.last_offset);
    log.aborted_transactions(0, log.log_end_offset()).unwrap().into_iter().map(key).collect()
}

#[test]
fn whatever_a_transaction_index_says_aborted_records_stay_hidden_and_others_do_not() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (model, end) = transactional(directory.path(), 1);
    transactional(other.path(), 2);
    let own = files(directory.path(), "txnindex");
    assert!(own.len() > 2, "{own:?}");
    let sound: Vec<_> = own.iter().map(|path| fs::read(path).unwrap()).collect();
    let expected = aborted(&open_after(directory.path(), uncompacted(), LastStop::Clean, end));
    let foreign: Vec<_> =
        files(other.path(), "txnindex").iter().map(|path| fs::read(path).unwrap()).collect();
    let list = partition(directory.path()).join("aborted-transactions-checkpoint");
    let noted = fs::read(&list).unwrap();
    for (number, path) in own.iter().enumerate() {
        let mut spoilt = [sound.clone(), foreign.clone()].concat();
        spoilt.extend((0..sound[number].len()).step_by(34).map(|length| sound[number][..length].to_vec()));
        for bytes in spoilt {
            fs::write(path, &bytes).unwrap();
            let log = open_after(directory.path(), uncompacted(), LastStop::Clean, end);
            let from = read_committed(&log, end / 2);
            assert_eq!(from, model.committed_from(end / 2), "{} with {} bytes", path.display(), bytes.len());
            assert_eq!(read_committed(&log, 0), model.committed_from(0));
            assert_eq!(aborted(&log), expected);
            log.close(true).unwrap();
            assert_eq!(fs::read(path).unwrap(), sound[number], "it is built anew");
            assert_eq!(fs::read(&list).unwrap(), noted);
        }
        fs::remove_file(path).unwrap();
        let log = open_after(directory.path(), uncompacted(), LastStop::Clean, end);
        assert_eq!(read_committed(&log, 0), model.committed_from(0), "without {}", path.display());
        log.close(true).unwrap();
        assert_eq!(fs::read(path).unwrap(), sound[number], "it is built anew");
    }
}

#[test]
fn a_transaction_index_of_which_nothing_is_noted_is_compared_with_the_batches() {
    let directory = tempfile::tempdir().unwrap();
    let (model, end) = transactional(directory.path(), 1);
    let own = files(directory.path(), "txnindex");
    let list = partition(directory.path()).join("aborted-transactions-checkpoint");
    let sound: Vec<_> = own.iter().map(|path| fs::read(path).unwrap()).collect();
    for (number, path) in own.iter().enumerate() {
        // as Kafka leaves a directory, or a broker before this list
        fs::remove_file(&list).unwrap();
        fs::write(path, &sound[(number + 1) % own.len()]).unwrap();
        let log = open_after(directory.path(), uncompacted(), LastStop::Clean, end);
        assert_eq!(read_committed(&log, 0), model.committed_from(0), "{}", path.display());
        log.close(true).unwrap();
        assert_eq!(fs::read(path).unwrap(), sound[number]);
    }
}

#[test]
fn the_cleaner_does_not_go_by_a_transaction_index_that_lost_entries() {
    let directory = tempfile::tempdir().unwrap();
    let (model, end) = transactional(directory.path(), 3);
    for path in files(directory.path(), "txnindex") {
        fs::write(path, b"").unwrap();
    }
    let log = open_after(directory.path(), compacted(), LastStop::Clean, end);
    clean_at(&log, 0, NOW_MS);
    model.compare(&log);
}

/// Three epochs over several segments.
fn with_epochs(directory: &Path) -> i64 {
    let (log, _) = open(directory, config(), LastStop::Clean);
    for (epoch, end) in [(2, 40), (4, 90), (7, 140)] {
        while log.log_end_offset() < end {
            let value = format!("value-{}", log.log_end_offset());
            log.append(&batch(&[&value]), epoch, NOW_MS, Default::default()).unwrap();
        }
    }
    log.close(true).unwrap();
    log.log_end_offset()
}

#[test]
fn leader_epochs_of_another_log_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let end = with_epochs(directory.path());
    let path = partition(directory.path()).join("leader-epoch-checkpoint");
    let told = |log: &Log| (-1..10).map(|epoch| log.end_offset_for_epoch(epoch).unwrap()).collect::<Vec<_>>();
    let sound = fs::read_to_string(&path).unwrap();
    assert_eq!(sound, "0\n3\n2 0\n4 40\n7 90\n");
    let expected = told(&open_after(directory.path(), config(), LastStop::Clean, end));
    for foreign in [
        "0\n1\n7 0\n",
        "0\n1\n2 0\n",
        "0\n2\n2 0\n7 90\n",
        "0\n3\n2 0\n4 41\n7 90\n",
        "0\n3\n2 0\n4 40\n7 91\n",
        "0\n3\n1 0\n4 40\n7 90\n",
        "0\n3\n2 0\n4 10\n7 20\n",
        "0\n3\n2 0\n5 40\n7 90\n",
        "0\n4\n2 0\n4 40\n7 90\n9 120\n",
        "0\n2\n2 0\n4 40\n",
        "0\n1\n31 100\n",
    ] {
        fs::write(&path, foreign).unwrap();
        let log = open_after(directory.path(), config(), LastStop::Clean, end);
        assert_eq!(told(&log), expected, "{foreign:?}");
        assert_eq!(values(&log), expected_values(end));
        log.close(true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), sound, "{foreign:?}");
    }
}

#[test]
fn epochs_of_a_log_whose_first_records_were_deleted_are_its_own() {
    for (start, told) in [(40, "0\n2\n4 40\n7 90\n"), (57, "0\n2\n4 57\n7 90\n"), (140, "0\n1\n7 140\n")] {
        let directory = tempfile::tempdir().unwrap();
        let end = with_epochs(directory.path());
        let path = partition(directory.path()).join("leader-epoch-checkpoint");
        let log = open_after(directory.path(), config(), LastStop::Clean, end);
        assert_eq!(log.delete_records(start).unwrap(), start);
        let answers =
            |log: &Log| (1..9).map(|epoch| log.end_offset_for_epoch(epoch).unwrap()).collect::<Vec<_>>();
        let before = answers(&log);
        log.close(true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), told);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        let options = LogOptions {
            log_start_offset: start,
            recovery_point: end,
            high_watermark: end,
            ..options(config(), LastStop::Clean)
        };
        let (log, _) = Log::open(&storage(directory.path()), options, NOW_MS).unwrap();
        assert_eq!(answers(&log), before);
        assert_eq!(fs::read_to_string(&path).unwrap(), told);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "from {start} on");
    }
}

fn expected_values(end: i64) -> Vec<(i64, String)> {
    expected(0, end)
}

/// A log in which a producer wrote so many batches of one record.
fn sequences(directory: &Path, producer_id: i64, count: i32) -> i64 {
    let (log, _) = open(directory, config(), LastStop::Clean);
    for sequence in 0..count {
        append(&log, &idempotent(producer_id, 0, sequence, "some value to fill segments")).unwrap();
    }
    log.close(true).unwrap();
    log.log_end_offset()
}

#[test]
fn producers_of_another_log_are_not_believed() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let end = sequences(directory.path(), 9, 120);
    // the same producer got further there: what is new here would pass for old
    sequences(other.path(), 9, 60);
    let (log, _) = open(other.path(), config(), LastStop::Clean);
    let mut builder = Builder::new().producer(9, 0, 60);
    for _ in 0..64 {
        builder.append(NOW_MS, None, Some(b"v"));
    }
    append(&log, &builder.seal(Compression::None).unwrap()).unwrap();
    log.close(true).unwrap();
    let newest = files(directory.path(), "snapshot").pop().unwrap();
    let foreign = files(other.path(), "snapshot").pop().unwrap();
    fs::copy(foreign, newest).unwrap();
    let log = open_after(directory.path(), config(), LastStop::Clean, end);
    let new = append(&log, &idempotent(9, 0, 120, "v")).unwrap();
    assert!(!new.duplicate);
    assert_eq!(new.base_offset, end);
    assert!(append(&log, &idempotent(9, 0, 119, "some value to fill segments")).unwrap().duplicate);
}

#[test]
fn snapshots_that_changed_places_are_not_believed() {
    let directory = tempfile::tempdir().unwrap();
    let end = sequences(directory.path(), 9, 150);
    let all = files(directory.path(), "snapshot");
    let sound: Vec<_> = all.iter().map(|path| fs::read(path).unwrap()).collect();
    for other in sound.iter().take(all.len() - 1) {
        // nothing but one of another offset is left
        for path in &all {
            let _gone = fs::remove_file(path);
        }
        fs::write(all.last().unwrap(), other).unwrap();
        let log = open_after(directory.path(), config(), LastStop::Clean, end);
        assert!(append(&log, &idempotent(9, 0, 149, "some value to fill segments")).unwrap().duplicate);
        let refused = append(&log, &idempotent(9, 0, 152, "v")).unwrap_err();
        assert_eq!(refused.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    // and the other way round: a later one in the place of an earlier
    fs::write(&all[0], sound.last().unwrap()).unwrap();
    let _gone = fs::remove_file(all.last().unwrap());
    let log = open_after(directory.path(), config(), LastStop::Clean, end);
    assert_eq!(append(&log, &idempotent(9, 0, 150, "v")).unwrap().base_offset, end);
}

#[test]
fn a_log_start_beyond_the_end_deletes_nothing_after_a_clean_stop() {
    for (last_stop, may_be) in
        [(LastStop::Clean, false), (LastStop::ProcessDied, true), (LastStop::MachineDied, true)]
    {
        let directory = tempfile::tempdir().unwrap();
        let (log, _) = open(directory.path(), config(), LastStop::Clean);
        fill(&log, 100);
        log.close(true).unwrap();
        let before: Vec<_> = files(directory.path(), "log");
        let options = LogOptions {
            log_start_offset: 5000,
            recovery_point: 100,
            high_watermark: 100,
            ..options(config(), last_stop)
        };
        match Log::open(&storage(directory.path()), options, NOW_MS) {
            Ok((log, _)) => {
                assert!(may_be, "{last_stop:?}");
                assert_eq!((log.log_start_offset(), log.log_end_offset()), (5000, 5000));
            }
            Err(error) => {
                assert!(!may_be && matches!(error, LogError::BadFile { .. }), "{last_stop:?}: {error}");
                let said = error.to_string();
                for words in ["log-start-offset-checkpoint", "starts at offset 5000", "ends at 100", "t-0"] {
                    assert!(said.contains(words), "{said}");
                }
                assert_eq!(files(directory.path(), "log"), before);
                let log = open_after(directory.path(), config(), LastStop::Clean, 100);
                assert_eq!(values(&log), expected(0, 100));
            }
        }
    }
}

const YEAR_MS: i64 = 365 * 24 * 3_600_000;

/// As many segments as one each of `times`, committed.
fn dated(directory: &Path, times: &[i64]) -> Log {
    let retention = LogConfig {
        segment_bytes: 130,
        retention_ms: 7 * 24 * 3_600_000,
        timestamp_after_max_ms: i64::MAX,
        ..config()
    };
    let (log, _) = open(directory, retention, LastStop::Clean);
    for time in times {
        append(&log, &batch_at(*time, &["a value that takes a good part of the segment"])).unwrap();
    }
    log.advance_high_watermark(log.log_end_offset());
    assert_eq!(log.segment_count(), times.len());
    log
}

#[test]
fn a_clock_that_was_set_back_deletes_nothing_and_purges_what_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let log = dated(directory.path(), &[NOW_MS - YEAR_MS / 2, NOW_MS, NOW_MS + 1, NOW_MS + 2]);
    assert_eq!(log.enforce_retention(NOW_MS).unwrap(), 1);
    assert_eq!(log.purge_deleted(NOW_MS + 1).unwrap(), 0, "readers have file.delete.delay.ms");
    assert_eq!(log.enforce_retention(NOW_MS - YEAR_MS).unwrap(), 0);
    assert_eq!(log.purge_deleted(NOW_MS - YEAR_MS).unwrap(), 1, "not in a year");
    assert!(files(directory.path(), "deleted").is_empty());
    assert_eq!(log.log_start_offset(), 1);
    // what is written meanwhile is as old as the clock says, and stays as long
    append(&log, &batch_at(NOW_MS - YEAR_MS, &["a value that takes a good part of the segment"])).unwrap();
    assert_eq!(log.enforce_retention(NOW_MS - YEAR_MS + 5).unwrap(), 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (1, 5));
}

#[test]
fn records_of_1970_are_old_and_those_of_2100_keep_all_behind_them() {
    let directory = tempfile::tempdir().unwrap();
    let year_2100 = 4_102_444_800_000;
    let log = dated(directory.path(), &[0, 1, year_2100, NOW_MS - YEAR_MS, NOW_MS]);
    assert_eq!(log.enforce_retention(NOW_MS).unwrap(), 2);
    assert_eq!(log.enforce_retention(NOW_MS + YEAR_MS).unwrap(), 0);
    assert_eq!(log.log_start_offset(), 2);
    assert_eq!(log.enforce_retention(year_2100 + YEAR_MS).unwrap(), 3);
    // files dated otherwise say nothing
    let (log, _) = open(directory.path(), config(), LastStop::ProcessDied);
    assert_eq!(log.enforce_retention(NOW_MS).unwrap(), 0);
}
