//! Deleting segments in two steps, and whole logs.
//!
//! A segment leaves the list, its files get `.deleted` names, and a later purge removes them: readers that hold the file
//! go on. Crash points: files are renamed oldest segment first and the batches before the indexes, so that a crash
//! leaves no hole in the log, at most indexes without batches, which the next open removes with all `.deleted` files.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use super::Log;
use crate::cleaner::Stopped;
use crate::error::{During, LogError};
use crate::file_name;
use crate::segment::Segment;

/// A segment that is out of the log, whose files remain until it is due.
#[derive(Debug)]
pub(super) struct DeletedSegment {
    pub(super) segment: Arc<Segment>,
    due: Due,
    /// Tells its files from those of others of its base offset that still wait: a segment may be cleaned again soon.
    number: u32,
}

/// When something that was deleted may be purged. A clock that was set back does not put it off: then it is due at once.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    deleted_ms: i64,
    delay_ms: i64,
}

impl Due {
    /// `delay_ms` after `deleted_ms`.
    pub fn after(deleted_ms: i64, delay_ms: i64) -> Self {
        Self { deleted_ms, delay_ms }
    }

    /// From the first look on.
    pub fn at_once() -> Self {
        Self { deleted_ms: i64::MIN, delay_ms: 0 }
    }

    /// Whether that is over.
    pub fn is_over(self, now_ms: i64) -> bool {
        !(self.deleted_ms..self.deleted_ms.saturating_add(self.delay_ms)).contains(&now_ms)
    }
}

