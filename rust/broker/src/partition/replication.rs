//! What a leader knows of its partition's replicas, and what follows: may it acknowledge, what is committed.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A follower as its fetches show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerState {
    /// Everything below is in its log; -1 before its first fetch in this leader epoch. A follower of a topic with
    /// `fastlog.durability = fsync` fetches on only when it has synced what it has.
    pub log_end_offset: i64,
    /// Where its log starts.
    pub log_start_offset: i64,
    /// The broker epoch that its fetches tell (KIP-903).
    pub broker_epoch: i64,
    /// When it last had all that its leader had, in monotonic time.
    pub caught_up_ns: i64,
    fetched_ns: i64,
    /// Where the leader's log ended at its last fetch.
    leader_end_offset: i64,
}

/// A fetch of a follower that found its log in line with ours.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FollowerFetch {
    pub(crate) replica_id: i32,
    pub(crate) broker_epoch: i64,
    pub(crate) fetch_offset: i64,
    pub(crate) log_start_offset: i64,
    /// Where the leader's log ended, for followers, when it came.
    pub(crate) leader_end_offset: i64,
    pub(crate) now_ns: i64,
}

/// The list, as the other one where that says the same.
fn shared(list: Vec<i32>, other: &Arc<[i32]>) -> Arc<[i32]> {
    if *list == **other { other.clone() } else { list.into() }
}

/// The replicas of a partition, as its leader sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    node_id: i32,
    /// Positions of an older leadership say nothing; a follower's say nothing at all.
    leader_epoch: Option<i32>,
    partition_epoch: i32,
    /// These three are one list as a rule, and share it.
    replicas: Arc<[i32]>,
    committed_isr: Arc<[i32]>,
    /// The maximal in-sync set: committed members and those whose addition is proposed.
    isr: Arc<[i32]>,
    min_insync_replicas: usize,
    /// Others are eligible to lead because they have all that was committed: nothing may be added to that.
    held: bool,
    epoch_start_offset: i64,
    followers: BTreeMap<i32, FollowerState>,
}

impl Replication {
    /// The replication of a partition led by `node_id`.
    pub fn new(node_id: i32, replicas: Vec<i32>, isr: Vec<i32>, min_insync_replicas: usize) -> Self {
        let replicas = replicas.into();
        let isr = shared(isr, &replicas);
        Self {
            node_id,
            leader_epoch: Some(0),
            partition_epoch: 0,
            replicas,
            committed_isr: isr.clone(),
            isr,
            min_insync_replicas,
            held: false,
            epoch_start_offset: 0,
            followers: BTreeMap::new(),
        }
    }

    /// A partition whose only replica is here.
    pub fn single(node_id: i32, min_insync_replicas: usize) -> Self {
        Self::new(node_id, vec![node_id], vec![node_id], min_insync_replicas)
    }

    /// Changes `min.insync.replicas`.
    pub fn set_min_insync_replicas(&mut self, min_insync_replicas: usize) {
        self.min_insync_replicas = min_insync_replicas;
    }

    /// Changes the replicas and the in-sync set, which nothing is proposed to any more; positions of replicas that left
    /// are forgotten.
    pub fn set_replicas(&mut self, replicas: Vec<i32>, isr: Vec<i32>) {
        self.followers.retain(|id, _| replicas.contains(id));
        self.replicas = replicas.into();
        self.isr = shared(isr, &self.replicas);
        self.committed_isr = self.isr.clone();
    }

    /// Leads from now on in another epoch: where followers are is to be told anew. Those in sync count as caught up now.
    pub(crate) fn lead(&mut self, leader_epoch: i32, epoch_start_offset: i64, now_ns: i64) {
        self.leader_epoch = Some(leader_epoch);
        self.epoch_start_offset = epoch_start_offset;
        let others = self.replicas.iter().filter(|id| **id != self.node_id);
        let unknown =
            others.map(|id| (*id, FollowerState::unknown(if self.isr.contains(id) { now_ns } else { 0 })));
        self.followers = unknown.collect();
    }

    /// Leads no more: nothing is committed from here.
    pub(crate) fn follow(&mut self) {
        self.leader_epoch = None;
        self.followers.clear();
    }

    /// The version of the controller's state that this is of.
    pub(crate) fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    pub(crate) fn set_partition_epoch(&mut self, partition_epoch: i32) {
        self.partition_epoch = partition_epoch;
    }

    /// Says whether the high watermark stands still however many are in sync, as it must while the state of the partition
    /// names eligible leader replicas: the controller may know another `min.insync.replicas` than this leader.
    pub(crate) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Changes the in-sync replicas: those that the controller confirmed, and with those that are proposed to it.
    pub(crate) fn set_isr(&mut self, committed: Vec<i32>, maximal: Vec<i32>) {
        for (id, follower) in &mut self.followers {
            if self.isr.contains(id) && !maximal.contains(id) {
                // whoever is taken out may be dead, though its session lasts: nobody waits for it to join before it
                // has fetched again
                follower.caught_up_ns = 0;
            }
        }
        self.committed_isr = shared(committed, &self.replicas);
        self.isr = shared(maximal, &self.committed_isr);
    }

