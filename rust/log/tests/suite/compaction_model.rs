//! A compacted log and the dictionary that it must stand for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;

use crate::common::*;
use fastlog_log::{AppendOptions, Log, LogConfig};
use fastlog_protocol::batch::{Attributes, BatchHeader, Builder, batches, check_crc, records};
use fastlog_protocol::compression::Compression;

/// Small segments, so that a few dozen batches make several.
pub(crate) fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 150,
        cleanup_compact: true,
        cleanup_delete: false,
        delete_retention_ms: 1_000,
        ..LogConfig::default()
    }
}

/// One record: key, and value or `None` for a tombstone.
pub(crate) type Entry = (u8, Option<String>);

/// splitmix64
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// All that was ever appended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Records by offset.
    pub(crate) records: BTreeMap<i64, Entry>,
    /// Offsets of records of aborted transactions.
    aborted: HashSet<i64>,
    /// Next sequences of producers.
    sequences: HashMap<i64, i32>,
}

impl Model {
    /// Appends a batch of random records: of nobody, of an idempotent producer, or a whole transaction.
    pub(crate) fn append(&mut self, log: &Log, random: &mut Random) {
        let id = 100 + random.below(3) as i64;
        match random.below(6) {
            0 => self.transaction(log, random, id, true),
            1 => self.transaction(log, random, id, false),
            2 => {
                self.batch(log, random, Some(id + 100), false);
            }
            _ => {
                self.batch(log, random, None, false);
            }
        }
    }

    fn transaction(&mut self, log: &Log, random: &mut Random, id: i64, commits: bool) {
        let mut offsets = Vec::new();
        for _ in 0..1 + random.below(2) {
            offsets.extend(self.batch(log, random, Some(id), true));
            if random.below(2) == 0 {
                self.batch(log, random, None, false);
            }
        }
        marker(log, id, commits);
        if !commits {
            self.aborted.extend(offsets);
        }
    }

    fn batch(&mut self, log: &Log, random: &mut Random, id: Option<i64>, transactional: bool) -> Vec<i64> {
        let count = 1 + random.below(4);
        let mut builder = Builder::new();
        if let Some(id) = id {
            let sequence = self.sequences.entry(id).or_default();
            builder = builder.producer(id, 0, *sequence);
            *sequence += count as i32;
        }
        builder = builder.attributes(Attributes::default().with_transactional(transactional));
        let mut offsets = Vec::new();
        for offset in (log.log_end_offset()..).take(count as usize) {
            let key = random.below(12) as u8;
            let value =
                (random.below(4) > 0).then(|| format!("{key}@{offset}").repeat(1 + random.below(4) as usize));
            let timestamp = NOW_MS + random.below(50) as i64;
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v")), (b"n", None)];
            let headers = if random.below(3) == 0 { headers } else { &[] };
            builder.append_with_headers(
                timestamp,
                Some(&[key]),
                value.as_deref().map(str::as_bytes),
                headers,
            );
            self.records.insert(offset, (key, value));
            offsets.push(offset);
        }
        let codecs = [
            Compression::None,
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        append(log, &builder.seal(codecs[random.below(6) as usize]).unwrap()).unwrap();
        log.advance_high_watermark(log.log_end_offset());
        offsets
    }

    /// All committed records from `from` on.
    pub(crate) fn committed_from(&self, from: i64) -> Vec<(i64, Entry)> {
        let committed = self.records.range(from..).filter(|(offset, _)| !self.aborted.contains(offset));
        committed.map(|(offset, entry)| (*offset, entry.clone())).collect()
    }

    /// What must be found from offset `from` on: the last committed record of each key, as far as it lies there.
    fn dictionary(&self, from: i64) -> BTreeMap<u8, (i64, Option<String>)> {
        let mut found = BTreeMap::new();
        for (offset, (key, value)) in &self.records {
            if !self.aborted.contains(offset) {
                found.insert(*key, (*offset, value.clone()));
            }
        }
        found.retain(|_, (offset, _)| *offset >= from);
        found
    }

    /// The log gives, from any offset on that it still has, some of the records in their order, and of each key the last one.
    pub(crate) fn compare(&self, log: &Log) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let step = ((end - start) / 13).max(1);
        for from in (start..end).step_by(step as usize).chain([end - 1]) {
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
    }

    /// No producer is forgotten: a gap in its sequences is an error.
    pub(crate) fn check_sequences(&self, log: &Log) {
        for (id, next) in &self.sequences {
            let mut ahead = Builder::new().producer(*id, 0, next + 7);
            ahead.append(NOW_MS, Some(b"k"), Some(b"v"));
            let refused = append(log, &ahead.seal(Compression::None).unwrap());
            assert!(refused.is_err(), "producer {id} is forgotten: a gap in its sequences was taken");
        }
    }
}

/// Ends a transaction.
pub(crate) fn marker(log: &Log, id: i64, commits: bool) {
    let attributes = Attributes::default().with_transactional(true).with_control(true);
    let mut builder = Builder::new().producer(id, 0, -1).attributes(attributes);
    builder.append(NOW_MS, Some(&[0, 0, 0, u8::from(commits)]), Some(&[0, 0, 0, 0, 0, 0]));
    let options = AppendOptions { from_client: false, ..AppendOptions::default() };
    log.append(&builder.seal(Compression::None).unwrap(), 0, NOW_MS, options).unwrap();
    log.advance_high_watermark(log.log_end_offset());
}

/// Header and bytes of each batch from `from` on.
pub(crate) fn batches_from(log: &Log, from: i64) -> Vec<(BatchHeader, Vec<u8>)> {
    let mut found = Vec::new();
    let mut offset = from;
    while let Some(slice) = log.read(offset, 500, log.log_end_offset(), true).unwrap() {
        let before = offset;
        for batch in batches(&bytes_of(&slice)) {
            let Ok(batch) = batch else { break };
            check_crc(batch).unwrap();
            let header = BatchHeader::parse(batch).unwrap();
            offset = header.next_offset();
            if offset > from && offset > before {
                found.push((header, batch.to_vec()));
            }
        }
        assert!(offset > before, "no progress at {before}");
    }
    found
}

/// What a read-committed consumer sees from `from` on: it passes over control batches, and over those of a producer
/// between the start of an aborted transaction and its marker.
pub(crate) fn read_committed(log: &Log, from: i64) -> Vec<(i64, Entry)> {
    let mut aborted = log.aborted_transactions(from, log.log_end_offset()).unwrap();
    aborted.sort_by_key(|txn| txn.first_offset);
    let mut waiting = aborted.into_iter().peekable();
    let mut aborting = HashSet::new();
    let mut found = Vec::new();
    for (header, batch) in batches_from(log, from) {
        while let Some(txn) = waiting.next_if(|txn| txn.first_offset <= header.last_offset()) {
            aborting.insert(txn.producer_id);
        }
        if header.attributes.is_control() {
            records(&batch, |record| {
                if record.key == Some(&[0, 0, 0, 0]) {
                    aborting.remove(&header.producer_id);
                }
                ControlFlow::Continue(())
            })
            .unwrap();
            continue;
        }
        if header.attributes.is_transactional() && aborting.contains(&header.producer_id) {
            continue;
        }
        records(&batch, |record| {
            let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
            if record.offset >= from {
                found.push((record.offset, (record.key.unwrap()[0], value)));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}
