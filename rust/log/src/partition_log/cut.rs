//! Carrying out a cut: what truncations and new beginnings have in common ([`super::truncate`], [`super::after_tier`]).
//!
//! A full disk may break it off at any step, and so may a process without descriptors. Then it is kept, nothing is
//! appended or cleaned, and it is done from its first step on by whoever cuts, appends or flushes next: each step may be
//! done twice. (A follower may not fetch before its log is synced, so a flush has to see to it too.) Where a part of the log is left, its new end is in memory before the first step, so readers see nothing of
//! what goes; which transactions are open there is known at the end only, and until then none counts as ended.

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Release};

use parking_lot::MutexGuard;

use super::open::list_names;
use super::tail::LogPosition;
use super::{Log, Writer};
use crate::epoch_cache::EpochStart;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::atomic_file;
use crate::recovery::producers;
use crate::segment::list::SegmentList;
use crate::segment::{Segment, Trust};

/// What is to be done.
#[derive(Debug)]
pub(super) struct Cut {
    /// Segments whose files go, ascending.
    pub(super) gone: Vec<Arc<Segment>>,
    /// Where the log ends then.
    pub(super) end: i64,
    pub(super) then: Then,
}

/// What the log is once segments are gone.
#[derive(Debug)]
pub(super) enum Then {
    /// The rest, of whose last segment so many bytes are left.
    Rest { kept: Vec<Arc<Segment>>, size: u64 },
    /// A new segment at the end, which is the high watermark too.
    Anew(Anew),
}

/// What is known of a log that begins anew.
#[derive(Debug)]
pub(super) struct Anew {
    /// Where the log starts: below its end only the object store has it.
    pub(super) start: i64,
    pub(super) epochs: Vec<EpochStart>,
    /// The producers as of the end, as snapshots have them; empty where there are none.
    pub(super) snapshot: Vec<u8>,
    /// Where what the object store has ends, if that is news.
    pub(super) tiered_end: Option<i64>,
}

/// A cut that was broken off.
#[derive(Debug)]
pub(super) struct BrokenOff {
    cut: Cut,
    /// When it was tried last.
    tried_ms: i64,
    /// Why, which those who would append are told.
    pub(super) reason: LogError,
}

impl BrokenOff {
    /// Whether it is known where the log ends.
    pub(super) fn is_end_known(&self) -> bool {
        matches!(self.cut.then, Then::Rest { .. })
    }
}

