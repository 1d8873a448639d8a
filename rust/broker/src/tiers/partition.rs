//! What the store has of a partition that is open here, for those who read.

use super::looks::Looks;
use crate::partition::Partition;
use crate::request::response::FileRange;
use fastlog_log::{AbortedTxn, AfterTier, LogError, TimestampedOffset};
use fastlog_protocol::ErrorCode;
use fastlog_tiers::{Found, Range, Reader, Tier, TierError, Wake, timestamps};
use parking_lot::{Mutex, MutexGuard};
use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Weak};

/// The tier of a partition.
pub(crate) struct PartitionTier {
    pub(crate) tier: Tier,
    reader: Arc<Reader>,
    wake: Wake,
    begin: Mutex<Begin>,
    looks: Mutex<Looks>,
    /// Where the log starts by the checkpoint that was last written for the store to delete by; −1 = none was.
    written_start: AtomicI64,
}

/// What a follower is to begin with, which is fetched from the store.
pub(crate) enum Begin {
    /// Nobody asked for it.
    Idle,
    /// What came was too old when it was asked for again: the leader's disk begins later by now.
    Late,
    /// It is on its way.
    Asked,
    /// It is here.
    Ready(AfterTier),
    /// It could not be had, for a person.
    Failed(String),
}

impl fmt::Debug for PartitionTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tier.fmt(f)
    }
}

/// Up to where and how much is read.
pub(crate) struct Limits {
    pub(crate) bound: i64,
    pub(crate) max_bytes: usize,
    pub(crate) at_least_one: bool,
}

impl PartitionTier {
    /// The tier of `partition`, whose waiters are told when something came from the store.
    pub(crate) fn new(tier: Tier, reader: Arc<Reader>, partition: Weak<Partition>) -> Self {
        let wake = move || {
            if let Some(partition) = partition.upgrade() {
                partition.notify();
            }
        };
        Self {
            tier,
            reader,
            wake: Arc::new(wake),
            begin: Mutex::new(Begin::Idle),
            looks: Mutex::default(),
            written_start: AtomicI64::new(-1),
        }
    }

    /// What a follower whose leader's disk begins at `local_start_offset` is to begin with. `Idle`: the caller has to fetch
    /// it, and so it has to with `Late`; `Asked` is what others get until it does.
    pub(crate) fn take_begin(&self, local_start_offset: i64) -> Begin {
        let mut begin = self.begin.lock();
        match std::mem::replace(&mut *begin, Begin::Asked) {
            Begin::Asked => Begin::Asked,
            Begin::Ready(ready) if ready.offset >= local_start_offset => {
                *begin = Begin::Idle;
                Begin::Ready(ready)
            }
            Begin::Failed(reason) => {
                *begin = Begin::Idle;
                Begin::Failed(reason)
            }
            Begin::Ready(_) => Begin::Late,
            Begin::Idle | Begin::Late => Begin::Idle,
        }
    }

    /// When it is looked at by a follower.
    pub(crate) fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock()
    }

    /// What lies below is not needed any more in the store: a checkpoint says that the log starts here.
    pub(crate) fn written_start(&self) -> i64 {
        self.written_start.load(Acquire)
    }

    /// Such a checkpoint was written.
    pub(crate) fn note_written_start(&self, offset: i64) {
        self.written_start.store(offset, Release);
    }

    /// It came, or failed.
    pub(crate) fn set_begin(&self, begin: Begin) {
        *self.begin.lock() = begin;
    }

    /// Batches from the one that holds `offset` on; never waits. `Coming`: the partition's waiters are told.
    pub(crate) fn read(&self, offset: i64, limits: &Limits) -> Found<Option<Range>> {
        let Limits { bound, max_bytes, at_least_one } = *limits;
        let found = self.reader.read(&self.tier, offset, bound, max_bytes, at_least_one, &self.wake);
        if matches!(found, Found::Failed) {
            // perhaps the leader uploaded it again since, and another object has it
            self.looks().note_unread(self.tier.whole().version);
        }
        found
    }

    /// Whether a `read` would bring something now.
    pub(crate) fn is_ready(&self, offset: i64) -> bool {
        self.reader.is_ready(&self.tier, offset)
    }

    /// Aborted transactions of which a reader of `[from, to)` may see records: those that ended in the store, and those
    /// that ended on the disk of `partition`.
    pub(crate) fn aborted(
        &self,
        partition: &Partition,
        from: i64,
        to: i64,
    ) -> Result<Found<Vec<AbortedTxn>>, LogError> {
        Ok(match self.reader.aborted(&self.tier, from, to, &self.wake) {
            Found::Here((mut aborted, may_be_more)) => {
                if may_be_more {
                    let local = partition.log().aborted_transactions(from, to)?;
                    aborted
                        .extend(local.into_iter().filter(|txn| !aborted.contains(txn)).collect::<Vec<_>>());
                }
                Found::Here(aborted)
            }
            Found::Coming => Found::Coming,
            Found::Failed => Found::Failed,
        })
    }

    /// Whether the first record that is as young as `timestamp` may be one that only the store has.
    pub(crate) fn may_hold(&self, partition: &Partition, timestamp: i64) -> bool {
        let (from, until) = only_here(partition);
        timestamps::max_timestamp(&self.tier.manifest(), from, until).is_some_and(|max| max >= timestamp)
    }

    /// The largest timestamp of what only the store has.
    pub(crate) fn max_timestamp(&self, partition: &Partition) -> Option<i64> {
        let (from, until) = only_here(partition);
        timestamps::max_timestamp(&self.tier.manifest(), from, until)
    }

    /// The first record that only the store has, and that is as young as `timestamp`. Blocks: for the reader's threads.
    pub(crate) fn offset_for_timestamp(
        &self,
        partition: &Partition,
        timestamp: i64,
    ) -> Result<Option<TimestampedOffset>, TierError> {
        let (from, until) = only_here(partition);
        self.reader.offset_for_timestamp(&self.tier, timestamp, from, until)
    }

    /// Has `work` done where it may wait for the store. False = too much waits there.
    pub(crate) fn call(&self, work: impl FnOnce() + Send + 'static) -> bool {
        self.reader.call(move |_| work())
    }
}

/// The offsets that are in the log and not on the disk, half-open.
fn only_here(partition: &Partition) -> (i64, i64) {
    (partition.log().log_start_offset(), partition.log().local_log_start_offset())
}

/// The batches, as an answer sends them.
pub(crate) fn file_range(range: &Range) -> FileRange {
    FileRange { file: range.chunk.file.clone(), position: range.position as u64, length: range.length }
}

/// What a client is told that the store cannot serve: to try again.
pub(crate) const UNREADABLE: ErrorCode = ErrorCode::KAFKA_STORAGE_ERROR;
