//! A data directory: one broker's, locked while it runs, with what its logs share.

use std::collections::HashMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{Space, Storage};
use crate::partition_log::LogOptions;
use crate::recovery::LastStop;

pub mod checkpoint;
mod claim;
pub mod deleted_topics;
mod duplicates;
mod failures;
pub mod known;
pub mod meta_properties;
pub mod moves;
pub(crate) mod partition_metadata;
mod run_marker;
mod several;
#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, Offsets};
use claim::Claim;
pub use known::KnownDirectories;
pub use meta_properties::{Identity, read_identity};
pub use moves::wanted::{WantedPlace, WantedPlaces};
pub use moves::{Move, Settled};
use run_marker::Run;
pub use several::{FailedDirectory, OpenedDirectories};

/// A partition's directory found in a data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionDirectory {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The topic's id; `None` where the directory does not say.
    pub topic_id: Option<Uuid>,
    /// The directory.
    pub path: PathBuf,
}

/// What a checkpoint file says.
#[derive(Debug)]
struct Written {
    text: String,
    /// It was written in this run. What an earlier one left may not be on the disk, if it died before its sync.
    is_synced: bool,
    next: Next,
}

/// What is being written in the place of a checkpoint file.
#[derive(Debug)]
enum Next {
    Nothing,
    /// It is being gathered.
    NotKnown,
    Text(String),
}

impl Written {
    fn may_say(&self, line: &str) -> bool {
        self.text.contains(line)
            || match &self.next {
                Next::Nothing => false,
                Next::NotKnown => true,
                Next::Text(text) => text.contains(line),
            }
    }
}

/// A data directory in use by this process.
#[derive(Debug)]
pub struct LogDir {
    storage: Arc<Storage>,
    /// `directory.id` of `meta.properties`.
    id: Option<String>,
    last_stop: LastStop,
    run: Mutex<Run>,
    recovery_points: Offsets,
    high_watermarks: Offsets,
    log_starts: Offsets,
    cleaned: Offsets,
    /// What the checkpoint files say, where that is known. Not held while the disk is waited for.
    written: Mutex<HashMap<Checkpoint, Written>>,
    /// Files are written one at a time: they share the names of their temporary files.
    writing: Mutex<()>,
    /// Partitions that are being given away, as the file says.
    moves: Mutex<moves::Moves>,
    /// Held for its drop.
    _lock: Box<dyn Send + Sync + Debug>,
}

impl LogDir {
    /// Takes the data directory of `storage` into use for the broker `identity`; makes it when absent. Refused, and left
    /// as it is, when another process has it, or it is another broker's or cluster's, or a newer version's.
    pub fn open(storage: Arc<Storage>, identity: &Identity) -> Result<Self, LogError> {
        Claim::take(storage, identity)?.begin(identity)
    }

