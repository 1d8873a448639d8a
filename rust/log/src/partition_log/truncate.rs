//! Cutting the end of the log: what a follower does where it diverges from its leader.
//!
//! Crash points: segments go newest first and the cut comes last, each synced before the next, so that a crash in between
//! leaves a shorter log without a hole, and nothing of what was cut comes back beside what is appended afterwards. Indexes,
//! epochs and producers are put right by recovery. The checkpoints must come down *before*: a recovery point above the
//! log's end would later vouch for batches that were never synced, and a start above it would take the log for one of
//! which all was deleted. The file of epochs is synced before anything is appended: what it says of epochs that were cut
//! must not outlive them. (Where only the process dies before a sync, and the machine before the next one, all that was cut
//! may be back, and nothing that came after: of a replica whose machine died, which counts for nothing until it was compared
//! with its leader.)

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};

use super::open::list_names;
use super::tail::LogPosition;
use super::{Log, Writer};
use crate::error::LogError;
use crate::recovery::producers;
use crate::segment::list::SegmentList;
use crate::segment::{Segment, Trust};

impl Log {
    /// Drops all records from `offset` on; a batch that holds `offset` goes whole. The log ends behind what is left then,
    /// which is before `offset` where the cleaner took what lay between: a start finds no other end, and the leader may
    /// still have something there that is not superseded any more. Returns false when the log ends
    /// before; epochs that begin at its end are forgotten even so, since a leader that never wrote left them. The high
    /// watermark and the recovery point come down with it. `checkpoint` is called in between, when recovery point and
    /// log start are at most `offset` and no flush can raise them: it writes both down, or fails and nothing is cut.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`], and nothing was changed: to be
    /// tried again.
    pub fn truncate_to(
        &self,
        offset: i64,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<bool, LogError> {
        // whoever has the log stand still has this first, and so nobody waits for the others
        let _cleaner = self.cleaner.stop_patiently(self)?;
        let _flush = self.flushing.lock();
        if offset >= self.log_end_offset() {
            let mut writer = self.writer.lock();
            self.check_writable(&writer)?;
            self.cut_epochs(&mut writer, self.log_end_offset())?;
            return Ok(false);
        }
        let start = self.lower_to(offset, self.end_of_cut(offset)?, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        if offset <= start {
            self.restart_at(&mut writer, offset, now_ms)?;
            return Ok(true);
        }
        if offset < self.segments().first_base_offset() {
            self.restart_below(&mut writer, (start, offset), now_ms)?;
            return Ok(true);
        }
        let (kept, gone) = self.segments().split_at_offset(offset.saturating_add(1));
        let active = kept.last().cloned().ok_or_else(|| self.no_segment())?;
        let (size, end) = place_of_cut(&active, offset)?;
        if end < self.log_start_offset() {
            // the batch that goes whole reaches below the start: nothing readable is left
            self.restart_at(&mut writer, self.log_start_offset(), now_ms)?;
            return Ok(true);
        }
        *self.segments.write() = Arc::new(SegmentList::new(kept));
        self.retire(gone.into_iter().rev().collect(), now_ms)?;
        self.sync_names()?;
        active.truncate(size, end).map_err(|error| self.write_failed(error))?;
        active.sync_batches().inspect_err(|error| self.storage().poison(error))?;
        self.reopen_end(&mut writer, active, end, now_ms)?;
        Ok(true)
    }

    /// Drops everything and starts anew, empty, at `offset`, which is then the high watermark too: a follower whose
    /// leader no longer has what comes next. `checkpoint` and errors as in [`Log::truncate_to`].
    pub fn truncate_fully_and_start_at(
        &self,
        offset: i64,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        // whoever has the log stand still has this first, and so nobody waits for the others
        let _cleaner = self.cleaner.stop_patiently(self)?;
        let _flush = self.flushing.lock();
        self.lower_to(offset, offset, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        self.restart_at(&mut writer, offset, now_ms)
    }

    /// Where the log is going to end that is cut at `offset`.
    fn end_of_cut(&self, offset: i64) -> Result<i64, LogError> {
        if offset <= self.log_start_offset() || offset < self.segments().first_base_offset() {
            return Ok(offset);
        }
        let (kept, _) = self.segments().split_at_offset(offset.saturating_add(1));
        let active = kept.last().ok_or_else(|| self.no_segment())?;
        Ok(place_of_cut(active, offset)?.1)
    }

    /// Brings down what the checkpoints say to `offset`, and of what is synced to `end`, which is at most that; returns
    /// where the log started.
    pub(super) fn lower_to(
        &self,
        offset: i64,
        end: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<i64, LogError> {
        self.recovery_point.fetch_min(end, AcqRel);
        let start = self.log_start_offset.fetch_min(offset, AcqRel);
        // what an object store has beyond is another history's, and no reason any more to delete anything here
        self.tiered_end_offset.fetch_min(offset, AcqRel);
        checkpoint().inspect_err(|_| self.log_start_offset.store(start, Release))?;
        Ok(start)
    }

    fn restart_at(&self, writer: &mut Writer, offset: i64, now_ms: i64) -> Result<(), LogError> {
        self.retire_all(now_ms)?;
        let segment = self.begin_segment(offset, now_ms)?;
        self.log_start_offset.store(offset, Release);
        self.cut_epochs(writer, 0)?;
        self.reopen_end(writer, segment, offset, now_ms)?;
        self.high_watermark.store(offset, Release);
        Ok(())
    }

    /// The same where only the object store has what is left, `[start, offset)`: the log still starts where it did.
    fn restart_below(
        &self,
        writer: &mut Writer,
        (start, offset): (i64, i64),
        now_ms: i64,
    ) -> Result<(), LogError> {
        self.retire_all(now_ms)?;
        let segment = self.begin_segment(offset, now_ms)?;
        self.log_start_offset.store(start, Release);
        self.reopen_end(writer, segment, offset, now_ms)?;
        self.high_watermark.store(offset, Release);
        Ok(())
    }

    /// All segments leave the disk, durably, newest first.
    pub(super) fn retire_all(&self, now_ms: i64) -> Result<(), LogError> {
        let gone: Vec<_> = self.segments().iter().rev().cloned().collect();
        self.retire(gone, now_ms)?;
        self.sync_names()
    }

    /// Makes a segment that is the only one.
    pub(super) fn begin_segment(&self, offset: i64, now_ms: i64) -> Result<Arc<Segment>, LogError> {
        let segment = Segment::create(&self.storage(), &self.directory(), offset, now_ms)
            .map_err(|error| self.write_failed(error))?;
        let segment = Arc::new(segment);
        // its name is synced with the first of its batches
        self.directory_changed.store(true, Release);
        *self.segments.write() = Arc::new(SegmentList::new(vec![Arc::clone(&segment)]));
        Ok(segment)
    }

    /// Forgets epochs that begin at `offset` or later, durably.
    fn cut_epochs(&self, writer: &mut Writer, offset: i64) -> Result<(), LogError> {
        {
            let mut epochs = self.epochs.lock();
            if !epochs.truncate_from_end(offset) {
                return Ok(());
            }
            epochs.save().map_err(|error| self.write_failed(error))?;
            writer.leader_epoch = epochs.latest().map_or(-1, |latest| latest.epoch);
        }
        self.sync_epochs().inspect_err(|error| self.storage().poison(error))?;
        self.sync_names()
    }

    /// Takes up the log at its new end: counters, epochs and producers as of there.
    pub(super) fn reopen_end(
        &self,
        writer: &mut Writer,
        active: Arc<Segment>,
        end_offset: i64,
        now_ms: i64,
    ) -> Result<(), LogError> {
        let rescan =
            active.rescan(Trust::Below(i64::MAX), self.config().index_interval_bytes, &mut |_| {})?;
        writer.since_entry = rescan.since_entry;
        writer.reserved_to = active.size();
        let end =
            LogPosition { offset: end_offset, segment_base: active.base_offset, position: active.size() };
        writer.active = active;
        self.log_end_offset.store(end_offset, Release);
        self.tail.lock().reset(end);
        self.write_back_from(end);
        self.high_watermark.fetch_min(end_offset, AcqRel);
        self.recovery_point.fetch_min(end_offset, AcqRel);
        self.cut_epochs(writer, end_offset)?;
        let list = self.segments();
        let snapshots = self.snapshots(&list);
        let names = list_names(&snapshots.storage, &snapshots.directory)?;
        let restored = producers::restore(&snapshots, &names, end_offset, i64::MAX, now_ms)?;
        (writer.producers, writer.snapshot_offset) = restored;
        self.publish_unstable(writer);
        Ok(())
    }

    pub(super) fn sync_names(&self) -> Result<(), LogError> {
        self.sync_directory().inspect_err(|error| self.storage().poison(error))
    }

    fn no_segment(&self) -> LogError {
        LogError::Invalid { reason: format!("{}-{} has no segment", self.topic, self.partition) }
    }
}

/// Where the active segment is to be cut so that nothing from `offset` on is left, and where the log ends then.
fn place_of_cut(active: &Segment, offset: i64) -> Result<(u64, i64), LogError> {
    let found = active.find_batch(offset, active.size())?;
    let (position, first_gone) =
        found.map_or((active.size(), offset), |batch| (batch.position, batch.header.base_offset));
    let end = active.next_offset_before(position, first_gone)?;
    Ok((position, end.unwrap_or(first_gone).min(offset)))
}
