//! A log whose front is in an object store: which segments may go there, and what remains here.
//!
//! The log starts where the store's first segment does. Of the disk's own start nothing is written down: it is where the
//! first segment begins. Crash points: who uploads tells of it here only once the store and a copy of its manifest say so
//! durably, and no segment goes by local retention before. What a cut or a power cut may take is never uploaded.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};

use super::Log;
use super::open::LogOptions;
use crate::epoch_cache::{EpochCache, EpochStart};
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{FileHandle, LazyFile, OpenMode, UnseenFile, atomic_file, read_up_to_at};
use crate::lineage::common_end;
use crate::producer_state::snapshot;
use crate::recovery::producers;
use crate::segment::Segment;
use crate::segment::list::SegmentList;
use crate::segment::txn_index::TxnIndex;

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

    /// As much of it as a log has that ends at `end`: no record that its leader does not have is one of its own.
    pub(super) fn agreed(self, epochs: &EpochCache, options: &LogOptions, end: i64) -> Option<Self> {
        let from = self.start_offset.max(options.log_start_offset);
        let until = self.end_offset.min(end);
        let end_offset = common_end(epochs.entries(), &options.tiered_epochs, from, until);
        (end_offset > self.start_offset).then_some(Self { end_offset, ..self })
    }
}

/// A full segment, as it is to be uploaded: synced, and below the last stable offset. Where another replica's segments have
/// other borders, the rest of one of which the store has the front, or the front of one whose rest it has.
#[derive(Clone, Debug)]
pub struct ClosedSegment {
    /// Its first offset.
    pub base_offset: i64,
    /// The offset behind its last one.
    pub next_offset: i64,
    /// Where its batches begin in the file.
    pub position: u64,
    /// Bytes of batches.
    pub size_bytes: u64,
    /// The file; stays readable when the segment is deleted.
    pub log: Arc<dyn FileHandle>,
    /// `.index`; empty where it is not a whole segment, of which positions and offsets count from another beginning.
    pub offset_index: Vec<u8>,
    /// `.timeindex`; as above.
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

    /// Below `offset` local retention may delete what is uploaded: the store was asked whether it has it. Before this is
    /// called first it deletes nothing.
    pub fn set_keep_from(&self, offset: i64) {
        self.keep_from_offset.store(offset, Release);
    }