    /// What its logs share.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.storage.directory()
    }

    /// `directory.id` of `meta.properties`; `None` where it has none.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The room that its disk has.
    pub fn space(&self) -> Result<Space, LogError> {
        self.storage.space()
    }

    /// How the last run ended.
    pub fn last_stop(&self) -> LastStop {
        self.last_stop
    }

    /// This run's identifier, new at each start.
    pub fn incarnation(&self) -> Uuid {
        self.run.lock().incarnation
    }

    /// How to open a partition: what the checkpoints said of it when the directory was opened. A partition that is made
    /// later in this run counts as cleanly closed: there is nothing to recover.
    pub fn log_options(&self, topic: &str, partition: i32) -> LogOptions {
        let key = (topic.to_owned(), partition);
        let offset = |offsets: &Offsets| offsets.get(&key).copied().unwrap_or(0);
        LogOptions {
            log_start_offset: offset(&self.log_starts),
            recovery_point: offset(&self.recovery_points),
            high_watermark: offset(&self.high_watermarks),
            ..LogOptions::new(topic, partition, self.last_stop)
        }
    }

    /// The partitions that have a directory here, by name. Which of them are strays (of no topic that exists) is for the
    /// caller to say; they are never deleted unasked.
    pub fn partitions(&self) -> Result<Vec<PartitionDirectory>, LogError> {
        let mut found = self.unread_partitions()?;
        found.iter_mut().try_for_each(|it| self.read_topic_id(it))?;
        Ok(found)
    }

    /// The same, as far as the names of the directories tell: without topic ids.
    pub fn unread_partitions(&self) -> Result<Vec<PartitionDirectory>, LogError> {
        let names = self.directories()?.into_iter();
        let mut found: Vec<_> = names
            .filter_map(|name| {
                let (topic, partition) = file_name::parse_partition(&name)?;
                let path = self.path().join(&name);
                Some(PartitionDirectory { topic: topic.to_owned(), partition, topic_id: None, path })
            })
            .collect();
        found.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(found)
    }

    /// Reads which topic a partition's directory belongs to.
    pub fn read_topic_id(&self, of: &mut PartitionDirectory) -> Result<(), LogError> {
        of.topic_id = match partition_metadata::read(&*self.storage.file_system, &of.path) {
            // for the open to judge, which knows more
            Err(LogError::BadFile { .. }) => None,
            result => result?,
        };
        Ok(())
    }

    /// Directories of deleted partitions that still have to be removed, left over from the last run or made in this one.
    pub fn deleted_partitions(&self) -> Result<Vec<PathBuf>, LogError> {
        let names = self.directories()?.into_iter();
        let deleted = names.filter(|name| name.ends_with(file_name::DELETED_DIRECTORY));
        Ok(deleted.map(|name| self.path().join(name)).collect())
    }

    /// Copies of partitions that are to be moved here, which an earlier run left: with the topic and its id, and the number.
    pub fn future_partitions(&self) -> Result<Vec<PartitionDirectory>, LogError> {
        let mut found = Vec::new();
        for name in self.directories()? {
            let Some((topic, partition)) = file_name::parse_future_partition(&name) else { continue };
            let path = self.path().join(&name);
            // one that was cut off early may have none
            let topic_id = partition_metadata::read(&*self.storage.file_system, &path).unwrap_or_default();
            found.push(PartitionDirectory { topic: topic.to_owned(), partition, topic_id, path });
        }
        Ok(found)
    }

    /// Renames the copy of a partition that is of no use any more, to be among the deleted ones; answers where it is then.
    pub fn give_up_future(&self, future: &PartitionDirectory) -> Result<PathBuf, LogError> {
        let files = &self.storage.file_system;
        let name = file_name::of_deleted_partition(&future.topic, future.partition, files.random_uuid());
        let to = self.path().join(name);
        files.rename(&future.path, &to).during("rename", &future.path)?;
        Ok(to)
    }

    /// Removes the directory of a deleted partition ([`crate::Log::mark_deleted`]); refuses any other.
    pub fn remove_deleted(&self, path: &Path) -> Result<(), LogError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.parent() != Some(self.path()) || !name.ends_with(file_name::DELETED_DIRECTORY) {
            let reason = format!("{} is not the directory of a deleted partition", path.display());
            return Err(LogError::Invalid { reason });
        }
        match self.storage.file_system.remove_directory(path) {
            // a full disk had it removed at once
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.during("remove", path),
        }
    }

    /// Replaces a checkpoint file by `offsets`, synced; one that says just that already is left alone.
    pub fn write_checkpoint(&self, checkpoint: Checkpoint, offsets: &Offsets) -> Result<(), LogError> {
        self.write_checkpoint_by(checkpoint, || offsets.clone())
    }

    /// The same, with the offsets as `look` finds them when no other file is being written.
    pub fn write_checkpoint_by(
        &self,
        checkpoint: Checkpoint,
        look: impl FnOnce() -> Offsets,
    ) -> Result<(), LogError> {
        self.storage.check()?;
        let _one_at_a_time = self.writing.lock();
        if let Some(known) = self.written.lock().get_mut(&checkpoint) {
            known.next = Next::NotKnown;
        }
        let text = checkpoint::text(&look());
        if let Some(known) = self.written.lock().get_mut(&checkpoint) {
            if known.is_synced && known.text == text {
                known.next = Next::Nothing;
                return Ok(());
            }
            known.next = Next::Text(text.clone());
        }
        let result = checkpoint.write(&*self.storage.file_system, self.path(), &text);
        let mut written = self.written.lock();
        match result {
            Ok(()) => _ = written.insert(checkpoint, Written { text, is_synced: true, next: Next::Nothing }),
            // nobody knows which of the two the file says
            Err(_) => _ = written.remove(&checkpoint),
        }
        result
    }

    /// Whether the last run or this one may have written down an offset of the partition that is not 0, or is about to. Does
    /// not wait for the disk.
    pub fn has_checkpointed(&self, topic: &str, partition: i32) -> bool {
        let line = format!("\n{topic} {partition} ");
        let written = self.written.lock();
        Checkpoint::ALL.iter().any(|it| written.get(it).is_none_or(|it| it.may_say(&line)))
    }

    /// Syncs the names of what is in it.
    pub fn sync(&self) -> Result<(), LogError> {
        self.storage.file_system.sync_directory(self.path()).during("sync", self.path())
    }

    /// Up to where logs were compacted by the last run. A file that does not read counts as none: they are cleaned from
    /// their starts.
    pub fn cleaner_offsets(&self) -> Offsets {
        self.cleaned.clone()
    }

    /// To be called once all logs have been opened after a crash: from here on, the rules for the death of the process
    /// alone hold again.
    pub fn mark_recovered(&self) -> Result<(), LogError> {
        let boot_id = self.storage.file_system.boot_id().during("read the boot id for", self.path())?;
        let mut run = self.run.lock();
        if run.boot_id != boot_id {
            let recovered = Run { boot_id, ..run.clone() };
            run_marker::write_run(&*self.storage.file_system, self.path(), &recovered)?;
            *run = recovered;
        }
        Ok(())
    }

    /// Notes that the run ended well. Only after every log was closed clean and the checkpoints were written; refused
    /// when the directory is poisoned.
    pub fn close_clean(self) -> Result<(), LogError> {
        self.storage.check()?;
        run_marker::end_clean(&*self.storage.file_system, self.path(), &self.run.lock())
    }

    fn directories(&self) -> Result<Vec<String>, LogError> {
        let entries = self.storage.file_system.list(self.path()).during("list", self.path())?;
        Ok(entries.into_iter().filter(|entry| entry.is_directory).map(|entry| entry.name).collect())
    }
}
