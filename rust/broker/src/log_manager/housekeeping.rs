//! What is done to the logs of one data directory from time to time. Each directory has a thread of its own for it: one whose
//! disk answers nothing keeps no other waiting.

use super::LogManager;
use super::directories::has;
use crate::events::Level;
use crate::partition::Partition;
use fastlog_log::{Checkpoint, LogDir, LogError};
use std::path::Path;
use std::sync::Arc;

impl LogManager {
    /// How many data directories are in use. The calls below take a number below that, in the order of `log.dirs` without
    /// those that failed before the start.
    pub fn directory_count(&self) -> Result<usize, LogError> {
        Ok(self.directories()?.all().len())
    }

    fn directory(&self, number: usize) -> Result<Arc<LogDir>, LogError> {
        let directories = self.directories()?;
        directories.all().get(number).cloned().ok_or_else(|| LogError::Invalid {
            reason: format!("there is no data directory {number}, only {}", directories.all().len()),
        })
    }

    /// Deletes the segments that retention says; answers how many. A log that fails does not keep the others. What is in a
    /// directory that failed stays as it is.
    pub fn enforce_retention(&self, directory: usize, now_ms: i64) -> Result<usize, LogError> {
        let directory = self.directory(directory)?;
        if directory.storage().check().is_err() {
            return Ok(0);
        }
        let logs = self.broker.partitions().those(|it| has(&directory, it.log()));
        Ok(self.each_log(logs, "retention failed", |partition| {
            let deleted = partition.log().enforce_retention(now_ms)?;
            if deleted > 0 {
                partition.notify();
            }
            Ok(deleted)
        }))
    }

    /// Removes the files of deleted segments and partitions whose delay is over; answers how many.
    pub fn purge_deleted(&self, directory: usize, now_ms: i64) -> Result<usize, LogError> {
        let directory = self.directory(directory)?;
        let meant = |it: &Partition| has(&directory, it.log()) && it.log().has_deleted_segments();
        let purged = self.broker.partitions().those(meant);
        let segments =
            self.each_log(purged, "purging deleted segments failed", |it| it.log().purge_deleted(now_ms));
        let is_here = |path: &Path| path.parent() == Some(directory.path());
        let mut doomed = self.doomed.lock();
        let due: Vec<_> = doomed.extract_if(.., |(path, due)| is_here(path) && due.is_over(now_ms)).collect();
        drop(doomed);
        let mut failed = None;
        let mut kept = 0;
        for (path, when) in &due {
            if self.is_needed_by_tiers(path) {
                self.doomed.lock().push((path.clone(), *when));
                kept += 1;
                continue;
            }
            if let Err(error) = directory.remove_deleted(path) {
                self.doomed.lock().push((path.clone(), *when));
                failed = Some(error);
            }
        }
        failed.map_or(Ok(segments + due.len() - kept), Err)
    }

    /// Replaces a checkpoint file, if it is to say anything else by now.
    pub fn checkpoint(&self, directory: usize, checkpoint: Checkpoint) -> Result<(), LogError> {
        self.write_checkpoint_in_turn(&*self.directory(directory)?, checkpoint)
    }

    /// Closes the files of logs that nobody used since this was last called; answers how many.
    pub fn close_idle_files(&self) -> Result<usize, LogError> {
        // the directories share what is open
        Ok(self.directories()?.first()?.storage().open_files.close_idle())
    }

    fn each_log(
        &self,
        partitions: Vec<Arc<Partition>>,
        failure: &'static str,
        work: impl Fn(&Partition) -> Result<usize, LogError>,
    ) -> usize {
        let mut count = 0;
        for partition in partitions {
            match work(&partition) {
                Ok(done) => count += done,
                Err(error) => self.broker.events().push(
                    Level::Error,
                    failure,
                    vec![
                        ("topic", partition.topic().to_string()),
                        ("partition", partition.index().to_string()),
                        ("reason", error.to_string()),
                    ],
                ),
            }
        }
        count
    }
}
