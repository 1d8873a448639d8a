//! What can go wrong in a log, and the Kafka error code that a client is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastlog_protocol::ErrorCode;

/// Why an operation on a log or a data directory failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The offset is not in the log.
    #[error("offset {offset} is outside of the log, which runs from {log_start_offset} to {log_end_offset}")]
    OffsetOutOfRange {
        /// What was asked for.
        offset: i64,
        /// The first readable offset.
        log_start_offset: i64,
        /// The next offset to be written.
        log_end_offset: i64,
    },
    /// The object store has the offset; the disk no longer does.
    #[error(
        "offset {offset} is in the object store only, the log on the disk begins at {local_start_offset}"
    )]
    Tiered {
        /// What was asked for.
        offset: i64,
        /// The first offset on the disk.
        local_start_offset: i64,
    },
    /// A system call failed.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The disk is full: appends are refused until there is room, reads go on.
    #[error("could not append to {}: {source}; free some space, appends resume by themselves", path.display())]
    DiskFull {
        /// The segment that could not grow.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The disk has less room left than it is to keep: appends are refused until there is more, reads go on.
    #[error(
        "nothing is appended in {}: its disk has {usable} bytes left, and {floor} are kept (fastlog.disk.floor.bytes); free \
         some space, appends resume by themselves", path.display()
    )]
    BelowFloor {
        /// The data directory.
        path: PathBuf,
        /// What was left when it was looked at.
        usable: u64,
        /// What is to be kept.
        floor: u64,
    },
    /// Bytes that are no record batch, where one should be.
    #[error(
        "{} is damaged at byte {position} (offset {offset}): {reason}; next readable offset: {}; nothing was deleted",
        path.display(),
        next_readable_offset.map_or("none".to_owned(), |offset| offset.to_string())
    )]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the bad batch starts.
        position: u64,
        /// The offset that was expected there.
        offset: i64,
        /// Where reading can go on.
        next_readable_offset: Option<i64>,
        /// What is wrong with the bytes.
        reason: String,
    },
    /// An earlier write or fsync failed: what the directory holds in memory and on disk may differ.
    #[error("the data directory {} is offline since a write failed: {reason}; check the disk, then restart", path.display())]
    Poisoned {
        /// The data directory.
        path: PathBuf,
        /// The first failure.
        reason: String,
    },
    /// A copy in another data directory is about to take the log's place, which takes long.
    #[error("nothing is appended to {} for now: the replica is being moved to another data directory, whose disk is slow; try again", path.display())]
    StandsStill {
        /// The partition's directory.
        path: PathBuf,
    },
    /// The log was closed or its topic deleted.
    #[error("the log {} is {state}", path.display())]
    Gone {
        /// The partition's directory.
        path: PathBuf,
        /// "closed" or "deleted".
        state: &'static str,
    },
    /// A data directory that is not this broker's, is in use, or was written by a newer version. Nothing was touched.
    #[error("cannot use the data directory {}: {reason}", path.display())]
    Refused {
        /// The data directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A small file (checkpoint, metadata, snapshot) that does not read.
    #[error("{} does not read: {reason}", path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Records of the log are in an object store, and there is none: the log would begin where it does not.
    #[error(
        "records of {} are in an object store, and tiered storage is off: set remote.log.storage.system.enable and \
         fastlog.remote.store.url again; nothing of it was changed",
        path.display()
    )]
    TiersOff {
        /// The partition's directory.
        path: PathBuf,
    },
    /// A thing that the topic's settings forbid.
    #[error("{reason}")]
    Policy {
        /// What and why.
        reason: String,
    },
    /// The directory belongs to another incarnation of the topic.
    #[error("{} belongs to topic id {found}, not {expected}: the topic was deleted and made anew; move it away", path.display())]
    InconsistentTopicId {
        /// The partition's directory.
        path: PathBuf,
        /// The id in its metadata.
        found: uuid::Uuid,
        /// The id that was asked for.
        expected: uuid::Uuid,
    },
    /// What only a leader does was asked of another replica.
    #[error("{reason}")]
    NotLeader {
        /// What and why.
        reason: String,
    },
    /// An argument that makes no sense for this log.
    #[error("{reason}")]
    Invalid {
        /// What and why.
        reason: String,
    },
}

impl LogError {
    /// The code for a client.
    pub fn code(&self) -> ErrorCode {
        match self {
            // who reads on without the store has the log that is on the disk
            Self::OffsetOutOfRange { .. } | Self::Tiered { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Gone { state: "deleted", .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            Self::Policy { .. } => ErrorCode::POLICY_VIOLATION,
            Self::InconsistentTopicId { .. } => ErrorCode::INCONSISTENT_TOPIC_ID,
            Self::NotLeader { .. } => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Self::Invalid { .. } => ErrorCode::INVALID_REQUEST,
            _ => ErrorCode::KAFKA_STORAGE_ERROR,
        }
    }

    /// Whether nothing was done for want of a descriptor, and is still to be.
    pub fn is_out_of_descriptors(&self) -> bool {
        matches!(self, Self::Io { source, .. } if crate::file_system::is_out_of_descriptors(source))
    }

    /// Whether it only says that this thread was not to wait for the disk ([`crate::only_in_memory`]).
    pub(crate) fn is_of_the_look(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source: Arc::new(source) }
    }
}

/// Why a batch was not appended: what a produce response says about its partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AppendError {
    /// The code for the client.
    pub code: ErrorCode,
    /// What is wrong, for a person.
    pub message: String,
    /// Records at fault: index in the batch, and why.
    pub record_errors: Vec<(i32, String)>,
}

impl AppendError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record_errors: Vec::new() }
    }
}

impl From<LogError> for AppendError {
    fn from(error: LogError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Turns an `io::Result` into ours by saying what was tried on what.
pub(crate) trait During<T> {
    fn during(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, LogError>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: &'static str, path: impl AsRef<Path>) -> Result<T, LogError> {
        self.map_err(|source| LogError::io(action, path, source))
    }
}
