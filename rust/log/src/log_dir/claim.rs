//! A data directory that is locked and looked at, before anything in it is changed.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::checkpoint::{self, Checkpoint};
use super::deleted_topics;
use super::failures::{self, Failed};
use super::moves::{self, Moves};
use super::run_marker::{self, Run};
use super::{Identity, LogDir, Next, Written, meta_properties};
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{DirectoryEntry, FileSystem, Storage};
use crate::recovery::LastStop;

const LOCK_FILE: &str = ".lock";
/// Stands for the boot id while logs still have to be recovered after a power cut: it equals none.
const NOT_RECOVERED: &str = "not-recovered";

/// A directory that is this process's alone, as the last run left it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) storage: Arc<Storage>,
    /// It has a `meta.properties` of this broker's; else it is fresh.
    pub(super) is_known: bool,
    /// `directory.id` there.
    pub(super) id: Option<String>,
    /// The data directories that failed in an earlier run, as this one knows them.
    pub(super) failed: Failed,
    /// Topics that were deleted while a directory failed, as this one knows them.
    pub(super) deleted: BTreeSet<Uuid>,
    /// Partitions that were being given away.
    pub(super) moves: Moves,
    last_stop: LastStop,
    last_run: Option<Run>,
    lock: Box<dyn Send + Sync + Debug>,
}

impl Claim {
    /// Locks the directory, made when absent. Refused, and left as it is, when another process has it, or it is another
    /// broker's or cluster's, or a newer version's.
    pub(super) fn take(storage: Arc<Storage>, identity: &Identity) -> Result<Self, LogError> {
        let directory = storage.directory();
        let file_system = &*storage.file_system;
        file_system.create_directory(directory).during("create", directory)?;
        // so that one that is refused gets not even a lock file; the look that counts is the one under the lock
        look(file_system, directory, identity)?;
        let lock = file_system.lock(&directory.join(LOCK_FILE)).during("lock", directory)?;
        let Some(lock) = lock else {
            let reason = "a running broker has it (.lock); stop that broker or name another directory";
            return Err(LogError::Refused { path: directory.to_owned(), reason: reason.to_owned() });
        };
        let (is_known, (last_stop, last_run)) = look(file_system, directory, identity)?;
        let id = meta_properties::directory_id(file_system, directory)?;
        let failed = failures::read(file_system, directory)?;
        let deleted = deleted_topics::read(file_system, directory)?;
        let moves = moves::read(file_system, directory)?;
        Ok(Self { storage, is_known, id, failed, deleted, moves, last_stop, last_run, lock })
    }

    /// Its disk failed in the last run: of what was not synced anything may be missing, though the machine runs on.
    pub(super) fn distrust(&mut self) {
        if self.last_stop == LastStop::ProcessDied {
            tracing::warn!(
                directory = %self.storage.directory().display(),
                "the data directory failed in its last run, what was not synced there is recovered as after a power cut"
            );
            self.last_stop = LastStop::MachineDied;
        }
    }

    /// Begins a run on it.
    pub(super) fn begin(self, identity: &Identity) -> Result<LogDir, LogError> {
        let Self { storage, is_known, moves, last_stop, last_run, lock, .. } = self;
        let (file_system, directory) = (&*storage.file_system, storage.directory());
        let recovery_points = Checkpoint::RecoveryPoint.read(file_system, directory)?;
        let high_watermarks = Checkpoint::HighWatermark.read(file_system, directory)?;
        let log_starts = Checkpoint::LogStart.read(file_system, directory)?;
        let cleaned = Checkpoint::Cleaner.read(file_system, directory);
        let cleaned =
            cleaned.inspect_err(|error| tracing::warn!(%error, "logs are cleaned from their starts")).ok();
        if !is_known {
            meta_properties::write(file_system, directory, identity)?;
        }
        let id = meta_properties::directory_id(file_system, directory)?;
        let boot_id = match last_stop {
            // until every log has been recovered, another crash must lead to the same rules
            LastStop::MachineDied => NOT_RECOVERED.to_owned(),
            _ => file_system.boot_id().during("read the boot id for", directory)?,
        };
        let run = Run { boot_id, incarnation: file_system.random_uuid() };
        run_marker::begin(file_system, directory, &run)?;
        tracing::debug!(directory = %directory.display(), ?last_stop, ?last_run, "data directory in use");
        let read = [
            (Checkpoint::RecoveryPoint, &recovery_points),
            (Checkpoint::HighWatermark, &high_watermarks),
            (Checkpoint::LogStart, &log_starts),
        ];
        // one that tells nothing may not be there
        let told = read.into_iter().filter(|(_, offsets)| !offsets.is_empty());
        // it has no turn of its own, in which it would come to be known
        let told = told.chain(cleaned.as_ref().map(|offsets| (Checkpoint::Cleaner, offsets)));
        let written =
            |offsets| Written { text: checkpoint::text(offsets), is_synced: false, next: Next::Nothing };
        let written = told.map(|(checkpoint, offsets)| (checkpoint, written(offsets))).collect();
        Ok(LogDir {
            storage,
            id,
            last_stop,
            run: Mutex::new(run),
            recovery_points,
            high_watermarks,
            log_starts,
            cleaned: cleaned.unwrap_or_default(),
            writing: Mutex::default(),
            written: Mutex::new(written),
            moves: Mutex::new(moves),
            _lock: lock,
        })
    }
}

/// Whether the directory is known as `identity`'s, how the last run ended and which it was. It only reads. Refused where
/// the directory is another broker's or cluster's, or a newer version's.
fn look(
    file_system: &dyn FileSystem,
    directory: &Path,
    identity: &Identity,
) -> Result<(bool, (LastStop, Option<Run>)), LogError> {
    let is_known = meta_properties::check(file_system, directory, identity)?;
    let entries = file_system.list(directory).during("list", directory)?;
    let is_log =
        |entry: &DirectoryEntry| entry.is_directory && file_name::parse_partition(&entry.name).is_some();
    Ok((is_known, run_marker::last(file_system, directory, entries.iter().any(is_log))?))
}
