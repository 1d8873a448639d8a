//! What becomes of one batch (Kafka's `Cleaner.cleanInto` and `MemoryRecords.filterTo`).

use std::collections::HashMap;

use fastlog_protocol::batch::{self, BatchError, BatchHeader, Kept, NO_TIMESTAMP, RecordView};
use fastlog_protocol::compression::Compression;

use super::offset_map::{KeyHash, OffsetMap};
use super::transactions::{MarkerFate, Transactions};
use crate::segment::txn_index::AbortedTxn;

/// What decides about the batches of a group.
pub(super) struct Filter<'a> {
    pub(super) map: &'a OffsetMap,
    pub(super) transactions: &'a mut Transactions,
    /// Of each producer that is remembered: the last offset of its last batch of records, and its epoch.
    pub(super) producers: HashMap<i64, (Option<i64>, i16)>,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// Buffers.
    pub(super) plain: Vec<u8>,
    pub(super) hashes: Vec<Option<KeyHash>>,
    pub(super) kept: Vec<u8>,
}

/// Of batches with more records, keys are hashed when they are needed, one by one.
const HASHES_MAX: i32 = 1 << 16;

/// What [`Filter::batch`] did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Records that stayed.
    pub(super) kept: i32,
    /// The batch goes on, maybe without records.
    pub(super) stays: bool,
    /// Bytes differ from those that were read.
    pub(super) changed: bool,
    /// For the index of the copy.
    pub(super) aborted: Option<AbortedTxn>,
}

impl Filter<'_> {
    /// Appends to `out` what stays of `bytes`, one whole batch. `is_last`: it is the last one of its group, which stays
    /// even when empty, so that the copy ends where the originals did.
    pub(super) fn batch(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        is_last: bool,
        out: &mut Vec<u8>,
    ) -> Result<Outcome, BatchError> {
        let is_control = header.attributes.is_control();
        let (is_unneeded, aborted) = if is_control {
            match self.transactions.note_control(header, bytes) {
                MarkerFate::Needed(aborted) => (false, aborted),
                MarkerFate::Unneeded => (true, None),
            }
        } else {
            (self.transactions.note_batch(header), None)
        };
        let horizon_is_over = header.delete_horizon_ms().is_some_and(|horizon| horizon <= self.now_ms);
        let drops_all = is_unneeded && (!is_control || horizon_is_over);
        let stays_empty = is_last || self.is_last_of_producer(header);
        if drops_all && !stays_empty {
            return Ok(Outcome { aborted, changed: true, ..Outcome::default() });
        }
        let kept = self.keep(header, bytes, drops_all, horizon_is_over)?;
        if kept.count == 0 {
            if stays_empty {
                put_empty(header, out)?;
            }
            let changed = !stays_empty || header.record_count > 0;
            return Ok(Outcome { kept: 0, stays: stays_empty, changed, aborted });
        }
        let starts_horizon =
            header.delete_horizon_ms().is_none() && (kept.has_tombstone || is_control && is_unneeded);
        let changed = kept.count < header.record_count || starts_horizon;
        if changed {
            self.put_rewritten(header, &kept, starts_horizon, out)?;
        } else {
            out.extend_from_slice(bytes);
        }
        Ok(Outcome { kept: kept.count, stays: true, changed, aborted })
    }

    /// The batch that sequences go on from, or the marker that fences a producer without one.
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let known = self.producers.get(&header.producer_id).filter(|_| header.producer_id >= 0);
        known.is_some_and(|(last_offset, epoch)| match last_offset {
            Some(last_offset) => header.last_offset() == *last_offset,
            None => header.attributes.is_control() && header.producer_epoch == *epoch,
        })
    }

    /// Puts the records that stay into `kept`.
    fn keep(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        drops_all: bool,
        horizon_is_over: bool,
    ) -> Result<Kept, BatchError> {
        self.kept.clear();
        if drops_all || header.record_count == 0 {
            return Ok(Kept { count: 0, max_timestamp: NO_TIMESTAMP, has_tombstone: false });
        }
        let (header, section) = batch::section(bytes, &mut self.plain)?;
        let (map, is_control) = (self.map, header.attributes.is_control());
        self.hashes.clear();
        let hashes = &mut self.hashes;
        let is_warmed = !is_control && header.record_count <= HASHES_MAX;
        if is_warmed {
            batch::filter(&header, section, header.base_timestamp, &mut self.kept, |record| {
                hashes.push(record.key.map(|key| map.hash(key)));
                false
            })?;
            map.warm(hashes.iter().flatten().copied());
        }
        let mut hashes = hashes.iter();
        let keep = |record: &RecordView<'_>| {
            let hash = if is_warmed {
                hashes.next().copied().flatten()
            } else {
                record.key.map(|key| map.hash(key))
            };
            is_control || map.last_offset().is_none_or(|last| record.offset > last) || {
                // one without a key is from before the topic was compacted
                hash.is_some_and(|hash| map.get(hash).is_none_or(|last| record.offset >= last))
                    && (record.value.is_some() || !horizon_is_over)
            }
        };
        batch::filter(&header, section, header.base_timestamp, &mut self.kept, keep)
    }

    /// Seals the records in `kept` with the batch's own codec, offsets, producer and times.
    fn put_rewritten(
        &mut self,
        header: &BatchHeader,
        kept: &Kept,
        starts_horizon: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BatchError> {
        let mut header = BatchHeader { record_count: kept.count, ..header.clone() };
        let mut records = &self.kept;
        if starts_horizon {
            let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms.max(0));
            // what it came from is needed no more
            self.plain.clear();
            batch::filter(&header, &self.kept, horizon_ms, &mut self.plain, |_| true)?;
            records = &self.plain;
            header.base_timestamp = horizon_ms;
            header.attributes = header.attributes.with_delete_horizon(true);
        }
        header.max_timestamp = kept.max_timestamp;
        let compression = header.attributes.compression().map_err(BatchError::Codec)?;
        batch::seal(header, records, compression, None, out)?;
        Ok(())
    }
}

/// A batch without records, which says how far offsets and the sequences of its producer have come.
fn put_empty(header: &BatchHeader, out: &mut Vec<u8>) -> Result<(), BatchError> {
    let attributes = header.attributes.with_delete_horizon(false);
    let empty = BatchHeader { attributes, base_timestamp: NO_TIMESTAMP, record_count: 0, ..header.clone() };
    batch::seal(empty, &[], Compression::None, None, out)?;
    Ok(())
}
