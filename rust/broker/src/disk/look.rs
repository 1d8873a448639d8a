//! Looks at logs by threads that serve everybody: only at what is in memory.

use fastlog_log::{Log, NotInMemory, only_in_memory};
use std::sync::Arc;

/// A disk, by the number of its device.
pub(crate) type Disk = u64;

/// For which disks a thread may wait.
#[derive(Clone, Debug)]
pub(crate) enum MayWait {
    /// For any: in a simulation, which has no threads to leave it to.
    ForAll,
    /// For none: in a thread that serves everybody.
    ForNone,
    /// For its own: in a disk's thread. One that goes on with what another disk's thread began may wait for that one too, or
    /// the two could send it to and fro.
    For(Arc<[Disk]>),
}

impl MayWait {
    /// For one more.
    pub(crate) fn and_for(&self, disk: Disk) -> Self {
        match self {
            Self::ForAll => Self::ForAll,
            Self::ForNone => Self::For(Arc::new([disk])),
            Self::For(disks) => Self::For(disks.iter().copied().chain([disk]).collect()),
        }
    }

    /// Looks at a log. An error is the disk that has to be waited for, by one who may, and the look tried again there.
    pub(crate) fn look<T>(&self, log: &Log, look: impl FnOnce() -> T) -> Result<T, Disk> {
        let may_wait = match self {
            Self::ForAll => true,
            Self::ForNone => false,
            Self::For(disks) => disks.contains(&log.device()),
        };
        if may_wait { Ok(look()) } else { only_in_memory(look).map_err(|NotInMemory| log.device()) }
    }
}
