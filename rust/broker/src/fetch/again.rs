//! Clients that are sent the same records again and again, as one is that finds their checksum wrong.
//!
//! Kafka's protocol has no request by which a consumer could say so: it fetches again from where it is. What bytes turned
//! since they were read last only a checksum tells, and a fetch sends them unread. So it is noted, for each connection,
//! partition and offset, how often records were sent, and from the third time on the batch there is looked at
//! (`scrubber/doubts.rs`).
//!
//! The notes are in a table of fixed size, where a new one takes the place of whatever it falls upon: one that is lost has the
//! client only ask a few times more. A look reads the batch once, which was sent thrice, so nobody can make the broker
//! work much by it.

use crate::partition::Partition;
use crate::scrubber::Doubts;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So often the same is sent to a client before it is looked at.
const TIMES: u64 = 3;
/// 256 KiB, of which what is not used takes no memory.
const SLOTS: usize = 1 << 15;
const COUNT: u64 = 0xff;

/// What was sent to whom.
pub(crate) struct SentAgain {
    /// The upper bits of a hash, and in the lowest byte how often.
    slots: Box<[AtomicU64]>,
    hasher: RandomState,
    doubts: Arc<Doubts>,
}

impl SentAgain {
    /// Nothing was sent yet; what is sent too often goes to `doubts`.
    pub(crate) fn new(doubts: Arc<Doubts>) -> Self {
        let slots = std::iter::repeat_with(AtomicU64::default).take(SLOTS).collect();
        Self { slots, hasher: RandomState::new(), doubts }
    }

    /// Records from `offset` on are sent to a consumer.
    pub(crate) fn note(&self, connection_id: u64, partition: &Arc<Partition>, offset: i64) {
        let key = (connection_id, Arc::as_ptr(partition).addr(), offset);
        if self.count(self.hasher.hash_one(key)) < TIMES {
            return;
        }
        self.doubts.note(partition, offset, false);
    }

    /// How often it was noted since it was noted last; from [`TIMES`] on it begins anew.
    fn count(&self, hash: u64) -> u64 {
        let tag = hash & !COUNT;
        let index = usize::try_from(hash & COUNT | (hash >> 56) << 8).unwrap_or(0) % SLOTS;
        let Some(slot) = self.slots.get(index) else { return 0 };
        // two threads at the same slot may lose a count: see above
        let known = slot.load(Ordering::Relaxed);
        let count = if known & !COUNT == tag { (known & COUNT) + 1 } else { 1 };
        slot.store(if count < TIMES { tag | count } else { 0 }, Ordering::Relaxed);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_time_counts_and_others_in_between_do_not() {
        let sent = SentAgain::new(Arc::default());
        let hashes = [0x1234_5678_9abc_de00, 0x1234_5678_9abc_de01, 0xff00_0000_0000_0000];
        for times in [1, 2, 3, 1, 2, 3] {
            for hash in hashes {
                assert_eq!(sent.count(hash), times, "{hash:x}");
            }
        }
    }

    #[test]
    fn another_in_the_same_slot_takes_its_place() {
        let sent = SentAgain::new(Arc::default());
        let (one, another) = (0x0100_0000_0000_0100, 0x0100_0000_0000_0200);
        assert_eq!([sent.count(one), sent.count(one)], [1, 2]);
        assert_eq!(sent.count(another), 1);
        assert_eq!([sent.count(one), sent.count(one), sent.count(one)], [1, 2, 3]);
    }
}
