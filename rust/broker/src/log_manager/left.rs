//! What directories that failed have of topics that are deleted: it cannot be put away now, so the ids of the topics are
//! written down, and a start at which the disks are well does it.

use super::directories::Directories;
use super::{LogManager, failed};
use crate::events::Level;
use crate::partition::Partition;
use fastlog_log::{LogDir, LogError, PartitionDirectory, file_name};
use std::collections::BTreeSet;
use uuid::Uuid;

impl LogManager {
    /// Before topics are deleted: where a directory cannot be written to, they are noted in the others, durably.
    pub(super) fn note_if_left(&self, directories: &Directories, topics: &[Uuid]) -> Result<(), LogError> {
        if directories.failed().is_empty() && directories.healthy().count() == directories.all().len() {
            return Ok(());
        }
        let _one = self.noting.lock();
        self.missing.lock().retain(|(_, _, id)| !topics.contains(id));
        let mut healthy = directories.healthy().peekable();
        if healthy.peek().is_none() {
            return directories.first()?.storage().check();
        }
        healthy.try_for_each(|it| it.note_deleted(topics))
    }

    /// Whether what there is of a deleted partition stays for now, which is told.
    pub(super) fn is_left(&self, partition: &Partition) -> bool {
        let Err(error) = partition.log().storage().check() else { return false };
        let fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("topic_id", partition.topic_id().to_string()),
            ("directory", partition.log().directory().display().to_string()),
            ("reason", error.to_string()),
        ];
        let message =
            "a partition is deleted, and its directory stays until a start at which its disk is well";
        self.broker.events().push(Level::Warning, message, fields);
        true
    }
}

/// Renames directories of topics that were deleted while their disk was bad, to be among the deleted ones; answers the
/// others.
pub(super) fn put_left_away(
    directory: &LogDir,
    found: Vec<PartitionDirectory>,
    deleted: &BTreeSet<Uuid>,
) -> Result<Vec<PartitionDirectory>, LogError> {
    let is_gone = |it: &PartitionDirectory| it.topic_id.is_some_and(|id| deleted.contains(&id));
    let (gone, kept): (Vec<_>, Vec<_>) = found.into_iter().partition(is_gone);
    let storage = directory.storage();
    for it in &gone {
        super::tiers::mark_for_store(storage, &it.path)?;
        let name =
            file_name::of_deleted_partition(&it.topic, it.partition, storage.file_system.random_uuid());
        let to = it.path.with_file_name(name);
        storage.file_system.rename(&it.path, &to).map_err(|error| failed("rename", &it.path, error))?;
    }
    if !gone.is_empty() {
        directory.sync()?;
    }
    Ok(kept)
}
