//! One partition's log.
//!
//! One thread at a time writes (the writer lock); readers take a snapshot of the segment list and of the tail and never
//! wait for a system call of the writer. Lock order: cleaner → flushing → writer → epochs → segments → tail, and writer → what is
//! noted of transaction indexes → segments; a later one may be taken while an earlier one is held, never the other way round.
//! `stands_still_since` is the last of all. Who may not wait for a disk takes the first of them that it
//! needs by `lock_patiently` ([`standing`]).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::cleaner::CleanerState;
use crate::config::{Durability, LogConfig};
use crate::epoch_cache::{EpochCache, EpochStart};
use crate::error::LogError;
use crate::file_system::Storage;
use crate::producer_state::{KnownProducer, ProducerState};
use crate::recovery::producers::Snapshots;
use crate::segment::Segment;
use crate::segment::list::SegmentList;
use crate::txn_index_checkpoint::TxnIndexCheckpoint;

mod aborted;
pub mod after_tier;
pub mod append;
mod clean;
mod copied;
mod cut;
pub mod delete;
mod epochs;
mod flush;
pub mod future;
pub mod hand_over;
pub mod mend;
mod open;
pub mod read;
pub mod restore;
mod retention;
mod roll;
pub mod scrub;
pub mod standing;
pub(crate) mod tail;
pub mod tiered;
pub mod timestamp;
mod truncate;
mod write_back;

pub use open::LogOptions;
use tail::Tail;

/// Stands for "no open transaction".
const NOTHING_UNSTABLE: i64 = i64::MAX;

/// The log of one partition. All calls may come from any thread; those that touch files block.
#[derive(Debug)]
pub struct Log {
    /// Another one once the partition was moved; changes under the writer lock, and with all who cut, clean or flush held off.
    storage: RwLock<Arc<Storage>>,
    topic: String,
    partition: i32,
    topic_id: Option<Uuid>,
    directory: RwLock<PathBuf>,
    config: RwLock<Arc<LogConfig>>,
    /// `fastlog.durability` is fsync; beside the settings, so that an append need not ask them.
    syncs_appends: AtomicBool,
    segments: RwLock<Arc<SegmentList>>,
    tail: Mutex<Tail>,
    epochs: Mutex<EpochCache>,
    log_start_offset: AtomicI64,
    log_end_offset: AtomicI64,
    high_watermark: AtomicI64,
    recovery_point: AtomicI64,
    /// Below it the object store has all that the log has; `NOTHING_TIERED` = it has nothing.
    tiered_end_offset: AtomicI64,
    /// From where on local retention deletes nothing: what the store was not asked for. 0 until somebody asks.
    keep_from_offset: AtomicI64,
    first_unstable_offset: AtomicI64,
    /// A leader's append in an older epoch than this is refused: its leadership is over. Looked at by who has the writer.
    least_epoch: AtomicI32,
    writer: Mutex<Writer>,
    /// When a copy that takes its place began to hold the writer.
    stands_still_since: Mutex<Option<Instant>>,
    flushing: Mutex<()>,
    /// Since it was last asked to write them back.
    appended_bytes: AtomicU64,
    written_back: Mutex<write_back::WrittenBack>,
    /// A segment became full that no flush was about since.
    filled: AtomicBool,
    /// Files were made or renamed since the directory was last synced.
    directory_changed: AtomicBool,
    /// The directory was made in this run, or perhaps in one that died: neither its metadata nor its own name is synced.
    is_new: AtomicBool,
    cleaner: CleanerState,
    /// What is noted of transaction indexes; `None` until it is asked for.
    txn_indexes: Mutex<Option<TxnIndexCheckpoint>>,
    /// Deleted segments whose files are still there.
    deleted: Mutex<Vec<delete::DeletedSegment>>,
}

/// What only a writer needs.
#[derive(Debug)]
struct Writer {
    active: Arc<Segment>,
    /// Bytes since the last index entry.
    since_entry: u64,
    /// The byte up to which disk blocks are reserved for the active segment.
    reserved_to: u64,
    producers: ProducerState,
    /// The offset of the newest producer snapshot.
    snapshot_offset: i64,
    /// Why nothing may be appended any more: closed, deleted, or the end of the log is damaged.
    closed: Option<Box<LogError>>,
    /// A cut that is to be done first.
    broken_off: Option<Box<cut::BrokenOff>>,
    /// The latest leader epoch, so that an append need not ask the epochs.
    leader_epoch: i32,
}

impl Log {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The topic's id; `None` in directories older than topic ids.
    pub fn topic_id(&self) -> Option<Uuid> {
        self.topic_id
    }

    /// The partition's directory, which changes when the partition is deleted or moved.
    pub fn directory(&self) -> PathBuf {
        self.directory.read().clone()
    }

    /// The data directory that it lies in, which changes when the partition is moved.
    pub fn storage(&self) -> Arc<Storage> {
        Arc::clone(&self.storage.read())
    }

