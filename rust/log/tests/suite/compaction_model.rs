//! A compacted log and the dictionary that it must stand for.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::common::*;
use crate::compaction_reader::*;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{
    AppendError, AppendOptions, Appended, Cleaned, CleanerLimits, LastStop, Log, LogConfig, LogOptions,
    Storage, Unpaced,
};
use fastlog_protocol::batch::{Attributes, Builder};
use fastlog_protocol::compression::Compression;
use proptest::prelude::*;

/// How long tombstones and markers stay once they were cleaned.
pub(crate) const DELETE_RETENTION_MS: i64 = 1_000;

/// Small segments, so that a few dozen batches make several.
pub(crate) fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 150,
        cleanup_compact: true,
        cleanup_delete: false,
        delete_retention_ms: DELETE_RETENTION_MS,
        ..LogConfig::default()
    }
}

/// Where [`open_on`] puts the log.
pub(crate) const LOG_DIRECTORY: &str = "/data/t-0";

pub(crate) fn open_on(
    file_system: &MemoryFileSystem,
    recovery_point: i64,
    last_stop: LastStop,
) -> Option<Log> {
    open_from(file_system, compacted(), 0, recovery_point, last_stop)
}

/// The same with other settings, and a checkpoint of the log's start.
pub(crate) fn open_from(
    file_system: &MemoryFileSystem,
    config: LogConfig,
    log_start_offset: i64,
    recovery_point: i64,
    last_stop: LastStop,
) -> Option<Log> {
    let storage = Storage::new(Arc::new(file_system.clone()), PathBuf::from("/data"), 64);
    let options = LogOptions {
        log_start_offset,
        recovery_point,
        high_watermark: i64::MAX,
        ..options(config, last_stop)
    };
    Log::open(&storage, options, NOW_MS).ok().map(|(log, _)| log)
}

/// Memory for fewer keys than there are: a pass ends inside the dirty part.
pub(crate) fn little_memory() -> CleanerLimits {
    CleanerLimits { map_bytes_max: 24 * 10, ..CleanerLimits::default() }
}

pub(crate) fn clean_at(log: &Log, from: i64, now_ms: i64) -> Option<Cleaned> {
    log.clean(from, CleanerLimits::default(), &Unpaced, now_ms).unwrap()
}

/// Few cases as a rule; `PROPTEST_CASES` asks for more.
pub(crate) fn few_cases(cases: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { cases };
    ProptestConfig { cases, max_shrink_iters: 100, failure_persistence: None, ..asked }
}

/// splitmix64
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// What is known of a producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    next_sequence: i32,
    /// The last offset of its last batch of records in that epoch.
    pub(crate) last_offset: Option<i64>,
    /// Offsets of its open transaction.
    open: Vec<i64>,
}

/// All that was ever appended.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Records by offset.
    pub(crate) records: BTreeMap<i64, Entry>,
    /// The records' timestamps, and their producers.
    pub(crate) written: BTreeMap<i64, (i64, Option<i64>)>,
    /// Offsets of records of aborted transactions.
    pub(crate) aborted: HashSet<i64>,
    pub(crate) producers: BTreeMap<i64, Producer>,
    /// The time by which records are written and logs cleaned.
    pub(crate) now_ms: i64,
    /// Batches are of all codecs, which takes most of the time.
    pub(crate) compresses: bool,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            written: BTreeMap::new(),
            aborted: HashSet::new(),
            producers: BTreeMap::new(),
            now_ms: NOW_MS,
            compresses: true,
        }
    }
}

impl Model {
    /// Appends a batch of random records: of nobody, of an idempotent producer, or a whole transaction.
    pub(crate) fn append(&mut self, log: &Log, random: &mut Random) {
        let id = 100 + random.below(3) as i64;
        match random.below(6) {
            0 => self.transaction(log, random, id, true),
            1 => self.transaction(log, random, id, false),
            2 => self.batch(log, random, Some(id + 100), false),
            _ => self.batch(log, random, None, false),
        }
    }

    fn transaction(&mut self, log: &Log, random: &mut Random, id: i64, commits: bool) {
        for _ in 0..1 + random.below(2) {
            self.batch(log, random, Some(id), true);
            if random.one_in(2) {
                self.batch(log, random, None, false);
            }
        }
        self.end(log, id, commits, false);
    }

