//! A partition led here: its log, its replicas, and who waits for it.

mod led;
mod replication;
mod table;

pub(crate) use led::find_led;
pub use replication::Replication;
pub use table::PartitionTable;

use crate::sync::{SyncStates, Syncs};
use crate::waiters::WaiterList;
use fastlog_log::{AppendError, AppendOptions, Appended, Log, LogConfig, LogError};
use fastlog_protocol::ErrorCode;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
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

/// A partition led here.
pub struct Partition {
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    log: Log,
    leader_epoch: AtomicI32,
    replication: Mutex<Replication>,
    waiters: WaiterList,
    deleted: AtomicBool,
    syncs: Arc<Syncs>,
    sync_states: SyncStates,
    /// Why nothing is synced here any more.
    sync_failure: OnceLock<String>,
}

impl Partition {
    /// A partition on an open log, led from now on in the epoch of its settings.
    pub(crate) fn new(settings: PartitionSettings, log: Log, syncs: Arc<Syncs>) -> Result<Self, LogError> {
        log.start_epoch(settings.leader_epoch)?;
        if log.durable_end_offset() < log.log_end_offset() {
            // left unsynced by a process that died: consumers are to find it, so it must be on the disk first
            log.flush()?;
        }
        let partition = Self {
            topic: settings.topic,
            topic_id: settings.topic_id,
            index: settings.index,
            log,
            leader_epoch: AtomicI32::new(settings.leader_epoch),
            replication: Mutex::new(settings.replication),
            waiters: WaiterList::new(),
            deleted: AtomicBool::new(false),
            syncs,
            sync_states: SyncStates::default(),
            sync_failure: OnceLock::new(),
        };
        partition.advance_high_watermark();
        Ok(partition)
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

    /// The epoch of this broker's leadership.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// Begins a new epoch of this broker's leadership; requests that wait with an older one are answered.
    pub fn set_leader_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        self.log.start_epoch(leader_epoch)?;
        self.leader_epoch.store(leader_epoch, Ordering::Release);
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

    /// Appends one batch in our epoch; never waits for a sync. With `fastlog.durability = fsync` it may be acknowledged
    /// once [`Log::durable_end_offset`] has passed it, which a sync thread tells those who wait. Otherwise they are not
    /// told yet: see [`Partition::notify`].
    pub fn append(
        self: &Arc<Self>,
        batch: &[u8],
        now_ms: i64,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let appended = self.log.append(batch, self.leader_epoch(), now_ms, options)?;
        // asked after the append: a change to fsync that it does not see here finds the batch in the log
        if self.log.syncs_appends() {
            self.ask_for_sync();
        } else {
            self.advance_high_watermark();
            if self.log.has_full_segment_to_flush() {
                self.syncs.ask_for_full_segments(self);
            }
        }
        Ok(appended)
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
            Ok(_) => self.advance_high_watermark(),
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
    }

    /// Whether acks=all may be promised now.
    pub fn has_enough_in_sync(&self) -> bool {
        self.replication.lock().has_enough_in_sync()
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
        let log_start_offset = self.log.delete_records(offset)?;
        self.notify();
        Ok(log_start_offset)
    }

    /// Whether the topic was deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Says that the topic is deleted: requests that wait are answered so.
    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.waiters.notify();
    }

    pub(crate) fn waiters(&self) -> &WaiterList {
        &self.waiters
    }

    fn advance_high_watermark(&self) {
        // our own position is read under the lock, so that two appends cannot report theirs in the wrong order
        let replication = self.replication.lock();
        if let Some(high_watermark) = replication.high_watermark(self.log.durable_end_offset()) {
            self.log.advance_high_watermark(high_watermark);
        }
    }
}