impl Log {
    /// The writer, for who appends: a cut that was broken off is done first, which blocks.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`]: to be tried again.
    pub(super) fn lock_whole(&self, now_ms: i64) -> Result<MutexGuard<'_, Writer>, LogError> {
        let writer = self.lock_writer()?;
        if writer.broken_off.is_none() {
            return Ok(writer);
        }
        drop(writer);
        {
            let _cleaner = self.cleaner.stop_patiently(self)?;
            let _flush = self.flushing.lock();
            self.finish_cut(&mut self.writer.lock(), now_ms)?;
        }
        self.lock_writer()
    }

    /// Does a cut that was broken off, for who flushes. Whoever is at the log keeps it from that, until the next flush.
    pub(super) fn finish_cut_before_flush(&self) -> Result<(), LogError> {
        let Some(tried_ms) = self.writer.lock().broken_off.as_ref().map(|it| it.tried_ms) else {
            return Ok(());
        };
        let Some(_cleaner) = self.cleaner.try_stop() else { return Ok(()) };
        let _flush = self.flushing.lock();
        self.finish_cut(&mut self.writer.lock(), tried_ms)
    }

    /// Does a cut that was broken off, if there is one. The cleaner and flushes are held off.
    pub(super) fn finish_cut(&self, writer: &mut Writer, now_ms: i64) -> Result<(), LogError> {
        self.check_open(writer)?;
        match writer.broken_off.take() {
            Some(broken) => self.carry_out(writer, broken.cut, now_ms),
            None => Ok(()),
        }
    }

    /// Does a cut, or keeps what is left of it for another try. The checkpoints came down before; the cleaner and flushes
    /// are held off.
    pub(super) fn carry_out(&self, writer: &mut Writer, mut cut: Cut, now_ms: i64) -> Result<(), LogError> {
        let done = self.do_steps(writer, &mut cut, now_ms);
        if let Err(reason) = &done {
            writer.broken_off = Some(Box::new(BrokenOff { cut, tried_ms: now_ms, reason: reason.clone() }));
        }
        self.publish_unstable(writer);
        done
    }

    fn do_steps(&self, writer: &mut Writer, cut: &mut Cut, now_ms: i64) -> Result<(), LogError> {
        if let Then::Rest { kept, size } = &cut.then {
            let active = kept.last().ok_or_else(|| self.no_segment())?;
            active.set_size(*size);
            *self.segments.write() = Arc::new(SegmentList::new(kept.clone()));
            self.publish_end(writer, active, cut.end);
        }
        while let Some(newest) = cut.gone.last().cloned() {
            self.retire(vec![newest], now_ms)?;
            cut.gone.pop();
        }
        self.sync_names()?;
        match &cut.then {
            Then::Rest { size, .. } => self.shorten(writer, *size, cut.end)?,
            Then::Anew(anew) => self.begin_anew(writer, anew, cut.end, now_ms)?,
        }
        let list = self.segments();
        let snapshots = self.snapshots(&list);
        let names = list_names(&snapshots.storage, &snapshots.directory)?;
        let restored = producers::restore(&snapshots, &names, cut.end, i64::MAX, now_ms)?;
        (writer.producers, writer.snapshot_offset) = restored;
        writer.producers.high_watermark_moved(self.high_watermark());
        Ok(())
    }

    /// Cuts the last segment and the epochs.
    fn shorten(&self, writer: &mut Writer, size: u64, end: i64) -> Result<(), LogError> {
        let active = &writer.active;
        active.truncate(size, end).map_err(|error| self.write_failed(error))?;
        active.sync_batches().inspect_err(|error| self.sync_failed(error))?;
        let rescan =
            active.rescan(Trust::Below(i64::MAX), self.config().index_interval_bytes, &mut |_| {})?;
        writer.since_entry = rescan.since_entry;
        self.cut_epochs(writer, end)
    }

    /// Writes what belongs to the first segment, and makes it.
    fn begin_anew(&self, writer: &mut Writer, anew: &Anew, end: i64, now_ms: i64) -> Result<(), LogError> {
        {
            let mut epochs = self.epochs.lock();
            epochs.replace(anew.epochs.clone());
            epochs.truncate_from_start(anew.start);
        }
        self.save_epochs(writer)?;
        if !anew.snapshot.is_empty() {
            let path = self.directory().join(file_name::of_offset(end, file_name::SNAPSHOT));
            let written = atomic_file::replace(&*self.storage().file_system, &path, &anew.snapshot);
            written.during("write the producer snapshot", &path).map_err(|error| self.write_failed(error))?;
        }
        let segment = Segment::create(&self.storage(), &self.directory(), end, now_ms);
        let segment = Arc::new(segment.map_err(|error| self.write_failed(error))?);
        // its name is synced with the first of its batches
        self.directory_changed.store(true, Release);
        *self.segments.write() = Arc::new(SegmentList::new(vec![Arc::clone(&segment)]));
        self.log_start_offset.store(anew.start, Release);
        if let Some(tiered_end) = anew.tiered_end {
            self.tiered_end_offset.store(tiered_end, Release);
        }
        writer.since_entry = 0;
        self.publish_end(writer, &segment, end);
        self.high_watermark.store(end, Release);
        Ok(())
    }

    /// The log ends at `end` from now on, in `active`.
    fn publish_end(&self, writer: &mut Writer, active: &Arc<Segment>, end: i64) {
        let place = LogPosition { offset: end, segment_base: active.base_offset, position: active.size() };
        writer.active = Arc::clone(active);
        writer.reserved_to = active.size();
        self.log_end_offset.store(end, Release);
        self.tail.lock().reset(place);
        self.write_back_from(place);
        self.high_watermark.fetch_min(end, AcqRel);
        self.recovery_point.fetch_min(end, AcqRel);
    }

    /// Forgets epochs that begin at `offset` or later, durably.
    pub(super) fn cut_epochs(&self, writer: &mut Writer, offset: i64) -> Result<(), LogError> {
        self.epochs.lock().truncate_from_end(offset);
        self.save_epochs(writer)
    }

    /// Has the file of epochs say what they are, durably; where it does, nothing is written.
    fn save_epochs(&self, writer: &mut Writer) -> Result<(), LogError> {
        {
            let mut epochs = self.epochs.lock();
            if !epochs.is_unsaved() {
                return Ok(());
            }
            // the next append looks, whatever becomes of this
            writer.leader_epoch = super::epochs::NOT_SAVED;
            epochs.save().map_err(|error| self.write_failed(error))?;
            writer.leader_epoch = super::epochs::latest_of(&epochs);
        }
        self.sync_epochs().inspect_err(|error| self.sync_failed(error))?;
        self.sync_names()
    }
}
