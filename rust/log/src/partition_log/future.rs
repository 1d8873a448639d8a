//! A copy of a log that grows in another data directory, to take its place (Kafka's future replica, KIP-113).
//!
//! Files are copied as they are, segment by segment, while the log is written to and read. A segment that was deleted,
//! cleaned, cut or mended meanwhile is dropped from the copy, and copied anew if it is still there. Nothing is locked but
//! for moments; what it takes of memory is one chunk, and the small files beside the segments. What it writes of segments
//! that are full leaves the page cache again.
//!
//! Crash points: the directory's name ends in `-future`, under which nobody takes it for a partition ([`super::hand_over`]
//! tells how it gets its own). One that a crash left is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Log;
use super::copied::{CHUNK_BYTES, Copied};
use super::open::list_names;
use crate::cleaner::Unpaced;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{
    FileHandle, FileSystem, LazyFile, OpenMode, Storage, atomic_file, is_disk_bad, read_up_to_at,
    write_all_at,
};
use crate::log_dir::partition_metadata;
use crate::recovery::damaged_segments;
use crate::segment::Segment;
use crate::segment::list::SegmentList;

/// As much is written between two syncs: what the disk is given at once, and what the last one may have to wait for.
const SYNC_BYTES: u64 = 16 << 20;
/// A copy that is so near to the log's end is as near as it comes.
const REST_BYTES: u64 = 256 << 10;
/// So much may have come until nobody may append any more; twice as much after each try at which it was more.
const WINDOW_BYTES: u64 = 1 << 20;

/// The copy. Dropping it leaves its files: see [`FutureLog::remove`].
#[derive(Debug)]
pub struct FutureLog {
    source: Arc<dyn FileSystem>,
    pub(super) storage: Arc<Storage>,
    pub(super) directory: PathBuf,
    pub(super) segments: BTreeMap<i64, Copied>,
    /// The snapshots of producers that are here.
    snapshots: BTreeSet<String>,
    /// What files that are small, and are replaced now and then, were when they were copied.
    small: BTreeMap<String, Vec<u8>>,
    /// Its files.
    names: BTreeSet<String>,
    /// All of those names survive the death of the machine.
    are_names_synced: bool,
    end_offset: i64,
    unsynced: u64,
    window_bytes: u64,
    buffer: Vec<u8>,
}

