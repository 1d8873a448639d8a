//! One partition's log: segments, indexes, append, read, recovery, retention; and the data directory they lie in.
//!
//! Everything on disk is in Apache Kafka's formats. `docs/log.md` tells what a crash leaves between any two system calls.

pub mod cleaner;
pub mod config;
pub mod epoch_cache;
pub mod error;
pub mod file_name;
pub mod file_system;
pub mod identity;
pub mod lineage;
pub mod log_dir;
pub mod partition_log;
mod producer_state;
pub mod recovery;
mod segment;
mod txn_index_checkpoint;

pub use cleaner::{Cleanable, Cleaned, CleanerLimits, Pace, Unpaced};
pub use config::{Durability, LogConfig};
pub use epoch_cache::EpochStart;
pub use error::{AppendError, LogError};
pub use file_system::{
    FileHandle, FileSystem, NotInMemory, OpenFiles, OpenMode, RealFileSystem, Space, Storage, only_in_memory,
};
pub use log_dir::{
    Checkpoint, FailedDirectory, Identity, LogDir, Move, Offsets, PartitionDirectory, Settled, WantedPlace,
    WantedPlaces,
};
pub use partition_log::after_tier::AfterTier;
pub use partition_log::append::{AppendOptions, Appended};
pub use partition_log::delete::Due;
pub use partition_log::future::FutureLog;
pub use partition_log::hand_over::{Commit, HandOver, HandedOver};
pub use partition_log::mend::DamagedRange;
pub use partition_log::read::Slice;
pub use partition_log::restore::RESTORED_EPOCH;
pub use partition_log::scrub::Scrubbed;
pub use partition_log::tiered::{ClosedSegment, TieredRange};
pub use partition_log::timestamp::TimestampedOffset;
pub use partition_log::{Log, LogOptions};
pub use producer_state::KnownProducer;
pub use recovery::{Cut, LastStop, RecoveryReport};
pub use segment::txn_index::AbortedTxn;
