//! What a pass makes of each batch, by the rules of Kafka's `Cleaner`, `CleanedTransactionMetadata` and
//! `MemoryRecords.filterTo`: records, tombstones, markers, the last batch of a producer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use crate::compaction_model::*;
use crate::compaction_reader::*;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{FileSystem, LastStop, Log};
use fastlog_protocol::batch::{BatchHeader, records};
use proptest::prelude::*;

/// Offset, timestamp, key, value and headers.
type Record = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);
type Batch = (BatchHeader, Vec<u8>);

fn records_of(batch: &[u8]) -> Vec<Record> {
    let mut found = Vec::new();
    records(batch, |it| {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        found.push((it.offset, it.timestamp, owned(it.key), owned(it.value), it.headers.raw().to_vec()));
        ControlFlow::Continue(())
    })
    .unwrap();
    found
}

/// What stays of a batch that has records, whatever those are: who wrote it, and which offsets it covers.
fn identity(header: &BatchHeader) -> impl PartialEq + std::fmt::Debug {
    let attributes = header.attributes;
    (
        (header.base_offset, header.last_offset(), header.partition_leader_epoch),
        (header.producer_id, header.producer_epoch, header.base_sequence),
        (attributes.is_transactional(), attributes.is_control()),
    )
}

/// A pass over all below `end`.
struct Pass<'a> {
    model: &'a Model,
    end: i64,
    /// Of each key the last record below `end`.
    last: BTreeMap<u8, (i64, Option<String>)>,
    /// Where segments start, afterwards.
    bases: BTreeSet<i64>,
}

impl Pass<'_> {
    fn check(&self, before: &[Batch], after: &[Batch]) {
        let mut left: BTreeMap<i64, &Batch> =
            after.iter().map(|batch| (batch.0.base_offset, batch)).collect();
        // producers with a batch of a transaction whose marker comes later
        let mut open = BTreeSet::new();
        for (header, bytes) in before {
            let found = left.remove(&header.base_offset);
            if header.base_offset >= self.end {
                assert!(
                    found.is_some_and(|found| found.1 == *bytes),
                    "offset {} was changed",
                    header.base_offset
                );
                continue;
            }
            let has_transaction = match header.attributes.is_control() {
                true => open.remove(&header.producer_id),
                false => header.attributes.is_transactional() && open.insert(header.producer_id),
            };
            self.check_batch(header, bytes, found, has_transaction);
        }
        assert!(left.is_empty(), "batches out of nothing: {:?}", left.keys());
    }

    fn check_batch(&self, header: &BatchHeader, bytes: &[u8], found: Option<&Batch>, has_transaction: bool) {
        let offset = header.base_offset;
        let (expected, horizon_ms) = if header.attributes.is_control() {
            self.marker(header, bytes, has_transaction)
        } else {
            self.data(header, bytes)
        };
        let Some((left, left_bytes)) = found else {
            assert!(expected.is_empty(), "offset {offset} is gone");
            assert!(!self.is_last_of_producer(header), "producer {}'s last batch", header.producer_id);
            return;
        };
        assert_eq!(identity(left), identity(header));
        assert_eq!(records_of(left_bytes), expected, "offset {offset}");
        if expected.is_empty() {
            let is_segments_last = self.bases.contains(&left.next_offset());
            assert!(self.is_last_of_producer(header) || is_segments_last, "offset {offset} stays empty");
            assert_eq!(left.max_timestamp, header.max_timestamp);
        } else {
            assert_eq!(left.delete_horizon_ms(), horizon_ms, "offset {offset}");
            assert_eq!(Some(left.max_timestamp), expected.iter().map(|record| record.1).max());
        }
    }

    /// What stays of a marker, and until when: its horizon begins with the first pass that finds no batch of its
    /// transaction, and not before.
    fn marker(
        &self,
        header: &BatchHeader,
        bytes: &[u8],
        has_transaction: bool,
    ) -> (Vec<Record>, Option<i64>) {
        match header.delete_horizon_ms() {
            None if has_transaction => (records_of(bytes), None),
            None => (records_of(bytes), Some(self.model.now_ms + DELETE_RETENTION_MS)),
            Some(horizon_ms) => {
                assert!(!has_transaction, "a transaction has records again");
                let is_over = horizon_ms <= self.model.now_ms;
                (if is_over { Vec::new() } else { records_of(bytes) }, Some(horizon_ms))
            }
        }
    }

    /// What stays of a batch of records: no aborted ones, the last of each key, a tombstone until its horizon.
    fn data(&self, header: &BatchHeader, bytes: &[u8]) -> (Vec<Record>, Option<i64>) {
        let horizon_ms = header.delete_horizon_ms();
        let is_over = horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.model.now_ms);
        let mut kept = records_of(bytes);
        kept.retain(|(offset, _, key, value, _)| {
            let last = key.as_ref().and_then(|key| self.last.get(&key[0]));
            last.is_some_and(|last| last.0 == *offset) && (value.is_some() || !is_over)
        });
        let has_tombstone = kept.iter().any(|record| record.3.is_none());
        let starts_ms = has_tombstone.then_some(self.model.now_ms + DELETE_RETENTION_MS);
        (kept, horizon_ms.or(starts_ms))
    }

    /// The batch that sequences go on from; without one the marker that fences the producer.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let known = self.model.producers.get(&header.producer_id);
        known.is_some_and(|producer| match producer.last_offset {
            Some(last_offset) => header.last_offset() == last_offset,
            None => header.attributes.is_control() && header.producer_epoch == producer.epoch,
        })
    }
}

