//! The room of the disks, looked at now and then.

use super::LogManager;
use crate::events::Level;
use fastlog_log::{LogDir, LogError};

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
}
