//! Leader epochs of the log.

use std::sync::Arc;
use std::sync::atomic::Ordering::AcqRel;

use super::{Log, Writer};
use crate::epoch_cache::{EpochCache, EpochStart};
use crate::error::{During, LogError};
use crate::file_system::waiting::leave_unless_waiting;
use crate::segment::Segment;
use crate::segment::scan::Step;

/// Stands for a latest epoch that the file does not have, so that the next append looks; no batch has it.
pub(super) const NOT_SAVED: i32 = i32::MIN;

/// What is said when the file of epochs is not believed.
pub(super) const REBUILT: &str =
    "the leader epochs are not those of the batches (another log's file?) and were built anew";

/// Where epochs start, by the batches of `segments` below offset `end`. Damage is for recovery to find.
pub(super) fn epochs_in<'a>(
    segments: impl IntoIterator<Item = &'a Arc<Segment>>,
    end: i64,
) -> Result<Vec<EpochStart>, LogError> {
    let mut found: Vec<EpochStart> = Vec::new();
    for segment in segments.into_iter().filter(|segment| segment.size() > 0) {
        let mut scan = segment.scan_from(0, segment.size())?;
        while let Step::Batch(located) = scan.step(i64::MAX).during("read", segment.log.path())? {
            let (epoch, start_offset) = (located.header.partition_leader_epoch, located.header.base_offset);
            if start_offset >= end {
                return Ok(found);
            }
            if epoch >= 0 && found.last().is_none_or(|last| last.epoch < epoch) {
                found.push(EpochStart { epoch, start_offset });
            }
        }
    }
    Ok(found)
}

impl Log {
    /// Notes that this broker leads from now on, with `leader_epoch`, and from the log's end. The file learns of it with
    /// the epoch's first batch: one that wrote nothing is nobody's to know after this process, and whoever leads ten
    /// thousand partitions anew writes no ten thousand files.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`]: to be tried again.
    pub fn start_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        let mut writer = self.lock_writer()?;
        self.check_open(&writer)?;
        if let Some(broken) = writer.broken_off.as_ref().filter(|it| !it.is_end_known()) {
            return Err(broken.reason.clone());
        }
        let mut epochs = self.epochs.lock();
        epochs.begin(leader_epoch, self.log_end_offset());
        writer.leader_epoch = if epochs.is_unsaved() { NOT_SAVED } else { latest_of(&epochs) };
        Ok(())
    }

    /// Refuses what leaders of older epochs than `leader_epoch` append from now on (NOT_LEADER_OR_FOLLOWER). One that
    /// looked at its epoch before and comes to append after this has no place in the log any more.
    pub fn fence_epochs_before(&self, leader_epoch: i32) {
        self.least_epoch.fetch_max(leader_epoch, AcqRel);
        // An append that is under way ends. Where the log stands still there is none: whoever has it do so holds the
        // writer, and all who come after that see the epoch.
        let _nobody_appends = self.lock_writer();
    }

    /// The largest epoch known that is no later than `epoch`, and the offset where it ends; (−1, −1) for one from the
    /// future. A follower truncates to it.
    ///
    /// What the file tells is compared with the batches before it is answered; one that they contradict is another log's,
    /// and is made anew.
    ///
    /// # Errors
    /// It would have to be, and cannot be now: `StandsStill`, or those of the disk.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Result<(i32, i64), LogError> {
        // the end first: an epoch that begins meanwhile then begins at or after it
        let end = self.log_end_offset();
        let found = self.epochs.lock().end_offset_for(epoch, end);
        match self.is_epoch_start(found.1) {
            Ok(true) => Ok(found),
            // what is found below it then is dropped
            Ok(false) if leave_unless_waiting().is_err() => Ok(found),
            Ok(false) => {
                self.rebuild_epochs().inspect_err(|error| {
                    tracing::warn!(%error, "the batches contradict the leader epochs, which could not be built anew");
                })?;
                Ok(self.epochs.lock().end_offset_for(epoch, end))
            }
            Err(error) if error.is_of_the_look() => Ok(found),
            Err(error) => {
                tracing::warn!(%error, "leader epochs are not compared with the batches");
                Ok(found)
            }
        }
    }

    /// Whether an epoch begins at `offset`, as far as the batches tell. Looked at once; what was noted in this run is known.
    fn is_epoch_start(&self, offset: i64) -> Result<bool, LogError> {
        if !self.epochs.lock().is_unchecked(offset) {
            return Ok(true);
        }
        let list = self.segments();
        for neighbour in [offset.saturating_sub(1), offset] {
            let holding = list.holding(neighbour).next().filter(|(it, _)| it.base_offset <= neighbour);
            let is_readable = (self.log_start_offset()..self.log_end_offset()).contains(&neighbour);
            let Some((segment, _)) = holding.filter(|_| is_readable) else { continue };
            segment.ensure_loaded(self.config().index_interval_bytes)?;
            let Some(located) = segment.find_batch(neighbour, segment.size())? else { continue };
            let header = &located.header;
            let told = self.epochs.lock().epoch_for(header.base_offset.max(self.log_start_offset()));
            let reaches_over = (header.base_offset + 1..=header.last_offset()).contains(&offset);
            let is_first = offset <= self.log_start_offset();
            if told.is_some_and(|told| told != header.partition_leader_epoch) || reaches_over && !is_first {
                return Ok(false);
            }
        }
        self.epochs.lock().set_checked(offset);
        Ok(true)
    }

    fn rebuild_epochs(&self) -> Result<(), LogError> {
        let mut writer = self.lock_writer()?;
        let found = epochs_in(self.segments().iter(), i64::MAX)?;
        let mut epochs = self.epochs.lock();
        let before = epochs.entries().to_vec();
        epochs.rebuild(found, self.log_end_offset());
        epochs.truncate_from_start(self.log_start_offset());
        if epochs.entries() == before {
            return Ok(());
        }
        let directory = self.directory();
        tracing::warn!(directory = %directory.display(), "{}", REBUILT);
        writer.leader_epoch = latest_of(&epochs);
        if let Err(error) = epochs.save() {
            tracing::warn!(%error, "the leader epochs were built anew, and are not in their file yet");
        }
        Ok(())
    }

    /// The epoch that the record at `offset` was written in, as far as the epochs are known.
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        self.epochs.lock().epoch_for(offset)
    }

    /// The file is written before the first batch of the epoch, so that no batch has an epoch that the file lacks.
    pub(super) fn note_epoch(
        &self,
        writer: &mut Writer,
        epoch: i32,
        start_offset: i64,
    ) -> Result<(), LogError> {
        if epoch == writer.leader_epoch {
            return Ok(());
        }
        let mut epochs = self.epochs.lock();
        epochs.begin(epoch, start_offset);
        if epochs.is_unsaved() {
            epochs.save().map_err(|error| self.write_failed(error))?;
        }
        writer.leader_epoch = latest_of(&epochs);
        Ok(())
    }
}

pub(super) fn latest_of(epochs: &EpochCache) -> i32 {
    epochs.latest().map_or(-1, |latest| latest.epoch)
}
