//! A copy of a log that takes its place, while the log is appended to, cut, cleaned, mended and loses its front.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::{few_cases, marker};
use crate::scrub::{fetched, scrub};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{CleanerLimits, Commit, FutureLog, LastStop, Log, LogConfig, LogOptions, Storage, Unpaced};
use fastlog_protocol::batch::{Attributes, Builder};
use fastlog_protocol::compression::Compression;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Abort,
    Truncate(i64),
    DeleteRecords(i64),
    Retain,
    Clean,
    Flush,
    /// So many pieces of the copy's work.
    Copy(usize),
    HandOver,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1usize..20).prop_map(Step::Append),
        1 => Just(Step::Abort),
        2 => (0i64..30).prop_map(Step::Truncate),
        1 => (0i64..30).prop_map(Step::DeleteRecords),
        1 => Just(Step::Retain),
        1 => Just(Step::Clean),
        1 => Just(Step::Flush),
        6 => (1usize..6).prop_map(Step::Copy),
        2 => Just(Step::HandOver),
    ]
}

fn settings() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        cleanup_compact: true,
        cleanup_delete: true,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

/// What a reader sees.
fn seen(log: &Log) -> (i64, i64, Vec<(i64, String)>, usize) {
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    let aborted = log.aborted_transactions(start, end).unwrap().len();
    (start, end, values(log), aborted)
}

fn opened(storage: &Arc<Storage>, log: Option<&Log>) -> Log {
    let of = |offset: fn(&Log) -> i64| log.map_or(0, offset);
    let options = LogOptions {
        recovery_point: of(Log::recovery_point),
        log_start_offset: of(Log::log_start_offset),
        high_watermark: of(Log::high_watermark),
        ..options(settings(), if log.is_some() { LastStop::ProcessDied } else { LastStop::Clean })
    };
    Log::open(storage, options, NOW_MS).unwrap().0
}

