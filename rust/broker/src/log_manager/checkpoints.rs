//! The checkpoints of the data directories, each with the offsets of its own partitions.
//!
//! Crash points. Each file is replaced as a whole. The directories do not depend on each other: one whose disk answers
//! nothing has nobody wait but for its own.

use super::LogManager;
use super::directories::{Directories, has};
use crate::partition::Partition;
use fastlog_log::{Checkpoint, Log, LogDir, LogError, Offsets};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::path::PathBuf;

/// What held when a checkpoint of a directory was last written in its turn.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Of the table of partitions.
    changes: u64,
    /// Directories of partitions that are not open.
    unopened: usize,
    /// Of each open partition in the directory: its place in the table, and its offset.
    offsets: Vec<(usize, i64)>,
}

/// The checkpoints that say what holds as long as it looks as it did: to write ten thousand offsets down in order, only to
/// find that the file says the same, is most of what an idle broker would do.
#[derive(Debug, Default)]
struct Written(HashMap<Checkpoint, Seen>);

/// One checkpoint of a directory at a time, so that an older view never replaces a newer one.
pub(super) struct Checkpointing(Vec<(PathBuf, Mutex<Written>)>);

impl Checkpointing {
    pub(super) fn of(directories: &Directories) -> Self {
        Self(directories.all().iter().map(|it| (it.path().to_owned(), Mutex::default())).collect())
    }

    fn lock(&self, directory: &LogDir) -> Result<MutexGuard<'_, Written>, LogError> {
        let found = self.0.iter().find(|(path, _)| path == directory.path());
        let (_, written) =
            found.ok_or_else(|| LogError::Gone { path: directory.path().to_owned(), state: "not in use" })?;
        Ok(written.lock())
    }
}

impl LogManager {
    /// Replaces one checkpoint file of each directory by what holds now. All are tried; the first failure is answered.
    pub fn write_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), LogError> {
        let directories = self.directories()?;
        let write = |it: &LogDir| self.write_checkpoint_in_turn(it, checkpoint);
        directories.all().iter().map(|it| write(it)).fold(Ok(()), Result::and)
    }

    /// Replaces a checkpoint file of one directory, if it is to say anything else by now. That of a directory that failed
    /// is left as it is: what is in memory may not be on its disk.
    pub(super) fn write_checkpoint_in_turn(
        &self,
        directory: &LogDir,
        checkpoint: Checkpoint,
    ) -> Result<(), LogError> {
        if directory.storage().check().is_err() {
            return Ok(());
        }
        let mut written = self.checkpointing.lock(directory)?;
        let seen = self.seen(directory, checkpoint);
        if seen.is_some() && written.0.get(&checkpoint) == seen.as_ref() {
            return Ok(());
        }
        written.0.remove(&checkpoint);
        // the look before the file: what changes meanwhile is written in the next turn
        directory.write_checkpoint_by(checkpoint, || self.offsets(directory, checkpoint))?;
        written.0.extend(seen.map(|seen| (checkpoint, seen)));
        Ok(())
    }

    /// `None` for what is not told by the partitions.
    fn seen(&self, directory: &LogDir, checkpoint: Checkpoint) -> Option<Seen> {
        if checkpoint == Checkpoint::Cleaner {
            return None;
        }
        let partitions = self.broker.partitions();
        let (changes, unopened) = (partitions.changes(), self.found.lock().len());
        let (mut offsets, mut place) = (Vec::new(), 0);
        partitions.each(|it| {
            if has(directory, it.log()) {
                offsets.push((place, offset_of(it, checkpoint)));
            }
            place += 1;
        });
        offsets.shrink_to_fit();
        Some(Seen { changes, unopened, offsets })
    }

    /// Replaces a checkpoint file of one directory.
    pub(super) fn write_checkpoint_of(
        &self,
        directory: &LogDir,
        checkpoint: Checkpoint,
    ) -> Result<(), LogError> {
        let mut written = self.checkpointing.lock(directory)?;
        written.0.clear();
        directory.write_checkpoint_by(checkpoint, || self.offsets(directory, checkpoint))
    }

    /// The same for the directory that has the log, also one that gets it meanwhile.
    pub(super) fn write_checkpoint_of_log(&self, log: &Log, checkpoint: Checkpoint) -> Result<(), LogError> {
        let directories = self.directories()?;
        loop {
            let directory = directories.of_log(log)?;
            self.write_checkpoint_of(directory, checkpoint)?;
            if has(directory, log) {
                return Ok(());
            }
        }
    }

    pub(super) fn write_all(&self, directory: &LogDir) -> Result<(), LogError> {
        let mut written = self.checkpointing.lock(directory)?;
        written.0.clear();
        self.write_each(directory)
    }

    /// Writes the checkpoints anew if one of them has a partition that is put away.
    pub(super) fn write_without(&self, directory: &LogDir, gone: &[(String, i32)]) -> Result<(), LogError> {
        // with the lock: a view that was taken while they were open may be on its way to the disk
        let mut written = self.checkpointing.lock(directory)?;
        written.0.clear();
        if has_checkpointed(directory, gone) {
            self.write_each(directory)?;
        }
        Ok(())
    }

    fn write_each(&self, directory: &LogDir) -> Result<(), LogError> {
        for checkpoint in Checkpoint::ALL {
            directory.write_checkpoint_by(checkpoint, || self.offsets(directory, checkpoint))?;
        }
        Ok(())
    }

    /// The offsets of open logs, and for those that are not open what the last run said of them. One that is not there is
    /// 0, as are those of logs that nobody ever wrote to.
    pub(super) fn offsets(&self, directory: &LogDir, checkpoint: Checkpoint) -> Offsets {
        if checkpoint == Checkpoint::Cleaner {
            return self.cleaner_offsets(directory);
        }
        // first: one that is not about to be there any more is there
        let mut offsets: Offsets = self.moves.arriving(directory, checkpoint).into_iter().collect();
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
        let meant = |it: &Partition| has(directory, it.log()) && offset_of(it, checkpoint) != 0;
        for partition in self.broker.partitions().those(meant) {
            let offset = offset_of(&partition, checkpoint);
            offsets.insert((partition.topic().to_string(), partition.index()), offset);
        }
        offsets
    }

    fn cleaner_offsets(&self, directory: &LogDir) -> Offsets {
        let arriving = self.moves.arriving(directory, Checkpoint::Cleaner);
        let found = self.found.lock();
        let is_here = |key: &(String, i32)| match self.broker.partitions().get(&key.0, key.1) {
            Some(open) => has(directory, open.log()),
            None => found.get(key).is_some_and(|it| is_in(directory, &it.path)),
        };
        arriving
            .into_iter()
            .chain(self.cleaner.offsets().into_iter().filter(|(key, _)| is_here(key)))
            .collect()
    }
}

/// Whether a checkpoint of the directory may name one of the partitions.
pub(super) fn has_checkpointed(directory: &LogDir, partitions: &[(String, i32)]) -> bool {
    partitions.iter().any(|(topic, index)| directory.has_checkpointed(topic, *index))
}

fn offset_of(partition: &Partition, checkpoint: Checkpoint) -> i64 {
    match checkpoint {
        Checkpoint::RecoveryPoint => partition.log().recovery_point(),
        Checkpoint::HighWatermark => partition.log().high_watermark(),
        Checkpoint::LogStart => partition.log().log_start_offset(),
        Checkpoint::Cleaner => 0,
    }
}

fn is_in(directory: &LogDir, path: &std::path::Path) -> bool {
    path.parent() == Some(directory.path())
}
