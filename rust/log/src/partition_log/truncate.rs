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
//!
//! What was broken off for want of room is done by the next one who cuts or appends: see [`super::cut`].

use std::sync::atomic::Ordering::{AcqRel, Release};

use super::Log;
use super::cut::{Anew, Cut, Then};
use crate::error::LogError;
use crate::segment::Segment;

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
        self.finish_cut(&mut self.writer.lock(), now_ms)?;
        if offset >= self.log_end_offset() {
            let mut writer = self.writer.lock();
            self.check_writable(&writer)?;
            self.cut_epochs(&mut writer, self.log_end_offset())?;
            return Ok(false);
        }
        let start = self.lower_to(offset, self.end_of_cut(offset)?, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        let cut = self.cut_at(offset, start)?;
        self.carry_out(&mut writer, cut, now_ms)?;
        Ok(true)
    }

    /// How to cut a log that starts at `start` at `offset`, which is below its end.
    fn cut_at(&self, offset: i64, start: i64) -> Result<Cut, LogError> {
        if offset <= start {
            return Ok(self.begin_at(offset, offset));
        }
        if offset < self.segments().first_base_offset() {
            return Ok(self.begin_at(offset, start));
        }
        let (kept, gone) = self.segments().split_at_offset(offset.saturating_add(1));
        let active = kept.last().ok_or_else(|| self.no_segment())?;
        let (size, end) = place_of_cut(active, offset)?;
        let log_start = self.log_start_offset();
        if end < log_start {
            // the batch that goes whole reaches below the start: nothing readable is left
            return Ok(self.begin_at(log_start, log_start));
        }
        Ok(Cut { gone, end, then: Then::Rest { kept, size } })
    }

    /// How to begin anew at `offset`, where below it only the object store has what is left from `start` on.
    fn begin_at(&self, offset: i64, start: i64) -> Cut {
        let below = self.epochs().into_iter().filter(|it| start < offset && it.start_offset < offset);
        let epochs = below.collect();
        let anew = Anew { start, epochs, snapshot: Vec::new(), tiered_end: None };
        Cut { gone: self.segments().iter().cloned().collect(), end: offset, then: Then::Anew(anew) }
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
        self.finish_cut(&mut self.writer.lock(), now_ms)?;
        self.lower_to(offset, offset, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        let cut = self.begin_at(offset, offset);
        self.carry_out(&mut writer, cut, now_ms)
    }

    /// Where the log is going to end that is cut at `offset`: before it where a batch holds the offset, which goes whole.
    pub fn end_of_cut(&self, offset: i64) -> Result<i64, LogError> {
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

    pub(super) fn sync_names(&self) -> Result<(), LogError> {
        self.sync_directory().inspect_err(|error| self.sync_failed(error))
    }

    pub(super) fn no_segment(&self) -> LogError {
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
