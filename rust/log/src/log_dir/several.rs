//! All data directories of a broker: taken into use together, as far as their disks answer.
//!
//! Crash points. All are locked and looked at before anything in one of them changes; then each begins its run, the first one
//! first. A crash in between leaves some that count as not cleanly closed, which is so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::claim::Claim;
use super::failures::{self, Failed, FailureNotes};
use super::{Identity, KnownDirectories, LogDir, Settled, duplicates, moves};
use crate::error::LogError;
use crate::file_system::Storage;

/// A data directory whose disk does not answer: what it has is not known.
#[derive(Clone, Debug)]
pub struct FailedDirectory {
    /// Its path.
    pub path: PathBuf,
    /// What was tried, and why it failed.
    pub reason: LogError,
}

/// The directories that are in use.
#[derive(Debug)]
pub struct OpenedDirectories {
    /// In the order in which they were given; the first one is always among them.
    pub directories: Vec<LogDir>,
    /// Those that are to be done without in this run.
    pub failed: Vec<FailedDirectory>,
    /// Which ones there are to be.
    pub known: KnownDirectories,
    /// Topics that were deleted while a directory failed: what it has of them is no partition any more.
    pub deleted: BTreeSet<Uuid>,
    /// What came of moves between them that were cut short.
    pub settled: Settled,
}

impl LogDir {
    /// Takes all data directories of a broker into use. Where one is refused, all are left as they are. One whose disk fails is
    /// done without, unless it is the first, which has what the broker knows of the others, see [`super::known`].
    pub fn open_all(storages: Vec<Arc<Storage>>, identity: &Identity) -> Result<OpenedDirectories, LogError> {
        let (mut claims, mut failed) = (Vec::new(), Vec::new());
        for storage in storages {
            let path = storage.directory().to_owned();
            match Claim::take(storage, identity) {
                Ok(claim) => claims.push(claim),
                Err(reason) if !claims.is_empty() && is_of_disk(&reason) => {
                    failed.push(FailedDirectory { path, reason });
                }
                Err(error) => return Err(error),
            }
        }
        let (known, deleted) = loop {
            match compare(&claims, &failed) {
                Ok(compared) => break compared,
                Err(error) => do_without(&mut claims, &mut failed, error)?,
            }
        };
        let failed_before: Failed = claims.iter().flat_map(|it| it.failed.iter().cloned()).collect();
        for claim in &mut claims {
            if failures::names(&failed_before, claim.storage.directory(), claim.id.as_deref()) {
                claim.distrust();
            }
        }
        let mut directories = Vec::with_capacity(claims.len());
        for claim in claims {
            let path = claim.storage.directory().to_owned();
            match claim.begin(identity) {
                Ok(directory) => directories.push(directory),
                Err(reason) if !directories.is_empty() && is_of_disk(&reason) => {
                    failed.push(FailedDirectory { path, reason });
                }
                Err(error) => return Err(error),
            }
        }
        FailureNotes::watch(&directories, &failed);
        let settled = moves::settle(&directories, &failed)?;
        let mut at_hand = Vec::with_capacity(directories.len());
        for directory in directories {
            match directory.storage().check() {
                Err(reason) if !at_hand.is_empty() => {
                    failed.push(FailedDirectory { path: directory.path().to_owned(), reason });
                }
                checked => {
                    checked?;
                    at_hand.push(directory);
                }
            }
        }
        let directories = at_hand;
        Ok(OpenedDirectories { directories, failed, known, deleted, settled })
    }
}

/// Looks at what only all of them tell; changes nothing.
fn compare(
    claims: &[Claim],
    failed: &[FailedDirectory],
) -> Result<(KnownDirectories, BTreeSet<Uuid>), LogError> {
    let known = KnownDirectories::of(claims, failed)?;
    let deleted: BTreeSet<Uuid> = claims.iter().flat_map(|it| it.deleted.iter().copied()).collect();
    duplicates::refuse(claims, &deleted)?;
    Ok((known, deleted))
}

/// Whether it is the disk that failed. Without descriptors no start comes far, whatever the disks are: it ends, and another
/// one does it.
fn is_of_disk(error: &LogError) -> bool {
    matches!(error, LogError::Io { .. }) && !error.is_out_of_descriptors()
}

/// Gives up the directory whose disk failed, unless it is the first one; any other error is answered.
fn do_without(
    claims: &mut Vec<Claim>,
    failed: &mut Vec<FailedDirectory>,
    error: LogError,
) -> Result<(), LogError> {
    let LogError::Io { path, .. } = &error else { return Err(error) };
    if !is_of_disk(&error) {
        return Err(error);
    }
    // the innermost, should one lie in another
    let within = claims.iter().enumerate().filter(|(_, it)| path.starts_with(it.storage.directory()));
    let failing = within.max_by_key(|(_, it)| it.storage.directory().components().count());
    let Some((at, _)) = failing.filter(|(at, _)| *at > 0) else { return Err(error) };
    let claim = claims.remove(at);
    failed.push(FailedDirectory { path: claim.storage.directory().to_owned(), reason: error });
    Ok(())
}