    pub(crate) fn is_open(&self, id: i64) -> bool {
        self.producers.get(&id).is_some_and(|producer| !producer.open.is_empty())
    }

    /// Ends a producer's transaction; since KIP-890 the marker bears its next epoch, which fences the last one.
    pub(crate) fn end(&mut self, log: &Log, id: i64, commits: bool, in_next_epoch: bool) {
        let producer = self.producers.entry(id).or_default();
        let offsets = std::mem::take(&mut producer.open);
        if in_next_epoch {
            *producer = Producer { epoch: producer.epoch + 1, ..Producer::default() };
        }
        marker(log, id, producer.epoch, commits);
        if !commits {
            self.aborted.extend(offsets);
        }
    }

    /// The machine died, and the log ends at `end`. Transactions that lost their markers are aborted.
    pub(crate) fn cut(&mut self, log: &Log, end: i64) {
        self.records.split_off(&end);
        for open in log.producers().unwrap() {
            let Some(first) = open.txn_first_offset else { continue };
            let written = self.written.range(first..).filter(|(_, (_, id))| *id == Some(open.producer_id));
            self.aborted.extend(written.map(|(offset, _)| *offset));
            marker(log, open.producer_id, open.producer_epoch, false);
        }
    }

    /// Appends a batch of random records, as a part of the producer's transaction or by itself.
    pub(crate) fn batch(&mut self, log: &Log, random: &mut Random, id: Option<i64>, transactional: bool) {
        // now and then of more keys than `little_memory` holds
        let count = if random.one_in(6) { 16 } else { 1 + random.below(4) };
        let mut builder = Builder::new();
        let first = log.log_end_offset();
        if let Some(id) = id {
            let producer = self.producers.entry(id).or_default();
            builder = builder.producer(id, producer.epoch, producer.next_sequence);
            producer.next_sequence += count as i32;
            producer.last_offset = Some(first + count as i64 - 1);
            if transactional {
                producer.open.extend(first..first + count as i64);
            }
        }
        builder = builder.attributes(Attributes::default().with_transactional(transactional));
        for offset in (first..).take(count as usize) {
            let key = random.below(12) as u8;
            let value =
                (random.below(4) > 0).then(|| format!("{key}@{offset}").repeat(1 + random.below(4) as usize));
            let timestamp = self.now_ms + random.below(50) as i64;
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v")), (b"n", None)];
            let headers = if random.below(3) == 0 { headers } else { &[] };
            builder.append_with_headers(
                timestamp,
                Some(&[key]),
                value.as_deref().map(str::as_bytes),
                headers,
            );
            self.records.insert(offset, (key, value));
            self.written.insert(offset, (timestamp, id));
        }
        let codecs = [
            Compression::None,
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        let codec = if self.compresses { codecs[random.below(6) as usize] } else { Compression::None };
        append(log, &builder.seal(codec).unwrap()).unwrap();
        log.advance_high_watermark(log.log_end_offset());
    }

    /// All committed records from `from` on.
    pub(crate) fn committed_from(&self, from: i64) -> Vec<(i64, Entry)> {
        let committed = self.records.range(from..).filter(|(offset, _)| !self.aborted.contains(offset));
        committed.map(|(offset, entry)| (*offset, entry.clone())).collect()
    }

    /// Where the last committed record of each key below `end` is, and its value.
    pub(crate) fn dictionary_below(&self, end: i64) -> BTreeMap<u8, (i64, Option<String>)> {
        let below = self.records.range(..end).filter(|(offset, _)| !self.aborted.contains(offset));
        below.map(|(offset, (key, value))| (*key, (*offset, value.clone()))).collect()
    }

    /// What must be found from offset `from` on: the last committed record of each key, as far as it lies there.
    pub(crate) fn dictionary(&self, from: i64) -> BTreeMap<u8, (i64, Option<String>)> {
        let mut found = self.dictionary_below(i64::MAX);
        found.retain(|_, (offset, _)| *offset >= from);
        found
    }

    /// The log gives, from any offset on that it still has, some of the records in their order, and of each key the last one.
    pub(crate) fn compare(&self, log: &Log) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let step = ((end - start) / 13).max(1);
        let places = (start..end).step_by(step as usize).chain((start..end).next_back());
        places.for_each(|from| self.compare_from(log, from));
    }

