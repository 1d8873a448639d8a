//! Syncing to disk, and closing.

use std::path::Path;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{Log, Writer};
use crate::error::{During, LogError};
use crate::file_system::{DirectoryHandle, OpenMode};
use crate::log_dir::partition_metadata;

impl Log {
    /// Makes all that is in the log now survive the death of the machine; returns the new recovery point. Appends go
    /// on meanwhile. A failure poisons the data directory: the kernel may have dropped the pages, and a second fsync
    /// would wrongly succeed. A cut that a full disk broke off is done first; while there is no room for it nothing is synced,
    /// and the recovery point stays. It stops before a marker whose entry in the transaction index waits for room.
    pub fn flush(&self) -> Result<i64, LogError> {
        self.flush_below(|_| self.log_end_offset())
    }

    /// The same for the segments that are full and end at `until` at the latest, so that a crash leaves little to scan.
    pub fn flush_full_segments(&self, until: i64) -> Result<i64, LogError> {
        self.flush_below(|writer| until.min(writer.active.base_offset))
    }

    /// Where the segments that are full end. Never waits for a writer: the last segment is the one that is not full.
    pub fn full_end_offset(&self) -> i64 {
        self.segments().last().map_or(0, |active| active.base_offset)
    }

    /// Whether there may be a full segment that is not flushed. Cheap.
    pub fn has_full_segment_to_flush(&self) -> bool {
        self.filled.load(Acquire)
    }

    fn flush_below(&self, end: impl Fn(&Writer) -> i64) -> Result<i64, LogError> {
        if self.finish_cut_before_flush().is_err() {
            // there is no room for it yet, or worse
            self.storage().check()?;
        }
        let _one = self.flushing.lock();
        self.storage().check()?;
        let end = {
            // a batch is either wholly before this or after it
            let writer = self.writer.lock();
            if let Some(gone @ LogError::Gone { state: "deleted", .. }) = writer.closed.as_deref() {
                return Err(gone.clone());
            }
            if writer.broken_off.is_some() {
                // no record came since
                return Ok(self.recovery_point());
            }
            let waiting = self.write_waiting_transactions()?;
            let end = waiting.map_or(end(&writer), |waiting| end(&writer).min(waiting.offset));
            self.filled.store(end < writer.active.base_offset, Release);
            end
        };
        let from = self.recovery_point();
        self.sync_from(from, end).inspect_err(|error| {
            self.filled.store(true, Release);
            self.sync_failed(error);
        })?;
        // a truncation may have come between: never above the log's end
        let end = end.max(from).min(self.log_end_offset());
        self.recovery_point.store(end, Release);
        Ok(end)
    }

    fn sync_from(&self, from: i64, end: i64) -> Result<(), LogError> {
        // Written without a sync when an epoch begins: those of batches above the recovery point are found again.
        self.sync_epochs()?;
        if from < end {
            self.sync_segments(from, end)?;
        }
        // where there never was a record there is nothing to lose: a directory that is gone is made anew at the next start
        if end > 0 && self.directory_changed.swap(false, AcqRel) {
            self.sync_directory().inspect_err(|_| self.directory_changed.store(true, Relaxed))?;
        }
        Ok(())
    }

    /// Syncs the file of epochs, if it was written since; its name comes with the directory.
    pub(super) fn sync_epochs(&self) -> Result<(), LogError> {
        let epochs = self.epochs.lock().take_unsynced();
        if let Some(path) = epochs {
            self.sync_file(&path).inspect_err(|_| self.epochs.lock().set_unsynced())?;
            self.directory_changed.store(true, Relaxed);
        }
        Ok(())
    }

    fn sync_segments(&self, from: i64, end: i64) -> Result<(), LogError> {
        for (segment, next_base) in self.segments().holding(from) {
            match next_base {
                Some(next_base) if next_base <= from => {}
                Some(next_base) if next_base <= end => segment.sync()?,
                // it takes more batches, or did when the end was looked at: its indexes come later
                _ if segment.base_offset < end => segment.sync_batches()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Syncs the partition's directory; after it was made also its metadata, and its own entry.
    pub(crate) fn sync_directory(&self) -> Result<(), LogError> {
        self.open_directory()?.sync().during("sync", self.directory())
    }

    /// The same in two steps, of which the second wants no descriptor: for who changes names in between.
    pub(crate) fn open_directory(&self) -> Result<Box<dyn DirectoryHandle>, LogError> {
        let directory = self.directory();
        if self.is_new.swap(false, AcqRel) {
            self.sync_new(&directory).inspect_err(|_| self.is_new.store(true, Release))?;
        }
        self.storage().file_system.open_directory(&directory).during("open", &directory)
    }

    fn sync_new(&self, directory: &Path) -> Result<(), LogError> {
        self.sync_file(&directory.join(partition_metadata::FILE_NAME))?;
        let storage = self.storage();
        let parent = storage.directory();
        storage.file_system.sync_directory(parent).during("sync", parent)
    }

    fn sync_file(&self, path: &Path) -> Result<(), LogError> {
        match self.storage().file_system.open(path, OpenMode::Read).and_then(|file| file.sync_data()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.during("sync", path),
        }
    }

    /// Closes the log. `clean`: everything is written and synced, so that the next open need not scan; the recovery
    /// point is then the log's end. Appends are refused afterwards, reads in flight end well. Closing twice is fine.
    pub fn close(&self, clean: bool) -> Result<(), LogError> {
        let _cleaner = self.cleaner.stop();
        {
            let mut writer = self.writer.lock();
            if writer.closed.as_deref().is_some_and(|closed| matches!(closed, LogError::Gone { .. })) {
                return Ok(());
            }
            writer.closed = Some(Box::new(LogError::Gone { path: self.directory(), state: "closed" }));
            if clean {
                self.storage().check()?;
                if let Some(broken) = &writer.broken_off {
                    // the next start does what is left of the cut
                    return Err(broken.reason.clone());
                }
                if let Some(waiting) = self.write_waiting_transactions()? {
                    return Err(waiting.reason);
                }
                self.take_snapshot(&mut writer, self.log_end_offset())?;
                let is_trimmed = writer.reserved_to <= writer.active.size();
                writer.active.seal(is_trimmed).map_err(|error| self.write_failed(error))?;
                self.note_txn_index(&writer.active);
            }
        }
        if clean {
            let last = self.segments().last().cloned();
            last.map_or(Ok(()), |last| last.sync()).inspect_err(|error| self.sync_failed(error))?;
            self.flush()?;
        }
        self.segments().iter().for_each(|segment| segment.close_files());
        Ok(())
    }
}
