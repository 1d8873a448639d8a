//! One segment: a file of batches and its indexes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use fastlog_protocol::batch::BatchHeader;
use parking_lot::Mutex;

use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::waiting::leave_unless_waiting;
use crate::file_system::{FileHandle, FileSystem, LazyFile, OpenMode, Storage, is_disk_full};

mod damage;
mod entry_file;
pub(crate) mod list;
pub(crate) mod offset_index;
pub(crate) mod rescan;
pub(crate) mod scan;
pub(crate) mod time_index;
pub(crate) mod txn_index;

pub(crate) use damage::Damage;
pub(crate) use rescan::Trust;

use offset_index::{OffsetEntry, OffsetIndex};
use scan::{BatchScan, Located, Step};
use time_index::{TimeIndex, TimestampOffset};
use txn_index::TxnIndex;

/// Stands for a first timestamp that nobody has looked up yet.
const UNKNOWN: i64 = i64::MIN;
/// Stands for a time index that was compared with all batches.
const CHECKED: i64 = -1;
/// Index entries kept in memory before they are written together: 4 KiB of the offset index.
const PENDING_ENTRIES_MAX: usize = 512;

/// One segment. Written by one thread at a time (the log's writer lock), read by any.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base_offset: i64,
    /// When it was made or opened: what rolls a segment whose records have no timestamps.
    pub(crate) created_ms: i64,
    pub(crate) log: LazyFile,
    pub(crate) offset_index: OffsetIndex,
    pub(crate) time_index: TimeIndex,
    pub(crate) txn_index: TxnIndex,
    /// Bytes of whole batches; published after they are written.
    size: AtomicU64,
    /// Written to since it was last synced.
    unsynced: AtomicBool,
    /// The largest timestamp and where.
    newest: Mutex<TimestampOffset>,
    /// The last offset that the time index knows of, while nobody has looked whether a later batch is younger; else −1.
    newest_unchecked: AtomicI64,
    /// The largest timestamp of the first batch, or `UNKNOWN`.
    first_timestamp: AtomicI64,
    /// The indexes have been checked and completed.
    loaded: AtomicBool,
    loading: Mutex<()>,
    damages: Mutex<Vec<Damage>>,
    /// See [`Segment::suspect`].
    is_suspect: AtomicBool,
    /// Counts damage of all segments of the data directory.
    damage_counter: Arc<AtomicU64>,
    /// Made by the cleaner in this run: places of batches that were noted when they were appended are not true here.
    pub(crate) is_rewritten: bool,
    /// That its records are dated in the future was said.
    future_told: AtomicBool,
    /// How often bytes that were readable became others, counted before and after: it was cut, or mended.
    edits: AtomicU64,
}

/// See [`Segment::begin_edit`].
pub(crate) struct Edit<'a>(&'a Segment);

impl Drop for Edit<'_> {
    fn drop(&mut self) {
        self.0.edits.fetch_add(1, AcqRel);
    }
}

