//! A copy of a log that takes its place, while the log is appended to, cut, cleaned, mended and loses its front.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::{few_cases, marker};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{CleanerLimits, FutureLog, LastStop, Log, LogConfig, LogOptions, Storage, Unpaced};
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
                let handed = hand_over.commit().unwrap();
                drop(hand_over);
                assert!(handed.left.is_none());
                assert!(handed.old_directory.starts_with(["/a", "/b"][at]));
                (at, future) = (1 - at, None);
                assert_eq!(log.directory(), Path::new(["/a", "/b"][at]).join("t-0"));
                assert_eq!(log.recovery_point(), log.log_end_offset());
                assert_eq!(seen(&log), before, "nothing changes by it");
                // and so for who opens it again, which the next steps do
                let again = opened(&storages[at], Some(&log));
                assert_eq!(seen(&again), before);
                assert_eq!(again.producers(), log.producers());
                assert_eq!(again.epochs(), log.epochs());
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