    pub(crate) fn compare_from(&self, log: &Log, from: i64) {
        let read = read_committed(log, from);
        assert!(read.is_sorted_by(|a, b| a.0 < b.0), "offsets go up");
        let mut last = BTreeMap::new();
        for (offset, entry) in &read {
            assert_eq!(Some(entry), self.records.get(offset), "offset {offset} has its own record");
            assert!(!self.aborted.contains(offset), "offset {offset} was aborted");
            last.insert(entry.0, (*offset, entry.1.clone()));
        }
        for (key, (offset, value)) in self.dictionary(from) {
            match last.get(&key) {
                Some(found) => assert_eq!(found, &(offset, value), "key {key} from {from}"),
                None => assert_eq!(value, None, "key {key} is lost from {from}, it was at {offset}"),
            }
        }
    }

    /// The log was opened again after a death, and starts at `start`: of a producer whose batches lay below, no more may be
    /// known than its epoch, from a marker. Then any sequence but 0 is out of order (as in Kafka), so it begins a new epoch.
    pub(crate) fn begin_epochs_of_those_before(&mut self, start: i64) {
        for producer in self.producers.values_mut() {
            if producer.last_offset.is_some_and(|last| last < start) {
                producer.epoch += 1;
                producer.next_sequence = 0;
            }
        }
    }

    /// No producer is forgotten: a gap in its sequences is an error.
    pub(crate) fn check_sequences(&self, log: &Log) {
        self.check_sequences_from(log, 0);
    }

    /// The same of those whose last batch lies at `start` or later.
    pub(crate) fn check_sequences_from(&self, log: &Log, start: i64) {
        for (id, producer) in &self.producers {
            if producer.last_offset.is_some_and(|last| last < start) {
                continue;
            }
            let mut ahead = Builder::new().producer(*id, producer.epoch, producer.next_sequence + 7);
            ahead.append(NOW_MS, Some(b"k"), Some(b"v"));
            let refused = append(log, &ahead.seal(Compression::None).unwrap());
            assert!(refused.is_err(), "producer {id} is forgotten: a gap in its sequences was taken");
        }
    }
}

/// Builds the log of a seed, all of it synced; the same calls each time.
pub(crate) fn build(file_system: &MemoryFileSystem, seed: u64) -> (Log, Model) {
    let mut random = Random(seed);
    let log = open_on(file_system, 0, LastStop::Clean).unwrap();
    let mut model = Model::default();
    for _ in 0..32 {
        model.append(&log, &mut random);
    }
    log.flush().unwrap();
    (log, model)
}

/// Ends a transaction.
pub(crate) fn marker(log: &Log, id: i64, epoch: i16, commits: bool) {
    append_marker(log, id, epoch, commits).unwrap();
    log.advance_high_watermark(log.log_end_offset());
}

/// The same where it may fail.
pub(crate) fn append_marker(log: &Log, id: i64, epoch: i16, commits: bool) -> Result<Appended, AppendError> {
    append_as_coordinator(log, &marker_batch(id, epoch, commits), 0)
}

/// The batch of it.
pub(crate) fn marker_batch(id: i64, epoch: i16, commits: bool) -> Vec<u8> {
    let attributes = Attributes::default().with_transactional(true).with_control(true);
    let mut builder = Builder::new().producer(id, epoch, -1).attributes(attributes);
    builder.append(NOW_MS, Some(&[0, 0, 0, u8::from(commits)]), Some(&[0, 0, 0, 0, 0, 0]));
    builder.seal(Compression::None).unwrap()
}

/// Appends what no client may.
pub(crate) fn append_as_coordinator(
    log: &Log,
    batch: &[u8],
    leader_epoch: i32,
) -> Result<Appended, AppendError> {
    let options = AppendOptions { from_client: false, ..AppendOptions::default() };
    log.append(batch, leader_epoch, NOW_MS, options)
}
