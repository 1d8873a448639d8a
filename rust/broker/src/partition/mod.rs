//! A partition of which a replica is here: its log, the role of this broker, its replicas, and who waits for it.
//!
//! The role is one atomic word. Changes of it, and all that a follower does to its log, take turns under `changing`; the
//! log itself refuses appends of a leadership that is over, so that those of clients take no lock more.

mod change;
mod follower;
mod led;
mod refusals;
mod replication;
mod role;
mod table;
mod throttled;
mod tiered;

pub use change::{Assignment, ChangeError};
pub use follower::{Fetched, FollowerPosition};
pub(crate) use led::find_led;
pub use replication::{FollowerState, Replication};
pub use role::{Duty, Role};
pub use table::PartitionTable;

use crate::cluster::{Cluster, Notice};
use crate::fetch::WatchList;
use refusals::Refusals;
pub(crate) use replication::FollowerFetch;
use role::RoleCell;

use crate::sync::{SyncStates, Syncs};
use crate::throttle::Listed;
use crate::tiers::PartitionTier;
use crate::waiters::WaiterList;
use arc_swap::ArcSwapOption;
use fastlog_log::{AppendError, AppendOptions, Appended, Log, LogConfig, LogError};
use fastlog_protocol::ErrorCode;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use uuid::Uuid;

/// What one partition's log and leader state are opened with.
#[derive(Clone, Debug)]
pub struct PartitionSettings {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub index: i32,
    /// The epoch of this broker's leadership.
    pub leader_epoch: i32,
    /// Who has the partition, and who is in sync.
    pub replication: Replication,
}

/// A partition of which a replica is here.
pub struct Partition {
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    log: Log,
    cluster: Arc<Cluster>,
    role: RoleCell,
    /// The node id of the leader, -1 for none.
    leader_id: AtomicI32,
    /// Held through a change of role, and while a follower changes its log.
    changing: Mutex<()>,
    replication: Mutex<Replication>,
    /// The high watermark when the lease was last seen in force; moves only where there is a lease that ends.
    leased_high_watermark: AtomicI64,
    /// What the leader told a follower of its high watermark.
    leaders_high_watermark: AtomicI64,
    refusals: Refusals,
    listed: Listed,
    waiters: WaiterList,
    watches: WatchList,
    syncs: Arc<Syncs>,
    sync_states: SyncStates,
    /// Why nothing is synced here any more.
    sync_failure: OnceLock<String>,
    /// What an object store has of it.
    tier: ArcSwapOption<PartitionTier>,
}

impl Partition {
    /// A partition on an open log, led from now on in the epoch of its settings.
    pub(crate) fn new(
        settings: PartitionSettings,
        log: Log,
        cluster: Arc<Cluster>,
        syncs: Arc<Syncs>,
    ) -> Result<Self, LogError> {
        let leader_epoch = settings.leader_epoch;
        let partition = Self::open(settings, log, cluster, syncs)?;
        partition.lead(leader_epoch)?;
        Ok(partition)
    }

    /// A partition on an open log, that follows nobody yet.
    pub(crate) fn open(
        settings: PartitionSettings,
        log: Log,
        cluster: Arc<Cluster>,
        syncs: Arc<Syncs>,
    ) -> Result<Self, LogError> {
        if log.durable_end_offset() < log.log_end_offset() {
            // left unsynced by a process that died: consumers are to find it, so it must be on the disk first
            log.flush()?;
        }
        let high_watermark = log.high_watermark();
        Ok(Self {
            topic: settings.topic,
            topic_id: settings.topic_id,
            index: settings.index,
            log,
            cluster,
            role: RoleCell::new(Role { duty: Duty::Follower, leader_epoch: -1 }),
            leader_id: AtomicI32::new(-1),
            changing: Mutex::new(()),
            replication: Mutex::new(settings.replication),
            leased_high_watermark: AtomicI64::new(high_watermark),
            leaders_high_watermark: AtomicI64::new(-1),
            refusals: Refusals::default(),
            listed: Listed::default(),
            waiters: WaiterList::new(),
            watches: WatchList::new(),
            syncs,
            sync_states: SyncStates::default(),
            sync_failure: OnceLock::new(),
            tier: ArcSwapOption::empty(),
        })
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The partition's number.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// The log. What is appended by way of it is seen by nobody who waits: use [`Partition::append`].
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What this broker is to the partition, and in which leader epoch.
    pub fn role(&self) -> Role {
        self.role.load()
    }

    /// The leader epoch, this broker's or that of the leader that it follows.
    pub fn leader_epoch(&self) -> i32 {
        self.role().leader_epoch
    }

    /// The node id of the leader, -1 for none.
    pub fn leader_id(&self) -> i32 {
        self.leader_id.load(Ordering::Acquire)
    }

    /// Whether this broker leads in that epoch still.
    pub(crate) fn leads_in(&self, leader_epoch: i32) -> bool {
        self.role() == Role { duty: Duty::Leader, leader_epoch }
    }

    /// Begins a new epoch of this broker's leadership; requests that wait with an older one are answered.
    pub fn set_leader_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        let change = self.changing.lock();
        self.lead(leader_epoch)?;
        drop(change);
        self.notify();
        Ok(())
    }