/// A batch of one record.
fn keyed(key: &str, value: &str) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.append(NOW_MS, Some(key.as_bytes()), Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

/// A transaction of one record that is aborted.
fn abort(log: &Log, producer_id: i64) {
    let mut builder =
        Builder::new().producer(producer_id, 0, 0).attributes(Attributes::default().with_transactional(true));
    builder.append(NOW_MS, Some(b"k"), Some(b"aborted"));
    append(log, &builder.seal(Compression::None).unwrap()).unwrap();
    marker(log, producer_id, 0, false);
}

fn run(steps: &[Step], seed: u64) {
    let files = MemoryFileSystem::new(seed);
    let storages = ["/a", "/b"].map(|path| Storage::new(Arc::new(files.clone()), PathBuf::from(path), 8));
    let mut at = 0;
    let mut log = opened(&storages[0], None);
    let mut future: Option<FutureLog> = None;
    let (mut number, mut cleaned) = (0_i64, 0);
    for step in steps {
        let before = seen(&log);
        match step {
            Step::Append(count) => {
                for _ in 0..*count {
                    let key = format!("k{}", number % 7);
                    number += 1;
                    append(&log, &keyed(&key, &format!("v{number}-{}", "x".repeat(60)))).unwrap();
                }
                log.advance_high_watermark(log.log_end_offset());
            }
            Step::Abort => {
                number += 1;
                abort(&log, number);
                log.advance_high_watermark(log.log_end_offset());
            }
            Step::Truncate(back) => {
                let to = (log.log_end_offset() - back).max(0);
                log.truncate_to(to, NOW_MS, || Ok(())).unwrap();
            }
            Step::DeleteRecords(back) => {
                let to = (log.high_watermark() - back).max(log.log_start_offset());
                log.delete_records(to).unwrap();
            }
            Step::Retain => {
                log.enforce_retention(NOW_MS).unwrap();
                log.purge_deleted(NOW_MS).unwrap();
            }
            Step::Clean => {
                let done = log.clean(log.log_start_offset(), CleanerLimits::default(), &Unpaced, NOW_MS);
                cleaned = done.unwrap().map_or(cleaned, |done| done.end_offset.max(cleaned));
            }
            Step::Flush => assert_eq!(log.flush().unwrap(), log.log_end_offset()),
            Step::Copy(pieces) => {
                let target = &storages[1 - at];
                let copy = future.get_or_insert_with(|| FutureLog::begin(&log, target).unwrap());
                for _ in 0..*pieces {
                    log.copy_next(copy).unwrap();
                }
                assert_eq!(seen(&log), before);
            }
            Step::HandOver => {
                let Some(copy) = &mut future else { continue };
                while !log.copy_next(copy).unwrap() {}
                // all but the active segment is there
                let mut hand_over = log.hand_over(copy).unwrap().unwrap();
                let Commit::Moved(mut handed) = hand_over.commit() else { panic!("it was not moved") };
                drop(hand_over);
                handed.sync();
                assert!(handed.left.is_none());
                assert!(handed.old_directory.starts_with(["/a", "/b"][at]));
                (at, future) = (1 - at, None);
                assert_eq!(log.directory(), Path::new(["/a", "/b"][at]).join("t-0"));
                assert_eq!(log.recovery_point(), log.log_end_offset());
                assert_eq!(seen(&log), before, "nothing changes by it");
                // and so for who opens it again, which the next steps do
                let again = opened(&storages[at], Some(&log));
                assert_eq!(seen(&again), before);
                assert_eq!(again.producers().unwrap(), log.producers().unwrap());
                // one without records is told an epoch by what lies below its start, moved or not
                if log.log_start_offset() < log.log_end_offset() {
                    assert_eq!(again.epochs(), log.epochs());
                }
                log = again;
            }
        }
    }
}

proptest! {
    #![proptest_config(few_cases(32))]

    #[test]
    fn whatever_goes_on_meanwhile_the_copy_is_the_log(
        steps in prop::collection::vec(a_step(), 1..60), seed in any::<u64>(),
    ) {
        run(&steps, seed);
    }
}

proptest! {
    #![proptest_config(few_cases(1_000))]

    #[test]
    #[ignore = "the long form"]
    fn whatever_goes_on_meanwhile_the_copy_is_the_log_many_times(
        steps in prop::collection::vec(a_step(), 1..60), seed in any::<u64>(),
    ) {
        run(&steps, seed);
    }
}

/// A log of the default settings on the first of two disks, with a copy on the other one that is near.
fn near(disks: &[MemoryFileSystem; 2], config: LogConfig) -> (Log, FutureLog) {
    let [first, second] = ["/a", "/b"].map(PathBuf::from);
    let first = Storage::new(Arc::new(disks[0].clone()), first, 8);
    let second = Storage::new(Arc::new(disks[1].clone()), second, 8);
    let log = Log::open(&first, options(config, LastStop::Clean), NOW_MS).unwrap().0;
    fill(&log, 20);
    let mut copy = FutureLog::begin(&log, &second).unwrap();
    while !log.copy_next(&mut copy).unwrap() {}
    (log, copy)
}

#[test]
fn a_log_stands_still_for_one_sync_of_batches() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let (log, mut copy) = near(&disks, LogConfig { index_interval_bytes: 100, ..LogConfig::default() });
    fill(&log, 40);
    let before = disks.each_ref().map(MemoryFileSystem::syncs);
    let mut hand_over = log.hand_over(&mut copy).unwrap().unwrap();
    let Commit::Moved(_handed) = hand_over.commit() else { panic!("it was not moved") };
    drop(hand_over);
    assert_eq!(disks.each_ref().map(MemoryFileSystem::syncs), [before[0], before[1] + 1]);
    assert_eq!((log.directory(), values(&log)), (PathBuf::from("/b/t-0"), expected(0, 40)));
}

#[test]
fn more_may_come_meanwhile_after_each_try() {
    // of two megabytes each
    let big = |count: usize, log: &Log| {
        for _ in 0..count {
            append(log, &batch(&[&"v".repeat(1 << 20), &"w".repeat(1 << 20)])).unwrap();
        }
    };
    let config = LogConfig { segment_bytes: 5 << 20, max_message_bytes: 4 << 20, ..LogConfig::default() };
    let disks = [1, 2].map(MemoryFileSystem::new);
    let (log, mut copy) = near(&disks, config);
    // the segment that takes appends is another one at each try
    for tries in 0.. {
        big(3, &log);
        let Some(mut hand_over) = log.hand_over(&mut copy).unwrap() else {
            assert!(tries < 6, "so much may come by now");
            while !log.copy_next(&mut copy).unwrap() {}
            continue;
        };
        assert!(tries > 0, "much is not copied while the log stands still");
        assert!(matches!(hand_over.commit(), Commit::Moved(_)));
        break;
    }
    let end = log.log_end_offset();
    assert_eq!(values_below(&log, 0, end, 9 << 20).unwrap().len() as i64, end);
    let copy = opened(&log.storage(), Some(&log));
    assert_eq!(values_below(&copy, 0, end, 9 << 20).unwrap().len() as i64, end);
}

