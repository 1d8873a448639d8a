//! The checkpoints of the data directories, each with the offsets of its own partitions.
//!
//! Crash points. Each file is replaced as a whole, one directory after the other; the directories do not depend on each other.

use super::LogManager;
use super::directories::has;
use crate::partition::Partition;
use fastlog_log::{Checkpoint, LogDir, LogError, Offsets};

impl LogManager {
    /// Replaces one checkpoint file of each directory by what holds now. All are tried; the first failure is answered. One
    /// that failed is left as it is: what is in memory may not be on its disk.
    pub fn write_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), LogError> {
        let directories = self.directories()?;
        let each = directories.healthy().map(|it| self.write_checkpoint_of(it, checkpoint));
        each.fold(Ok(()), Result::and)
    }

    /// The same for one directory.
    pub(super) fn write_checkpoint_of(
        &self,
        directory: &LogDir,
        checkpoint: Checkpoint,
    ) -> Result<(), LogError> {
        let _one_at_a_time = self.checkpointing.lock();
        directory.write_checkpoint(checkpoint, &self.offsets(directory, checkpoint))
    }

    pub(super) fn write_all(&self, directory: &LogDir) -> Result<(), LogError> {
        let _one_at_a_time = self.checkpointing.lock();
        self.write_each(directory)
    }

    /// Writes the checkpoints anew if one of them has a partition that is put away.
    pub(super) fn write_without(&self, directory: &LogDir, gone: &[(String, i32)]) -> Result<(), LogError> {
        // with the lock: a view that was taken while they were open may be on its way to the disk
        let _one_at_a_time = self.checkpointing.lock();
        if gone.iter().any(|(topic, index)| directory.has_checkpointed(topic, *index)) {
            self.write_each(directory)?;
        }
        Ok(())
    }

    fn write_each(&self, directory: &LogDir) -> Result<(), LogError> {
        for checkpoint in [Checkpoint::RecoveryPoint, Checkpoint::LogStart, Checkpoint::HighWatermark] {
            directory.write_checkpoint(checkpoint, &self.offsets(directory, checkpoint))?;
        }
        Ok(())
    }

    /// The offsets of open logs, and for those that are not open what the last run said of them. One that is not there is
    /// 0, as are those of logs that nobody ever wrote to.
    fn offsets(&self, directory: &LogDir, checkpoint: Checkpoint) -> Offsets {
        if checkpoint == Checkpoint::Cleaner {
            return self.cleaner_offsets(directory);
        }
        let mut offsets = Offsets::new();
        for (key, it) in self.found.lock().iter().filter(|(_, it)| is_in(directory, &it.path)) {
            let options = directory.log_options(&it.topic, it.partition);
            let offset = match checkpoint {
                Checkpoint::RecoveryPoint => options.recovery_point,
                Checkpoint::HighWatermark => options.high_watermark,
                Checkpoint::LogStart => options.log_start_offset,
                Checkpoint::Cleaner => continue,
            };
            if offset != 0 {
                offsets.insert(key.clone(), offset);
            }
        }
        let offset_of = |partition: &Partition| match checkpoint {
            Checkpoint::RecoveryPoint => partition.log().recovery_point(),
            Checkpoint::HighWatermark => partition.log().high_watermark(),
            Checkpoint::LogStart => partition.log().log_start_offset(),
            Checkpoint::Cleaner => 0,
        };
        let meant = |it: &Partition| has(directory, it.log()) && offset_of(it) != 0;
        for partition in self.broker.partitions().those(meant) {
            offsets.insert((partition.topic().to_string(), partition.index()), offset_of(&partition));
        }
        offsets
    }

    fn cleaner_offsets(&self, directory: &LogDir) -> Offsets {
        let found = self.found.lock();
        let is_here = |key: &(String, i32)| match self.broker.partitions().get(&key.0, key.1) {
            Some(open) => has(directory, open.log()),
            None => found.get(key).is_some_and(|it| is_in(directory, &it.path)),
        };
        self.cleaner.offsets().into_iter().filter(|(key, _)| is_here(key)).collect()
    }
}

fn is_in(directory: &LogDir, path: &std::path::Path) -> bool {
    path.parent() == Some(directory.path())
}
