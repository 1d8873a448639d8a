//! What is remembered of one idempotent producer on one partition.

use std::collections::VecDeque;

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::BatchHeader;

use crate::error::AppendError;

/// Batches remembered per producer: as many as a producer may have in flight (Kafka's `NUM_BATCHES_TO_RETAIN`).
const BATCHES_MAX: usize = 5;
/// "No sequence yet".
pub(crate) const NO_SEQUENCE: i32 = -1;

/// One appended batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchEntry {
    pub(crate) last_sequence: i32,
    pub(crate) last_offset: i64,
    /// Last offset minus base offset.
    pub(crate) offset_delta: i32,
    /// Its largest timestamp, −1 without one.
    pub(crate) timestamp_ms: i64,
}

impl BatchEntry {
    pub(crate) fn of(header: &BatchHeader) -> Self {
        Self {
            last_sequence: header.last_sequence(),
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp_ms: header.max_timestamp,
        }
    }

    /// Sequence of its first record; sequences wrap from `i32::MAX` to 0.
    pub(crate) fn first_sequence(&self) -> i32 {
        let first = i64::from(self.last_sequence) - i64::from(self.offset_delta);
        first.rem_euclid(i64::from(i32::MAX) + 1) as i32
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.last_offset - i64::from(self.offset_delta)
    }
}

/// One producer id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) producer_epoch: i16,
    pub(crate) coordinator_epoch: i32,
    /// When it last wrote, for expiry.
    pub(crate) last_timestamp_ms: i64,
    /// Where its open transaction starts.
    pub(crate) txn_first_offset: Option<i64>,
    /// The last batches of this epoch, oldest first.
    pub(crate) batches: VecDeque<BatchEntry>,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// New: append it.
    Append,
    /// Appended before; the client gets this answer once more.
    Duplicate(BatchEntry),
}

impl ProducerEntry {
    pub(crate) fn new(producer_epoch: i16) -> Self {
        Self {
            producer_epoch,
            coordinator_epoch: -1,
            last_timestamp_ms: -1,
            txn_first_offset: None,
            batches: VecDeque::new(),
        }
    }

    pub(crate) fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    /// Whether a client's batch follows what is known.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        if header.producer_epoch < self.producer_epoch {
            return Err(AppendError::new(
                ErrorCode::INVALID_PRODUCER_EPOCH,
                format!(
                    "producer {} has epoch {}, the batch has the older epoch {}",
                    header.producer_id, self.producer_epoch, header.producer_epoch
                ),
            ));
        }
        if header.producer_epoch > self.producer_epoch {
            return match header.base_sequence {
                0 => Ok(Verdict::Append),
                other => Err(out_of_order(header, format!("a new epoch starts at 0, not {other}"))),
            };
        }
        let same = |batch: &&BatchEntry| {
            batch.last_sequence == header.last_sequence() && batch.first_sequence() == header.base_sequence
        };
        if let Some(known) = self.batches.iter().find(same) {
            return Ok(Verdict::Duplicate(*known));
        }
        let expected = match self.last_sequence() {
            i32::MAX => 0,
            last => last + 1,
        };
        if header.base_sequence == expected {
            return Ok(Verdict::Append);
        }
        Err(out_of_order(
            header,
            format!("the next sequence is {expected}, the batch starts at {}", header.base_sequence),
        ))
    }

    /// Notes a batch that was appended.
    pub(crate) fn append(&mut self, header: &BatchHeader, now_ms: i64) {
        self.adopt_epoch(header.producer_epoch);
        if self.batches.len() == BATCHES_MAX {
            self.batches.pop_front();
        }
        self.batches.push_back(BatchEntry::of(header));
        self.last_timestamp_ms = now_ms;
    }

    /// Puts the batches that were remembered of the same producer before this one's, where they are of its epoch.
    pub(crate) fn put_before(&mut self, older: Self) {
        if older.producer_epoch == self.producer_epoch {
            let newer = std::mem::replace(&mut self.batches, older.batches);
            self.batches.extend(newer);
            let excess = self.batches.len().saturating_sub(BATCHES_MAX);
            self.batches.drain(..excess);
        }
    }

    /// Sequences of another epoch mean nothing.
    pub(crate) fn adopt_epoch(&mut self, producer_epoch: i16) {
        if self.producer_epoch != producer_epoch {
            self.producer_epoch = producer_epoch;
            self.batches.clear();
        }
    }
}

fn out_of_order(header: &BatchHeader, reason: String) -> AppendError {
    AppendError::new(
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        format!("out of order sequence of producer {}: {reason}", header.producer_id),
    )
}
