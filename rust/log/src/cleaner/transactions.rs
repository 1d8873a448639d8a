//! Which batches belong to aborted transactions, and which markers nobody needs any more (Kafka's
//! `CleanedTransactionMetadata`).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::producer_state::read_marker;
use crate::segment::txn_index::AbortedTxn;
use fastlog_protocol::batch::BatchHeader;

/// What is known while the log is read in order.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    /// Producers that have a batch of a transaction that will be committed, whose marker comes later.
    committing: HashSet<i64>,
    /// Producers whose transaction will be aborted, and whether a batch of it was seen.
    aborting: HashMap<i64, (AbortedTxn, bool)>,
    /// Those that begin later.
    later: BinaryHeap<Reverse<ByFirstOffset>>,
}

#[derive(Debug, PartialEq, Eq)]
struct ByFirstOffset(AbortedTxn);

impl Ord for ByFirstOffset {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |it: &Self| (it.0.first_offset, it.0.last_offset, it.0.producer_id);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for ByFirstOffset {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What becomes of a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkerFate {
    /// There were batches of its transaction; an aborted one goes into the index of the copy.
    Needed(Option<AbortedTxn>),
    /// There was none left: it may go once its delete horizon is over.
    Unneeded,
}

impl Transactions {
    /// Of a part of the log that is read from its start, with all aborted transactions that have records there. Their
    /// markers may lie beyond.
    pub(crate) fn new(aborted: Vec<AbortedTxn>) -> Self {
        let later = aborted.into_iter().map(|txn| Reverse(ByFirstOffset(txn))).collect();
        Self { later, ..Self::default() }
    }

    /// Whether a batch of records belongs to an aborted transaction.
    pub(crate) fn note_batch(&mut self, header: &BatchHeader) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborting.get_mut(&header.producer_id) {
            Some((_, was_seen)) => {
                *was_seen = true;
                true
            }
            None => {
                self.committing.insert(header.producer_id);
                false
            }
        }
    }

    /// What becomes of a control batch.
    pub(crate) fn note_control(&mut self, header: &BatchHeader, batch: &[u8]) -> MarkerFate {
        self.begin_up_to(header.last_offset());
        if header.record_count == 0 {
            // its record went in an earlier pass
            return MarkerFate::Unneeded;
        }
        match read_marker(batch) {
            Some(marker) if marker.is_abort => match self.aborting.remove(&header.producer_id) {
                Some((aborted, true)) => MarkerFate::Needed(Some(aborted)),
                _ => MarkerFate::Unneeded,
            },
            Some(_) if !self.committing.remove(&header.producer_id) => MarkerFate::Unneeded,
            // also control records of other kinds
            _ => MarkerFate::Needed(None),
        }
    }

    /// Whether what was read lacks the marker of a transaction that was committed.
    pub(crate) fn awaits_commit(&self) -> bool {
        !self.committing.is_empty()
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(Reverse(first)) = self.later.peek()
            && first.0.first_offset <= offset
        {
            let Some(Reverse(ByFirstOffset(aborted))) = self.later.pop() else { return };
            self.aborting.entry(aborted.producer_id).or_insert((aborted, false));
        }
    }
}
