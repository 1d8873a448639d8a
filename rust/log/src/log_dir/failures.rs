//! `fastlog.failed`: which data directories failed while they were in use, so that the next start does not take what the
//! last run wrote there for written.
//!
//! After a write or a sync that failed the kernel drops what it could not write: the page cache, which otherwise outlives
//! the process, then no longer has all that was appended, though the machine runs on. A directory that is named here counts
//! as one whose machine died. The file is in every directory that can be written to, the failed one itself included where
//! it still takes it: its disk may be the only one.
//!
//! ```text
//! version: 0
//! 9sKd… /data/b
//! ```
//!
//! Crash points: it is written as soon as a directory fails, before anybody is told of it. A process that dies before has
//! acknowledged nothing since. It goes once the directory's own `fastlog.run` says the same, and while a file that should
//! be gone is there a start is only stricter than it need be.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{FailedDirectory, LogDir};
use crate::error::{During, LogError};
use crate::file_system::{FailureWatch, FileSystem, Storage, atomic_file};

const FILE_NAME: &str = "fastlog.failed";
const VERSION: &str = "version: 0";
/// Stands for the id of a directory that has none, or could not be asked.
const NO_ID: &str = "-";

/// The directories that failed: `directory.id` and path of each.
pub(super) type Failed = BTreeSet<(String, String)>;

/// Writes down which of the data directories of a broker fail.
#[derive(Debug)]
pub(super) struct FailureNotes {
    /// Each with its `directory.id`. They know of this, so it must not keep them.
    directories: Vec<(Weak<Storage>, Option<String>)>,
    failed: Mutex<Failed>,
}

impl FailureNotes {
    /// From now on a directory of these that is poisoned is noted in all of them. `failed` are those that this run began
    /// without. The others began their runs: what the file says of them is in their own.
    pub(super) fn watch(directories: &[LogDir], failed: &[FailedDirectory]) {
        let failed: Failed = failed.iter().map(|it| line_of(&it.path, None)).collect();
        for directory in directories {
            if let Err(error) = bring(directory.storage(), &failed) {
                tracing::warn!(%error, "the next start may be stricter than it need be");
            }
        }
        let weak = directories.iter().map(|it| (Arc::downgrade(it.storage()), it.id().map(str::to_owned)));
        let notes = Arc::new(Self { directories: weak.collect(), failed: Mutex::new(failed) });
        directories.iter().for_each(|it| it.storage().watch_failure(notes.clone()));
    }
}

impl FailureWatch for FailureNotes {
    fn failed(&self, failing: &Storage) {
        let directories: Vec<_> =
            self.directories.iter().filter_map(|(it, id)| Some((it.upgrade()?, id.as_deref()))).collect();
        // one after the other: each file is to name all
        let mut failed = self.failed.lock();
        let is_failing = |it: &Storage| std::ptr::eq(it, failing);
        let id = directories.iter().find(|(it, _)| is_failing(it)).and_then(|(_, id)| *id);
        failed.insert(line_of(failing.directory(), id));
        for (storage, _) in &directories {
            let written = if is_failing(storage) {
                // it may refuse the sync alone, and then the page cache has it at least
                replace(storage, &failed, true).or_else(|_| replace(storage, &failed, false))
            } else if storage.check().is_ok() {
                replace(storage, &failed, true)
            } else {
                continue;
            };
            if let Err(error) = written {
                tracing::warn!(
                    directory = %storage.directory().display(), %error,
                    "that a data directory failed could not be written down here"
                );
            }
        }
    }
}

/// The directories that failed in an earlier run, as `directory` knows them.
pub(super) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Failed, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
        return Ok(Failed::new());
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let is_known = lines.next() == Some(VERSION);
    let named: Option<Failed> = lines.map(|line| Some(owned(line.split_once(' ')?))).collect();
    named.filter(|_| is_known).ok_or_else(|| LogError::BadFile {
        path,
        reason: format!(
            "it is not {VERSION:?} and then lines of the id and the path of a directory; use the release that wrote it, or \
             remove it if no disk failed in the last run"
        ),
    })
}

/// Whether the directory with that `directory.id` is named.
pub(super) fn names(failed: &Failed, directory: &Path, id: Option<&str>) -> bool {
    let (_, path) = line_of(directory, None);
    failed.iter().any(|(known, at)| id == Some(known) || (known == NO_ID && *at == path))
}

fn bring(storage: &Storage, failed: &Failed) -> Result<(), LogError> {
    let (file_system, directory) = (&*storage.file_system, storage.directory());
    let path = directory.join(FILE_NAME);
    if read(file_system, directory)? == *failed {
        return Ok(());
    }
    let written = if failed.is_empty() {
        file_system.remove_file(&path).and_then(|()| file_system.sync_directory(directory))
    } else {
        replace(storage, failed, true)
    };
    written.during("write", path)
}

fn replace(storage: &Storage, failed: &Failed, is_synced: bool) -> io::Result<()> {
    let lines = failed.iter().map(|(id, path)| format!("{id} {path}\n"));
    let text = format!("{VERSION}\n{}", lines.collect::<String>());
    let path = storage.directory().join(FILE_NAME);
    let replace = if is_synced { atomic_file::replace } else { atomic_file::replace_unsynced };
    replace(&*storage.file_system, &path, text.as_bytes())
}

fn line_of(directory: &Path, id: Option<&str>) -> (String, String) {
    (id.unwrap_or(NO_ID).to_owned(), super::known::absolute(directory).display().to_string())
}

fn owned((id, path): (&str, &str)) -> (String, String) {
    (id.to_owned(), path.to_owned())
}
