//! A copy takes the place of the log that it was made of ([`super::future`]).
//!
//! While nobody can append, flush, clean, cut or delete, the rest is copied and synced. Then the copy's directory gets the
//! partition's name; that is the moment from which it counts. Then the log's memory is turned to it, and the old directory
//! renamed to be deleted.
//!
//! Crash points, where the caller has noted in the source's data directory, durably, that the target is to have the
//! partition ([`crate::log_dir::moves`]), and in the target's checkpoints, durably, what holds for it: before the copy has the
//! partition's name the old directory counts, and the copy is removed by the next start. With a power cut between the rename
//! and its sync either may count: both have the same records, since nothing is appended before the sync. From then on the
//! new one counts, whether the old one was renamed, and that synced, or not: the note tells.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use parking_lot::MutexGuard;

use super::future::{FutureLog, target_failed};
use super::open::list_names;
use super::{Log, Writer};
use crate::cleaner::Stopped;
use crate::epoch_cache::EpochCache;
use crate::error::{During, LogError};
use crate::file_name;
use crate::segment::list::SegmentList;

/// A log that stands still, and its copy that has all of it, synced. Dropping it lets the log go on where it is, or where
/// it is then.
pub struct HandOver<'a> {
    log: &'a Log,
    future: &'a mut FutureLog,
    list: Arc<SegmentList>,
    epochs: MutexGuard<'a, EpochCache>,
    writer: MutexGuard<'a, Writer>,
    _flush: MutexGuard<'a, ()>,
    _cleaner: Stopped<'a>,
}

/// A log that was moved.
#[derive(Debug)]
pub struct HandedOver {
    /// Where its old files are, for [`crate::LogDir::remove_deleted`].
    pub old_directory: PathBuf,
    /// Why the old directory still has the partition's name, if it has: its data directory is offline then.
    pub left: Option<LogError>,
}

impl Log {
    /// Has the log stand still, and copies what is missing in `future`; `None` where that is much again. Blocks on both
    /// disks, and appends wait for it.
    ///
    /// # Errors
    /// As [`Log::copy_next`].
    pub fn hand_over<'a>(&'a self, future: &'a mut FutureLog) -> Result<Option<HandOver<'a>>, LogError> {
        let cleaner = self.cleaner.stop();
        let flush = self.flushing.lock();
        let writer = self.writer.lock();
        self.check_writable(&writer)?;
        future.storage.check()?;
        let list = self.segments();
        future.forget_changed(&list)?;
        if !future.is_near(&list) {
            return Ok(None);
        }
        // entries that wait in memory for room go on waiting
        writer.active.flush_indexes()?;
        future.copy_rest(&writer.active)?;
        let source = self.directory();
        let names = list_names(&self.storage(), &source)?;
        future.copy_snapshots(&source, &names)?;
        let epochs = self.epochs.lock();
        for name in names.iter().filter(|name| is_of_log(name)) {
            future.copy_file(&source, name)?;
        }
        future.sync_names()?;
        Ok(Some(HandOver { log: self, future, list, epochs, writer, _flush: flush, _cleaner: cleaner }))
    }
}

/// Whether it is one of the files that a log has beside those of its segments.
fn is_of_log(name: &str) -> bool {
    file_name::parse(name).is_none() && !name.ends_with(".tmp") && !name.ends_with(file_name::DELETED)
}

impl HandOver<'_> {
    /// Gives the copy the partition's name, and turns the log to it.
    ///
    /// # Errors
    /// The log is where it was, but the disk may have the copy under the partition's name: that is to be noted, durably,
    /// before the log goes on.
    pub fn commit(&mut self) -> Result<HandedOver, LogError> {
        let target = Arc::clone(&self.future.storage);
        let name = file_name::of_partition(self.log.topic(), self.log.partition());
        let place = target.directory().join(&name);
        if target.file_system.exists(&place).during("look for", &place)? {
            let reason =
                "another directory has the partition's name; look at it, and move it away".to_owned();
            return Err(LogError::BadFile { path: place, reason });
        }
        let failed = |error| target_failed(&target, error);
        let from = &self.future.directory;
        target.file_system.rename(from, &place).during("rename", from).map_err(failed)?;
        let synced = target.file_system.sync_directory(target.directory());
        if let Err(error) = synced.during("sync", target.directory()) {
            // as far as that can be: the note tells if it cannot
            let _taken_back = target.file_system.rename(&place, from);
            return Err(failed(error));
        }
        let source = self.log.storage();
        let old = self.log.directory();
        self.turn_to(&place);
        let unique = source.file_system.random_uuid();
        let deleted = old.with_file_name(file_name::of_deleted_partition(
            self.log.topic(),
            self.log.partition(),
            unique,
        ));
        let renamed = source.file_system.rename(&old, &deleted).during("rename", &old).and_then(|()| {
            let directory = Arc::from(deleted.as_path());
            for entry in self.log.deleted.lock().iter() {
                entry.segment.files().into_iter().for_each(|file| file.moved_to(&directory));
            }
            source.file_system.sync_directory(source.directory()).during("sync", source.directory())
        });
        let left = renamed.inspect_err(|error| source.poison(error)).err();
        Ok(HandedOver { old_directory: deleted, left })
    }

    fn turn_to(&mut self, place: &Path) {
        let (directory, files) = (Arc::from(place), &self.future.storage.open_files.clone());
        let mut segments = Vec::with_capacity(self.list.len());
        for segment in self.list.iter() {
            let copied = self.future.segments.remove(&segment.base_offset);
            let copy = copied
                .and_then(|it| it.whole)
                .filter(|_| segment.base_offset != self.writer.active.base_offset);
            if let Some(copy) = &copy {
                copy.take_over(segment);
                copy.files().into_iter().for_each(|file| file.relocate(files, &directory));
            }
            // whoever is at the old one goes on with the same bytes
            segment.files().into_iter().for_each(|file| file.relocate(files, &directory));
            segments.push(copy.unwrap_or_else(|| Arc::clone(segment)));
        }
        let log = self.log;
        *log.storage.write() = Arc::clone(&self.future.storage);
        place.clone_into(&mut log.directory.write());
        self.epochs.relocate(Arc::clone(&self.future.storage.file_system), place);
        // blocks were reserved in the other file
        self.writer.reserved_to = self.writer.active.size();
        *log.segments.write() = Arc::new(SegmentList::new(segments));
        // all of it was synced
        log.recovery_point.store(log.log_end_offset(), Release);
    }
}
