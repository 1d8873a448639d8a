//! The room that a data directory's disk is to keep: what is below it is not for records.
//!
//! So there is some for checkpoints, indexes, the metadata and the cleaner's copies, without which a full disk could not be
//! made less full. Who appends reads one flag; the disk is asked from time to time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Space, Storage};
use crate::error::LogError;

/// What is kept where the setting says nothing: this part of the disk, and at most so many bytes.
const PART_KEPT: u64 = 100;
const KEPT_BYTES_MAX: u64 = 1 << 30;

/// Whether a disk is below its floor.
#[derive(Debug, Default)]
pub(super) struct Floor {
    is_low: AtomicBool,
    usable: AtomicU64,
    floor: AtomicU64,
}

impl Storage {
    /// Asks the disk for its room, and has appends refused while less than `floor` is left (`None` = a hundredth of the disk, at
    /// most 1 GiB), until there is an eighth more again: true = that has changed.
    pub fn look_at_room(&self, floor: Option<u64>) -> Result<bool, LogError> {
        let Space { total, usable } = self.space()?;
        let floor = floor.unwrap_or_else(|| (total / PART_KEPT).min(KEPT_BYTES_MAX));
        let was_low = self.floor.is_low.load(Ordering::Acquire);
        let least = if was_low { floor.saturating_add(floor / 8) } else { floor };
        self.floor.usable.store(usable, Ordering::Relaxed);
        self.floor.floor.store(floor, Ordering::Relaxed);
        let is_low = usable < least;
        self.floor.is_low.store(is_low, Ordering::Release);
        Ok(was_low != is_low)
    }

    /// An error while the disk has less room than it is to keep. Cheap.
    pub fn check_room(&self) -> Result<(), LogError> {
        if !self.floor.is_low.load(Ordering::Acquire) {
            return Ok(());
        }
        let usable = self.floor.usable.load(Ordering::Relaxed);
        let floor = self.floor.floor.load(Ordering::Relaxed);
        Err(LogError::BelowFloor { path: self.directory().to_owned(), usable, floor })
    }
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::file_system::memory::{Faults, MemoryFileSystem};

    #[test]
    fn a_disk_is_low_below_its_floor_and_until_there_is_an_eighth_more() {
        let files = MemoryFileSystem::new(1);
        let storage = Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), 100);
        let look = |room, floor| {
            files.set_faults(Faults { room: Some(room), ..Faults::default() });
            let has_changed = storage.look_at_room(floor).unwrap();
            (storage.check_room().is_err(), has_changed)
        };
        assert_eq!(look(800, Some(800)), (false, false));
        assert_eq!(look(799, Some(800)), (true, true));
        assert_eq!(look(899, Some(800)), (true, false), "it does not go to and fro");
        assert_eq!(look(900, Some(800)), (false, true));
        assert_eq!(look(0, Some(0)), (false, false), "there is none");
        // of a terabyte a hundredth is more than is kept
        assert_eq!(look(KEPT_BYTES_MAX, None), (false, false));
        assert_eq!(look(KEPT_BYTES_MAX - 1, None), (true, true));
        let message = storage.check_room().unwrap_err().to_string();
        assert!(message.contains("1073741823 bytes left, and 1073741824 are kept"), "{message}");
        assert!(message.contains("appends resume by themselves"), "{message}");
    }
}
