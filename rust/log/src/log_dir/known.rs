//! `fastlog.directories`: which data directories a broker has, so that one that is missing is not taken for an empty one.
//!
//! A disk that is not mounted looks like a new directory, and what it had would be made anew, empty. So the first of the
//! directories, which also has the broker's metadata, names them all, each by its `directory.id` and its path:
//!
//! ```text
//! version: 0
//! present xF2q… /data/a
//! present 9sKd… /data/b
//! ```
//!
//! A start is refused while one that is `present` is nowhere among those given. Whoever knows that it is gone for good
//! writes `lost` in the place of `present`. Crash points: the file is replaced as a whole, once the logs of a start are
//! open; until then an older one names fewer directories, or still has the line of a lost one, which is as before.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::claim::Claim;
use super::{FailedDirectory, LogDir};
use crate::error::{During, LogError};
use crate::file_system::{FileSystem, Storage, atomic_file};

const FILE_NAME: &str = "fastlog.directories";
const VERSION: &str = "version: 0";
/// Stands for the id of a directory that has none.
const NO_ID: &str = "-";

/// What the first data directory says of all of them.
#[derive(Debug)]
pub struct KnownDirectories {
    storage: Arc<Storage>,
    has_lost: bool,
    text: Mutex<Option<String>>,
}

impl KnownDirectories {
    /// Compares the directories given with those known; changes nothing.
    pub(super) fn of(claims: &[Claim], failed: &[FailedDirectory]) -> Result<Self, LogError> {
        let Some((first, others)) = claims.split_first() else {
            return Err(LogError::Invalid { reason: "a broker needs a data directory".to_owned() });
        };
        for other in others {
            check_order(first, other)?;
        }
        let directory = first.storage.directory();
        let text = read(&*first.storage.file_system, directory)?;
        let mut has_lost = false;
        for line in text.iter().flat_map(|text| text.lines().skip(1)).filter(|line| !line.trim().is_empty()) {
            let bad = || LogError::BadFile {
                path: directory.join(FILE_NAME),
                reason: format!(
                    "the line {line:?} is not \"present\" or \"lost\", the id of a directory and its path"
                ),
            };
            let mut words = line.splitn(3, ' ');
            let (Some(state), Some(id), Some(path)) = (words.next(), words.next(), words.next()) else {
                return Err(bad());
            };
            match state {
                "present" if is_among(claims, id, path) => {}
                // its disk is there, and cannot be asked who it is
                "present" if failed.iter().any(|it| absolute(&it.path).display().to_string() == path) => {}
                "present" => return Err(missing(directory, id, path)),
                // one that came back is as good as ever
                "lost" => has_lost |= !is_among(claims, id, path),
                _ => return Err(bad()),
            }
        }
        Ok(Self { storage: Arc::clone(&first.storage), has_lost, text: Mutex::new(text) })
    }

    /// Whether a directory of this broker's was lost since its last start: its logs are not whole.
    pub fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Writes down which directories there are, synced, where it is not written already. A broker that always had one needs no
    /// such file. To be called once nobody needs to know any more that one was lost.
    /// While one failed nothing is written: what it is called stays known.
    pub fn note(&self, directories: &[Arc<LogDir>], failed: &[FailedDirectory]) -> Result<(), LogError> {
        let mut text = self.text.lock();
        if !failed.is_empty() || (directories.len() < 2 && text.is_none()) {
            return Ok(());
        }
        let lines = directories
            .iter()
            .map(|it| format!("present {} {}\n", it.id().unwrap_or(NO_ID), absolute(it.path()).display()));
        let fresh = format!("{VERSION}\n{}", lines.collect::<String>());
        if text.as_ref() == Some(&fresh) {
            return Ok(());
        }
        let path = self.storage.directory().join(FILE_NAME);
        atomic_file::replace(&*self.storage.file_system, &path, fresh.as_bytes()).during("write", path)?;
        *text = Some(fresh);
        Ok(())
    }
}

/// Metadata are looked for in the first directory: another order would begin with none.
fn check_order(first: &Claim, other: &Claim) -> Result<(), LogError> {
    let has_file = read(&*other.storage.file_system, other.storage.directory())?.is_some();
    if !has_file && (first.is_known || !other.is_known) {
        return Ok(());
    }
    let reason = format!(
        "it is the first of log.dirs, where a broker has its metadata, but this broker has {}; name that one first, \
         or mount the disk that belongs here",
        if has_file {
            format!("its in {}", other.storage.directory().display())
        } else {
            format!(
                "nothing here while {} has been in use: its metadata are there, or on a disk that is missing",
                other.storage.directory().display()
            )
        }
    );
    Err(LogError::Refused { path: first.storage.directory().to_owned(), reason })
}

fn is_among(claims: &[Claim], id: &str, path: &str) -> bool {
    claims.iter().any(|it| match &it.id {
        Some(known) => known == id,
        None => it.is_known && id == NO_ID && absolute(it.storage.directory()).display().to_string() == path,
    })
}

fn missing(first: &Path, id: &str, path: &str) -> LogError {
    let list = first.join(FILE_NAME);
    let reason = format!(
        "this broker has a data directory {path} (directory.id {id}) that is none of log.dirs, or is empty now: name it, \
         and mount its disk. If its records are gone for good, write \"lost\" for \"present\" in its line of {}: what it \
         had is then made anew, empty, and in a cluster fetched from other brokers",
        list.display()
    );
    LogError::Refused { path: first.to_owned(), reason }
}

/// The path without links, where it can be told.
pub(super) fn absolute(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Option<String>, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if text.lines().next() == Some(VERSION) {
        return Ok(Some(text));
    }
    let reason = format!(
        "its first line is not {VERSION:?}, which is what this fastlog reads; use the release that wrote it"
    );
    Err(LogError::BadFile { path, reason })
}
