//! `fastlog.deleted`: topics that were deleted while a data directory could not be written to, which may have something of
//! them. Once its disk is well that is not a partition any more.
//!
//! ```text
//! version: 0
//! 4vPJzR9tQ1CqkYo1v4uOrA
//! ```
//!
//! It is in every directory that can be written to. A topic's id is never given twice, so one that is named for longer than
//! need be does no harm.
//!
//! Crash points: it is written, synced, before anybody is told that the topic is deleted. It goes once all directories were
//! there at a start and what they had is put away, durably; a crash before that has the next start do it again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use super::LogDir;
use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};
use crate::identity;

const FILE_NAME: &str = "fastlog.deleted";
const VERSION: &str = "version: 0";

/// The topics that a directory names.
pub(super) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<BTreeSet<Uuid>, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
        return Ok(BTreeSet::new());
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let is_known = lines.next() == Some(VERSION);
    let named: Option<BTreeSet<Uuid>> = lines.map(identity::from_base64).collect();
    named.filter(|_| is_known).ok_or_else(|| LogError::BadFile {
        path,
        reason: format!(
            "it is not {VERSION:?} and then the ids of topics; use the release that wrote it, or remove it: what is left of \
             topics that were deleted while a disk was bad is then told as belonging to no topic"
        ),
    })
}

impl LogDir {
    /// Adds topics to those that were deleted while a directory failed, durably. One caller at a time.
    pub fn note_deleted(&self, topics: &[Uuid]) -> Result<(), LogError> {
        self.storage.check()?;
        let known = read(&*self.storage.file_system, self.path())?;
        let all: BTreeSet<_> = known.iter().chain(topics).copied().collect();
        if all == known {
            return Ok(());
        }
        let lines = all.iter().map(|it| format!("{}\n", identity::to_base64(*it)));
        let text = format!("{VERSION}\n{}", lines.collect::<String>());
        let path = self.path().join(FILE_NAME);
        atomic_file::replace(&*self.storage.file_system, &path, text.as_bytes()).during("write", path)
    }
}

/// Nothing is left of the topics that are named: removes the files.
pub fn forget(directories: &[Arc<LogDir>]) -> Result<(), LogError> {
    for directory in directories {
        let (files, path) = (&directory.storage.file_system, directory.path().join(FILE_NAME));
        if read(&**files, directory.path())?.is_empty() {
            continue;
        }
        files.remove_file(&path).during("remove", path)?;
        directory.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::Storage;
    use crate::log_dir::Identity;

    #[test]
    fn what_is_noted_reads_back_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::real(folder.path());
        let identity = Identity { cluster_id: "c".to_owned(), node_id: 1 };
        let directory = Arc::new(LogDir::open(storage.clone(), &identity).unwrap());
        let noted = || read(&*storage.file_system, folder.path()).unwrap();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(noted(), BTreeSet::new());
        directory.note_deleted(&[two]).unwrap();
        directory.note_deleted(&[one, two]).unwrap();
        assert_eq!(noted(), BTreeSet::from([one, two]));
        forget(std::slice::from_ref(&directory)).unwrap();
        assert_eq!(noted(), BTreeSet::new());
        std::fs::write(folder.path().join(FILE_NAME), "version: 1\n").unwrap();
        let error = read(&*storage.file_system, folder.path()).unwrap_err().to_string();
        assert!(error.contains("use the release that wrote it"), "{error}");
    }
}