    /// Whether it is led here, in that epoch, and the replica is one of it.
    pub(crate) fn knows(&self, leader_epoch: i32, replica_id: i32) -> bool {
        self.leader_epoch == Some(leader_epoch) && self.replicas.contains(&replica_id)
    }

    /// Notes how far a follower's log reaches (exclusive), without a fetch of it.
    pub fn note_position(&mut self, replica_id: i32, log_end_offset: i64) {
        if self.replicas.contains(&replica_id) {
            let unknown = FollowerState::unknown(0);
            let follower = self.followers.entry(replica_id).or_insert(unknown);
            follower.log_end_offset = log_end_offset;
        }
    }

    /// Notes a fetch (Kafka's `Replica.updateFetchStateOrThrow`): who has what the leader had at the fetch before was
    /// caught up then. True when its log starts elsewhere than before.
    pub(crate) fn note_fetch(&mut self, fetch: FollowerFetch) -> bool {
        let unknown = FollowerState::unknown(0);
        let follower = self.followers.entry(fetch.replica_id).or_insert(unknown);
        if fetch.fetch_offset >= fetch.leader_end_offset {
            follower.caught_up_ns = follower.caught_up_ns.max(fetch.now_ns);
        } else if follower.log_end_offset >= 0 && fetch.fetch_offset >= follower.leader_end_offset {
            follower.caught_up_ns = follower.caught_up_ns.max(follower.fetched_ns);
        }
        follower.log_end_offset = fetch.fetch_offset;
        let is_start_moved = follower.log_start_offset != fetch.log_start_offset;
        follower.log_start_offset = fetch.log_start_offset;
        follower.broker_epoch = fetch.broker_epoch;
        follower.fetched_ns = fetch.now_ns;
        follower.leader_end_offset = fetch.leader_end_offset;
        is_start_moved
    }

    /// Whether a follower that is not in the maximal in-sync set may join it (semantics row 58).
    pub(crate) fn is_joinable(&self, replica_id: i32, high_watermark: i64) -> bool {
        let end = self.followers.get(&replica_id).map_or(-1, |it| it.log_end_offset);
        !self.isr.contains(&replica_id) && end >= high_watermark && end >= self.epoch_start_offset
    }

    /// Of the given followers the one in sync that has the most, and has what comes at `offset`; of equals the one that was
    /// caught up last (Kafka's `RackAwareReplicaSelector`). None for one who does not lead.
    pub(crate) fn most_caught_up(&self, candidates: &[i32], offset: i64) -> Option<i32> {
        let has_it = |it: &FollowerState| it.log_end_offset >= offset.max(0) && it.log_start_offset <= offset;
        let in_sync = self
            .followers
            .iter()
            .filter(|(id, it)| candidates.contains(id) && self.committed_isr.contains(id) && has_it(it));
        in_sync.max_by_key(|(_, it)| (it.log_end_offset, it.caught_up_ns)).map(|(id, _)| *id)
    }

    /// Whether a replica is in sync, or its addition is proposed.
    pub(crate) fn is_in_sync(&self, replica_id: i32) -> bool {
        self.isr.contains(&replica_id)
    }

    /// The followers, by id.
    pub fn followers(&self) -> &BTreeMap<i32, FollowerState> {
        &self.followers
    }

    /// Where the log ended when this leadership began.
    pub fn epoch_start_offset(&self) -> i64 {
        self.epoch_start_offset
    }

    /// `min.insync.replicas`, but never more than there are replicas: one replica can always be written.
    pub fn effective_min_isr(&self) -> usize {
        self.min_insync_replicas.min(self.replicas.len())
    }

    /// Whether acks=all may be promised now.
    pub fn has_enough_in_sync(&self) -> bool {
        self.committed_isr.len() >= self.effective_min_isr()
    }

    /// Whether what is committed has as many copies as acks=all was promised.
    pub(crate) fn has_enough_copies(&self) -> bool {
        self.isr.len() >= self.effective_min_isr()
    }

    /// Whether nobody else confirms what is committed here.
    pub(crate) fn is_alone(&self) -> bool {
        self.isr.iter().all(|id| *id == self.node_id)
    }

    /// The first offset that is not on every in-sync replica, for a leader that has everything below `own_position`.
    /// None while it must stay where it is: too few replicas are in sync, others are eligible to lead, one in sync has not
    /// said where it is, or this is no leader.
    pub fn high_watermark(&self, own_position: i64) -> Option<i64> {
        if self.leader_epoch.is_none() || self.held || !self.has_enough_in_sync() {
            return None;
        }
        self.isr.iter().try_fold(own_position, |least, id| {
            let position = if *id == self.node_id {
                Some(own_position)
            } else {
                self.followers.get(id).map(|it| it.log_end_offset).filter(|position| *position >= 0)
            };
            position.map(|position| least.min(position))
        })
    }

