//! What the object store has of partitions whose topic was deleted. Each broker that had a replica removes it, when and as
//! often as it comes to it: a topic's id is never given twice, so there is nothing of anybody else below it.
//!
//! Crash points. Before the directory gets its `-delete` name it gets a file that says why: a replica that is only
//! elsewhere now goes from here in the same way, and nothing of it goes from the store. The directory stays until the store
//! has nothing any more. Who still uploads as others have deleted already is told of the deletion himself.

use super::super::LogManager;
use super::super::directories::Directories;
use super::COPY;
use crate::events::Level;
use crate::tiers::Tiers;
use fastlog_log::file_system::atomic_file;
use fastlog_log::{LogError, Storage};
use fastlog_tiers::{Tier, TierError};
use std::io;
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Says that the topic of a partition's directory is deleted, and the object store is to forget it.
const DELETED: &str = "remote-log-deleted";

/// Notes in a directory that its topic is deleted, before it is renamed.
pub(in super::super) fn mark_for_store(storage: &Storage, directory: &Path) -> Result<(), LogError> {
    if has(storage, directory, COPY) { mark(storage, directory) } else { Ok(()) }
}

fn mark(storage: &Storage, directory: &Path) -> Result<(), LogError> {
    let mark = directory.join(DELETED);
    atomic_file::replace(&*storage.file_system, &mark, b"").map_err(|error| LogError::Io {
        action: "write",
        path: mark.clone(),
        source: error.into(),
    })
}

impl LogManager {
    /// The same of a partition that is open.
    pub(in super::super) fn mark_open(
        &self,
        topic: &str,
        topic_id: Uuid,
        index: i32,
    ) -> Result<(), LogError> {
        let open = self.broker.partitions().get(topic, index).filter(|it| it.topic_id() == topic_id);
        let Some(open) = open else { return Ok(()) };
        let log = open.log();
        if log.config().remote_storage {
            // its first upload may begin just now, and write the copy behind this look
            return mark(&log.storage(), &log.directory());
        }
        mark_for_store(&log.storage(), &log.directory())
    }

    /// Whether the store has to forget something of deleted partitions.
    pub(super) fn has_deleted_tiers(&self) -> bool {
        let doomed: Vec<PathBuf> = self.doomed.lock().iter().map(|(path, _)| path.clone()).collect();
        doomed.iter().any(|path| self.is_needed_by_tiers(path))
    }

    pub(super) fn remove_deleted_tiers(&self, tiers: &Tiers) {
        let Ok(directories) = self.directories() else { return };
        let doomed: Vec<PathBuf> = self.doomed.lock().iter().map(|(path, _)| path.clone()).collect();
        for path in doomed {
            let Ok(directory) = directories.of_path(&path) else { continue };
            if tiers.is_stopped() || !is_to_be_removed(directory.storage(), &path) {
                continue;
            }
            if let Err(error) = remove_deleted_tier(tiers, directory.storage(), &path) {
                let fields = vec![("directory", path.display().to_string()), ("reason", error.to_string())];
                let message = "what the object store has of a deleted partition could not be deleted, it is tried again";
                self.broker.events().push(Level::Error, message, fields);
                return;
            }
        }
    }

    /// Whether the directory of a deleted partition is still needed to delete what the store has of it.
    pub(in super::super) fn is_needed_by_tiers(&self, path: &Path) -> bool {
        let is_needed =
            |it: &Directories| it.of_path(path).is_ok_and(|it| is_to_be_removed(it.storage(), path));
        self.broker.tiers().is_some() && self.directories().is_ok_and(|it| is_needed(&it))
    }
}

/// Whether a partition's directory has a copy of a manifest.
pub(super) fn has_copy(storage: &Storage, directory: &Path) -> bool {
    has(storage, directory, COPY)
}

fn has(storage: &Storage, directory: &Path, name: &str) -> bool {
    // where nobody can tell, nothing is removed
    storage.file_system.exists(&directory.join(name)).unwrap_or(true)
}

fn is_to_be_removed(storage: &Storage, directory: &Path) -> bool {
    has(storage, directory, DELETED) && has(storage, directory, COPY)
}

/// Removes a directory's copy of the manifest.
pub(super) fn remove_copy(storage: &Storage, directory: &Path) -> Result<(), TierError> {
    match storage.file_system.remove_file(&directory.join(COPY)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = "remove the copy of a manifest";
            Err(TierError::Local { what, reason: error.to_string() })
        }
        _ => Ok(()),
    }
}

fn remove_deleted_tier(tiers: &Tiers, storage: &Storage, directory: &Path) -> Result<(), TierError> {
    let read = atomic_file::read(&*storage.file_system, &directory.join(COPY));
    let bytes = read.map_err(|error| TierError::Local {
        what: "read the copy of a manifest",
        reason: error.to_string(),
    })?;
    if let Some(bytes) = bytes {
        Tier::of_copy(&bytes)?.remove_all(tiers.store())?;
    }
    remove_copy(storage, directory)
}