impl Segment {
    /// A new, empty segment with its files. An empty file left over from a crash is taken over.
    ///
    /// Where it fails nothing of it is left: another batch may be appended at its offset to the segment before, and a start
    /// would take the one that was left for the log's end. If it cannot be removed the directory is poisoned.
    pub(crate) fn create(
        storage: &Storage,
        directory: &Path,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Self, LogError> {
        let segment = Self::at(storage, directory, base_offset, now_ms, "").into_new()?;
        if let Err(error) = segment.make_indexes() {
            segment.remove_files(&*storage.file_system).inspect_err(|error| storage.poison(error))?;
            return Err(error);
        }
        Ok(segment)
    }

    /// The first segment of a log, where there is no index of that name: most of ten thousand new logs stay empty, and
    /// an index is made when there is something to be in it.
    pub(crate) fn create_first(
        storage: &Storage,
        directory: &Path,
        base_offset: i64,
        now_ms: i64,
    ) -> Result<Self, LogError> {
        Self::at(storage, directory, base_offset, now_ms, "").into_new()
    }

    /// A new, empty segment whose files have the names of copies that the cleaner makes. They must not be there.
    pub(crate) fn create_copy(
        storage: &Storage,
        directory: &Path,
        base_offset: i64,
        created_ms: i64,
    ) -> Result<Self, LogError> {
        let segment = Self::at(storage, directory, base_offset, created_ms, file_name::CLEANED);
        let segment = segment.into_new()?;
        segment.make_indexes()?;
        Ok(Self { is_rewritten: true, ..segment })
    }

    fn into_new(self) -> Result<Self, LogError> {
        let segment = self;
        let file = segment.log.open_once(OpenMode::Create);
        let length = file.and_then(|file| file.length()).during("create", segment.log.path())?;
        if length > 0 {
            let reason = "a new segment was to be made, but the file has bytes; move it away".to_owned();
            return Err(LogError::BadFile { path: segment.log.path(), reason });
        }
        segment.loaded.store(true, Release);
        segment.txn_index.set_checked();
        Ok(segment)
    }

    /// Makes its index files, or empties those that are there.
    fn make_indexes(&self) -> Result<(), LogError> {
        let offsets = self.offset_index.entries();
        let times = self.time_index.entries();
        offsets
            .create()
            .and_then(|()| times.create())
            .and_then(|()| offsets.load(|_, _| false))
            .and_then(|_| times.load(|_, _| false))
            .and_then(|_| self.txn_index.truncate_to(self.base_offset))
            .during("create the index of", self.log.path())
    }

    /// A segment that is there. Reads nothing but the file's size; indexes are looked at when first needed. `is_used`: its
    /// batches are read next, so their file stays open.
    pub(crate) fn open(
        storage: &Storage,
        directory: &Path,
        base_offset: i64,
        now_ms: i64,
        is_used: bool,
    ) -> Result<Self, LogError> {
        let segment = Self::at(storage, directory, base_offset, now_ms, "");
        let file = if is_used { segment.log.open() } else { segment.log.open_once(OpenMode::ReadWrite) };
        let length = file.and_then(|file| file.length()).during("open", segment.log.path())?;
        segment.size.store(length, Release);
        Ok(segment)
    }

    /// The same segment in another directory, where all its files were copied to; its indexes are compared when first used.
    pub(crate) fn open_copy(storage: &Storage, directory: &Path, source: &Self) -> Result<Self, LogError> {
        let copy = Self::open(storage, directory, source.base_offset, source.created_ms, false)?;
        Ok(Self { is_rewritten: source.is_rewritten, ..copy })
    }

    /// Takes over what is known of the segment that it is a copy of.
    pub(crate) fn take_over(&self, source: &Self) {
        let damages = source.damages.lock().clone();
        *self.damages.lock() = damages;
        self.future_told.store(source.future_told.load(Relaxed), Relaxed);
    }

    fn at(storage: &Storage, directory: &Path, base_offset: i64, now_ms: i64, suffix: &str) -> Self {
        let directory = Arc::from(directory);
        let file = |kind| {
            let name = file_name::of_offset(base_offset, kind);
            storage.open_files.file(&directory, format!("{name}{suffix}"))
        };
        Self {
            base_offset,
            created_ms: now_ms,
            log: file(file_name::LOG),
            offset_index: OffsetIndex::new(base_offset, file(file_name::OFFSET_INDEX)),
            time_index: TimeIndex::new(base_offset, file(file_name::TIME_INDEX)),
            txn_index: TxnIndex::new(file(file_name::TXN_INDEX)),
            size: AtomicU64::new(0),
            unsynced: AtomicBool::new(true),
            newest: Mutex::new(TimestampOffset::NONE),
            newest_unchecked: AtomicI64::new(CHECKED),
            first_timestamp: AtomicI64::new(UNKNOWN),
            loaded: AtomicBool::new(false),
            loading: Mutex::new(()),
            damages: Mutex::default(),
            is_suspect: AtomicBool::new(false),
            damage_counter: storage.damage_counter(),
            is_rewritten: false,
            future_told: AtomicBool::new(false),
            edits: AtomicU64::new(0),
        }
    }

    /// The file of batches, open.
    pub(crate) fn file(&self) -> Result<Arc<dyn FileHandle>, LogError> {
        self.log.open().map_err(|source| LogError::io("open", self.log.path(), source))
    }

    /// Bytes of whole batches.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Acquire)
    }

    /// As long as it says the same, what was read of the segment is in it; `None` while bytes of it become others.
    pub(crate) fn edits(&self) -> Option<u64> {
        Some(self.edits.load(Acquire)).filter(|edits| edits.is_multiple_of(2))
    }

