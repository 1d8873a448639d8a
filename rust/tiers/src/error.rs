//! What goes wrong with a store, and with what was read from it.

use std::io;
use std::path::PathBuf;

use fastlog_log::LogError;

/// A request to the store that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such object.
    #[error("there is no object {key}")]
    NotFound {
        /// The object.
        key: String,
    },
    /// The object was to be made, and is there.
    #[error("the object {key} is there already")]
    Exists {
        /// The object.
        key: String,
    },
    /// What was to be put could not be read, or is not what it was: a fault of this machine's, not of the store's.
    #[error("what was to be put as {key} could not be read: {reason}")]
    Source {
        /// The object.
        key: String,
        /// Why not.
        reason: String,
    },
    /// Another store than the one that was used before, or none: a mount point without its mount, say.
    #[error(
        "{found}, and this broker uses store {id}, as {} says: nothing is uploaded or deleted until that one is back. Mount or \
         name it (fastlog.remote.store.url); if it was replaced on purpose, empty that file",
        note.display()
    )]
    Foreign {
        /// What is there.
        found: String,
        /// The name of the store that was to be there.
        id: String,
        /// The file that says so.
        note: PathBuf,
    },
    /// It is not known which store was used before, and this one has nothing of what was uploaded.
    #[error(
        "it has nothing of {key}, of which there are records in the store that this broker used: nothing is uploaded or \
         deleted until that one is back. Mount or name it (fastlog.remote.store.url); if it was replaced on purpose, make an \
         empty file {}",
        note.display()
    )]
    Unknown {
        /// Where records of a partition were to be.
        key: String,
        /// The file that does not say which store it was.
        note: PathBuf,
    },
    /// Unreachable, denied, not supported, or the answer was not what was asked for.
    #[error("could not {what} {key}: {reason}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// On which object, or with which prefix.
        key: String,
        /// Why it failed.
        reason: String,
    },
}

/// What a tier could not do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TierError {
    /// The store.
    #[error("object store: {0}")]
    Store(#[from] StoreError),
    /// The local log.
    #[error("{0}")]
    Log(#[from] LogError),
    /// A local file.
    #[error("could not {what}: {reason}")]
    Local {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        reason: String,
    },
    /// Bytes that are not what the manifest says, or a manifest that does not read. They are not used.
    #[error("{object} is not what was stored: {reason}; nothing of it is served")]
    Corrupt {
        /// The object, or the file.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// The store and this broker's log do not belong together; nothing is uploaded or deleted.
    #[error("the tiers of {name} are not those of the log here: {reason}; nothing is uploaded or deleted")]
    Conflict {
        /// The partition's place in the store.
        name: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// Another broker leads by now; nothing was changed.
    #[error(
        "a leader of epoch {leader_epoch} has {name} by now: this broker, of epoch {own_epoch}, changes nothing there"
    )]
    Deposed {
        /// The partition's place in the store.
        name: String,
        /// The epoch of the one who wrote the manifest in force.
        leader_epoch: i32,
        /// The epoch of this broker's leadership.
        own_epoch: i32,
    },
    /// Another writer has written the manifest meanwhile.
    #[error("another writer has written manifest {version} of {name}; it is read again")]
    Fenced {
        /// The partition's place in the store.
        name: String,
        /// The manifest that was to be made.
        version: u64,
    },
}

impl TierError {
    /// Whether it is a request that failed, which others may too.
    pub fn is_of_store(&self) -> bool {
        use StoreError::{Failed, Foreign, Unknown};
        matches!(self, Self::Store(Failed { .. } | Foreign { .. } | Unknown { .. }))
    }

    pub(crate) fn local(what: &'static str, error: &io::Error) -> Self {
        Self::Local { what, reason: error.to_string() }
    }
}