impl FutureLog {
    /// Begins a copy of `log` in the data directory of `target`. Blocks on both disks, as all calls here do.
    ///
    /// # Errors
    /// `Policy` where the topic's name is too long for the copy's directory; those of the file system.
    pub fn begin(log: &Log, target: &Arc<Storage>) -> Result<Self, LogError> {
        target.check()?;
        // who reads from the copy later is not to ask the disk for it
        target.device();
        let unique = target.file_system.random_uuid();
        let name = file_name::of_future_partition(log.topic(), log.partition(), unique);
        let name = name.ok_or_else(|| LogError::Policy {
            reason: format!("{} cannot be moved: the topic's name is too long", log.topic()),
        })?;
        let directory = target.directory().join(name);
        let made = target.file_system.create_directory(&directory);
        made.during("create", &directory).map_err(|error| target.write_failed(error))?;
        let mut future = Self {
            source: Arc::clone(&log.storage().file_system),
            storage: Arc::clone(target),
            directory,
            segments: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            small: BTreeMap::new(),
            names: BTreeSet::new(),
            are_names_synced: false,
            end_offset: log.log_start_offset(),
            unsynced: 0,
            window_bytes: WINDOW_BYTES,
            buffer: Vec::new(),
        };
        match future.copy_small(&log.directory(), partition_metadata::FILE_NAME) {
            Ok(()) => Ok(future),
            Err(error) => {
                // who tries again makes another; one that stays goes at the next start
                let _ = future.remove();
                Err(error)
            }
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of batches that are here.
    pub fn size_bytes(&self) -> u64 {
        self.segments.values().map(|it| it.bytes).sum()
    }

    /// The log's records below it are here; it may be somewhat too low.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Removes it with all its files. Where those cannot be removed it is at least no copy to go on with any more: the next
    /// start removes it.
    pub fn remove(self) -> Result<(), LogError> {
        let Self { storage, directory, segments, .. } = self;
        drop(segments);
        let files = &storage.file_system;
        let deleted = directory.file_name().and_then(|name| name.to_str()).and_then(|name| {
            let (topic, partition) = file_name::parse_future_partition(name)?;
            let deleted = file_name::of_deleted_partition(topic, partition, files.random_uuid());
            Some(directory.with_file_name(deleted))
        });
        let deleted = deleted.filter(|it| files.rename(&directory, it).is_ok()).unwrap_or(directory);
        files.remove_directory(&deleted).during("remove", deleted)
    }

    /// Drops what is not in the log any more, or not as it was.
    pub(super) fn forget_changed(&mut self, list: &SegmentList) -> Result<(), LogError> {
        let is_same = |base: i64, it: &Copied| {
            let found = list.starting_at(base);
            let is_there = found.is_some_and(|found| Arc::ptr_eq(found, &it.source));
            is_there && !it.was_changed() && !it.can_be_read_by_now()
        };
        let gone = self.segments.iter().filter(|(base, it)| !is_same(**base, it)).map(|(base, _)| *base);
        let gone: Vec<i64> = gone.collect();
        let Some(last) = gone.last() else { return Ok(()) };
        // the front goes by retention; where the end was cut, other producers may have written there since
        let is_cut = *last >= list.first_base_offset() || gone.len() == self.segments.len();
        let snapshots = std::mem::take(&mut self.snapshots);
        let of_segment = |name: &String| {
            file_name::parse(name).is_some_and(|(offset, _)| is_cut || gone.binary_search(&offset).is_ok())
        };
        let (dropped, kept) = snapshots.into_iter().partition(of_segment);
        self.snapshots = kept;
        for name in dropped {
            self.remove_file(&name)?;
        }
        for base in gone {
            self.segments.remove(&base);
            for kind in [file_name::TXN_INDEX, file_name::TIME_INDEX, file_name::OFFSET_INDEX, file_name::LOG]
            {
                self.remove_file(&file_name::of_offset(base, kind))?;
            }
            self.end_offset = self.end_offset.min(base);
        }
        Ok(())
    }

    /// Does a piece of the work at a segment; true = there is none for now.
    fn copy_segment(&mut self, segment: &Arc<Segment>, next_base: Option<i64>) -> Result<bool, LogError> {
        let Self { source, storage, directory, segments, buffer, .. } = self;
        let copied = segments.entry(segment.base_offset).or_insert_with(|| Copied::of(segment));
        // what is being changed is not to be copied yet: the hand-over waits for whoever does it, and looks again
        if copied.whole.is_some() || copied.edits.is_none() {
            return Ok(true);
        }
        if copied.to.is_none() {
            self.names.insert(copied.name());
            self.are_names_synced = false;
        }
        let left = segment.size().saturating_sub(copied.bytes);
        if left > next_base.map_or(REST_BYTES, |_| 0) {
            self.unsynced += copied.copy_chunk(&**source, storage, directory, left, buffer)?;
            let reached = segment.offset_beyond(copied.bytes).ok().flatten();
            self.end_offset = self.end_offset.max(reached.unwrap_or(segment.base_offset));
            if self.unsynced >= SYNC_BYTES {
                self.unsynced = 0;
                copied.sync(storage, directory)?;
                copied.drop_from_memory();
            }
            return Ok(false);
        }
        let Some(next_base) = next_base else { return Ok(true) };
        self.complete(segment)?;
        self.end_offset = self.end_offset.max(next_base);
        Ok(false)
    }

    /// Whether a segment is not what it was when its copying began.
    fn was_changed(&self, segment: &Segment) -> bool {
        self.segments.get(&segment.base_offset).is_some_and(Copied::was_changed)
    }

    /// Whether the disk could not read something of the segment, for the first time: true once.
    pub(super) fn is_to_be_located(&mut self, segment: &Segment, error: &LogError) -> bool {
        let is_bad = matches!(error, LogError::Io { path, source, .. } if is_disk_bad(source) && *path == segment.log.path());
        let copied = self.segments.get_mut(&segment.base_offset).filter(|_| is_bad);
        copied.is_some_and(|it| !std::mem::replace(&mut it.is_located, true))
    }

    /// All batches of one that takes no more are here: its indexes follow.
    fn complete(&mut self, segment: &Arc<Segment>) -> Result<(), LogError> {
        let source_directory = source_directory_of(segment);
        for name in segment.files().into_iter().skip(1).map(LazyFile::name) {
            if !self.copy_waiting(segment, &name)? {
                self.copy_file(&source_directory, &name, true)?;
            }
        }
        let Self { source, storage, directory, segments, .. } = self;
        let Some(copied) = segments.get_mut(&segment.base_offset) else { return Ok(()) };
        if copied.to.is_none() {
            // it has no batches
            copied.open(&**source, storage, directory)?;
        }
        copied.sync(storage, directory)?;
        copied.drop_from_memory();
        let copy = Segment::open_copy(storage, directory, segment)?;
        if copy.size() != copied.bytes {
            let (found, bytes) = (copy.size(), copied.bytes);
            let reason = format!("it has {found} bytes where {bytes} were written: another program is at it");
            return Err(LogError::BadFile { path: copy.log.path(), reason });
        }
        copy.set_synced();
        (copied.from, copied.to) = (None, None);
        copied.whole = Some(Arc::new(copy));
        Ok(())
    }

    /// Copies the index files of the segment that takes appends as they are now. What they tell beyond its batches, which
    /// transactions were aborted, is synced; the others are made anew where the machine dies, as in any log.
    fn copy_active_indexes(&mut self, active: &Segment) -> Result<(), LogError> {
        let source = source_directory_of(active);
        for name in active.files().into_iter().skip(1).map(LazyFile::name) {
            if self.copy_waiting(active, &name)? {
                continue;
            }
            if name.ends_with(file_name::TXN_INDEX) {
                self.copy_small(&source, &name)?;
            } else {
                self.copy_file(&source, &name, false)?;
            }
        }
        Ok(())
    }

    /// Writes here what the file of that name lacks on a full disk, if it is a transaction index that lacks something;
    /// whether it is.
    fn copy_waiting(&mut self, segment: &Segment, name: &str) -> Result<bool, LogError> {
        let waits =
            if name.ends_with(file_name::TXN_INDEX) { segment.txn_index.encoded_if_waiting() } else { None };
        waits.map_or(Ok(false), |bytes| self.write_small(name, bytes).map(|()| true))
    }

    /// Has the index files of the segment that takes appends here: their names are synced before nobody may append.
    fn make_indexes(&mut self, active: &Segment) -> Result<(), LogError> {
        let is_there = |file: &LazyFile| self.names.contains(&file.name());
        if active.files().into_iter().skip(1).any(is_there) {
            return Ok(());
        }
        self.copy_active_indexes(active)
    }

    /// Copies the snapshots that are not here yet, and removes those that are gone.
    pub(super) fn copy_snapshots(&mut self, source: &Path, names: &[String]) -> Result<(), LogError> {
        let is_snapshot =
            |name: &str| file_name::parse(name).is_some_and(|(_, kind)| kind == file_name::SNAPSHOT);
        for name in names.iter().filter(|name| is_snapshot(name)) {
            if !self.snapshots.contains(name) {
                self.copy_file(source, name, true)?;
                self.snapshots.insert(name.clone());
            }
        }
        let gone: Vec<_> = self.snapshots.iter().filter(|it| !names.contains(it)).cloned().collect();
        for name in gone {
            self.remove_file(&name)?;
            self.snapshots.remove(&name);
        }
        Ok(())
    }

    /// Copies the files that a log has beside those of its segments, as far as they are not here as they are there.
    pub(super) fn copy_beside(&mut self, source: &Path, names: &[String]) -> Result<(), LogError> {
        let is_beside = |name: &str| {
            let is_left = name.ends_with(".tmp") || name.ends_with(file_name::DELETED);
            // see `list_damaged`
            file_name::parse(name).is_none() && !is_left && name != damaged_segments::FILE_NAME
        };
        for name in names.iter().filter(|name| is_beside(name)) {
            self.copy_small(source, name)?;
        }
        let gone = |name: &&String| is_beside(name) && !names.contains(name);
        let gone: Vec<_> = self.small.keys().filter(gone).cloned().collect();
        gone.iter().try_for_each(|name| self.remove_file(name))
    }

    /// Has `name` here what it is in `source`, synced; nothing is written where it is so already.
    fn copy_small(&mut self, source: &Path, name: &str) -> Result<(), LogError> {
        let path = source.join(name);
        match atomic_file::read(&*self.source, &path).during("read", &path)? {
            Some(bytes) => self.write_small(name, bytes),
            None => self.remove_file(name),
        }
    }

    /// Names all segments with damage in the copy's list, synced, also where it is what the disk cannot read, which the
    /// list of the log leaves out: here there are zeros, which the next start would take for what was there.
    pub(super) fn list_damaged(&mut self, list: &SegmentList) -> Result<(), LogError> {
        let is_damaged = |segment: &Segment| {
            let copied = self.segments.get(&segment.base_offset);
            segment.damage_after(0).is_some() || copied.is_some_and(|it| !it.left_out.is_empty())
        };
        let damaged: BTreeSet<_> = list.iter().filter(|it| is_damaged(it)).map(|it| it.base_offset).collect();
        if damaged.is_empty() {
            return self.remove_file(damaged_segments::FILE_NAME);
        }
        self.write_small(damaged_segments::FILE_NAME, damaged_segments::bytes_of(&damaged))
    }

    /// Has `name` here with these bytes, synced; nothing is written where it is so already.
    fn write_small(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), LogError> {
        if self.small.get(name) == Some(&bytes) {
            return Ok(());
        }
        self.small.remove(name);
        let (to, path) = self.make(name)?;
        write_all_at(&*to, &mut [IoSlice::new(&bytes)], 0)
            .and_then(|()| to.sync_data())
            .during("write", path)
            .map_err(|error| self.storage.write_failed(error))?;
        self.small.insert(name.to_owned(), bytes);
        Ok(())
    }

    /// An empty file.
    fn make(&mut self, name: &str) -> Result<(Arc<dyn FileHandle>, PathBuf), LogError> {
        let path = self.directory.join(name);
        let failed = |error| self.storage.write_failed(error);
        let file =
            self.storage.file_system.open(&path, OpenMode::Create).during("create", &path).map_err(failed)?;
        // it is there by now: what could not be opened is made, and its name synced, by the next try
        self.are_names_synced &= !self.names.insert(name.to_owned());
        file.set_len(0).during("empty", &path).map_err(failed)?;
        Ok((file, path))
    }

    /// Has `name` here what it is in `source`: nothing, where it is not there.
    fn copy_file(&mut self, source: &Path, name: &str, is_synced: bool) -> Result<(), LogError> {
        let from_path = source.join(name);
        let from = match self.source.open(&from_path, OpenMode::Read) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.remove_file(name),
            result => result.during("read", &from_path)?,
        };
        let (to, to_path) = self.make(name)?;
        let failed = |error| self.storage.write_failed(error);
        let length = from.length().during("ask for the size of", &from_path)?;
        let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(length).unwrap_or(CHUNK_BYTES))];
        let mut at = 0;
        loop {
            let read = read_up_to_at(&*from, &mut buffer, at).during("read", &from_path)?;
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            write_all_at(&*to, &mut [IoSlice::new(bytes)], at).during("write", &to_path).map_err(failed)?;
            at += read as u64;
        }
        if is_synced { to.sync_data().during("sync", &to_path).map_err(failed) } else { Ok(()) }
    }

    fn remove_file(&mut self, name: &str) -> Result<(), LogError> {
        self.small.remove(name);
        if !self.names.remove(name) {
            return Ok(());
        }
        self.are_names_synced = false;
        let path = self.directory.join(name);
        match self.storage.file_system.remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).during("remove", &path).map_err(|error| self.storage.write_failed(error))
            }
            _ => Ok(()),
        }
    }

    /// Copies what came to the segments, all of it, synced.
    pub(super) fn copy_rest(&mut self, list: &SegmentList, active: &Arc<Segment>) -> Result<(), LogError> {
        for (segment, next_base) in list.with_next().filter(|(_, next_base)| next_base.is_some()) {
            while !self.copy_segment(segment, next_base)? {}
        }
        let Self { source, storage, directory, segments, buffer, .. } = self;
        let copied = segments.entry(active.base_offset).or_insert_with(|| Copied::of(active));
        if copied.to.is_none() {
            self.names.insert(copied.name());
            self.are_names_synced = false;
            copied.open(&**source, storage, directory)?;
        }
        let before = copied.bytes;
        while copied.bytes < active.size() {
            let left = active.size().saturating_sub(copied.bytes);
            copied.copy_chunk(&**source, storage, directory, left, buffer)?;
        }
        // what came before was synced when it was near
        if before < copied.bytes || self.unsynced > 0 {
            copied.sync(storage, directory)?;
        }
        self.copy_active_indexes(active)
    }

    /// Whether the rest of the log is little enough to be copied while nobody may append.
    pub(super) fn is_near(&self, list: &SegmentList) -> bool {
        let mut missing = 0_u64;
        for (segment, next_base) in list.with_next() {
            let copied = self.segments.get(&segment.base_offset);
            if copied.is_some_and(|it| it.whole.is_some() && next_base.is_some()) {
                continue;
            }
            // one that became full a moment ago has more to be synced than batches: that is for when there is no other way
            let is_in_time = next_base.is_none() || self.window_bytes > WINDOW_BYTES;
            if !is_in_time || segment.edits().is_none() {
                return false;
            }
            missing += segment.size().saturating_sub(copied.map_or(0, |it| it.bytes));
        }
        missing <= self.window_bytes
    }

    /// More came than may be missing: the next time more may.
    pub(super) fn widen(&mut self) {
        self.window_bytes = self.window_bytes.saturating_mul(2);
    }

    /// Makes the names of its files survive the death of the machine.
    pub(super) fn sync_names(&mut self) -> Result<(), LogError> {
        if self.are_names_synced {
            return Ok(());
        }
        let synced = self.storage.file_system.sync_directory(&self.directory);
        synced.during("sync", &self.directory).map_err(|error| self.storage.write_failed(error))?;
        self.are_names_synced = true;
        Ok(())
    }
}