    fn snapshots<'a>(&self, segments: &'a SegmentList) -> Snapshots<'a> {
        Snapshots {
            storage: self.storage(),
            directory: self.directory(),
            segments,
            interval_bytes: self.config().index_interval_bytes,
            last: None,
        }
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        Arc::clone(&self.config.read())
    }

    /// Puts other settings in force, from the next call on.
    pub fn set_config(&self, config: Arc<LogConfig>) {
        let syncs_appends = config.durability == Durability::Fsync;
        *self.config.write() = config;
        self.syncs_appends.store(syncs_appends, Release);
    }

    /// Whether an append counts only once it is synced (`fastlog.durability`), which is for the caller to see to.
    pub fn syncs_appends(&self) -> bool {
        self.syncs_appends.load(Acquire)
    }

    /// The first offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start_offset.load(Acquire)
    }

    /// The offset that the next record will have.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset.load(Acquire)
    }

    /// The first offset that is not known to be on every in-sync replica: consumers read below it.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Acquire)
    }

    /// Moves the high watermark up to `offset`, but never down nor beyond the log's end; returns where it is then.
    pub fn advance_high_watermark(&self, offset: i64) -> i64 {
        let offset = offset.min(self.log_end_offset());
        let before = self.high_watermark.fetch_max(offset, Release);
        if before < offset && self.first_unstable_offset.load(Acquire) != NOTHING_UNSTABLE {
            // who goes on with a log that stood still sees to it
            if let Ok(mut writer) = self.lock_writer() {
                writer.producers.high_watermark_moved(offset);
                self.publish_unstable(&writer);
            }
        }
        before.max(offset)
    }

    /// The first offset that read-committed consumers may not read: that of the oldest open transaction, and at most
    /// the high watermark.
    pub fn last_stable_offset(&self) -> i64 {
        self.high_watermark().min(self.first_unstable_offset.load(Acquire))
    }

    /// Everything below survives the death of the machine.
    pub fn recovery_point(&self) -> i64 {
        self.recovery_point.load(Acquire)
    }

    /// Everything below is as durable here as `fastlog.durability` promises: the log's end with `os`, the recovery point
    /// with `fsync`. Nothing above may be acknowledged, or shown to a consumer.
    pub fn durable_end_offset(&self) -> i64 {
        if self.syncs_appends() { self.recovery_point() } else { self.log_end_offset() }
    }

    /// The latest leader epoch in the log; `None` when there is none yet.
    pub fn leader_epoch(&self) -> Option<i32> {
        self.epochs.lock().latest().map(|latest| latest.epoch)
    }

    /// The leader epochs of the log, ascending.
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.epochs.lock().entries().to_vec()
    }

    /// Bytes of batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments().iter().map(|segment| segment.size()).sum()
    }

    /// The number of the disk that it lies on.
    pub fn device(&self) -> u64 {
        self.storage().device()
    }

    /// How many segments there are, the active one included.
    pub fn segment_count(&self) -> usize {
        self.segments().len()
    }

    /// The first sequence of the oldest batch that is remembered of a producer in that epoch; None where nothing is. As
    /// many are remembered as a producer has on their way.
    ///
    /// # Errors
    /// `StandsStill`: see [`standing`].
    pub fn oldest_sequence(&self, producer_id: i64, producer_epoch: i16) -> Result<Option<i32>, LogError> {
        Ok(self.lock_writer()?.producers.oldest_sequence(producer_id, producer_epoch))
    }

    /// How many producers have state here.
    pub fn producer_count(&self) -> usize {
        self.writer.lock().producers.count()
    }

    /// The producers that have state here, by id.
    ///
    /// # Errors
    /// `StandsStill`: see [`standing`].
    pub fn producers(&self) -> Result<Vec<KnownProducer>, LogError> {
        Ok(self.lock_writer()?.producers.all())
    }

    pub(crate) fn segments(&self) -> Arc<SegmentList> {
        Arc::clone(&self.segments.read())
    }

    fn publish_unstable(&self, writer: &Writer) {
        let first = if writer.broken_off.is_some() {
            // the producers are still those of before
            self.log_start_offset()
        } else {
            writer.producers.first_unstable_offset().unwrap_or(NOTHING_UNSTABLE)
        };
        self.first_unstable_offset.store(first, Release);
    }

    /// An error when nothing may be written.
    fn check_writable(&self, writer: &Writer) -> Result<(), LogError> {
        self.check_open(writer)?;
        writer.broken_off.as_ref().map_or(Ok(()), |broken| Err(broken.reason.clone()))
    }

    /// The same for who does a cut that was broken off.
    fn check_open(&self, writer: &Writer) -> Result<(), LogError> {
        self.storage().check()?;
        writer.closed.as_ref().map_or(Ok(()), |closed| Err(LogError::clone(closed)))
    }

    /// A file to be written that could not be opened. Nothing was written, but a disk that fails there is bad; who has no
    /// descriptors left may try again.
    fn open_failed(&self, error: LogError) -> LogError {
        if let LogError::Io { source, .. } = &error
            && crate::file_system::is_disk_bad(source)
        {
            self.storage().poison(&error);
        }
        error
    }

    /// A write that failed: without room or a descriptor the caller may try again later, anything else takes the directory
    /// offline.
    pub(crate) fn write_failed(&self, error: LogError) -> LogError {
        self.storage().write_failed(error)
    }

    /// A sync that failed takes the directory offline, unless there was no descriptor for it: then it is still to be done.
    pub(crate) fn sync_failed(&self, error: &LogError) {
        self.storage().failed(error);
    }
}
