//! Whether the replica here is to be sparing with the network now (KIP-73), as the leader and as a follower.

use super::{Duty, Partition};
use crate::throttle::lists;
use std::sync::atomic::Ordering;

impl Partition {
    /// Takes over the topic's `leader.` and `follower.replication.throttled.replicas`.
    pub(crate) fn list_throttled<S: AsRef<str>>(&self, leaders: &[S], followers: &[S]) {
        let has_this = |items: &[S]| lists(items, self.index, self.cluster.node_id);
        self.listed.leader.store(has_this(leaders), Ordering::Release);
        self.listed.follower.store(has_this(followers), Ordering::Release);
    }

    /// Whether nothing is to be sent to a follower now: this leader is throttled and the follower is not in sync.
    pub(crate) fn is_kept_from(&self, replica_id: i32) -> bool {
        self.listed.leader.load(Ordering::Acquire)
            && self.cluster.throttle.leader.is_exceeded(|| self.cluster.clock.monotonic_ns())
            && !self.replication.lock().is_in_sync(replica_id)
    }

    /// Counts what a follower is sent.
    pub(crate) fn note_sent(&self, bytes: usize) {
        if self.listed.leader.load(Ordering::Acquire) {
            self.cluster.throttle.leader.record(bytes, || self.cluster.clock.monotonic_ns());
        }
    }

    /// Counts what a leader has sent.
    pub(super) fn note_fetched(&self, bytes: usize) {
        if self.listed.follower.load(Ordering::Acquire) {
            self.cluster.throttle.follower.record(bytes, || self.cluster.clock.monotonic_ns());
        }
    }

    /// Whether this follower is to ask for nothing now: it is throttled and behind what its leader has committed, or does
    /// not know that yet. To be asked while the broker's rate is exceeded.
    pub(crate) fn is_held_back(&self) -> bool {
        let committed = self.leaders_high_watermark.load(Ordering::Acquire);
        self.listed.follower.load(Ordering::Acquire)
            && self.role().duty == Duty::Follower
            && (committed < 0 || committed > self.log.log_end_offset())
    }
}