#[test]
fn a_log_may_be_cut_while_it_is_read_for_the_copy() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let (log, mut copy) = near(&disks, LogConfig::default());
    for _ in 0..8 {
        append(&log, &batch(&[&"v".repeat(100_000)])).unwrap();
    }
    disks[0].set_faults(Faults { hold_reads: true, ..Faults::default() });
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| log.copy_next(&mut copy));
        while disks[0].held() == 0 {
            assert!(!copying.is_finished(), "it reads from the log's disk");
            std::thread::yield_now();
        }
        log.truncate_to(10, NOW_MS, || Ok(())).unwrap();
        disks[0].stop_holding();
        assert!(!copying.join().unwrap().unwrap(), "it goes on");
    });
    fill(&log, 30);
    while !log.copy_next(&mut copy).unwrap() {}
    let mut hand_over = log.hand_over(&mut copy).unwrap().unwrap();
    assert!(matches!(hand_over.commit(), Commit::Moved(_)));
    drop(hand_over);
    assert_eq!((log.directory(), values(&log)), (PathBuf::from("/b/t-0"), expected(0, 30)));
}

#[test]
fn a_copy_that_is_begun_while_bytes_are_mended_has_the_mended_ones() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let (good, _) = near(&[3, 4].map(MemoryFileSystem::new), config());
    let (log, copy) = near(&disks, config());
    copy.remove().unwrap();
    for log in [&good, &log] {
        fill(log, 100);
        log.advance_high_watermark(100);
        log.flush().unwrap();
    }
    let file = Path::new("/a/t-0/00000000000000000000.log");
    assert!(disks[0].corrupt(file, 70));
    assert_eq!(scrub(&log).len(), 1);
    let range = log.damaged_ranges().unwrap().remove(0);
    let slice =
        good.read(range.offset, usize::try_from(range.bytes).unwrap(), range.next_offset, true).unwrap();
    let records = bytes_of(&slice.unwrap());

    let mut copy = FutureLog::begin(&log, &Storage::new(Arc::new(disks[1].clone()), "/b".into(), 8)).unwrap();
    disks[0].set_faults(Faults { hold_writes: true, ..Faults::default() });
    std::thread::scope(|scope| {
        let mender = scope.spawn(|| log.mend(range.offset, &records, NOW_MS));
        while disks[0].held() == 0 {
            assert!(!mender.is_finished(), "it is to write");
            std::thread::yield_now();
        }
        // as near as it comes
        while !log.copy_next(&mut copy).unwrap() {}
        disks[0].stop_holding();
        mender.join().unwrap().unwrap();
    });
    loop {
        while !log.copy_next(&mut copy).unwrap() {}
        if let Some(mut hand_over) = log.hand_over(&mut copy).unwrap() {
            assert!(matches!(hand_over.commit(), Commit::Moved(_)));
            break;
        }
    }
    assert_eq!((log.directory(), values(&log)), (PathBuf::from("/b/t-0"), expected(0, 100)));
}

#[test]
fn a_log_of_which_the_disk_cannot_read_a_page_is_moved_and_mended_there() {
    let disks = [1, 2].map(MemoryFileSystem::new);
    let (good, _) = near(&[3, 4].map(MemoryFileSystem::new), config());
    let (log, copy) = near(&disks, config());
    copy.remove().unwrap();
    for log in [&good, &log] {
        fill(log, 200);
        log.advance_high_watermark(200);
        log.flush().unwrap();
    }
    assert!(log.segment_count() > 2);
    assert!(disks[0].make_unreadable(Path::new("/a/t-0/00000000000000000000.log"), 70));
    let mut copy = FutureLog::begin(&log, &Storage::new(Arc::new(disks[1].clone()), "/b".into(), 8)).unwrap();
    while !log.copy_next(&mut copy).unwrap() {}
    let mut hand_over = log.hand_over(&mut copy).unwrap().unwrap();
    assert!(matches!(hand_over.commit(), Commit::Moved(_)));
    drop(hand_over);
    assert_eq!(log.directory(), PathBuf::from("/b/t-0"));
    let ranges = log.damaged_ranges().unwrap();
    let (first, last) = (ranges.first().unwrap(), ranges.last().unwrap());
    assert_eq!(first.offset, 0);
    assert!(log.read(0, 1, 200, true).is_err(), "nobody is given zeros");
    assert_eq!(values_below(&log, last.next_offset, 200, 700).unwrap(), expected(last.next_offset, 200));
    // also for who opens it again
    let again = opened(&log.storage(), Some(&log));
    assert!(again.read(0, 1, 200, true).is_err());
    for range in &ranges {
        log.mend(range.offset, &fetched(&good, range), NOW_MS).unwrap();
    }
    assert_eq!(values(&log), expected(0, 200));
}
