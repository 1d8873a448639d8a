//! The producers that wrote to a partition: sequences against duplicates, and open transactions.
//!
//! Kept in memory, rebuilt from a snapshot and the batches after it. As in Kafka a producer that nobody remembers may
//! start at any sequence (its state was lost through retention), which is why state must not be lost otherwise.

use std::collections::{BTreeMap, HashMap};

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::BatchHeader;

use crate::error::AppendError;
use crate::segment::txn_index::AbortedTxn;

mod control;
mod entry;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use control::{Marker, read_marker};
pub(crate) use entry::BatchEntry;
pub(crate) use entry::{ProducerEntry, Verdict};

/// A producer that a partition remembers, for those who ask (`DescribeProducers`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
    /// The sequence of its last record, −1 before the first.
    pub last_sequence: i32,
    /// When it last wrote, in ms.
    pub last_timestamp_ms: i64,
    /// The epoch of the coordinator that ended its last transaction, −1 without one.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts.
    pub txn_first_offset: Option<i64>,
}

/// All producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerState {
    entries: HashMap<i64, ProducerEntry>,
    /// First offsets of open transactions and their producers.
    open: BTreeMap<i64, i64>,
    /// Ended transactions whose marker is not below the high watermark yet: first offset → marker's offset.
    unreplicated: BTreeMap<i64, i64>,
}

impl ProducerState {
    /// Whether a client's batch may be appended; batches without a producer id always may.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        let Some(entry) = self.entries.get(&header.producer_id).filter(|_| header.producer_id >= 0) else {
            return Ok(Verdict::Append);
        };
        let verdict = entry.check(header)?;
        let is_plain = !header.attributes.is_transactional();
        if verdict == Verdict::Append && is_plain && entry.txn_first_offset.is_some() {
            return Err(AppendError::new(
                ErrorCode::INVALID_TXN_STATE,
                format!(
                    "producer {} has an open transaction, the batch is not part of it",
                    header.producer_id
                ),
            ));
        }
        Ok(verdict)
    }

    /// Notes a batch of records that was appended by a leader or replayed.
    pub(crate) fn append(&mut self, header: &BatchHeader, now_ms: i64) {
        if header.producer_id < 0 || header.attributes.is_control() {
            return;
        }
        let new = || ProducerEntry::new(header.producer_epoch);
        let entry = self.entries.entry(header.producer_id).or_insert_with(new);
        entry.append(header, now_ms);
        if header.attributes.is_transactional() && entry.txn_first_offset.is_none() {
            entry.txn_first_offset = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// What the transaction index is to say once a marker is appended: the transaction that it aborts.
    pub(crate) fn aborted_by(&self, header: &BatchHeader, marker: Marker) -> Option<AbortedTxn> {
        let entry = self.entries.get(&header.producer_id).filter(|_| marker.is_abort)?;
        let first_offset = entry.txn_first_offset?;
        let last_offset = header.last_offset();
        let still_open = self.open.keys().find(|open| **open != first_offset);
        Some(AbortedTxn {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: still_open.copied().unwrap_or(last_offset + 1),
        })
    }

    /// Notes a transaction marker; answers the transaction for the index when it was aborted.
    pub(crate) fn end_transaction(
        &mut self,
        header: &BatchHeader,
        marker: Marker,
        now_ms: i64,
    ) -> Option<AbortedTxn> {
        let aborted = self.aborted_by(header, marker);
        let new = || ProducerEntry::new(header.producer_epoch);
        let entry = self.entries.entry(header.producer_id).or_insert_with(new);
        entry.adopt_epoch(header.producer_epoch);
        entry.coordinator_epoch = marker.coordinator_epoch;
        entry.last_timestamp_ms = now_ms;
        let first_offset = entry.txn_first_offset.take()?;
        self.open.remove(&first_offset);
        self.unreplicated.insert(first_offset, header.last_offset());
        aborted
    }

    /// The first offset that a read-committed reader may not pass, high watermark aside.
    pub(crate) fn first_unstable_offset(&self) -> Option<i64> {
        let open = self.open.keys().next();
        let unreplicated = self.unreplicated.keys().next();
        [open, unreplicated].into_iter().flatten().min().copied()
    }

    /// Ended transactions below the high watermark hold nobody back any more.
    pub(crate) fn high_watermark_moved(&mut self, high_watermark: i64) {
        if !self.unreplicated.is_empty() {
            self.unreplicated.retain(|_, last_offset| *last_offset >= high_watermark);
        }
    }

    /// Forgets producers that were idle for `expiration_ms` and have no open transaction.
    pub(crate) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.entries.retain(|_, entry| {
            entry.txn_first_offset.is_some() || now_ms.saturating_sub(entry.last_timestamp_ms) < expiration_ms
        });
    }

    /// Of each producer: the last offset of its last batch, if one is remembered, and its epoch.
    pub(crate) fn last_batches(&self) -> HashMap<i64, (Option<i64>, i16)> {
        let last = |entry: &ProducerEntry| entry.batches.back().map(|batch| batch.last_offset);
        self.entries.iter().map(|(id, entry)| (*id, (last(entry), entry.producer_epoch))).collect()
    }

    /// Every producer that is remembered, by id.
    pub(crate) fn all(&self) -> Vec<KnownProducer> {
        let known = self.entries.iter().map(|(producer_id, entry)| KnownProducer {
            producer_id: *producer_id,
            producer_epoch: entry.producer_epoch,
            last_sequence: entry.last_sequence(),
            last_timestamp_ms: entry.last_timestamp_ms,
            coordinator_epoch: entry.coordinator_epoch,
            txn_first_offset: entry.txn_first_offset,
        });
        let mut known: Vec<_> = known.collect();
        known.sort_unstable_by_key(|it| it.producer_id);
        known
    }

    /// The first sequence of the oldest batch that is remembered of a producer in that epoch.
    pub(crate) fn oldest_sequence(&self, producer_id: i64, producer_epoch: i16) -> Option<i32> {
        let entry = self.entries.get(&producer_id).filter(|it| it.producer_epoch == producer_epoch)?;
        entry.batches.front().map(BatchEntry::first_sequence)
    }

    /// The largest offset that it names, if it names any.
    pub(crate) fn last_offset(&self) -> Option<i64> {
        let written = self.newest_batch().map(|(_, batch)| batch.last_offset);
        written.max(self.open.keys().next_back().copied())
    }

    /// The batch with the largest offset among those that are remembered, and its producer.
    pub(crate) fn newest_batch(&self) -> Option<(i64, BatchEntry)> {
        let last = self.entries.iter().filter_map(|(id, entry)| Some((*id, *entry.batches.back()?)));
        last.max_by_key(|(_, batch)| batch.last_offset)
    }

    /// Whether the producer of a batch of the log is remembered, and that batch or a later one of its is not. (Who was idle
    /// for long is not remembered, which says nothing.)
    pub(crate) fn is_behind(&self, header: &BatchHeader) -> bool {
        let known = self.entries.get(&header.producer_id).filter(|_| header.producer_id >= 0);
        !header.attributes.is_control()
            && known.is_some_and(|known| {
                let last = known.batches.back().map_or(-1, |batch| batch.last_offset);
                known.producer_epoch <= header.producer_epoch && last < header.last_offset()
            })
    }

    /// How many producers are remembered.
    pub(crate) fn count(&self) -> usize {
        self.entries.len()
    }
}
