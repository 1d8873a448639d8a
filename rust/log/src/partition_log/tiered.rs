//! A log whose front is in an object store: which segments may go there, and what remains here.
//!
//! The log starts where the store's first segment does. Of the disk's own start nothing is written down: it is where the
//! first segment begins. Crash points: who uploads tells of it here only once the store and a copy of its manifest say so
//! durably, and no segment goes by local retention before. What a cut or a power cut may take is never uploaded.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::Log;
use crate::epoch_cache::EpochStart;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{FileHandle, LazyFile, atomic_file, read_up_to_at};
use crate::segment::Segment;
use crate::segment::list::SegmentList;

/// Stands for a store that has nothing of the log.
pub(super) const NOTHING_TIERED: i64 = -1;

/// The offsets that the store has, half-open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieredRange {
    /// The first one.
    pub start_offset: i64,
    /// The one after the last.
    pub end_offset: i64,
}

impl TieredRange {
    /// The first offset of a log with those segments. Where the store ends before they begin, records are missing between:
    /// then it is the segments'.
    pub(super) fn first_offset(self, segments: &SegmentList) -> i64 {
        let local = segments.first_base_offset();
        if self.end_offset >= local { self.start_offset.min(local) } else { local }
    }
}

/// A full segment, as it is to be uploaded: synced, and below the last stable offset.
#[derive(Clone, Debug)]
pub struct ClosedSegment {
    /// Its first offset.
    pub base_offset: i64,
    /// The base offset of the next one.
    pub next_offset: i64,
    /// Bytes of batches.
    pub size_bytes: u64,
    /// The batches; stays readable when the segment is deleted.
    pub log: Arc<dyn FileHandle>,
    /// `.index`.
    pub offset_index: Vec<u8>,
    /// `.timeindex`.
    pub time_index: Vec<u8>,
    /// `.txnindex`; empty where there is none.
    pub txn_index: Vec<u8>,
    /// The producers as of `next_offset`; empty where no snapshot is kept.
    pub snapshot: Vec<u8>,
    /// The leader epochs of its records.
    pub epochs: Vec<EpochStart>,
}

impl Log {
    /// The offset after the last one that the object store has; `None` = it has nothing.
    pub fn tiered_end(&self) -> Option<i64> {
        Some(self.tiered_end_offset()).filter(|end| *end != NOTHING_TIERED)
    }

    pub(super) fn tiered_end_offset(&self) -> i64 {
        self.tiered_end_offset.load(Acquire)
    }

    /// Notes that the store has, durably, all below `end_offset`; `None` = nothing any more, where nothing is missing here.
    pub fn set_tiered_end(&self, end_offset: Option<i64>) {
        self.tiered_end_offset.store(end_offset.unwrap_or(NOTHING_TIERED), Release);
    }

    /// The first readable offset on the disk.
    pub fn local_log_start_offset(&self) -> i64 {
        self.log_start_offset().max(self.segments().first_base_offset())
    }

    /// Whether only the object store has `offset`.
    pub fn is_tiered(&self, offset: i64) -> bool {
        offset < self.tiered_end_offset()
            && offset >= self.log_start_offset()
            && offset < self.segments().first_base_offset()
    }

    /// Whether a full segment of just these offsets and bytes is on the disk.
    pub fn has_segment(&self, base_offset: i64, next_offset: i64, size_bytes: u64) -> bool {
        self.segments().with_next().any(|(segment, next)| {
            segment.base_offset == base_offset && next == Some(next_offset) && segment.size() == size_bytes
        })
    }

    /// Bytes of batches on the disk from `offset` on, by whole segments.
    pub fn size_bytes_from(&self, offset: i64) -> u64 {
        let list = self.segments();
        list.iter().filter(|it| it.base_offset >= offset).map(|it| it.size()).sum()
    }

    /// The first full segment that the store does not have, of which nothing can be cut or aborted any more; synced when
    /// this returns. One that the log's start has passed is left out. Blocks on the disk.
    pub fn next_to_upload(&self) -> Result<Option<ClosedSegment>, LogError> {
        let from = self.tiered_end().unwrap_or(i64::MIN).max(self.log_start_offset());
        let until = self.last_stable_offset().min(self.high_watermark());
        let is_due = |segment: &Segment, next: Option<i64>| {
            let next = next.filter(|next| *next > from && *next <= until)?;
            (segment.size() > 0).then_some(next)
        };
        let list = self.segments();
        let found = list.with_next().find_map(|(segment, next)| Some((segment, is_due(segment, next)?)));
        let Some((segment, next_offset)) = found else { return Ok(None) };
        if self.recovery_point() < next_offset {
            self.flush_full_segments(next_offset)?;
        }
        if self.recovery_point() < next_offset {
            return Ok(None);
        }
        self.closed_segment(segment, next_offset).map(Some)
    }

    fn closed_segment(&self, segment: &Arc<Segment>, next_offset: i64) -> Result<ClosedSegment, LogError> {
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        segment.flush_indexes()?;
        self.check_txn_index(segment)?;
        let snapshot = self.directory().join(file_name::of_offset(next_offset, file_name::SNAPSHOT));
        let files = &*self.storage.file_system;
        Ok(ClosedSegment {
            base_offset: segment.base_offset,
            next_offset,
            size_bytes: segment.size(),
            log: segment.file()?,
            offset_index: whole(segment.offset_index.entries().file())?,
            time_index: whole(segment.time_index.entries().file())?,
            txn_index: segment
                .txn_index
                .encoded()
                .during("read the transaction index of", segment.log.path())?,
            snapshot: atomic_file::read(files, &snapshot).during("read", &snapshot)?.unwrap_or_default(),
            epochs: self.epochs_of(segment.base_offset, next_offset),
        })
    }

    fn epochs_of(&self, base_offset: i64, next_offset: i64) -> Vec<EpochStart> {
        let all = self.epochs();
        let first = all.iter().rposition(|it| it.start_offset <= base_offset).unwrap_or(0);
        all.into_iter().skip(first).take_while(|it| it.start_offset < next_offset).collect()
    }

    /// Moves the log's start up to `offset`, as retention of the whole log says, and not beyond the high watermark.
    /// The caller writes the checkpoint of log starts. Answers whether it moved.
    pub fn advance_start(&self, offset: i64) -> Result<bool, LogError> {
        let before = self.log_start_offset();
        Ok(self.follow_log_start(offset)? > before)
    }
}

fn whole(file: &LazyFile) -> Result<Vec<u8>, LogError> {
    let read = file.open().and_then(|handle| {
        let mut bytes = vec![0; usize::try_from(handle.length()?).unwrap_or_default()];
        let read = read_up_to_at(&*handle, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(bytes)
    });
    read.during("read", file.path())
}
