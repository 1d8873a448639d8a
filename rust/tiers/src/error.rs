//! What goes wrong with a store, and with what was read from it.

use std::io;

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
        matches!(self, Self::Store(StoreError::Failed { .. }))
    }

    pub(crate) fn local(what: &'static str, error: &io::Error) -> Self {
        Self::Local { what, reason: error.to_string() }
    }
}
