//! Syncing to disk, and closing.

use std::sync::atomic::Ordering::{AcqRel, Release};

use super::Log;
use crate::error::{During, LogError};

impl Log {
    /// Makes all that is in the log now survive the death of the machine; returns the new recovery point. Appends go
    /// on meanwhile. A failure poisons the data directory: the kernel may have dropped the pages, and a second fsync
    /// would wrongly succeed.
    pub fn flush(&self) -> Result<i64, LogError> {
        let _one = self.flushing.lock();
        self.storage.check()?;
        let (end, changed) = {
            let writer = self.writer.lock();
            (self.log_end_offset(), writer.directory_changed.clone())
        };
        let from = self.recovery_point();
        if from >= end && !changed.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(from);
        }
        self.sync_epochs()?;
        self.sync_segments(from, &changed).inspect_err(|error| self.storage.poison(error))?;
        // a truncation may have come between: never above the log's end
        let end = end.min(self.log_end_offset());
        self.recovery_point.store(end, Release);
        Ok(end)
    }

    /// Epochs are written without a sync when they begin: those of batches above the recovery point are found again.
    fn sync_epochs(&self) -> Result<(), LogError> {
        self.epochs.lock().sync().map_err(|error| self.write_failed(error))
    }

    fn sync_segments(&self, from: i64, changed: &std::sync::atomic::AtomicBool) -> Result<(), LogError> {
        for (segment, next_base) in self.segments().holding(from) {
            match next_base {
                Some(next_base) if next_base > from => segment.sync()?,
                Some(_) => {}
                None => segment.sync_batches()?,
            }
        }
        if changed.swap(false, AcqRel) {
            let directory = self.directory();
            self.storage.file_system.sync_directory(&directory).during("sync", &directory)?;
        }
        Ok(())
    }

    /// Closes the log. `clean`: everything is written and synced, so that the next open need not scan; the recovery
    /// point is then the log's end. Appends are refused afterwards, reads in flight end well. Closing twice is fine.
    pub fn close(&self, clean: bool) -> Result<(), LogError> {
        {
            let mut writer = self.writer.lock();
            if writer.closed.as_ref().is_some_and(|closed| matches!(closed, LogError::Gone { .. })) {
                return Ok(());
            }
            writer.closed = Some(LogError::Gone { path: self.directory(), state: "closed" });
            if clean {
                self.storage.check()?;
                self.take_snapshot(&mut writer, self.log_end_offset(), true)?;
                writer.active.seal().map_err(|error| self.write_failed(error))?;
            }
        }
        if clean {
            let last = self.segments().last().cloned();
            last.map_or(Ok(()), |last| last.sync()).inspect_err(|error| self.storage.poison(error))?;
            self.flush()?;
        }
        for segment in self.segments().iter() {
            segment.files().into_iter().for_each(crate::file_system::LazyFile::close);
        }
        Ok(())
    }
}
