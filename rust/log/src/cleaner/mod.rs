//! Compaction: of each key the last record stays. What Kafka's `Cleaner` and `LogCleanerManager` do for one log.
//!
//! A pass reads the dirty part of the log (segments above the offset up to which it was cleaned before) and notes the last
//! offset of each key, in memory bounded by `log.cleaner.dedupe.buffer.size`; then it copies all segments up to where it
//! came, several small ones into one, without the records that a later one replaces. Offsets never change, gaps stay.
//! Readers and appends go on meanwhile; [`swap`] tells how the copies take the place of the originals.
//!
//! Before anything is dropped all that was read is synced, and the markers that committed it: a record goes when the one
//! that replaces it is on the disk.
//!
//! Never touched: the active segment, what is at or above the last stable offset, what is younger than
//! `min.compaction.lag.ms`, and logs with damage in that range, which a copy would make final.

use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

use parking_lot::Mutex;

use crate::error::LogError;
use crate::partition_log::Log;

mod build;
mod filter;
mod group;
mod offset_map;
mod range;
mod rewrite;
pub(crate) mod swap;
mod transactions;

pub use range::Cleanable;

use offset_map::OffsetMap;
use transactions::Transactions;

/// What a pass may use; the settings of the cleaner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CleanerLimits {
    /// `log.cleaner.dedupe.buffer.size`: memory for keys and their offsets.
    pub map_bytes_max: usize,
    /// `log.cleaner.io.buffer.load.factor`: how full that memory may become.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`: bytes that are written at once.
    pub write_bytes: usize,
}

impl Default for CleanerLimits {
    fn default() -> Self {
        Self { map_bytes_max: 128 << 20, load_factor: 0.9, write_bytes: 512 << 10 }
    }
}

/// Paces a pass, and may stop it.
pub trait Pace {
    /// So many bytes were read or written. Blocks as long as the pass is to wait; false = stop here.
    fn go_on(&self, bytes: u64) -> bool;
}

/// As fast as it goes, to the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unpaced;

impl Pace for Unpaced {
    fn go_on(&self, _bytes: u64) -> bool {
        true
    }
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Everything below is clean now: where the next pass starts.
    pub end_offset: i64,
    /// Bytes read, those read twice counted twice.
    pub bytes_read: u64,
    /// Bytes of batches written.
    pub bytes_written: u64,
    /// Records looked at when copying.
    pub records_read: u64,
    /// Records that stayed.
    pub records_kept: u64,
    /// Segments before and after.
    pub segments_before: usize,
    /// Segments that took their place.
    pub segments_after: usize,
}

/// Of one log: one pass at a time, which truncations and deletions stop.
#[derive(Debug, Default)]
pub(crate) struct CleanerState {
    /// Held during a pass. Comes before all other locks.
    running: Mutex<()>,
    /// Grows when a pass is to stop.
    interrupts: AtomicU64,
    /// Grows when those who stopped it are done.
    ended: AtomicU64,
}

/// Keeps passes away while it lives.
pub(crate) struct Stopped<'a> {
    ended: &'a AtomicU64,
    _running: parking_lot::MutexGuard<'a, ()>,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.ended.fetch_add(1, AcqRel);
    }
}

impl CleanerState {
    /// Stops a pass that is under way and keeps others away until the answer is dropped.
    pub(crate) fn stop(&self) -> Stopped<'_> {
        self.interrupts.fetch_add(1, AcqRel);
        let running = self.running.lock();
        Stopped { ended: &self.ended, _running: running }
    }

    /// The same of the log whose state this is, for who may not wait for a disk.
    ///
    /// # Errors
    /// `StandsStill`: see [`Log::lock_patiently`].
    pub(crate) fn stop_patiently(&self, log: &Log) -> Result<Stopped<'_>, LogError> {
        self.interrupts.fetch_add(1, AcqRel);
        let running = log.lock_patiently(&self.running).inspect_err(|_| {
            self.ended.fetch_add(1, AcqRel);
        })?;
        Ok(Stopped { ended: &self.ended, _running: running })
    }

    /// The same for who would rather come again than wait; `None` while somebody is at it.
    pub(crate) fn try_stop(&self) -> Option<Stopped<'_>> {
        self.interrupts.fetch_add(1, AcqRel);
        let Some(running) = self.running.try_lock() else {
            self.ended.fetch_add(1, AcqRel);
            return None;
        };
        Some(Stopped { ended: &self.ended, _running: running })
    }

    fn interrupts(&self) -> u64 {
        self.interrupts.load(Acquire)
    }

    /// A number that stays the same as long as nobody begins or ends to cut, mend or close the log: two for each, one in
    /// between.
    pub(crate) fn changes(&self) -> u64 {
        self.interrupts.load(Acquire) + self.ended.load(Acquire)
    }
}