fn segment_bases(file_system: &MemoryFileSystem) -> BTreeSet<i64> {
    let entries = file_system.list(Path::new(LOG_DIRECTORY)).unwrap();
    entries.iter().filter_map(|entry| entry.name.strip_suffix(".log")?.parse().ok()).collect()
}

/// What a read-committed consumer makes of the whole log: the last value of each key that was not deleted.
fn table(log: &Log) -> BTreeMap<u8, String> {
    let entries: BTreeMap<_, _> = read_committed(log, 0).into_iter().map(|(_, entry)| entry).collect();
    entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Some appends, and transactions that stay open over passes.
fn append_some(log: &Log, model: &mut Model, random: &mut Random) {
    for _ in 0..5 + random.below(20) {
        model.append(log, random);
    }
    let id = 300 + random.below(2) as i64;
    if model.is_open(id) {
        model.end(log, id, random.one_in(2), random.one_in(2));
    } else {
        model.batch(log, random, Some(id), true);
    }
    if random.one_in(4) {
        // of a transaction that wrote nothing here
        model.end(log, 400, random.one_in(2), random.one_in(3));
    }
}

fn passes_keep_the_rules(seed: u64, rounds: usize) {
    println!("seed {seed}, {rounds} rounds");
    let mut random = Random(seed);
    let file_system = MemoryFileSystem::new(seed);
    let mut log = open_on(&file_system, 0, LastStop::Clean).unwrap();
    let mut model = Model::default();
    let mut clean_to = 0;
    for _ in 0..rounds {
        append_some(&log, &mut model, &mut random);
        for _ in 0..1 + random.below(3) {
            let (before, table_before) = (batches_from(&log, 0), table(&log));
            let from = if random.one_in(2) { 0 } else { clean_to };
            if let Some(cleaned) = clean_at(&log, from, model.now_ms) {
                let (end, last) = (cleaned.end_offset, model.dictionary_below(cleaned.end_offset));
                let bases = segment_bases(&file_system);
                Pass { model: &model, end, last, bases }.check(&before, &batches_from(&log, 0));
                clean_to = end;
            }
            assert_eq!(table(&log), table_before);
            model.check_sequences(&log);
            model.now_ms += random.below(DELETE_RETENTION_MS as u64) as i64;
        }
        if random.one_in(3) {
            log.close(true).unwrap();
            log = open_on(&file_system, log.log_end_offset(), LastStop::Clean).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(few_cases(32))]

    #[test]
    fn of_each_batch_stays_what_kafka_keeps(seed in any::<u64>(), rounds in 2usize..7) {
        passes_keep_the_rules(seed, rounds);
    }
}

#[test]
#[ignore = "the long form"]
fn of_each_batch_stays_what_kafka_keeps_in_many_logs() {
    (0..1_000).for_each(|seed| passes_keep_the_rules(seed, 8));
}
