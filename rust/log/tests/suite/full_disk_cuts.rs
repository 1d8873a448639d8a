//! Cuts of a log that a full disk breaks off at any call, and what they come to when there is room.

use std::path::PathBuf;
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::{append_as_coordinator, marker_batch};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{
    AbortedTxn, AfterTier, EpochStart, KnownProducer, LastStop, Log, LogConfig, LogError, LogOptions, Storage,
};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{Attributes, Builder};
use fastlog_protocol::compression::Compression;

/// Fewer than the files of three segments: most are opened for each use.
const OPEN_FILES_MAX: usize = 8;
const END: i64 = 40;

fn open_on(files: &MemoryFileSystem, options: LogOptions) -> (Log, Arc<Storage>) {
    let storage = Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), OPEN_FILES_MAX);
    (Log::open(&storage, options, NOW_MS).unwrap().0, storage)
}

fn small(last_stop: LastStop) -> LogOptions {
    options(LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() }, last_stop)
}

fn in_transaction(id: i64, sequence: i32) -> Vec<u8> {
    let attributes = Attributes::default().with_transactional(true);
    let mut builder = Builder::new().producer(id, 0, sequence).attributes(attributes);
    builder.append(NOW_MS, None, Some(b"in a transaction"));
    builder.seal(Compression::None).unwrap()
}

/// The batch of an offset: of a transaction that ends two offsets later, its marker, or of an idempotent producer. Every
/// seventh offset begins a leader epoch.
fn batch_of(offset: i64) -> (i32, Vec<u8>) {
    let round = offset / 4;
    let batch = match offset % 4 {
        0 => in_transaction(7, round as i32),
        2 => marker_batch(7, 0, round % 2 == 0),
        _ => idempotent(9, 0, (offset / 2) as i32, "idempotent"),
    };
    ((offset / 7) as i32, batch)
}

fn append_as_leader(log: &Log, leader_epoch: i32, batch: &[u8]) -> Result<bool, ErrorCode> {
    log.start_epoch(leader_epoch).map_err(|error| error.code())?;
    let is_marker = fastlog_protocol::batch::BatchHeader::parse(batch).unwrap().attributes.is_control();
    let appended = match is_marker {
        true => append_as_coordinator(log, batch, leader_epoch),
        false => log.append(batch, leader_epoch, NOW_MS, fastlog_log::AppendOptions::default()),
    };
    appended.map(|it| it.duplicate).map_err(|error| error.code)
}

fn filled(files: &MemoryFileSystem) -> (Log, Arc<Storage>) {
    let (log, storage) = open_on(files, small(LastStop::Clean));
    for offset in 0..END {
        let (epoch, batch) = batch_of(offset);
        assert_eq!(append_as_leader(&log, epoch, &batch), Ok(false));
    }
    log.advance_high_watermark(END - 6);
    assert!(log.segment_count() > 4);
    (log, storage)
}

/// All that anybody is told of a log.
#[derive(Debug, PartialEq)]
struct State {
    start: i64,
    stable: i64,
    high_watermark: i64,
    end: i64,
    epochs: Vec<EpochStart>,
    producers: Vec<KnownProducer>,
    aborted: Vec<AbortedTxn>,
    values: Vec<(i64, String)>,
}

fn state(log: &Log) -> State {
    let end = log.log_end_offset();
    State {
        start: log.log_start_offset(),
        stable: log.last_stable_offset(),
        high_watermark: log.high_watermark(),
        end,
        epochs: log.epochs(),
        producers: log.producers().unwrap(),
        aborted: log.aborted_transactions(0, end).unwrap(),
        values: values_below(log, log.local_log_start_offset(), end, 700).unwrap(),
    }
}

/// What is done once the disk has room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same cut.
    Cut,
    /// The replica leads, and a producer sends what it had sent: a batch that was cut, or one behind all.
    Append,
    /// A sync is waited for, as by a follower that goes on behind another leader.
    Flush,
    /// The process dies, and the cut is done after its start.
    Restart,
}

