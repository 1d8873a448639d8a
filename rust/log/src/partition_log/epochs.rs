//! Leader epochs of the log.

use super::{Log, Writer};
use crate::epoch_cache::EpochCache;
use crate::error::LogError;

/// Stands for a latest epoch that the file does not have, so that the next append looks; no batch has it.
const NOT_SAVED: i32 = i32::MIN;

impl Log {
    /// Notes that this broker leads from now on, with `leader_epoch`, and from the log's end. The file learns of it with
    /// the epoch's first batch: one that wrote nothing is nobody's to know after this process, and whoever leads ten
    /// thousand partitions anew writes no ten thousand files.
    pub fn start_epoch(&self, leader_epoch: i32) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        let mut epochs = self.epochs.lock();
        epochs.begin(leader_epoch, self.log_end_offset());
        writer.leader_epoch = if epochs.is_unsaved() { NOT_SAVED } else { latest_of(&epochs) };
        Ok(())
    }

    /// Refuses what leaders of older epochs than `leader_epoch` append from now on (NOT_LEADER_OR_FOLLOWER). One that
    /// looked at its epoch before and comes to append after this has no place in the log any more.
    pub fn fence_epochs_before(&self, leader_epoch: i32) {
        let mut writer = self.writer.lock();
        writer.least_epoch = writer.least_epoch.max(leader_epoch);
    }

    /// The largest epoch known that is no later than `epoch`, and the offset where it ends; (−1, −1) for one from the
    /// future. A follower truncates to it.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        // the end first: an epoch that begins meanwhile then begins at or after it
        let end = self.log_end_offset();
        self.epochs.lock().end_offset_for(epoch, end)
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

fn latest_of(epochs: &EpochCache) -> i32 {
    epochs.latest().map_or(-1, |latest| latest.epoch)
}