    /// Number of requests that wait for something here, some of them perhaps over.
    pub fn waiting_count(&self) -> usize {
        self.waiters.len()
    }

    /// Compares the leader epoch that a client knows with ours; -1 is no epoch.
    pub fn check_leader_epoch(&self, known: i32) -> Result<(), ErrorCode> {
        let current = self.leader_epoch();
        match known {
            -1 => Ok(()),
            older if older < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
            newer if newer > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// The same, and that this broker leads.
    pub(crate) fn check_leads(&self, known: i32) -> Result<(), ErrorCode> {
        match self.role().duty {
            Duty::Deleted => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Duty::Leader => self.check_leader_epoch(known),
            Duty::Follower => self.check_leader_epoch(known).and(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        }
    }

    /// Up to where a consumer may read here, and an error for one that may not read from `offset` on now: a new leader
    /// that has not committed in its epoch may know less than was shown before it (KIP-207), and one whose lease is over
    /// may be none any more.
    pub(crate) fn shown_end(&self, offset: i64) -> Result<i64, ErrorCode> {
        let high_watermark = self.log.high_watermark();
        if offset > high_watermark && self.lacks_commits(high_watermark) {
            return Err(ErrorCode::OFFSET_NOT_AVAILABLE);
        }
        if self.cluster.is_lease_over() && self.role().duty == Duty::Leader {
            let leased = self.leased_high_watermark.load(Ordering::Acquire);
            let is_beyond = leased < high_watermark && offset >= leased;
            return if is_beyond {
                Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)
            } else {
                Ok(leased.min(high_watermark))
            };
        }
        Ok(high_watermark)
    }

    /// Whether what was committed before this leadership, or on the leader that is followed, may reach beyond
    /// `high_watermark`.
    pub(crate) fn lacks_commits(&self, high_watermark: i64) -> bool {
        self.role().duty == Duty::Follower || high_watermark < self.replication.lock().epoch_start_offset()
    }

    /// Whether a produce request may be taken, and later acknowledged, as far as the replicas and the lease say.
    pub(crate) fn check_may_acknowledge(&self, acks_all: bool) -> Result<(), ErrorCode> {
        if !acks_all {
            let is_over = self.cluster.is_lease_over();
            return if is_over { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) } else { Ok(()) };
        }
        let replication = self.replication.lock();
        if !replication.has_enough_in_sync() {
            return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        // others that are in sync confirm this leadership by their fetches, and need no lease
        if replication.is_alone() && self.cluster.is_lease_over() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(())
    }

    /// Whether an acknowledgement that waits for nothing any more would rest on the lease alone, and that is over.
    pub(crate) fn lost_what_vouches(&self, acks_all: bool) -> bool {
        self.cluster.is_lease_over() && (!acks_all || self.replication.lock().is_alone())
    }

    /// Whether another broker may lead by now: what is here says nothing certain of the partition then.
    pub(crate) fn is_lease_over(&self) -> bool {
        self.cluster.is_lease_over()
    }

    /// Appends one batch in our epoch; never waits for a sync. With `fastlog.durability = fsync` it may be acknowledged
    /// once [`Log::durable_end_offset`] has passed it, which a sync thread tells those who wait. Otherwise they are not
    /// told yet: see [`Partition::notify`].
    pub fn append(
        self: &Arc<Self>,
        batch: &[u8],
        now_ms: i64,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        self.append_in(self.leader_epoch(), batch, now_ms, options)
    }

    /// The same in an epoch that was read before; NOT_LEADER_OR_FOLLOWER when it is over.
    pub(crate) fn append_in(
        self: &Arc<Self>,
        leader_epoch: i32,
        batch: &[u8],
        now_ms: i64,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let appended = self.log.append(batch, leader_epoch, now_ms, options)?;
        // asked after the append: a change to fsync that it does not see here finds the batch in the log
        if self.log.syncs_appends() {
            self.ask_for_sync();
        } else {
            self.advance_high_watermark();
            self.ask_for_later_writes();
        }
        Ok(appended)
    }

    /// What can be written or synced some time, of a topic whose appends are not synced.
    fn ask_for_later_writes(self: &Arc<Self>) {
        if self.log.takes_write_back() {
            self.syncs.ask_for_write_back(self);
        }
        if self.log.has_full_segment_to_flush() {
            self.syncs.ask_for_full_segments(self);
        }
    }

    /// Puts other settings in force. When appends are to be synced from now on, what is not synced yet is synced soon;
    /// when they need not be any more, those who wait for that are answered.
    pub fn configure(self: &Arc<Self>, config: Arc<LogConfig>, min_insync_replicas: usize) {
        self.log.set_config(config);
        self.ask_for_sync();
        self.update_replication(|it| it.set_min_insync_replicas(min_insync_replicas));
    }

    /// Whether all that the high watermark waits for is our own sync.
    pub(crate) fn waits_for_sync_alone(&self) -> bool {
        let log = self.log();
        let end = log.log_end_offset();
        log.durable_end_offset() < end && self.replication.lock().high_watermark(end) == Some(end)
    }

    /// Why what is not synced yet never will be, if that is so: a sync failed, and is not tried again.
    pub(crate) fn sync_failure(&self) -> Option<&str> {
        self.sync_failure.get().map(String::as_str)
    }

    pub(crate) fn fail_sync(&self, reason: &str) {
        self.sync_failure.get_or_init(|| reason.to_owned());
    }

    pub(crate) fn sync_states(&self) -> &SyncStates {
        &self.sync_states
    }

    /// Flushes the log and moves the high watermark; those who wait are not told yet. Blocks on the disk.
    pub(crate) fn sync(&self, flush: impl FnOnce(&Log) -> Result<i64, LogError>) {
        match flush(&self.log) {
            Ok(_) => {
                self.advance_high_watermark();
                self.tell_synced();
            }
            // whoever deleted it tells those who wait
            Err(LogError::Gone { .. }) => {}
            Err(error) => self.fail_sync(&error.to_string()),
        }
    }

    fn ask_for_sync(self: &Arc<Self>) {
        if self.log.durable_end_offset() < self.log.log_end_offset() {
            self.syncs.ask_for_appends(self);
        }
    }

    /// Tells those who wait that something changed here: records, watermarks, leadership.
    pub fn notify(&self) {
        self.waiters.notify();
        self.watches.notify();
    }

    /// Whether acks=all may be promised now.
    pub fn has_enough_in_sync(&self) -> bool {
        self.replication.lock().has_enough_in_sync()
    }

    /// Whether what acks=all waited for has enough copies still.
    pub(crate) fn has_enough_copies(&self) -> bool {
        self.replication.lock().has_enough_copies()
    }

    /// Of the given followers the one in sync that has the most, if it has what comes at `offset`.
    pub(crate) fn most_caught_up(&self, candidates: &[i32], offset: i64) -> Option<i32> {
        self.replication.lock().most_caught_up(candidates, offset)
    }

    /// What is known of the replicas.
    pub fn replication(&self) -> Replication {
        self.replication.lock().clone()
    }

    /// The least log start of this leader and of its live followers; -1 where one has not told its own.
    pub(crate) fn low_watermark(&self) -> i64 {
        let own = self.log.log_start_offset();
        let replication = self.replication.lock();
        let live = replication.followers().iter().filter(|(id, _)| self.cluster.is_live(**id));
        live.map(|(_, it)| it.log_start_offset).fold(own, i64::min)
    }

    /// Notes a fetch of a follower at `fetch_offset` that found no divergence; true when the high watermark or the
    /// follower's log start moved, and those who wait are to be told. The control plane hears of a follower that may join.
    pub(crate) fn note_fetch(&self, leader_epoch: i32, fetch: FollowerFetch) -> bool {
        let before = self.log.high_watermark();
        let mut replication = self.replication.lock();
        if !replication.knows(leader_epoch, fetch.replica_id) {
            return false;
        }
        let is_start_moved = replication.note_fetch(fetch);
        self.advance_with(&replication);
        let high_watermark = self.log.high_watermark();
        let is_joinable = replication.is_joinable(fetch.replica_id, high_watermark);
        drop(replication);
        if is_joinable {
            let (topic, index, replica_id) = (self.topic.clone(), self.index, fetch.replica_id);
            self.cluster.notices.push(Notice::Joinable { topic, index, replica_id });
        }
        is_start_moved || high_watermark > before
    }

    /// Whether a replica may follow this broker: it is in the assignment, and its broker epoch is the registered one.
    pub(crate) fn check_replica(
        &self,
        leader_epoch: i32,
        replica_id: i32,
        broker_epoch: i64,
    ) -> Result<(), ErrorCode> {
        if !self.replication.lock().knows(leader_epoch, replica_id) {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let is_registered = self.cluster.is_registered(replica_id, broker_epoch);
        if is_registered { Ok(()) } else { Err(ErrorCode::STALE_BROKER_EPOCH) }
    }

    /// Changes what is known of the replicas, then moves the high watermark and wakes who waits for that.
    pub fn update_replication(&self, change: impl FnOnce(&mut Replication)) {
        change(&mut self.replication.lock());
        self.advance_high_watermark();
        self.notify();
    }

    /// Removes records before `offset` (-1 = the high watermark); tells the new log start offset.
    /// `OFFSET_OUT_OF_RANGE` above the high watermark.
    pub fn delete_records(&self, offset: i64) -> Result<i64, LogError> {
        if self.role().duty == Duty::Follower {
            let reason = format!("{}-{} is not led here", self.topic, self.index);
            return Err(LogError::NotLeader { reason });
        }
        let log_start_offset = self.log.delete_records(offset)?;
        self.notify();
        Ok(log_start_offset)
    }

    /// Whether the topic was deleted.
    pub fn is_deleted(&self) -> bool {
        self.role().duty == Duty::Deleted
    }

    /// Says that the topic is deleted: requests that wait are answered so.
    pub(crate) fn set_deleted(&self) {
        {
            let _change = self.changing.lock();
            self.role.store(Role { duty: Duty::Deleted, ..self.role() });
        }
        self.notify();
    }

    pub(crate) fn waiters(&self) -> &WaiterList {
        &self.waiters
    }

    /// The fetch sessions that are told of changes here.
    pub(crate) fn watches(&self) -> &WatchList {
        &self.watches
    }

    /// Moves the high watermark to where the replicas are now, and says nothing.
    pub(crate) fn advance_high_watermark(&self) {
        self.advance_with(&self.replication.lock());
    }

    /// Our own position is read under the lock, so that two appends cannot report theirs in the wrong order.
    fn advance_with(&self, replication: &Replication) {
        let own_position = self.log.durable_end_offset();
        if let Some(offset) = replication.high_watermark_for_joiners(own_position, &self.cluster) {
            let high_watermark = self.log.advance_high_watermark(offset);
            if !self.cluster.lease.is_endless() && !self.cluster.is_lease_over() {
                self.leased_high_watermark.fetch_max(high_watermark, Ordering::Release);
            }
        }
    }

    /// The lease is in force again: what is committed by now may be shown, and those who wait look again.
    pub(crate) fn renew_lease(&self) {
        self.leased_high_watermark.fetch_max(self.log.high_watermark(), Ordering::Release);
        self.notify();
    }
}
