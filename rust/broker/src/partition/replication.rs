//! What a leader knows of its partition's replicas, and what follows: may it acknowledge, what is committed.

use std::collections::BTreeMap;

/// The replicas of a partition, as its leader sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    node_id: i32,
    replicas: Vec<i32>,
    /// The maximal in-sync set: committed members and those whose addition is proposed.
    isr: Vec<i32>,
    min_insync_replicas: usize,
    /// Followers' log end offsets, as their fetches told. A follower of a topic with `fastlog.durability = fsync` fetches
    /// on only when it has synced what it has.
    positions: BTreeMap<i32, i64>,
}

impl Replication {
    /// The replication of a partition led by `node_id`.
    pub fn new(node_id: i32, replicas: Vec<i32>, isr: Vec<i32>, min_insync_replicas: usize) -> Self {
        Self { node_id, replicas, isr, min_insync_replicas, positions: BTreeMap::new() }
    }

    /// A partition whose only replica is here.
    pub fn single(node_id: i32, min_insync_replicas: usize) -> Self {
        Self::new(node_id, vec![node_id], vec![node_id], min_insync_replicas)
    }

    /// Changes `min.insync.replicas`.
    pub fn set_min_insync_replicas(&mut self, min_insync_replicas: usize) {
        self.min_insync_replicas = min_insync_replicas;
    }

    /// Changes the replicas and the maximal in-sync set; positions of replicas that left are forgotten.
    pub fn set_replicas(&mut self, replicas: Vec<i32>, isr: Vec<i32>) {
        self.positions.retain(|id, _| replicas.contains(id));
        self.replicas = replicas;
        self.isr = isr;
    }

    /// Notes how far a follower's log reaches (exclusive).
    pub fn note_position(&mut self, replica_id: i32, log_end_offset: i64) {
        if self.replicas.contains(&replica_id) {
            self.positions.insert(replica_id, log_end_offset);
        }
    }

    /// `min.insync.replicas`, but never more than there are replicas: one replica can always be written.
    pub fn effective_min_isr(&self) -> usize {
        self.min_insync_replicas.min(self.replicas.len())
    }

    /// Whether acks=all may be promised now.
    pub fn has_enough_in_sync(&self) -> bool {
        self.isr.len() >= self.effective_min_isr()
    }

    /// The first offset that is not on every in-sync replica, for a leader that has everything below `own_position`.
    /// None while it must stay where it is: too few replicas are in sync, or one has not said where it is.
    pub fn high_watermark(&self, own_position: i64) -> Option<i64> {
        if !self.has_enough_in_sync() {
            return None;
        }
        self.isr.iter().try_fold(own_position, |least, id| {
            let position =
                if *id == self.node_id { Some(own_position) } else { self.positions.get(id).copied() };
            position.map(|position| least.min(position))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_replica_commits_at_once_whatever_min_insync_replicas_says() {
        let replication = Replication::single(1, 2);
        assert_eq!(replication.effective_min_isr(), 1);
        assert!(replication.has_enough_in_sync());
        assert_eq!(replication.high_watermark(7), Some(7));
    }

    #[test]
    fn the_high_watermark_is_the_least_position_of_all_in_sync_not_of_a_majority() {
        let mut replication = Replication::new(1, vec![1, 2, 3], vec![1, 2, 3], 2);
        assert_eq!(replication.high_watermark(10), None, "nobody knows where 2 and 3 are");
        replication.note_position(2, 10);
        replication.note_position(3, 4);
        assert_eq!(replication.high_watermark(10), Some(4));
        replication.set_replicas(vec![1, 2, 3], vec![1, 2]);
        assert_eq!(replication.high_watermark(10), Some(10));
    }

    #[test]
    fn nothing_is_committed_below_the_effective_min_isr() {
        let mut replication = Replication::new(1, vec![1, 2, 3], vec![1], 2);
        assert!(!replication.has_enough_in_sync());
        assert_eq!(replication.high_watermark(10), None);
        replication.set_min_insync_replicas(1);
        assert_eq!(replication.high_watermark(10), Some(10));
    }
}