    pub(super) fn keep_from_offset(&self) -> i64 {
        self.keep_from_offset.load(Acquire)
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

    /// Up to where `epochs`, of offsets from `start_offset` on and below `end_offset`, are the history of this log.
    pub fn agreed_end(&self, epochs: &[EpochStart], start_offset: i64, end_offset: i64) -> i64 {
        let from = start_offset.max(self.log_start_offset());
        let until = end_offset.min(self.log_end_offset());
        common_end(self.epochs.lock().entries(), epochs, from, until)
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
        if !self.is_synced(next_offset)? {
            return Ok(None);
        }
        let mut closed = self.closed_segment(segment, next_offset)?;
        // the start of the log may lie within one; only the end of another upload is where the rest of it begins
        if self.tiered_end() == Some(from) && from > segment.base_offset {
            let position = position_of(segment, from)?.ok_or_else(|| LogError::Invalid {
                reason: format!(
                    "the object store ends at offset {from}, and no batch of {} begins there",
                    segment.log.path().display()
                ),
            })?;
            self.without_front(segment, (from, position), &mut closed)?;
        }
        Ok(Some(closed))
    }

    /// What makes up `[base_offset, next_offset)`, which was uploaded before, of each segment of the disk one: of the first
    /// perhaps only the rest, and of the last only the front, as another replica's segments end elsewhere. `None` = the disk
    /// does not have all of it, or no batch begins there. Producers that are found out anew count as having written at
    /// `now_ms`. Blocks on the disk.
    pub fn closed_segments(
        &self,
        base_offset: i64,
        next_offset: i64,
        now_ms: i64,
    ) -> Result<Option<Vec<ClosedSegment>>, LogError> {
        if next_offset > self.last_stable_offset().min(self.high_watermark())
            || !self.is_synced(next_offset)?
        {
            return Ok(None);
        }
        let list = self.segments();
        let (mut found, mut from) = (Vec::new(), base_offset);
        for (segment, next) in list.with_next().filter(|(segment, _)| segment.base_offset < next_offset) {
            let until = next.unwrap_or_else(|| self.log_end_offset()).min(next_offset);
            if until <= base_offset {
                continue;
            }
            // what the cleaner left nothing of makes no object of its own
            if segment.base_offset > from || segment.size() == 0 {
                return Ok(None);
            }
            let closed = match next {
                Some(next) if next == until => Some(self.closed_segment(segment, until)?),
                _ => self.front_of(segment, until, now_ms)?,
            };
            let Some(mut closed) = closed else { return Ok(None) };
            if segment.base_offset < from {
                let Some(position) = position_of(segment, from)? else { return Ok(None) };
                self.without_front(segment, (from, position), &mut closed)?;
            }
            from = until;
            found.push(closed);
        }
        Ok((from == next_offset).then_some(found))
    }

    /// Syncs what ends at `until` at the latest, where it is not; whether it is.
    fn is_synced(&self, until: i64) -> Result<bool, LogError> {
        if self.recovery_point() < until {
            let is_full = until <= self.full_end_offset();
            if is_full {
                self.flush_full_segments(until)?
            } else {
                self.flush()?
            };
        }
        Ok(self.recovery_point() >= until)
    }

    fn closed_segment(&self, segment: &Arc<Segment>, next_offset: i64) -> Result<ClosedSegment, LogError> {
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        segment.flush_indexes()?;
        self.check_txn_index(segment)?;
        let snapshot = self.directory().join(file_name::of_offset(next_offset, file_name::SNAPSHOT));
        let files = &*self.storage().file_system;
        Ok(ClosedSegment {
            base_offset: segment.base_offset,
            next_offset,
            position: 0,
            size_bytes: segment.size(),
            log: self.unseen(segment)?,
            offset_index: whole(segment.offset_index.entries().file())?,
            time_index: whole(segment.time_index.entries().file())?,
            txn_index: encoded(&segment.txn_index)?,
            snapshot: atomic_file::read(files, &snapshot).during("read", &snapshot)?.unwrap_or_default(),
            epochs: self.epochs_of(segment.base_offset, next_offset),
        })
    }

    /// The segment by a descriptor of its own: what is uploaded was often written long ago, and is not to push out of memory
    /// what others read.
    fn unseen(&self, segment: &Segment) -> Result<Arc<dyn FileHandle>, LogError> {
        let path = segment.log.path();
        let file = self.storage().file_system.open(&path, OpenMode::Read).during("open", &path)?;
        Ok(Arc::new(UnseenFile::new(file)))
    }

    /// What lies below offset `until` of a segment that goes on behind it, or may; `None` = it lies within a batch. Whoever
    /// begins there is to know the producers as of then, which no snapshot tells.
    fn front_of(
        &self,
        segment: &Arc<Segment>,
        until: i64,
        now_ms: i64,
    ) -> Result<Option<ClosedSegment>, LogError> {
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        let size_bytes = segment.size();
        let behind = segment.find_batch(until, size_bytes)?;
        if behind.as_ref().is_some_and(|it| it.header.base_offset < until) {
            return Ok(None);
        }
        self.check_txn_index(segment)?;
        let txn_index = segment.txn_index.encoded_within(segment.base_offset, until);
        let list = self.segments();
        let producers = producers::as_of(&self.snapshots(&list), until, now_ms)?;
        Ok(Some(ClosedSegment {
            base_offset: segment.base_offset,
            next_offset: until,
            position: 0,
            size_bytes: behind.map_or(size_bytes, |it| it.position),
            log: self.unseen(segment)?,
            offset_index: Vec::new(),
            time_index: Vec::new(),
            txn_index: txn_index.during("read the transaction index of", segment.txn_index.file().path())?,
            snapshot: producers.map(|it| snapshot::encode(&it)).unwrap_or_default(),
            epochs: self.epochs_of(segment.base_offset, until),
        }))
    }

    /// Leaves out what lies below offset `from`, where a batch begins: another replica's segment ended there.
    fn without_front(
        &self,
        segment: &Segment,
        (from, position): (i64, u64),
        closed: &mut ClosedSegment,
    ) -> Result<(), LogError> {
        (closed.base_offset, closed.position) = (from, position);
        closed.size_bytes -= position;
        closed.offset_index.clear();
        closed.time_index.clear();
        closed.txn_index = segment
            .txn_index
            .encoded_within(from, closed.next_offset)
            .during("read the transaction index of", segment.txn_index.file().path())?;
        closed.epochs = self.epochs_of(from, closed.next_offset);
        Ok(())
    }

    fn epochs_of(&self, base_offset: i64, next_offset: i64) -> Vec<EpochStart> {
        let all = self.epochs();
        let first = all.iter().rposition(|it| it.start_offset <= base_offset).unwrap_or(0);
        all.into_iter().skip(first).take_while(|it| it.start_offset < next_offset).collect()
    }

    /// Moves the log's start up to `offset`, as retention of the whole log says, and not beyond the high watermark.
    /// The caller writes the checkpoint of log starts. Answers whether it moved. Errors as [`Log::follow_log_start`].
    pub fn advance_start(&self, offset: i64) -> Result<bool, LogError> {
        let before = self.log_start_offset();
        Ok(self.follow_log_start(offset)? > before)
    }
}

/// Where the batches from offset `from` on begin; `None` = it lies within one.
fn position_of(segment: &Segment, from: i64) -> Result<Option<u64>, LogError> {
    let found = segment.find_batch(from, segment.size())?;
    Ok(found.filter(|it| it.header.base_offset >= from).map(|it| it.position))
}

fn encoded(txn_index: &TxnIndex) -> Result<Vec<u8>, LogError> {
    txn_index.encoded().during("read the transaction index of", txn_index.file().path())
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
