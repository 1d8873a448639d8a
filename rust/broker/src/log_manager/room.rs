//! The room of the disks, looked at now and then, and which of them gets a partition.

use super::directories::Directories;
use super::{LogManager, OpenPartition};
use crate::events::Level;
use fastlog_log::{LogDir, LogError};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl LogManager {
    /// Asks the disk of each data directory for its room, and has appends there refused while less than `floor` bytes are left
    /// (`None` = by its size), see [`fastlog_log::Storage::look_at_room`]. A change is an event; a disk that does not answer is
    /// an error, after all were asked.
    pub fn look_at_rooms(&self, floor: Option<u64>) -> Result<(), LogError> {
        let directories = self.directories()?;
        let each = directories.healthy().map(|it| {
            if it.storage().look_at_room(floor)? {
                self.tell_room(it);
            }
            Ok(())
        });
        each.fold(Ok(()), Result::and)
    }

    fn tell_room(&self, directory: &LogDir) {
        let path = ("directory", directory.path().display().to_string());
        match directory.storage().check_room() {
            Ok(()) => {
                let message = "there is room again, appends resume";
                self.broker.events().push(Level::Info, message, vec![path]);
            }
            Err(error) => {
                let message = "a disk has less room than it is to keep, appends are refused";
                let fields = vec![path, ("reason", error.to_string())];
                self.broker.events().push(Level::Warning, message, fields);
            }
        }
    }

    /// Where a partition is to be made: where somebody said, else where most room is left.
    pub(super) fn place<'a>(
        &self,
        directories: &'a Directories,
        wanted: &OpenPartition,
    ) -> Result<&'a Arc<LogDir>, LogError> {
        let preferred = self.preferred(directories, &wanted.topic, wanted.index, wanted.topic_id);
        preferred.map_or_else(|| directories.place(&self.broker, wanted.config.segment_bytes), Ok)
    }

    /// Whether the partition, which is in none of the directories here, may be in one that failed.
    pub(super) fn is_missing(&self, wanted: &OpenPartition, directories: &Directories) -> bool {
        let is_passed_over = self.passed_over.contains(&(wanted.topic.to_string(), wanted.index));
        if directories.failed().is_empty() && !is_passed_over {
            return false;
        }
        let key = (wanted.topic.to_string(), wanted.index, wanted.topic_id);
        let mut missing = self.missing.lock();
        // whatever comes later than the start is new
        if self.is_opening.load(Ordering::Acquire) {
            missing.insert(key.clone());
        }
        missing.contains(&key)
    }
}
