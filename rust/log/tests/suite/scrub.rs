//! Bytes that turn at rest: the scrub finds them, nobody is given them as a record, and another copy mends them.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::common::*;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{
    DamagedRange, FileSystem, LastStop, Log, LogConfig, LogError, LogOptions, Pace, Storage, Unpaced,
};
use fastlog_protocol::ErrorCode;
use proptest::prelude::*;

/// Records of each log here, one a batch; all batches are of the same size.
const END: i64 = 100;
/// A record, and its batch, in the middle of a segment.
const BAD: i64 = 40;

pub(crate) struct Copy {
    pub(crate) files: MemoryFileSystem,
    pub(crate) storage: Arc<Storage>,
    pub(crate) log: Log,
}

impl Copy {
    pub(crate) fn new(config: &LogConfig) -> Self {
        Self::of(config, 7, |offset| batch(&[&value(offset)]))
    }

    fn of(config: &LogConfig, seed: u64, batch: impl Fn(i64) -> Vec<u8>) -> Self {
        let files = MemoryFileSystem::new(seed);
        let storage = storage_of(&files);
        let (log, _) = Log::open(&storage, options(config.clone(), LastStop::Clean), NOW_MS).unwrap();
        log.start_epoch(0).unwrap();
        while log.log_end_offset() < END {
            append(&log, &batch(log.log_end_offset())).unwrap();
        }
        log.advance_high_watermark(END);
        Self { files, storage, log }
    }

    /// Flips a byte `at` bytes behind the start of the batch of a record.
    fn flip(&self, offset: i64, at: u64) {
        let slice = self.log.read(offset, 1, i64::MAX, true).unwrap().unwrap();
        let path = PathBuf::from(format!("/data/t-0/{:020}.log", slice.segment_base_offset));
        let position = usize::try_from(slice.position + at).unwrap();
        assert!(self.files.corrupt(&path, position));
    }

    /// The log as it is after another start.
    pub(crate) fn reopened(self, config: &LogConfig, last_stop: LastStop) -> Self {
        let Self { files, storage, log } = self;
        if last_stop == LastStop::Clean {
            log.close(true).unwrap();
        }
        let recovery_point = log.recovery_point();
        drop((log, storage));
        let storage = storage_of(&files);
        let options =
            LogOptions { recovery_point, high_watermark: END, ..options(config.clone(), last_stop) };
        let (log, _) = Log::open(&storage, options, NOW_MS).unwrap();
        Self { files, storage, log }
    }

    pub(crate) fn refused(&self, offset: i64) -> ErrorCode {
        self.log.read(offset, 1 << 20, i64::MAX, true).unwrap_err().code()
    }
}

fn storage_of(files: &MemoryFileSystem) -> Arc<Storage> {
    Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), 64)
}

pub(crate) fn value(offset: i64) -> String {
    format!("value-{offset:05}")
}

pub(crate) fn wanted(from: i64, end: i64) -> Vec<(i64, String)> {
    (from..end).map(|offset| (offset, value(offset))).collect()
}

/// Goes over the whole log; what was found.
pub(crate) fn scrub(log: &Log) -> Vec<LogError> {
    let (mut damages, mut from) = (Vec::new(), Some(0));
    while let Some(next) = from {
        // the last one may have gone since the one before told of it
        let Some(scrubbed) = log.scrub_segment(next, &Unpaced).unwrap() else { break };
        damages.extend(scrubbed.damages);
        from = scrubbed.next;
    }
    damages
}

/// What another replica answers to a fetch of the range.
pub(crate) fn fetched(other: &Log, range: &DamagedRange) -> Vec<u8> {
    let (mut bytes, mut offset) = (Vec::new(), range.offset);
    while let Some(slice) = other.read(offset, 1, range.next_offset, true).unwrap() {
        bytes.extend(bytes_of(&slice));
        offset += 1;
    }
    bytes
}

/// Places in a batch: base offset, length, leader epoch, magic, CRC, attributes, last offset delta, a record.
const PLACES: [u64; 9] = [0, 7, 9, 12, 16, 19, 22, 25, 66];