fn source_directory_of(segment: &Segment) -> PathBuf {
    segment.log.path().parent().unwrap_or(Path::new("")).to_owned()
}

impl Log {
    /// Does the next piece of a copy's work, a megabyte at most; true = it is as near to the log's end as it comes while
    /// the log goes on. Appends, reads and all else go on meanwhile.
    ///
    /// # Errors
    /// `Gone` once the log is closed or deleted, `Poisoned` where one of the two directories is offline, `DiskFull` or
    /// `BelowFloor` where the copy has no room; `Io`, which takes the copy's directory offline where it is that one's, but for
    /// want of a descriptor, after which the copy can be gone on with. The log is as it was.
    pub fn copy_next(&self, future: &mut FutureLog) -> Result<bool, LogError> {
        self.check_cleanable()?;
        future.storage.check()?;
        future.storage.check_room()?;
        let list = self.segments();
        future.forget_changed(&list)?;
        for (segment, next_base) in list.with_next() {
            match future.copy_segment(segment, next_base) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // it was deleted or cut, or a copy took its place
                Err(LogError::Io { .. })
                    if future.storage.check().is_ok()
                        && (future.was_changed(segment) || !self.has(segment)) =>
                {
                    return Ok(false);
                }
                Err(error) if future.is_to_be_located(segment, &error) => {
                    self.scrub_segment(segment.base_offset, &Unpaced)?;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        let source = self.directory();
        let names = list_names(&self.storage(), &source)?;
        future.copy_snapshots(&source, &names)?;
        // all but what comes from now on: little is left to be done when nobody may append
        future.copy_beside(&source, &names)?;
        future.list_damaged(&list)?;
        if let Some(active) = list.last() {
            future.make_indexes(active)?;
            let copied = future.segments.get(&active.base_offset);
            copied.map_or(Ok(()), |it| it.sync(&future.storage, &future.directory))?;
        }
        future.unsynced = 0;
        future.sync_names()?;
        Ok(true)
    }
}