impl Log {
    /// Deletes records before `offset`: the log starts there from now on. −1 = the high watermark. Returns the log's
    /// start. Whole segments below it go at the next `enforce_retention`. The caller writes the checkpoint of log
    /// starts before it answers, or old records come back after a crash.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`]: to be tried again.
    pub fn delete_records(&self, offset: i64) -> Result<i64, LogError> {
        let config = self.config();
        if config.cleanup_compact && !config.cleanup_delete {
            return Err(LogError::Policy {
                reason: format!(
                    "records of {}-{} cannot be deleted: its cleanup.policy is compact",
                    self.topic, self.partition
                ),
            });
        }
        let high_watermark = self.high_watermark();
        let offset = if offset == -1 { high_watermark } else { offset };
        if offset < 0 || offset > high_watermark {
            let log_start_offset = self.log_start_offset();
            return Err(LogError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset: high_watermark,
            });
        }
        let _writer = self.lock_writer()?;
        self.storage().check()?;
        self.move_start(offset)?;
        Ok(self.log_start_offset())
    }

    /// Moves the log's start up to that of the leader, as a follower: never down, and not beyond the high watermark.
    /// Returns the log's start. Whole segments below it go at the next `enforce_retention`.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`]: to be tried again.
    pub fn follow_log_start(&self, leaders_start: i64) -> Result<i64, LogError> {
        let offset = leaders_start.min(self.high_watermark());
        if offset > self.log_start_offset() {
            let _writer = self.lock_writer()?;
            self.storage().check()?;
            self.move_start(offset)?;
        }
        Ok(self.log_start_offset())
    }

    /// Moves the log's start up to `offset`, never down.
    pub(super) fn move_start(&self, offset: i64) -> Result<(), LogError> {
        if self.log_start_offset.fetch_max(offset, Release) >= offset {
            return Ok(());
        }
        let mut epochs = self.epochs.lock();
        if epochs.truncate_from_start(offset) {
            epochs.save().map_err(|error| self.write_failed(error))?;
        }
        Ok(())
    }

    /// Renames the files of segments that left the list.
    pub(super) fn retire(&self, segments: Vec<Arc<Segment>>, now_ms: i64) -> Result<(), LogError> {
        let due = Due::after(now_ms, self.config().file_delete_delay_ms);
        for segment in segments {
            let number = self.rename_deleted(&segment)?;
            self.remove_snapshot(segment.base_offset)?;
            self.deleted.lock().push(DeletedSegment { segment, due, number });
        }
        Ok(())
    }

    /// The same for segments of which a copy took the place; the first one's snapshot stays, since a segment starts there
    /// as before.
    pub(crate) fn retire_replaced(&self, segments: &[Arc<Segment>], now_ms: i64) -> Result<(), LogError> {
        let due = Due::after(now_ms, self.config().file_delete_delay_ms);
        for (place, segment) in segments.iter().enumerate() {
            let number = self.rename_deleted(segment)?;
            if place > 0 {
                self.remove_snapshot(segment.base_offset)?;
            }
            self.deleted.lock().push(DeletedSegment { segment: Arc::clone(segment), due, number });
        }
        Ok(())
    }

    /// Kafka's name, with a number where it is taken: whoever reads the other one may open it again. Files that have such a
    /// name, of a try that was broken off, keep it.
    fn rename_deleted(&self, segment: &Segment) -> Result<u32, LogError> {
        let numbers: Vec<_> = {
            let waiting = self.deleted.lock();
            let same = waiting.iter().filter(|it| it.segment.base_offset == segment.base_offset);
            same.map(|it| it.number).collect()
        };
        let number = numbers.into_iter().max().map_or(0, |last| last + 1);
        let middle = if number == 0 { String::new() } else { format!(".{number}") };
        for file in segment.files().into_iter().filter(|it| !it.name().ends_with(file_name::DELETED)) {
            let renamed =
                missing_is_fine(file.rename(format!("{}{middle}{}", file.name(), file_name::DELETED)));
            renamed.during("rename", file.path()).map_err(|error| self.write_failed(error))?;
        }
        Ok(number)
    }

    fn remove_snapshot(&self, offset: i64) -> Result<(), LogError> {
        let snapshot = self.directory().join(file_name::of_offset(offset, file_name::SNAPSHOT));
        let removed = missing_is_fine(self.storage().file_system.remove_file(&snapshot));
        removed.during("remove", &snapshot).map_err(|error| self.write_failed(error))
    }

    /// Whether files of deleted segments are still there.
    pub fn has_deleted_segments(&self) -> bool {
        !self.deleted.lock().is_empty()
    }

    /// Removes the files of segments that were deleted `file.delete.delay.ms` ago; returns how many segments.
    pub fn purge_deleted(&self, now_ms: i64) -> Result<usize, LogError> {
        let due: Vec<_> = {
            let mut deleted = self.deleted.lock();
            deleted.extract_if(.., |entry| entry.due.is_over(now_ms)).collect()
        };
        for entry in &due {
            for file in entry.segment.files() {
                file.close();
                let removed = missing_is_fine(self.storage().file_system.remove_file(&file.path()));
                removed.during("remove", file.path())?;
            }
        }
        Ok(due.len())
    }

    /// Takes the whole log out of service: its directory gets a name that ends in `-delete`, under which it is found
    /// and removed even after a crash. The name is on the disk once the caller has synced the data directory, for many
    /// logs together ([`crate::LogDir::sync`]). Returns the directory for [`crate::LogDir::remove_deleted`].
    pub fn mark_deleted(&self) -> Result<PathBuf, LogError> {
        self.mark_deleted_with(self.cleaner.stop())
    }

    /// The same, for who may not wait for a disk.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`super::standing::PATIENCE`], and nothing was changed: to be
    /// tried again.
    pub fn mark_deleted_patiently(&self) -> Result<PathBuf, LogError> {
        self.mark_deleted_with(self.cleaner.stop_patiently(self)?)
    }

    fn mark_deleted_with(&self, _cleaner: Stopped<'_>) -> Result<PathBuf, LogError> {
        let _flush = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.storage().check()?;
        writer.closed = Some(Box::new(LogError::Gone { path: self.directory(), state: "deleted" }));
        let from = self.directory();
        let to = from.with_file_name(file_name::of_deleted_partition(
            &self.topic,
            self.partition,
            self.storage().file_system.random_uuid(),
        ));
        self.storage().file_system.rename(&from, &to).during("rename", &from)?;
        let directory = Arc::from(to.as_path());
        for segment in self.segments().iter() {
            segment.files().into_iter().for_each(|file| file.moved_to(&directory));
        }
        for entry in self.deleted.lock().iter() {
            entry.segment.files().into_iter().for_each(|file| file.moved_to(&directory));
        }
        self.epochs.lock().set_directory(&to);
        self.directory.write().clone_from(&to);
        Ok(to)
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
