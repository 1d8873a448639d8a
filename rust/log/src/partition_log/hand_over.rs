//! A copy takes the place of the log that it was made of ([`super::future`]).
//!
//! While nobody can append, flush, clean, cut or delete, what came since the copy was last near is copied and synced. Then the
//! copy's directory gets the partition's name; that is the moment from which it counts. Then the log's memory is turned to it,
//! and the old directory renamed to be deleted. As a rule that is a sync of the target's disk for the batches and one for the
//! name; one more for each file beside them that changed in that moment, and for the names of files that are new.
//!
//! Appends wait for it, but no longer than [`super::standing::PATIENCE`], however long a disk takes.
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

use super::future::FutureLog;
use super::open::list_names;
use super::{Log, Writer};
use crate::cleaner::{Stopped, Unpaced};
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{Storage, is_disk_full};
use crate::segment::list::SegmentList;

/// A log that stands still, and its copy. Dropping it lets the log go on where it is, or where it is then.
pub struct HandOver<'a> {
    log: &'a Log,
    future: &'a mut FutureLog,
    list: Arc<SegmentList>,
    writer: MutexGuard<'a, Writer>,
    _flush: MutexGuard<'a, ()>,
    _cleaner: Stopped<'a>,
}

/// What became of a copy that was to take a log's place.
#[derive(Debug)]
pub enum Commit {
    /// The log is where the copy was.
    Moved(HandedOver),
    /// The log is where it was, and nothing has the partition's name beside it.
    Failed(LogError),
    /// The log is where it was, but the disk may have the copy under the partition's name: that is to be noted, durably,
    /// before the log goes on.
    MaybeRenamed(LogError),
}

/// A log that was moved.
#[derive(Debug)]
pub struct HandedOver {
    /// Where its old files are, for [`crate::LogDir::remove_deleted`].
    pub old_directory: PathBuf,
    /// Why the old directory still has the partition's name, or may have it, if it does: its data directory is offline then.
    pub left: Option<LogError>,
    /// The old directory, where the disk had no room for its other name.
    unrenamed: Option<Box<PathBuf>>,
    source: Arc<Storage>,
}

impl HandedOver {
    /// Makes it survive the death of the machine that the old directory has another name. The log goes on meanwhile. Where a
    /// full disk had no room for that name, the directory is removed at once: its files are open where they are read. Where
    /// there is no descriptor for the sync, `left` says so, and it can be called again.
    pub fn sync(&mut self) {
        if let Some(old) = self.unrenamed.take() {
            if let Err(error) = self.source.file_system.remove_directory(&old).during("remove", old.as_path())
            {
                // also for want of a descriptor: with that name it would be taken for a replica that is made here later
                self.source.poison(&error);
            }
            self.left = self.source.check().err();
        }
        if self.left.as_ref().is_none_or(LogError::is_out_of_descriptors) {
            let directory = self.source.directory();
            let synced = self.source.file_system.sync_directory(directory).during("sync", directory);
            self.left = synced.inspect_err(|error| self.source.failed(error)).err();
        }
    }
}

impl Log {
    /// Has the log stand still, and copies what is missing in `future`; `None` where that is much again, of which more may be
    /// missing the next time. Blocks on both disks; appends are refused while that takes long.
    ///
    /// # Errors
    /// As [`Log::copy_next`].
    pub fn hand_over<'a>(&'a self, future: &'a mut FutureLog) -> Result<Option<HandOver<'a>>, LogError> {
        let cleaner = self.cleaner.stop();
        let flush = self.flushing.lock();
        let writer = self.writer.lock();
        self.stand_still();
        let list = self.segments();
        let mut it = HandOver { log: self, future, list, writer, _flush: flush, _cleaner: cleaner };
        let error = match it.copy_rest() {
            Ok(has_all) => return Ok(has_all.then_some(it)),
            Err(error) => error,
        };
        // what the disk cannot read of the log's end is found only now
        let unreadable = it.list.iter().find(|segment| it.future.is_to_be_located(segment, &error));
        let Some(base_offset) = unreadable.map(|segment| segment.base_offset) else { return Err(error) };
        drop(it);
        self.scrub_segment(base_offset, &Unpaced)?;
        Ok(None)
    }
}

