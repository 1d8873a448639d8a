//! Which object store a broker uses, noted in its first data directory:
//!
//! ```text
//! version: 0
//! 3f0c…
//! ```
//!
//! The second line is what the store's own object says (`fastlog_tiers::IDENTITY`). An empty file is a person's word that the
//! store was replaced: the one that is there is taken.
//!
//! Crash points. The store is named first, durably, then the note is written, synced, and only then is anything else put
//! there: so there is a note of each store that was used, and none of a store without a name. Brokers of a cluster that come
//! to a new store at once all note the name that one of them gave.

use super::super::LogManager;
use crate::events::Level;
use crate::partition::Partition;
use crate::tiers::Tiers;
use fastlog_log::file_system::atomic_file;
use fastlog_log::{LogDir, LogError};
use fastlog_tiers::{Expected, IDENTITY, Store, StoreError, TierError};
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

const NOTE: &str = "fastlog.store";
const VERSION: &str = "version: 0";
/// Of so many partitions it is looked at most whether the store has them.
const LOOKED_MAX: usize = 10;

/// What the first data directory says.
enum Note {
    /// Nothing: no store was used before, or by a release that noted none.
    Missing,
    /// A person says that the store was replaced.
    Emptied,
    /// The name of the store.
    Is(Uuid),
}

impl LogManager {
    /// Sees to it that only the store is used that this broker used before; one that uses its first store notes it. Asks the
    /// store where there is something to do with it.
    pub(super) fn know_store(&self, tiers: &Tiers, due: &[Arc<Partition>]) -> Result<(), TierError> {
        if due.is_empty() && !self.has_deleted_tiers() {
            return Ok(());
        }
        let directories = self.directories()?;
        let first = directories.first()?;
        let path = first.path().join(NOTE);
        let (note, known) = (read(first, &path)?, tiers.known());
        if let Note::Is(id) = note {
            known.use_only(Some(Expected { id, note: path }));
            return Ok(known.check()?);
        }
        known.use_only(None);
        if matches!(note, Note::Missing) {
            check_is_ours(known, due, &path)?;
        }
        let id = match known.id()? {
            Some(id) => id,
            None => known.name(first.storage().file_system.random_uuid())?,
        };
        let text = format!("{VERSION}\n{}\n", id.simple());
        atomic_file::replace(&*first.storage().file_system, &path, text.as_bytes())
            .map_err(|error| local("write which object store is used", &error))?;
        let fields = vec![("store", id.simple().to_string()), ("noted_in", path.display().to_string())];
        let message = "this broker uses this object store from now on, and no other";
        self.broker.events().push(Level::Info, message, fields);
        known.use_only(Some(Expected { id, note: path }));
        Ok(())
    }
}

/// A broker that used a store before it noted which one, and one whose note is lost, take none that has nothing of what was
/// uploaded.
fn check_is_ours(store: &dyn Store, due: &[Arc<Partition>], note: &Path) -> Result<(), TierError> {
    let uploaded = due.iter().filter_map(|it| it.tier()).filter(|it| it.tier.range().is_some());
    let mut missing = None;
    for tier in uploaded.take(LOOKED_MAX) {
        match store.list(tier.tier.prefix()) {
            Ok(listed) if !listed.is_empty() => return Ok(()),
            Ok(_) | Err(StoreError::NotFound { .. }) => missing = Some(tier),
            Err(error) => return Err(error.into()),
        }
    }
    let Some(missing) = missing else { return Ok(()) };
    Err(StoreError::Unknown { key: missing.tier.prefix().to_owned(), note: note.to_owned() }.into())
}

fn read(first: &LogDir, path: &Path) -> Result<Note, TierError> {
    let read = atomic_file::read(&*first.storage().file_system, path);
    let Some(bytes) = read.map_err(|error| local("read which object store is used", &error))? else {
        return Ok(Note::Missing);
    };
    let text = String::from_utf8_lossy(&bytes);
    if text.trim().is_empty() {
        return Ok(Note::Emptied);
    }
    let id = text.strip_prefix(VERSION).and_then(|id| Uuid::try_parse(id.trim()).ok());
    id.map(Note::Is).ok_or_else(|| {
        let reason = format!(
            "it is not {VERSION:?} and then the name of a store: write what the object {IDENTITY} of the store has in its \
             second line, or empty it, and the store that is there is taken"
        );
        LogError::BadFile { path: path.to_owned(), reason }.into()
    })
}

fn local(what: &'static str, error: &std::io::Error) -> TierError {
    TierError::Local { what, reason: error.to_string() }
}