    /// Bytes that could be read become others, one change at a time, until the answer is dropped.
    pub(crate) fn begin_edit(&self) -> Edit<'_> {
        self.edits.fetch_add(1, AcqRel);
        Edit(self)
    }

    pub(crate) fn set_size(&self, size: u64) {
        self.unsynced.store(true, Relaxed);
        self.size.store(size, Release);
    }

    /// What is on disk of it is not known.
    pub(crate) fn set_unsynced(&self) {
        self.unsynced.store(true, Relaxed);
    }

    /// Notes that all of it is on disk: the last run said so.
    pub(crate) fn set_synced(&self) {
        self.unsynced.store(false, Relaxed);
    }

    /// Every file of the segment; some may not exist.
    pub(crate) fn files(&self) -> [&LazyFile; 4] {
        [
            &self.log,
            self.offset_index.entries().file(),
            self.time_index.entries().file(),
            self.txn_index.file(),
        ]
    }

    /// Removes its files, the batches last: a crash in between must not leave indexes that seem to be all there is.
    pub(crate) fn remove_files(&self, file_system: &dyn FileSystem) -> Result<(), LogError> {
        for file in self.files().into_iter().rev() {
            file.close();
            match file_system.remove_file(&file.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).during("remove", file.path());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes sure that the indexes are sound; the first caller does the work. `interval_bytes` is the index interval.
    pub(crate) fn ensure_loaded(&self, interval_bytes: u64) -> Result<(), LogError> {
        if self.loaded.load(Acquire) {
            return Ok(());
        }
        leave_unless_waiting().during("read the indexes of", self.log.path())?;
        let _one = self.loading.lock();
        if self.loaded.load(Acquire) {
            return Ok(());
        }
        let scanned = self.rescan(Trust::Indexes, interval_bytes, &mut |_| {})?;
        if let Some((bad, offset)) = scanned.bad {
            self.note_damage(&bad, offset, scanned.leader_epoch)?;
        }
        // only segments that no longer grow are loaded late
        self.note_newest();
        self.flush_indexes()?;
        self.loaded.store(true, Release);
        Ok(())
    }

    /// True for the first caller.
    pub(crate) fn tell_of_the_future_once(&self) -> bool {
        !self.future_told.swap(true, Relaxed)
    }

    pub(crate) fn set_loaded(&self) {
        self.loaded.store(true, Release);
    }

    /// Whether its indexes are known to be sound.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Acquire)
    }

    /// Closes its files; whoever uses one opens it again.
    pub(crate) fn close_files(&self) {
        self.files().into_iter().for_each(LazyFile::close);
    }

    /// Accounts for a batch at `position`, whose bytes are written: timestamps, and an index entry when one is due.
    /// `since_entry` counts the bytes since the last entry. Fails only when index entries cannot be written.
    pub(crate) fn index_batch(
        &self,
        header: &BatchHeader,
        position: u64,
        since_entry: &mut u64,
        interval_bytes: u64,
    ) -> Result<(), LogError> {
        let last_offset = header.last_offset();
        let newest = {
            let mut newest = self.newest.lock();
            if header.max_timestamp > newest.timestamp {
                *newest = TimestampOffset { timestamp: header.max_timestamp, offset: last_offset };
            }
            *newest
        };
        if position == 0 {
            self.first_timestamp.store(header.max_timestamp, Relaxed);
        }
        let due = *since_entry > interval_bytes;
        if due {
            *since_entry = 0;
        }
        *since_entry += header.size_bytes() as u64;
        if due {
            self.time_index.maybe_append(newest);
            self.offset_index.append(OffsetEntry { offset: last_offset, position });
            if self.offset_index.entries().pending() >= PENDING_ENTRIES_MAX {
                return self.flush_indexes();
            }
        }
        Ok(())
    }

    /// Writes index entries that wait in memory. The time index comes first: the largest timestamp of the batches up to
    /// the last entry of the offset index must be in it, or nobody would look for it there.
    ///
    /// Without room on the disk they go on waiting, and appends and reads go on too.
    pub(crate) fn flush_indexes(&self) -> Result<(), LogError> {
        let flushed = self.time_index.entries().flush().and_then(|()| self.offset_index.entries().flush());
        match flushed {
            Err(error) if is_disk_full(&error) => {
                tracing::warn!(segment = %self.log.path().display(), %error, "index entries wait for room");
                Ok(())
            }
            result => result.during("write the indexes of", self.log.path()),
        }
    }

    /// Makes its batches survive the death of the machine, and which of them were aborted.
    pub(crate) fn sync_batches(&self) -> Result<(), LogError> {
        // before the sync: a batch that is appended meanwhile may not be part of it
        if self.unsynced.swap(false, AcqRel) {
            let synced = self.file().and_then(|file| file.sync_data().during("sync", self.log.path()));
            synced.inspect_err(|_| self.set_unsynced())?;
            self.log.keep_open(false);
        }
        self.txn_index.sync().during("sync the transaction index of", self.log.path())
    }

    /// The same with the other indexes: once, when no more batches will come. (Those of an active segment are built anew
    /// when the machine died, so they need no sync.)
    pub(crate) fn sync(&self) -> Result<(), LogError> {
        self.sync_batches()?;
        self.flush_indexes()?;
        self.time_index.entries().sync().during("sync the time index of", self.log.path())?;
        self.offset_index.entries().sync().during("sync the offset index of", self.log.path())
    }

    /// No more batches will come: notes the largest timestamp, writes the indexes and releases reserved blocks.
    /// `is_trimmed`: none are.
    pub(crate) fn seal(&self, is_trimmed: bool) -> Result<(), LogError> {
        self.note_newest();
        if self.size() > 0 {
            // Kafka takes a segment without one for one to be recovered
            let made = self.time_index.entries().create().and_then(|()| self.offset_index.entries().create());
            made.during("create the index of", self.log.path())?;
        }
        self.flush_indexes()?;
        if is_trimmed { Ok(()) } else { self.release_reserved() }
    }

    /// No more batches will come, and those that are there are synced before long: what the disk could not write of them is
    /// asked of this very file.
    pub(crate) fn keep_open_until_synced(&self) {
        self.log.keep_open(self.unsynced.load(Acquire));
    }

    /// Ends the time index with the segment's largest timestamp, so that it need not be looked for.
    pub(crate) fn note_newest(&self) {
        if self.newest_unchecked.load(Acquire) != CHECKED {
            // an entry at the end would hide that some before it are missing
            return;
        }
        let newest = *self.newest.lock();
        if newest.timestamp >= 0 {
            self.time_index.maybe_append(newest);
        }
    }

    /// Gives back blocks that were reserved beyond the end.
    pub(crate) fn release_reserved(&self) -> Result<(), LogError> {
        self.file()?.set_len(self.size()).during("trim", self.log.path())
    }

    /// Cuts the segment to `size` bytes, where a batch starts whose first offset is `next_offset`.
    pub(crate) fn truncate(&self, size: u64, next_offset: i64) -> Result<(), LogError> {
        let path = self.log.path();
        let _edit = self.begin_edit();
        self.set_size(size);
        self.file()?.set_len(size).during("truncate", &path)?;
        self.offset_index.truncate_to(next_offset).during("truncate the index of", &path)?;
        self.time_index.truncate_to(next_offset).during("truncate the time index of", &path)?;
        self.txn_index.truncate_to(next_offset).during("truncate the transaction index of", &path)?;
        self.damages.lock().retain(|damage| damage.position < size);
        if size == 0 {
            self.first_timestamp.store(UNKNOWN, Relaxed);
        }
        Ok(())
    }

    /// The first batch whose last offset is at least `offset`, before byte `end`; `None` when there is none.
    pub(crate) fn find_batch(&self, offset: i64, end: u64) -> Result<Option<Located>, LogError> {
        let path = || self.log.path();
        let from = self.offset_index.position_before(offset).during("read the index of", path())?;
        if let Some(damage) = self.damage_at(offset) {
            return Err(self.corrupt(&damage));
        }
        let from = self.beyond_damage(from);
        let mut scan = self.scan_from(from, end)?;
        loop {
            let damage = match scan.step(i64::MAX).during("read", path())? {
                Step::End => return Ok(None),
                Step::Batch(located) => match self.damage_starting_at(located.position) {
                    // its header may claim anything: what recovery found wrong is not in the header
                    Some(known) => known,
                    // an index that is right never leads beyond the offset
                    None if from > 0 && located.position == from && located.header.base_offset > offset => {
                        return self.find_without_index(offset, end);
                    }
                    None if located.header.last_offset() >= offset => return Ok(Some(located)),
                    None => continue,
                },
                // a wrong index would do this too; without it the walk tells
                Step::Bad(_) if from > 0 && !self.starts_batch(from) => {
                    return self.find_without_index(offset, end);
                }
                Step::Bad(bad) => self.note_damage(&bad, scan.offset_min(), scan.leader_epoch())?,
            };
            match damage.next {
                Some((position, next)) if next <= offset => scan = self.scan_from(position, end)?,
                _ => return Err(self.corrupt(&damage)),
            }
        }
    }

    /// The offset behind the last batch that starts before byte `position`, where `offset` or a later one starts; `None`
    /// where damage hides it.
    pub(crate) fn next_offset_before(&self, position: u64, offset: i64) -> Result<Option<i64>, LogError> {
        let path = || self.log.path();
        let from = self.offset_index.position_before(offset - 1).during("read the index of", path())?;
        let mut next_offset = (from == 0).then_some(self.base_offset);
        let mut scan = self.scan_from(from, position)?;
        loop {
            match scan.step(i64::MAX).during("read", path())? {
                Step::End => return Ok(next_offset),
                Step::Batch(located) => next_offset = Some(located.header.next_offset()),
                Step::Bad(_) => return Ok(None),
            }
        }
    }

    /// The index pointed at no batch, or beyond the one that was looked for: it is dropped, and built anew by the walk.
    fn find_without_index(&self, offset: i64, end: u64) -> Result<Option<Located>, LogError> {
        leave_unless_waiting().during("read", self.log.path())?;
        tracing::warn!(segment = %self.log.path().display(), "the offset index is wrong and is not used");
        self.offset_index.entries().truncate(0).during("reset the index of", self.log.path())?;
        self.find_batch(offset, end)
    }

    /// An offset before which every record is older than `timestamp`. The time index is a hint too: an entry that does
    /// not say what its batch says is not believed, and then it is the first offset.
    pub(crate) fn offset_before(&self, timestamp: i64) -> Result<i64, LogError> {
        let entry = self.time_index.last_before(timestamp);
        match entry.during("read the time index of", self.log.path())? {
            Some(entry) if self.is_sound_time(entry)? => Ok(entry.offset),
            Some(_) => {
                tracing::warn!(segment = %self.log.path().display(), "the time index is wrong and is not used");
                Ok(self.base_offset)
            }
            None => Ok(self.base_offset),
        }
    }

    /// An offset above those of all batches that start before `position`; `None` where no later one has an entry, or one
    /// that is not true.
    pub(crate) fn offset_beyond(&self, position: u64) -> Result<Option<i64>, LogError> {
        match self.offset_index.entry_from(position).during("read the index of", self.log.path())? {
            Some(entry) if self.is_sound(entry)? => Ok(Some(entry.offset)),
            _ => Ok(None),
        }
    }

    fn starts_batch(&self, position: u64) -> bool {
        self.scan_from(position, self.size())
            .and_then(|mut scan| scan.step(i64::MAX).during("read", self.log.path()))
            .is_ok_and(|step| matches!(step, Step::Batch(_)))
    }

    /// A walk over the batches from `position` to `end`.
    pub(crate) fn scan_from(&self, position: u64, end: u64) -> Result<BatchScan, LogError> {
        Ok(BatchScan::new(self.file()?, self.base_offset, position, end))
    }

    /// The largest timestamp and where; loads the segment's indexes.
    pub(crate) fn newest(&self, interval_bytes: u64) -> Result<TimestampOffset, LogError> {
        self.ensure_loaded(interval_bytes)?;
        if self.newest_unchecked.load(Acquire) != CHECKED {
            self.check_newest(interval_bytes)?;
        }
        Ok(*self.newest.lock())
    }

    pub(crate) fn set_newest(&self, newest: TimestampOffset) {
        *self.newest.lock() = newest;
    }

    /// The largest timestamp of the first batch: from when on the segment's age counts. `None` without timestamps.
    pub(crate) fn first_timestamp(&self) -> Result<Option<i64>, LogError> {
        let mut first = self.first_timestamp.load(Relaxed);
        if first == UNKNOWN && self.size() > 0 {
            let step = self.scan_from(0, self.size())?.step(i64::MAX).during("read", self.log.path())?;
            first = if let Step::Batch(located) = step { located.header.max_timestamp } else { -1 };
            self.first_timestamp.store(first, Relaxed);
        }
        Ok(Some(first).filter(|first| *first >= 0))
    }

    /// An error for a batch whose CRC fits and whose records do not read.
    pub(crate) fn unreadable(&self, located: &Located, reason: String) -> LogError {
        LogError::Corrupt {
            path: self.log.path(),
            position: located.position,
            offset: located.header.base_offset,
            next_readable_offset: Some(located.header.next_offset()),
            reason,
        }
    }
}