    /// The same, but not past a follower that is about to join: under load it would never reach what runs ahead of it
    /// (Kafka's `maybeIncrementLeaderHW`).
    pub(crate) fn high_watermark_for_joiners(&self, own_position: i64, cluster: &Cluster) -> Option<i64> {
        let high_watermark = self.high_watermark(own_position)?;
        if self.followers.len() < self.isr.len() {
            // nobody is outside
            return Some(high_watermark);
        }
        let oldest_ns = cluster.clock.monotonic_ns()
            - i64::try_from(cluster.replica_lag_max.as_nanos()).unwrap_or(i64::MAX);
        let joining = self.followers.iter().filter(|(id, it)| {
            !self.isr.contains(id)
                && it.log_end_offset >= 0
                && it.caught_up_ns > 0
                && it.caught_up_ns >= oldest_ns
                && cluster.is_registered(**id, it.broker_epoch)
        });
        Some(joining.fold(high_watermark, |least, (_, it)| least.min(it.log_end_offset)))
    }
}

impl FollowerState {
    fn unknown(caught_up_ns: i64) -> Self {
        Self {
            log_end_offset: -1,
            log_start_offset: -1,
            broker_epoch: -1,
            caught_up_ns,
            fetched_ns: 0,
            leader_end_offset: 0,
        }
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
        replication.set_isr(vec![1], vec![1, 2]);
        replication.note_position(2, 10);
        assert_eq!(replication.high_watermark(10), None, "what is proposed does not lift the freeze");
        replication.set_min_insync_replicas(1);
        assert_eq!(replication.high_watermark(10), Some(10));
    }

    #[test]
    fn nothing_is_committed_while_others_are_eligible_to_lead() {
        let mut replication = Replication::new(1, vec![1, 2], vec![1], 1);
        replication.hold(true);
        assert_eq!(replication.high_watermark(10), None);
        assert!(replication.has_enough_in_sync(), "records are taken, as min.insync.replicas says here");
        replication.hold(false);
        assert_eq!(replication.high_watermark(10), Some(10));
    }

    fn fetch(fetch_offset: i64, leader_end_offset: i64, now_ns: i64) -> FollowerFetch {
        let (replica_id, broker_epoch, log_start_offset) = (2, 7, 0);
        FollowerFetch { replica_id, broker_epoch, fetch_offset, log_start_offset, leader_end_offset, now_ns }
    }

    #[test]
    fn a_follower_was_caught_up_when_it_asked_for_what_it_now_has() {
        let mut replication = Replication::new(1, vec![1, 2], vec![1, 2], 1);
        replication.lead(3, 5, 1);
        let caught_up = |it: &Replication| it.followers()[&2].caught_up_ns;
        replication.note_fetch(fetch(5, 10, 100));
        assert_eq!(caught_up(&replication), 1);
        replication.note_fetch(fetch(10, 20, 200));
        assert_eq!(caught_up(&replication), 100, "it has what there was at its last fetch");
        replication.note_fetch(fetch(15, 30, 300));
        assert_eq!(caught_up(&replication), 100, "it falls behind");
        replication.note_fetch(fetch(30, 30, 400));
        assert_eq!(caught_up(&replication), 400);
    }

    #[test]
    fn a_consumer_reads_from_who_is_in_sync_and_has_most() {
        let mut replication = Replication::new(1, vec![1, 2, 3], vec![1, 2, 3], 1);
        replication.lead(3, 0, 1);
        assert_eq!(replication.most_caught_up(&[2, 3], 0), None, "nobody knows where they are");
        replication.note_fetch(fetch(5, 9, 100));
        replication.note_fetch(FollowerFetch { replica_id: 3, log_start_offset: 4, ..fetch(7, 9, 100) });
        assert_eq!(replication.most_caught_up(&[2, 3], 5), Some(3));
        assert_eq!(replication.most_caught_up(&[2], 5), Some(2), "the other is not in the rack");
        assert_eq!(replication.most_caught_up(&[2, 3], 3), Some(2), "3 begins later");
        assert_eq!(replication.most_caught_up(&[2, 3], 8), None, "none is so far");
        replication.set_isr(vec![1, 2], vec![1, 2, 3]);
        assert_eq!(replication.most_caught_up(&[2, 3], 5), Some(2), "3 is only proposed");
    }

    #[test]
    fn a_follower_joins_from_the_epochs_start_on() {
        let mut replication = Replication::new(1, vec![1, 2], vec![1], 1);
        replication.lead(3, 8, 1);
        replication.note_fetch(fetch(7, 9, 10));
        assert!(!replication.is_joinable(2, 5), "it may lack the end of the epoch before");
        replication.note_fetch(fetch(8, 9, 20));
        assert!(replication.is_joinable(2, 8) && !replication.is_joinable(2, 9));
        replication.set_isr(vec![1], vec![1, 2]);
        assert!(!replication.is_joinable(2, 8), "it is proposed already");
    }
}