/// Breaks a cut off at each of its calls. `restarts`: a start finds all of the log by itself.
fn is_broken_off_at_any_call(restarts: bool, cut: &dyn Fn(&Log) -> Result<(), LogError>) {
    let reference = MemoryFileSystem::new(1);
    let (log, _) = filled(&reference);
    cut(&log).unwrap();
    let after_cut = state(&log);
    let last = after_cut.producers.iter().find(|it| it.producer_id == 9).map_or(-1, |it| it.last_sequence);
    let sent = idempotent(9, 0, last + 1, "idempotent");
    let after_append = (append_as_leader(&log, 50, &sent), state(&log));
    let mut broken_off = 0;
    for next in
        [Next::Cut, Next::Append, Next::Flush, Next::Restart].into_iter().take(if restarts { 4 } else { 3 })
    {
        for call in 0.. {
            let files = MemoryFileSystem::new(1);
            let (mut log, mut storage) = filled(&files);
            let first = files.calls() + call;
            files.set_faults(Faults { full_from_call: Some(first), ..Faults::default() });
            let done = cut(&log);
            let calls = files.calls() - first;
            if done.is_err() {
                broken_off += 1;
                let refused = append_as_leader(&log, 50, &sent);
                assert_eq!(refused, Err(ErrorCode::KAFKA_STORAGE_ERROR), "{next:?} {call}");
                assert!(log.last_stable_offset() <= after_cut.stable.max(after_cut.start), "{next:?} {call}");
                let promised = log.recovery_point();
                assert_eq!(log.flush().unwrap(), promised, "{next:?} {call}");
                assert!(promised <= after_cut.end);
            }
            files.set_faults(Faults::default());
            storage.check().unwrap();
            if next == Next::Restart {
                drop(log);
                files.restart_process();
                (log, storage) = open_on(&files, small(LastStop::ProcessDied));
                log.advance_high_watermark(after_cut.high_watermark);
            }
            if next == Next::Flush {
                assert_eq!(log.flush().unwrap(), after_cut.end, "{call}");
                assert_eq!(state(&log), after_cut, "{call}");
            }
            if next == Next::Append && done.is_err() && log.log_end_offset() == after_cut.end {
                assert_eq!((append_as_leader(&log, 50, &sent), state(&log)), after_append, "{call}");
            } else {
                cut(&log).unwrap();
                assert_eq!(state(&log), after_cut, "{next:?} {call}");
                assert_eq!((append_as_leader(&log, 50, &sent), state(&log)), after_append, "{next:?} {call}");
            }
            storage.check().unwrap();
            log.flush().unwrap();
            if restarts {
                drop(log);
                files.restart_process();
                let options = LogOptions {
                    log_start_offset: after_append.1.start,
                    high_watermark: after_append.1.high_watermark,
                    ..small(LastStop::ProcessDied)
                };
                let log = open_on(&files, options).0;
                assert_eq!(state(&log).values, after_append.1.values, "{next:?} {call}");
                assert_eq!(log.epochs(), after_append.1.epochs, "{next:?} {call}");
            }
            if done.is_ok() && calls <= 1 {
                break;
            }
        }
    }
    assert!(broken_off > 0);
}

#[test]
fn a_follower_that_was_cut_on_a_full_disk_knows_what_is_left() {
    for offset in [35, 31, 22, 13, 1] {
        is_broken_off_at_any_call(true, &|log| log.truncate_to(offset, NOW_MS, || Ok(())).map(|_| ()));
    }
}

#[test]
fn a_follower_that_begins_anew_on_a_full_disk_does_so_when_there_is_room() {
    for offset in [0, 20, 100] {
        is_broken_off_at_any_call(true, &|log| log.truncate_fully_and_start_at(offset, NOW_MS, || Ok(())));
    }
}

#[test]
fn a_follower_that_begins_after_the_object_store_on_a_full_disk_does_so_when_there_is_room() {
    let epochs = [(3, 50), (8, 90)].map(|(epoch, start_offset)| EpochStart { epoch, start_offset });
    let begin =
        AfterTier { offset: 100, log_start_offset: 50, epochs: epochs.to_vec(), snapshot: Vec::new() };
    is_broken_off_at_any_call(false, &|log| log.restart_after_tier(&begin, NOW_MS, || Ok(())));
}
