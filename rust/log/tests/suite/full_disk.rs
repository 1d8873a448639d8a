//! A disk that is full at any call, or no descriptor left: what is tried again later meets the log as it was.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::{Random, append_marker, few_cases};
use crate::compaction_reader::{Entry, batches_from, read_committed};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{LastStop, Log, LogConfig, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{Attributes, Builder};
use fastlog_protocol::compression::Compression;
use proptest::prelude::*;

/// Fewer than the files of three segments: most are opened for each use.
const OPEN_FILES_MAX: usize = 8;

fn small() -> LogConfig {
    LogConfig { segment_bytes: 600, index_interval_bytes: 100, ..LogConfig::default() }
}

fn open_on(files: &MemoryFileSystem, recovery_point: i64, last_stop: LastStop) -> (Log, Arc<Storage>) {
    let storage = Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), OPEN_FILES_MAX);
    let options = fastlog_log::LogOptions { recovery_point, ..options(small(), last_stop) };
    (Log::open(&storage, options, NOW_MS).unwrap().0, storage)
}

/// One record, of a transaction of producer `id` or of nobody.
fn record(transaction: Option<(i64, i32)>, key: u8, value: &str) -> Vec<u8> {
    let mut builder = Builder::new();
    if let Some((id, sequence)) = transaction {
        let attributes = Attributes::default().with_transactional(true);
        builder = builder.producer(id, 0, sequence).attributes(attributes);
    }
    builder.append(NOW_MS, Some(&[key]), Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

/// What was acknowledged.
#[derive(Default)]
struct Acknowledged {
    records: BTreeMap<i64, Entry>,
    end: i64,
    /// Sequences of producers, and the offsets of their open transactions.
    producers: BTreeMap<i64, (i32, Vec<i64>)>,
    aborted: Vec<i64>,
}

impl Acknowledged {
    /// Something random is appended, and again where it is refused, or something else. `meet` is what the next try meets.
    fn step(&mut self, log: &Log, random: &mut Random, mut meet: impl FnMut(&mut Random)) {
        let id = 7 + random.below(2) as i64;
        let (sequence, open) = self.producers.entry(id).or_default();
        let key = random.below(12) as u8;
        let value = format!("{}-{}", self.end, "x".repeat(random.below(40) as usize));
        let what = random.below(4);
        let ends = !open.is_empty() && what < 2;
        let appended = loop {
            meet(random);
            let before = (log.log_end_offset(), log.size_bytes());
            let appended = match what {
                0 | 1 if ends => append_marker(log, id, 0, what == 0),
                2 => append(log, &record(None, key, &value)),
                _ => append(log, &record(Some((id, *sequence)), key, &value)),
            };
            match appended {
                Ok(appended) => break appended,
                Err(error) => assert_eq!(error.code, ErrorCode::KAFKA_STORAGE_ERROR, "{}", error.message),
            }
            assert_eq!((log.log_end_offset(), log.size_bytes()), before);
            if random.one_in(3) {
                return;
            }
        };
        assert_eq!((appended.base_offset, appended.last_offset), (self.end, self.end));
        assert!(!appended.duplicate);
        if ends {
            let offsets = std::mem::take(open);
            if what == 1 {
                self.aborted.extend(offsets);
            }
        } else {
            self.records.insert(self.end, (key, Some(value)));
            if what != 2 {
                *sequence += 1;
                open.push(self.end);
            }
        }
        self.end += 1;
        log.advance_high_watermark(self.end);
    }

    /// The log has all of it, once, and nothing else; nobody is shown what was aborted, nor held up by what ended.
    fn compare(&self, log: &Log) {
        let batches = batches_from(log, 0);
        let offsets: Vec<_> = batches.iter().map(|(header, _)| header.base_offset).collect();
        assert_eq!(offsets, (0..self.end).collect::<Vec<_>>());
        let open = self.producers.values().filter_map(|(_, open)| open.first()).min();
        assert_eq!(log.last_stable_offset(), open.copied().unwrap_or(self.end));
        let mut committed = self.records.clone();
        committed.retain(|offset, _| !self.aborted.contains(offset));
        assert_eq!(read_committed(log, 0), committed.into_iter().collect::<Vec<_>>());
    }
}

/// An abort whose entry in the transaction index finds no room is refused, and comes once when it is sent again.
#[test]
fn a_marker_that_the_transaction_index_has_no_room_for_is_not_in_the_log() {
    for replicated in [false, true] {
        for room in 0..150 {
            let files = MemoryFileSystem::new(room);
            let (log, storage) = open_on(&files, 0, LastStop::Clean);
            append(&log, &record(Some((7, 0)), 1, "secret")).unwrap();
            let leader = MemoryFileSystem::new(room);
            let (leader, _) = open_on(&leader, 0, LastStop::Clean);
            append(&leader, &record(Some((7, 0)), 1, "secret")).unwrap();
            append_marker(&leader, 7, 0, false).unwrap();
            let sent = batches_from(&leader, 1).remove(0).1;
            let append_abort = || match replicated {
                true => log.append_replica(&sent, 0, NOW_MS).map(|_| ()),
                false => append_marker(&log, 7, 0, false).map(|_| ()),
            };
            files.set_faults(Faults { room: Some(room), ..Faults::default() });
            let refused = append_abort().is_err();
            assert_eq!(log.log_end_offset(), if refused { 1 } else { 2 });
            assert_eq!(refused, room < sent.len() as u64 + 34, "{room} bytes");
            files.set_faults(Faults::default());
            storage.check().unwrap();
            if refused {
                log.advance_high_watermark(1);
                assert_eq!(log.last_stable_offset(), 0, "the transaction is open");
                append_abort().unwrap();
            }
            append(&log, &record(None, 2, "after")).unwrap();
            log.advance_high_watermark(3);
            let check = |log: &Log| {
                assert_eq!(log.log_end_offset(), 3);
                assert_eq!(read_committed(log, 0), [(2, (2, Some("after".to_owned())))], "{room} bytes");
            };
            check(&log);
            assert_eq!(log.last_stable_offset(), 3);
            drop(log);
            files.restart_process();
            check(&open_on(&files, 0, LastStop::ProcessDied).0);
        }
    }
}

fn fills_while_it_is_appended_to(seed: u64, steps: usize) {
    let files = MemoryFileSystem::new(seed);
    let mut random = Random(seed);
    let (mut log, mut storage) = open_on(&files, 0, LastStop::Clean);
    let mut told = Acknowledged::default();
    for _ in 0..steps {
        told.step(&log, &mut random, |random| {
            let mut faults = Faults::default();
            match random.below(5) {
                0 => faults.room = Some(random.below(200)),
                1 => faults.full_from_call = Some(files.calls() + random.below(12)),
                2 => faults.opens_left = Some(random.below(6)),
                _ => {}
            }
            if random.one_in(3) {
                faults.short_write = Some(1 + random.below(60) as usize);
            }
            files.set_faults(faults);
        });
        storage.check().unwrap();
        files.set_faults(Faults::default());
        if random.one_in(12) {
            let clean = random.one_in(2);
            if clean {
                log.close(true).unwrap();
            }
            drop(log);
            files.restart_process();
            let stop = if clean { (told.end, LastStop::Clean) } else { (0, LastStop::ProcessDied) };
            (log, storage) = open_on(&files, stop.0, stop.1);
            log.advance_high_watermark(told.end);
        }
    }
    told.compare(&log);
    drop(log);
    files.restart_process();
    let (log, _) = open_on(&files, 0, LastStop::ProcessDied);
    log.advance_high_watermark(told.end);
    told.compare(&log);
}

proptest! {
    #![proptest_config(few_cases(96))]

    #[test]
    fn a_disk_that_fills_while_a_log_is_written_loses_nothing_and_doubles_nothing(
        seed in any::<u64>(),
        steps in 1usize..60,
    ) {
        fills_while_it_is_appended_to(seed, steps);
    }
}