#[test]
fn what_turned_is_found_and_never_served_and_all_around_it_is() {
    for at in PLACES {
        let copy = Copy::new(&config());
        copy.flip(BAD, at);
        let found = scrub(&copy.log);
        let [LogError::Corrupt { offset, next_readable_offset, .. }] = &found[..] else {
            panic!("{at}: {found:?}")
        };
        assert_eq!((*offset, *next_readable_offset), (BAD, Some(BAD + 1)), "byte {at}");
        assert_eq!(copy.refused(BAD), ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(values_below(&copy.log, 0, BAD, 700).unwrap(), wanted(0, BAD));
        assert_eq!(values_below(&copy.log, BAD + 1, END, 700).unwrap(), wanted(BAD + 1, END));
        assert_eq!(scrub(&copy.log).len(), 0, "it is known by now");
        assert_eq!(copy.storage.damages_found(), 1);
    }
}

#[test]
fn what_the_scrub_found_is_known_after_a_clean_stop() {
    let copy = Copy::new(&config());
    copy.flip(BAD, 66);
    assert_eq!(scrub(&copy.log).len(), 1);
    let copy = copy.reopened(&config(), LastStop::Clean);
    assert_eq!(copy.refused(BAD), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(values_below(&copy.log, BAD + 1, END, 700).unwrap(), wanted(BAD + 1, END));
}

#[test]
fn a_bad_last_batch_is_not_the_end_of_the_log() {
    let copy = Copy::new(&config());
    copy.flip(END - 1, 9);
    assert_eq!(scrub(&copy.log).len(), 1);
    append(&copy.log, &batch(&[&value(END)])).unwrap();
    assert_eq!(copy.log.log_end_offset(), END + 1);
    assert_eq!(copy.refused(END - 1), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(values_below(&copy.log, END, END + 1, 700).unwrap(), wanted(END, END + 1));
}

#[test]
fn another_copy_mends_it() {
    let good = Copy::new(&config());
    for (offset, at) in PLACES.map(|at| (BAD, at)).into_iter().chain([(0, 9), (END - 1, 9), (END - 1, 66)]) {
        let copy = Copy::new(&config());
        copy.flip(offset, at);
        scrub(&copy.log);
        let ranges = copy.log.damaged_ranges().unwrap();
        let [range] = &ranges[..] else { panic!("{ranges:?}") };
        assert_eq!((range.offset, range.next_offset), (offset, offset + 1));
        assert!(range.reason.contains(".log is damaged at byte"), "{}", range.reason);
        copy.log.mend(offset, &fetched(&good.log, range), NOW_MS).unwrap();
        assert_eq!(copy.log.damaged_ranges().unwrap(), []);
        assert_eq!(values(&copy.log), wanted(0, END));
        let copy = copy.reopened(&config(), LastStop::Clean);
        assert_eq!((values(&copy.log), scrub(&copy.log).len()), (wanted(0, END), 0));
    }
}

#[test]
fn what_was_mended_is_found_by_its_time_again() {
    let config = LogConfig { index_interval_bytes: 100, ..config() };
    // now and then a record is younger than those that follow
    let time = |offset: i64| NOW_MS + offset * 10 + if offset % 7 == 5 { 55 } else { 0 };
    let made = || Copy::of(&config, 7, |offset| batch_at(time(offset), &[&value(offset)]));
    let good = made();
    for last_stop in [LastStop::Clean, LastStop::ProcessDied] {
        for bad in [0, 1, BAD, BAD + 1, 89, 90, 91, 96, END - 2] {
            let copy = made();
            copy.log.flush().unwrap();
            copy.flip(bad, 66);
            scrub(&copy.log);
            let mut copy = copy.reopened(&config, last_stop);
            // whoever asks before it is mended has all indexes loaded
            copy.log.max_timestamp(END).unwrap();
            for range in copy.log.damaged_ranges().unwrap() {
                copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap();
            }
            for again in [last_stop, LastStop::Clean, LastStop::MachineDied] {
                for target in (0..END).flat_map(|offset| [time(offset) - 1, time(offset)]) {
                    let found = copy.log.offset_for_timestamp(target, END).unwrap().unwrap();
                    let wanted = (0..END).find(|offset| time(*offset) >= target).unwrap();
                    assert_eq!(
                        found.offset, wanted,
                        "{bad} was bad, {target} after {last_stop:?}, {again:?}"
                    );
                }
                copy = copy.reopened(&config, again);
            }
        }
    }
}

#[test]
fn damage_that_recovery_found_is_mended_and_the_producers_are_known_again() {
    let config = LogConfig { segment_bytes: 1 << 20, ..config() };
    let made = || {
        let copy = Copy::new(&config);
        for sequence in 0..10 {
            append(&copy.log, &idempotent(5, 0, sequence, "x")).unwrap();
        }
        copy
    };
    let (good, copy) = (made(), made());
    copy.flip(BAD, 9);
    let copy = copy.reopened(&config, LastStop::ProcessDied);
    let ranges = copy.log.damaged_ranges().unwrap();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert_eq!(copy.log.producer_count(), 0, "nobody knows what is behind the damage");
    copy.log.mend(BAD, &fetched(&good.log, &ranges[0]), NOW_MS).unwrap();
    assert_eq!(copy.log.producer_count(), 1);
    let again = append(&copy.log, &idempotent(5, 0, 9, "x")).unwrap();
    assert_eq!(again.base_offset, END + 9, "it was there already");
    assert_eq!(copy.log.log_end_offset(), END + 10);
}

#[test]
fn what_was_not_there_does_not_mend_it() {
    let copy = Copy::new(&config());
    let good = Copy::new(&config());
    copy.flip(BAD, 66);
    scrub(&copy.log);
    let range = copy.log.damaged_ranges().unwrap().remove(0);
    let records = fetched(&good.log, &range);
    let mut flipped = records.clone();
    flipped[66] ^= 1;
    let mut of_another_epoch = records.clone();
    of_another_epoch[15] = 9;
    let longer = Copy::new(&config()).log;
    longer.truncate_to(BAD, NOW_MS, || Ok(())).unwrap();
    append(&longer, &batch(&["value-of-another-history"])).unwrap();
    let next = fetched(&good.log, &DamagedRange { offset: BAD + 1, next_offset: BAD + 2, ..range.clone() });
    for (bad, why) in [
        (flipped, "CRC"),
        (of_another_epoch, "leader epoch"),
        (fetched(&longer, &range), "bytes came for a place of"),
        (next, "0 bytes came"),
        (records[..20].to_vec(), "0 bytes came"),
        (Vec::new(), "0 bytes came"),
    ] {
        let error = copy.log.mend(BAD, &bad, NOW_MS).unwrap_err();
        assert!(matches!(error, LogError::Invalid { .. }) && error.to_string().contains(why), "{error}");
        assert_eq!(copy.log.damaged_ranges().unwrap(), std::slice::from_ref(&range));
    }
    let error = copy.log.mend(BAD + 1, &records, NOW_MS).unwrap_err();
    assert!(error.to_string().contains("no damage is known there"), "{error}");
    copy.log.mend(BAD, &records, NOW_MS).unwrap();
    assert_eq!(values(&copy.log), wanted(0, END));
}

#[test]
fn only_what_is_committed_is_mended() {
    let files = MemoryFileSystem::new(7);
    let (log, _) = Log::open(&storage_of(&files), options(config(), LastStop::Clean), NOW_MS).unwrap();
    let good = Copy::new(&config());
    log.start_epoch(0).unwrap();
    for offset in 0..END {
        append(&log, &batch(&[&value(offset)])).unwrap();
    }
    log.advance_high_watermark(BAD);
    let copy = Copy { storage: storage_of(&files), files, log };
    copy.flip(BAD, 66);
    scrub(&copy.log);
    let range = copy.log.damaged_ranges().unwrap().remove(0);
    let error = copy.log.mend(BAD, &fetched(&good.log, &range), NOW_MS).unwrap_err();
    assert!(error.to_string().contains("but only what is below 40 is known"), "{error}");
    copy.log.advance_high_watermark(BAD + 1);
    copy.log.mend(BAD, &fetched(&good.log, &range), NOW_MS).unwrap();
}

#[test]
fn a_write_that_fails_while_mending_takes_the_directory_offline_and_is_found_again() {
    let good = Copy::new(&config());
    let copy = Copy::new(&config());
    copy.log.flush().unwrap();
    copy.flip(BAD, 66);
    scrub(&copy.log);
    let range = copy.log.damaged_ranges().unwrap().remove(0);
    copy.files.set_faults(Faults { room: Some(0), short_write: Some(30), ..Faults::default() });
    let _failed_or_not = copy.log.mend(BAD, &fetched(&good.log, &range), NOW_MS);
    copy.files.set_faults(Faults::default());
    copy.files.kill_process();
    copy.files.restart_process();
    let copy = copy.reopened(&config(), LastStop::ProcessDied);
    for range in copy.log.damaged_ranges().unwrap() {
        copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap();
    }
    assert_eq!(values(&copy.log), wanted(0, END));
}

#[test]
fn what_a_dead_process_was_mending_is_good_or_known_when_the_machine_dies_too() {
    let good = Copy::new(&config());
    for (seed, calls) in (0..10).flat_map(|seed| (0..5).map(move |calls| (seed, calls))) {
        let copy = Copy::of(&config(), seed, |offset| batch(&[&value(offset)]));
        copy.log.flush().unwrap();
        copy.flip(BAD, 66);
        scrub(&copy.log);
        let range = copy.log.damaged_ranges().unwrap().remove(0);
        let die_at_call = Some(copy.files.calls() + calls);
        copy.files.set_faults(Faults { die_at_call, ..Faults::default() });
        let _dies_or_not = copy.log.mend(BAD, &fetched(&good.log, &range), NOW_MS);
        copy.files.kill_process();
        copy.files.restart_process();
        let copy = copy.reopened(&config(), LastStop::ProcessDied);
        // as the next roll does
        copy.files.sync_directory(&copy.log.directory()).unwrap();
        copy.files.restart_machine();
        let copy = copy.reopened(&config(), LastStop::MachineDied);
        for range in copy.log.damaged_ranges().unwrap() {
            copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap();
        }
        assert_eq!(values(&copy.log), wanted(0, END), "seed {seed}, died in call {calls}");
    }
}

/// Stops after so many looks.
struct Stop(AtomicU64);

impl Pace for Stop {
    fn go_on(&self, _bytes: u64) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) > 1
    }
}

#[test]
fn a_scrub_can_be_stopped_and_knows_where_the_log_ends() {
    let copy = Copy::new(&config());
    assert!(copy.log.scrub_segment(0, &Stop(1.into())).unwrap().is_none());
    assert!(copy.log.scrub_segment(0, &Stop(9.into())).unwrap().is_some());
    assert!(copy.log.scrub_segment(END + 1, &Unpaced).unwrap().is_none());
}

#[test]
fn a_log_that_is_cut_appended_to_and_flushed_meanwhile_is_never_called_damaged() {
    let copy = Copy::new(&config());
    let (log, done) = (&copy.log, AtomicBool::new(false));
    thread::scope(|scope| {
        let scrubbing = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Acquire) || rounds < 3 {
                let found = scrub(log);
                assert!(found.is_empty(), "{found:?}");
                rounds += 1;
            }
        });
        for round in 0..150_i64 {
            log.truncate_to(END - 1 - round % 30, NOW_MS, || Ok(())).unwrap();
            let long = "x".repeat(usize::try_from(round % 7).unwrap() * 50);
            while log.log_end_offset() < END {
                append(log, &batch(&[&long])).unwrap();
            }
            log.flush().unwrap();
        }
        done.store(true, Ordering::Release);
        scrubbing.join().unwrap();
    });
    assert_eq!(copy.storage.damages_found(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever bytes turn: what a reader gets is what was written, and another copy makes the log whole.
    #[test]
    fn whatever_turns_is_mended_by_another_copy(
        turned in proptest::collection::vec((0..END, 0_u64..70), 1..12),
        crashed in any::<bool>(),
    ) {
        let good = Copy::new(&config());
        let mut copy = Copy::new(&config());
        let mut places: Vec<i64> = Vec::new();
        for (offset, at) in turned {
            // headers of neighbours are all that a start has to find its way by
            if crashed && places.iter().any(|place| (place - offset).abs() < 3) {
                continue;
            }
            places.push(offset);
            // no checksum covers base offset and leader epoch, and a start has no neighbours yet to compare them with
            let at = if crashed && (at < 8 || (12..16).contains(&at)) { 16 } else { at };
            // where nothing good follows, a start does not know the log's end: it is sealed, and has no hole to mend
            let offset = if crashed { offset.min(END - 2) } else { offset };
            let slice = good.log.read(offset, 1, i64::MAX, true).unwrap().unwrap();
            let path = PathBuf::from(format!("/data/t-0/{:020}.log", slice.segment_base_offset));
            copy.files.corrupt(&path, usize::try_from(slice.position + at).unwrap());
        }
        if crashed {
            copy.log.flush().unwrap();
            copy = copy.reopened(&config(), LastStop::ProcessDied);
        }
        scrub(&copy.log);
        let mut offset = 0;
        while offset < END {
            match values_below(&copy.log, offset, offset + 1, 1 << 20) {
                Ok(found) => prop_assert_eq!(found, wanted(offset, offset + 1)),
                Err(error) => prop_assert_eq!(error.code(), ErrorCode::KAFKA_STORAGE_ERROR),
            }
            offset += 1;
        }
        for range in copy.log.damaged_ranges().unwrap() {
            copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap();
        }
        prop_assert_eq!(copy.log.damaged_ranges().unwrap(), vec![]);
        prop_assert_eq!(values(&copy.log), wanted(0, END));
    }
}
