//! The broker: what requests are handled with.

use crate::budget::ByteBudget;
use crate::cluster::{Cluster, Notices};
use crate::deletion::Deletions;
use crate::disk::{DiskThreads, MayWait};
use crate::events::{Events, wall_clock_ms};
use crate::fetch::{SentAgain, SessionCache};
use crate::image::{Lane, PublishedImage};
use crate::partition::{Assignment, ChangeError, Partition, PartitionSettings, PartitionTable, find_led};
use crate::request::context::{Authorizer, Operation, RequestContext, Resource};
use crate::request::control_queue::{ControlQueue, ControlRequest};
use crate::request::response::{Outcome, Reply};
use crate::scrubber::Doubts;
use crate::sync::SyncThreads;
use crate::tiers::Tiers;
use crate::waiters::Timer;
use crate::wakeup::Wakeup;
use fastlog_log::{Log, LogConfig, LogError};
use fastlog_protocol::ErrorCode;
use fastlog_tiers::{Reader, Tier};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What a broker is told at its start.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `node.id`
    pub node_id: i32,
    /// Requests that may wait for the control plane in each of its queues (`queued.max.requests`).
    pub control_queue_max: usize,
    /// Bytes of requests held in memory (`queued.max.request.bytes`).
    pub request_bytes_max: usize,
    /// Log lines that may wait for the control plane; the newest are dropped and counted above it.
    pub events_max: usize,
    /// `fetch.max.bytes`: the most that one fetch answers, its first batch apart.
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`
    pub fetch_sessions_max: usize,
    /// Kafka's constant: a fetch session may give way to another after this long.
    pub fetch_session_evict_after: Duration,
    /// Requests that may wait for records or replicas; above it the newest is answered at once.
    pub waiters_max: usize,
    /// How long a segment has been full before it is synced.
    pub full_segment_sync_delay: Duration,
    /// `replica.lag.time.max.ms`
    pub replica_lag_max: Duration,
    /// `broker.rack`
    pub rack: Option<String>,
    /// Whether consumers that tell their rack are sent to an in-sync replica in it (`replica.selector.class`).
    pub rack_aware: bool,
    /// Where the ids of fetch sessions come from; None = chance.
    pub fetch_session_seed: Option<u64>,
}

impl Default for BrokerConfig {
    /// Kafka's defaults for node 1, with limits where Kafka has none.
    fn default() -> Self {
        Self {
            node_id: 1,
            control_queue_max: 10_000,
            request_bytes_max: 1 << 30,
            events_max: 1024,
            fetch_bytes_max: 55 << 20,
            fetch_sessions_max: 1000,
            fetch_session_evict_after: Duration::from_secs(120),
            waiters_max: 100_000,
            // vm.dirty_expire_centisecs: by then the kernel has written it by itself, and the sync has little to do
            full_segment_sync_delay: Duration::from_secs(30),
            replica_lag_max: Duration::from_secs(30),
            rack: None,
            rack_aware: false,
            fetch_session_seed: None,
        }
    }
}

/// The longest that a fetch session goes without a look at all of its partitions. A follower that fetches, and has all
/// of a partition that nothing is written to, counts as caught up as of the last such look.
const LOOK_AT_ALL_MAX: Duration = Duration::from_secs(5);

/// A disk that does not answer for so long hangs.
const DISK_STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Tells the wall clock, for timestamps and retention, and clocks that decide.
pub trait Clock: Send + Sync {
    /// The wall clock, for timestamps and retention: milliseconds since the epoch.
    fn now_ms(&self) -> i64;
    /// Nanoseconds since some moment, which never go back: those of Python's `time.monotonic_ns`.
    fn monotonic_ns(&self) -> i64;
    /// The monotonic clock, for deadlines.
    fn now(&self) -> Instant;
}

/// The system's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        wall_clock_ms()
    }

    fn monotonic_ns(&self) -> i64 {
        fastlog_sys::clock::monotonic_ns()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The data plane of one broker.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) image: Arc<PublishedImage>,
    pub(crate) partitions: Arc<PartitionTable>,
    pub(crate) sessions: Arc<SessionCache>,
    pub(crate) sent: Arc<SentAgain>,
    pub(crate) doubts: Arc<Doubts>,
    pub(crate) timer: Timer,
    pub(crate) deletions: Deletions,
    syncs: SyncThreads,
    disks: Arc<DiskThreads>,
    /// Whether work may be shared by threads.
    pub(crate) has_threads: bool,
    /// For who goes on with a request on another thread.
    this: Weak<Self>,
    control: ControlQueue,
    groups: ControlQueue,
    tiers: OnceLock<Arc<Tiers>>,
    events: Events,
    budget: Arc<ByteBudget>,
    wakeup: Arc<Wakeup>,
}

impl Broker {
    /// A broker without partitions. Fails when its eventfd or a thread cannot be made.
    pub fn new(
        config: BrokerConfig,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let timer = Timer::start(config.waiters_max)?;
        let disks = DiskThreads::new();
        let syncs = SyncThreads::start(config.full_segment_sync_delay, &clock, &disks)?;
        Self::with(config, authorizer, clock, timer, (syncs, disks), true)
    }

    /// As [`Broker::new`], but nothing happens by itself: deadlines pass in [`Broker::run_until_now`], syncs are done in
    /// [`Broker::run_syncs`]. For simulations.
    pub fn without_threads(
        config: BrokerConfig,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Arc<Self>> {
        let timer = Timer::new(config.waiters_max);
        let syncs = SyncThreads::none(config.full_segment_sync_delay, &clock);
        Self::with(config, authorizer, clock, timer, (syncs, DiskThreads::new()), false)
    }

    fn with(
        config: BrokerConfig,
        authorizer: Arc<dyn Authorizer>,
        clock: Arc<dyn Clock>,
        timer: Timer,
        (syncs, disks): (SyncThreads, Arc<DiskThreads>),
        has_threads: bool,
    ) -> io::Result<Arc<Self>> {
        let doubts = Arc::<Doubts>::default();
        let (wakeup, groups_wakeup) = (Arc::new(Wakeup::new()?), Arc::new(Wakeup::new()?));
        Ok(Arc::new_cyclic(|this| Self {
            authorizer,
            cluster: Cluster::new(config.node_id, clock.clone(), config.replica_lag_max, wakeup.clone()),
            clock,
            image: Arc::new(PublishedImage::new()),
            partitions: Arc::default(),
            sessions: Arc::new(SessionCache::new(
                config.fetch_sessions_max,
                config.fetch_session_evict_after,
                (config.replica_lag_max / 8).min(LOOK_AT_ALL_MAX),
                config.fetch_session_seed,
            )),
            sent: Arc::new(SentAgain::new(doubts.clone())),
            doubts,
            timer,
            deletions: Deletions::default(),
            syncs,
            disks,
            has_threads,
            this: this.clone(),
            control: ControlQueue::new(config.control_queue_max, wakeup.clone()),
            groups: ControlQueue::new(config.control_queue_max, groups_wakeup),
            tiers: OnceLock::new(),
            events: Events::new(config.events_max, wakeup.clone()),
            budget: ByteBudget::new(config.request_bytes_max),
            wakeup,
            config,
        }))
    }

    /// Handles one request: header and body, without the length prefix of a TCP frame. Nothing of `request` is
    /// kept after the call. `reply` makes the way back for an answer that comes later; it is called at most
    /// once, and only when the outcome is [`Outcome::Later`]. Does not wait, but appends to files.
    pub fn handle(
        &self,
        context: &RequestContext,
        request: &[u8],
        reply: &mut dyn FnMut() -> Reply,
    ) -> Outcome {
        crate::dispatch::dispatch(self, context, request, reply)
    }

    /// Answers a Metadata request that came through [`Broker::control`], from the image as it is now.
    pub fn answer_metadata(&self, request: ControlRequest) {
        crate::dispatch::answer_metadata(self, request);
    }

    /// The requests that the control plane is to answer, but for those of groups.
    pub fn control(&self) -> &ControlQueue {
        &self.control
    }

    /// The requests of groups, which the control plane is to answer; it has a wakeup of its own.
    pub fn groups(&self) -> &ControlQueue {
        &self.groups
    }

    pub(crate) fn queue(&self, lane: Lane) -> &ControlQueue {
        match lane {
            Lane::Control => &self.control,
            Lane::Groups => &self.groups,
        }
    }

    /// The log lines that the control plane is to write.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// Becomes readable when [`Broker::control`] or [`Broker::events`] has something.
    pub fn wakeup(&self) -> &Arc<Wakeup> {
        &self.wakeup
    }

    /// The clocks.
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The budget of request bytes.
    pub fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    /// The threads that wait for disks.
    pub fn disks(&self) -> &Arc<DiskThreads> {
        &self.disks
    }

    /// For which disks a thread may wait that serves everybody.
    pub(crate) fn may_wait(&self) -> MayWait {
        if self.has_threads { MayWait::ForNone } else { MayWait::ForAll }
    }

    /// Itself; None while the last who held it lets it go.
    pub(crate) fn this(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// The metadata image.
    pub fn image(&self) -> &PublishedImage {
        &self.image
    }

    /// The partitions that are open here.
    pub fn partitions(&self) -> &PartitionTable {
        &self.partitions
    }

    /// Begins to lead a partition whose log is open.
    pub fn add_partition(&self, settings: PartitionSettings, log: Log) -> Result<Arc<Partition>, LogError> {
        let partition =
            Arc::new(Partition::new(settings, log, self.cluster.clone(), self.syncs.syncs().clone())?);
        self.insert_partition(partition)
    }

    /// Takes in a partition whose log is open, in the role that `to` says.
    pub fn add_replica(
        &self,
        settings: PartitionSettings,
        log: Log,
        tier: Option<Tier>,
        to: &Assignment,
    ) -> Result<Arc<Partition>, ChangeError> {
        let (cluster, syncs) = (self.cluster.clone(), self.syncs.syncs().clone());
        let partition = Arc::new(Partition::open(settings, log, cluster, syncs)?);
        if let Some((tier, tiers)) = tier.zip(self.tiers()) {
            partition.set_tier(tier, tiers.reader());
        }
        partition.change(to)?;
        Ok(self.insert_partition(partition)?)
    }

    /// As [`Broker::add_partition`], of a log whose front is in the object store.
    pub(crate) fn add_tiered_partition(
        &self,
        settings: PartitionSettings,
        log: Log,
        (tier, reader): (Tier, &Arc<Reader>),
    ) -> Result<Arc<Partition>, LogError> {
        let (cluster, syncs) = (self.cluster.clone(), self.syncs.syncs().clone());
        let partition = Arc::new(Partition::new(settings, log, cluster, syncs)?);
        partition.set_tier(tier, reader);
        self.insert_partition(partition)
    }

    /// Takes an object store into use, once, before partitions are opened.
    pub fn set_tiers(&self, tiers: Arc<Tiers>) {
        // the first one stays
        let _set = self.tiers.set(tiers);
    }

    /// The object store, if there is one.
    pub fn tiers(&self) -> Option<&Arc<Tiers>> {
        self.tiers.get()
    }

    fn insert_partition(&self, partition: Arc<Partition>) -> Result<Arc<Partition>, LogError> {
        if !self.partitions.insert(partition.clone()) {
            let reason = format!("partition {}-{} is open already", partition.topic(), partition.index());
            return Err(LogError::Invalid { reason });
        }
        Ok(partition)
    }

    /// Stops serving a partition because its topic is deleted: requests that wait get
    /// `UNKNOWN_TOPIC_OR_PARTITION`, and the directory is renamed, to be purged later; the data directory is the caller's
    /// to sync. False when there is none.
    pub fn delete_partition(&self, topic: &str, index: i32) -> Result<bool, LogError> {
        let Some(partition) = self.partitions.remove(topic, index) else { return Ok(false) };
        partition.set_deleted();
        partition.log().mark_deleted()?;
        Ok(true)
    }

    /// The same, but its directory stays where it is: its disk failed.
    pub(crate) fn leave_partition(&self, topic: &str, index: i32) {
        if let Some(partition) = self.partitions.remove(topic, index) {
            partition.set_deleted();
        }
    }

    /// Puts a replica away that is of no later leader epoch: requests that wait get `UNKNOWN_TOPIC_OR_PARTITION`, and the
    /// directory is renamed, to be purged later; the data directory is the caller's to sync. None when there is none of
    /// that topic id, or a later one. `StandsStill` where its log does so for long, and it is to be tried again.
    pub(crate) fn delete_replica(
        &self,
        topic: &str,
        topic_id: Uuid,
        index: i32,
        leader_epoch: i32,
    ) -> Result<Option<Arc<Partition>>, LogError> {
        let open = self.partitions.get(topic, index).filter(|it| it.topic_id() == topic_id);
        let Some(partition) = open.filter(|it| it.put_away(leader_epoch)) else { return Ok(None) };
        // one whose directory could not be renamed is found again
        partition.log().mark_deleted_patiently()?;
        self.partitions.remove(topic, index);
        Ok(Some(partition))
    }

    /// Leads nothing any more: each partition led here is followed, without a leader, in its epoch. Answers how many.
    pub fn resign(&self) -> usize {
        self.partitions.all().iter().filter(|it| it.resign()).count()
    }

    /// The epochs under which brokers are registered (KIP-380): a follower's fetches count only under its own. High
    /// watermarks that waited for a broker that is gone move.
    pub fn set_broker_epochs(&self, epochs: HashMap<i32, i64>) {
        self.cluster.set_broker_epochs(epochs);
        for partition in self.partitions.all() {
            if !partition.replication().followers().is_empty() {
                partition.advance_high_watermark();
                partition.notify();
            }
        }
    }

    /// Says until when this broker may act for itself alone, in monotonic nanoseconds; `i64::MAX` is for ever.
    pub fn set_lease(&self, until_ns: i64) {
        let was_over = self.cluster.is_lease_over() || self.cluster.lease.is_endless();
        self.cluster.lease.set(until_ns);
        if was_over && !self.cluster.is_lease_over() {
            self.partitions.all().iter().for_each(|it| it.renew_lease());
        }
    }

    /// What the control plane is to hear of partitions.
    pub fn notices(&self) -> &Notices {
        &self.cluster.notices
    }

    /// Changes the settings of a topic's open partitions.
    pub fn configure_topic(&self, topic: &str, config: &Arc<LogConfig>, min_insync_replicas: usize) {
        for partition in self.partitions.of_topic(topic) {
            partition.configure(config.clone(), min_insync_replicas);
        }
    }

    /// Which replicas of a topic are throttled while they are behind: `*` or `partition:broker` each.
    pub fn throttle_topic<S: AsRef<str>>(&self, topic: &str, leaders: &[S], followers: &[S]) {
        for partition in self.partitions.of_topic(topic) {
            partition.list_throttled(leaders, followers);
        }
    }

    /// How many bytes a second throttled replicas send and fetch here; `i64::MAX` is no limit.
    pub fn set_replication_rates(&self, leader: u64, follower: u64) {
        let now_ns = self.clock.monotonic_ns();
        self.cluster.throttle.leader.set_rate(leader, now_ns);
        self.cluster.throttle.follower.set_rate(follower, now_ns);
    }

    /// The followers here that are to ask for nothing now, because as much was fetched as may be: topic id, partition.
    pub fn held_back(&self) -> Vec<(Uuid, i32)> {
        if !self.cluster.throttle.follower.is_exceeded(|| self.clock.monotonic_ns()) {
            return Vec::new();
        }
        let all = self.partitions.all();
        all.iter().filter(|it| it.is_held_back()).map(|it| (it.topic_id(), it.index())).collect()
    }

    /// Answers all long polls now and every later one at once, and gives up what the control plane has not
    /// taken: call it before a server's shutdown. Produce requests that only wait for a sync are still answered by
    /// that, until [`Broker::shutdown`].
    pub fn finish_waiting(&self) {
        self.timer.finish_all();
        self.control.close();
        self.groups.close();
    }

    /// Ends the broker's threads, after the syncs that were asked for. Closing the logs is left to who opened them.
    pub fn shutdown(&self) {
        self.finish_waiting();
        self.timer.stop();
        self.syncs.stop();
        // what is still read is for nobody, and a disk that hangs is not waited for
        self.disks.stop(DISK_STOP_PATIENCE);
    }

    /// When something is due next: a deadline, or the sync of full segments. For [`Broker::without_threads`].
    pub fn next_due(&self) -> Option<Instant> {
        self.timer.next_deadline().into_iter().chain(self.syncs.full_segments_due()).min()
    }

    /// Does what is due by now. For [`Broker::without_threads`].
    pub fn run_until_now(&self) {
        self.timer.run_until(self.clock.now());
        self.syncs.run_full_segments();
    }

    /// Syncs what was appended to topics with `fastlog.durability = fsync`. For [`Broker::without_threads`].
    pub fn run_syncs(&self) {
        self.syncs.run_appends();
    }

    /// Ends all requests that wait, as the death of the process does; their answers say nothing. For simulations.
    pub fn abandon(&self) {
        self.finish_waiting();
        for partition in self.partitions.all() {
            partition.fail_sync("the process is dead");
            partition.notify();
        }
    }

    /// The partition if it is open here; else the error that a client is told.
    pub(crate) fn open_partition(&self, topic: &str, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let open = || self.partitions.get(topic, index);
        let described = || self.image.load().topic(topic).cloned();
        find_led(self.config.node_id, self.cluster.lease.is_endless(), index, open, described)
    }

    /// The same by the id of the topic, whose name is `topic` as far as is known; `other` where what is open under that name
    /// is of another id: the topic was deleted and made again.
    pub(crate) fn open_partition_by_id(
        &self,
        topic_id: Uuid,
        topic: &str,
        index: i32,
        other: ErrorCode,
    ) -> Result<Arc<Partition>, ErrorCode> {
        if let Some(partition) = self.partitions.get_by_id(topic_id, index) {
            return Ok(partition);
        }
        let partition = self.open_partition(topic, index)?;
        if partition.topic_id() == topic_id { Ok(partition) } else { Err(other) }
    }

    /// The name of the topic with that id, as the partitions here or the image know it.
    pub(crate) fn topic_name(&self, id: Uuid) -> Option<Arc<str>> {
        self.partitions.name(id).or_else(|| self.image.load().topic_by_id(id).map(|it| it.name.clone()))
    }

    pub(crate) fn allows(
        &self,
        context: &RequestContext,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        self.authorizer.allows(context, operation, resource)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.timer.stop();
    }
}