/// A pass under way.
pub(crate) struct Pass<'a> {
    log: &'a Log,
    limits: CleanerLimits,
    pace: &'a dyn Pace,
    interrupts: u64,
    now_ms: i64,
    done: Cleaned,
}

impl Pass<'_> {
    /// Accounts for bytes read or written; an error when the pass is to stop.
    fn note_bytes(&self, bytes: u64) -> Result<(), LogError> {
        if self.pace.go_on(bytes) && !self.is_interrupted() { Ok(()) } else { Err(self.interrupted()) }
    }

    fn is_interrupted(&self) -> bool {
        self.log.cleaner().interrupts() != self.interrupts
    }

    fn interrupted(&self) -> LogError {
        LogError::Gone { path: self.log.directory(), state: "not to be cleaned now" }
    }
}

impl Log {
    /// Cleans the log from `first_dirty_offset` (see [`Log::cleanable`]) as far as is allowed and memory reaches. `None` =
    /// there was nothing to do, or the pass was stopped: by `pace`, by a truncation, or because the log was closed or
    /// deleted. Blocks on the disk; one pass at a time.
    ///
    /// The caller keeps `end_offset` in the cleaner's checkpoint, which may lag behind: cleaning twice changes nothing.
    ///
    /// # Errors
    /// `Corrupt` where the range is damaged: then nothing was changed there, and another try will meet the same. `DiskFull`
    /// without room for a copy, which leaves the log as it was; so does want of a descriptor, an `Io`. Other failures of writes
    /// poison the directory.
    pub fn clean(
        &self,
        first_dirty_offset: i64,
        limits: CleanerLimits,
        pace: &dyn Pace,
        now_ms: i64,
    ) -> Result<Option<Cleaned>, LogError> {
        let interrupts = self.cleaner().interrupts();
        let _one = self.cleaner().running.lock();
        let mut pass = Pass { log: self, limits, pace, interrupts, now_ms, done: Cleaned::default() };
        match pass.run(first_dirty_offset) {
            Err(LogError::Gone { .. }) => Ok(None),
            Err(error) if pass.is_interrupted() => {
                tracing::debug!(%error, "a pass of the cleaner ended early");
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(did_something) => Ok(did_something.then_some(pass.done)),
        }
    }
}

impl Pass<'_> {
    fn run(&mut self, first_dirty_offset: i64) -> Result<bool, LogError> {
        self.log.check_cleanable()?;
        let upper = self.log.uncleanable_offset(first_dirty_offset, self.now_ms)?;
        if upper <= first_dirty_offset {
            return Ok(false);
        }
        self.log.check_undamaged(upper)?;
        let aborted = self.log.aborted_transactions(first_dirty_offset, upper)?;
        let mut read = Transactions::new(aborted);
        let map = self.build_map(first_dirty_offset, upper, &mut read)?;
        let Some(last) = map.last_offset() else { return Ok(false) };
        self.done.end_offset = last + 1;
        // else a machine that dies would lose both a record that is dropped and the one that replaces it
        self.sync_read(upper, &read)?;
        let list = self.log.segments();
        let aborted = self.log.aborted_transactions(list.first_base_offset(), upper)?;
        let mut transactions = Transactions::new(aborted);
        for group in self.groups(&list, last + 1, upper)? {
            self.clean_group(&group, &map, &mut transactions)?;
        }
        Ok(true)
    }

    /// Has on the disk what was read below `upper`, and the markers of its transactions, which may lie above.
    fn sync_read(&self, upper: i64, read: &Transactions) -> Result<(), LogError> {
        if let Some(waiting) = self.log.write_waiting_transactions()? {
            return Err(waiting.reason);
        }
        if read.awaits_commit() {
            self.log.flush()?;
        } else {
            self.log.flush_full_segments(upper)?;
        }
        Ok(())
    }
}