impl HandOver<'_> {
    /// Whether the copy has all.
    fn copy_rest(&mut self) -> Result<bool, LogError> {
        let Self { log, future, list, writer, .. } = self;
        log.check_writable(writer)?;
        future.storage.check()?;
        future.forget_changed(list)?;
        if !future.is_near(list) {
            future.widen();
            return Ok(false);
        }
        // entries that wait in memory for room go on waiting
        writer.active.flush_indexes()?;
        future.copy_rest(list, &writer.active)?;
        let source = log.directory();
        let names = list_names(&log.storage(), &source)?;
        future.copy_snapshots(&source, &names)?;
        future.copy_beside(&source, &names)?;
        future.list_damaged(list)?;
        future.sync_names()?;
        Ok(true)
    }

    /// Bytes of batches that are in the copy, which are all.
    pub fn size_bytes(&self) -> u64 {
        self.future.size_bytes()
    }

    /// Gives the copy the partition's name, and turns the log to it.
    pub fn commit(&mut self) -> Commit {
        let name = file_name::of_partition(self.log.topic(), self.log.partition());
        let place = self.future.storage.directory().join(&name);
        if let Err(failed) = self.rename_copy(&place) {
            return failed;
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
        let renamed = source.file_system.rename(&old, &deleted).during("rename", &old).map(|()| {
            let directory = Arc::from(deleted.as_path());
            for entry in self.log.deleted.lock().iter() {
                entry.segment.files().into_iter().for_each(|file| file.moved_to(&directory));
            }
        });
        // a longer name may need room, which a full disk has not: see `HandedOver::sync`
        let is_full = |error: &LogError| matches!(error, LogError::Io { source, .. } if is_disk_full(source));
        let left = renamed
            .inspect_err(|error| {
                if !is_full(error) {
                    source.poison(error)
                }
            })
            .err();
        let unrenamed = left.as_ref().is_some_and(is_full).then(|| Box::new(old));
        Commit::Moved(HandedOver { old_directory: deleted, left, unrenamed, source })
    }

    fn rename_copy(&self, place: &Path) -> Result<(), Commit> {
        let (target, from) = (&self.future.storage, &self.future.directory);
        let files = &target.file_system;
        if files.exists(place).during("look for", place).map_err(Commit::Failed)? {
            return Err(Commit::Failed(name_is_taken(place)));
        }
        let failed = |error| target.write_failed(error);
        // before: with the name given, and no descriptor to sync it by, nobody would know what the disk has
        let opened = files.open_directory(target.directory()).during("open", target.directory());
        let directory = opened.map_err(failed).map_err(Commit::Failed)?;
        if let Err(error) = files.rename(from, place).during("rename", from).map_err(failed) {
            let is_there = files.exists(place).unwrap_or(true);
            return Err(if is_there { Commit::MaybeRenamed(error) } else { Commit::Failed(error) });
        }
        let synced = directory.sync().during("sync", target.directory());
        synced.map_err(failed).map_err(|error| {
            // as far as that can be: whether the disk has it so nobody knows
            let _taken_back = files.rename(place, from);
            Commit::MaybeRenamed(error)
        })
    }

    fn turn_to(&mut self, place: &Path) {
        let (directory, files) = (Arc::from(place), &self.future.storage.open_files.clone());
        let mut segments = Vec::with_capacity(self.list.len());
        for segment in self.list.iter() {
            let copied = self.future.segments.remove(&segment.base_offset);
            let (whole, left_out) = copied.map(|it| (it.whole, it.left_out)).unwrap_or_default();
            let copy = whole.filter(|_| segment.base_offset != self.writer.active.base_offset);
            if let Some(copy) = &copy {
                copy.take_over(segment);
                copy.files().into_iter().for_each(|file| file.relocate(files, &directory));
            }
            // whoever is at the old one goes on with the same bytes
            segment.files().into_iter().for_each(|file| file.relocate(files, &directory));
            let moved = copy.unwrap_or_else(|| Arc::clone(segment));
            moved.moved_without(&left_out);
            segments.push(moved);
        }
        let log = self.log;
        *log.storage.write() = Arc::clone(&self.future.storage);
        place.clone_into(&mut log.directory.write());
        // they change under the writer lock alone, so the file that was copied is what they are
        log.epochs.lock().relocate(Arc::clone(&self.future.storage.file_system), place);
        // blocks were reserved in the other file
        self.writer.reserved_to = self.writer.active.size();
        *log.segments.write() = Arc::new(SegmentList::new(segments));
        // all of it was synced
        log.recovery_point.store(log.log_end_offset(), Release);
    }
}

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        self.log.go_on(&mut self.writer);
    }
}

/// Something that is no copy of this run's has the name of a partition that is to be moved there.
pub(crate) fn name_is_taken(place: &Path) -> LogError {
    let reason = "another directory has the partition's name; look at it, and move it away".to_owned();
    LogError::BadFile { path: place.to_owned(), reason }
}
