//! Batches of idempotent producers that were refused and will come again, so that those sent behind them wait for them.
//!
//! A producer has up to five batches on their way. Where the first one is refused, since this broker does not lead yet,
//! and the next one is judged a moment later, when it does, that one is out of order: librdkafka takes it for a gap,
//! raises its producer epoch, and what it is not certain of on other partitions it sends again as if it were new; there it
//! is then twice. Or the first one came here by way of the former leader; then the next one is appended, and librdkafka
//! takes the first one for delivered, at no offset. Apache Kafka handles the requests of a connection one after another,
//! with the answer in between, so that this is rare there; here they are handled as they come.
//!
//! Within a producer epoch sequences have no gaps, so whoever was refused comes first in any case. A refusal counts for
//! two seconds, and no longer than the log remembers no more batches of the producer than it can have on their way: after
//! that another leader has acknowledged the one that was refused here. What comes then is judged by its sequence alone.

use super::Partition;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::BatchHeader;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longer than requests are on their way that were sent before the refusal of the first was read.
const COUNTS_NS: i64 = 2_000_000_000;
/// Producers of a partition of which a refusal is kept. Where there were more, whoever is not among them may be one that was
/// refused, and is, until it is kept or that is long ago: a batch takes two tries for so long.
const PRODUCERS_MAX: usize = 256;

/// The first batch of a producer that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    error: ErrorCode,
    producer_epoch: i16,
    base_sequence: i32,
    at_ns: i64,
}

impl Refusal {
    fn counts(&self, header: &BatchHeader, now_ns: i64) -> bool {
        self.producer_epoch == header.producer_epoch && now_ns - self.at_ns < COUNTS_NS
    }
}

/// The refusals of one partition, by producer.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kept: Mutex<Kept>,
    /// How many there are: read for each batch, where there are none as a rule.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    by_producer: BTreeMap<i64, Refusal>,
    /// The last one for which there was no room: its error, and when.
    other: Option<(ErrorCode, i64)>,
}

impl Kept {
    /// Keeps a refusal, if there is none of an earlier batch; false where there is no room.
    fn keep(&mut self, header: &BatchHeader, error: ErrorCode, at_ns: i64) -> bool {
        let (producer_epoch, base_sequence) = (header.producer_epoch, header.base_sequence);
        let refusal = Refusal { error, producer_epoch, base_sequence, at_ns };
        let refusals = &mut self.by_producer;
        if refusals.len() >= PRODUCERS_MAX {
            refusals.retain(|_, it| at_ns - it.at_ns < COUNTS_NS);
        }
        let known = refusals.get(&header.producer_id);
        if known.is_none() && refusals.len() >= PRODUCERS_MAX {
            return false;
        }
        let is_behind = known
            .is_some_and(|it| it.counts(header, at_ns) && is_after(header.base_sequence, it.base_sequence));
        if !is_behind {
            refusals.insert(header.producer_id, refusal);
        }
        true
    }

    fn len(&self) -> usize {
        self.by_producer.len() + usize::from(self.other.is_some())
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn is_after(sequence: i32, other: i32) -> bool {
    sequence != other && sequence.wrapping_sub(other) & i32::MAX <= i32::MAX / 2
}

impl Partition {
    /// Notes that a batch was refused for now, and not for another one's sake: what its producer sent behind it is to be
    /// refused too.
    pub(crate) fn note_refused(&self, header: &BatchHeader, error: ErrorCode) {
        if header.producer_id < 0 || header.base_sequence < 0 {
            return;
        }
        let now_ns = self.cluster.clock.monotonic_ns();
        let mut kept = self.refusals.kept.lock();
        if !kept.keep(header, error, now_ns) {
            kept.other = Some((error, now_ns));
        }
        self.refusals.count.store(kept.len(), Ordering::Release);
    }

    /// The error of an earlier batch of the same producer that has not come again, for one that is to be appended.
    pub(crate) fn waits_for_refused(&self, header: &BatchHeader) -> Option<ErrorCode> {
        if self.refusals.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        loop {
            let known = self.refusals.kept.lock().by_producer.get(&header.producer_id).copied();
            let Some(refusal) = known else { return self.may_be_another(header) };
            // the log is asked without the lock, which those of other producers want too
            let counts = refusal.counts(header, self.cluster.clock.monotonic_ns())
                && header.base_sequence != refusal.base_sequence
                && self.may_still_come(header, &refusal);
            if counts {
                return is_after(header.base_sequence, refusal.base_sequence).then_some(refusal.error);
            }
            let mut kept = self.refusals.kept.lock();
            if kept.by_producer.get(&header.producer_id) == Some(&refusal) {
                kept.by_producer.remove(&header.producer_id);
                self.refusals.count.store(kept.len(), Ordering::Release);
                return None;
            }
        }
    }

    /// The error of a refusal that was not kept, which may be one of this producer. Now it is kept, if there is room; that
    /// alone makes no other one count for longer.
    fn may_be_another(&self, header: &BatchHeader) -> Option<ErrorCode> {
        if header.producer_id < 0 || header.base_sequence < 0 {
            return None;
        }
        let now_ns = self.cluster.clock.monotonic_ns();
        let mut kept = self.refusals.kept.lock();
        let (error, at_ns) = kept.other?;
        let counts = now_ns - at_ns < COUNTS_NS;
        if counts {
            kept.keep(header, error, now_ns);
        } else {
            kept.other = None;
        }
        self.refusals.count.store(kept.len(), Ordering::Release);
        counts.then_some(error)
    }

    /// Whether the log does not say that the refused batch is long there. While it stands still it says nothing, and nothing
    /// can be appended: then the refusal counts, and is judged when the log goes on.
    fn may_still_come(&self, header: &BatchHeader, refusal: &Refusal) -> bool {
        match self.log.oldest_sequence(header.producer_id, header.producer_epoch) {
            Ok(oldest) => oldest.is_none_or(|oldest| !is_after(oldest, refusal.base_sequence)),
            Err(_stands_still) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_follow_each_other_round_their_end() {
        assert!(is_after(1, 0) && is_after(0, i32::MAX) && is_after(4, i32::MAX - 3));
        assert!(!is_after(0, 0) && !is_after(0, 1) && !is_after(i32::MAX, 0));
    }
}
