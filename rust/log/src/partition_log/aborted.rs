//! Aborted transactions of the log, for read-committed consumers and the cleaner; and whether the indexes that tell of
//! them can be believed.
//!
//! An index is compared with what was noted of it (`aborted-transactions-checkpoint`) when it is first used in a run. One that
//! differs is another segment's, or damaged, or was written by Kafka or after the last note: it is built anew from the
//! batches. Crash points: an index that was half rewritten differs from what is noted, and is built anew again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use super::Log;
use super::read::Slice;
use crate::error::{During, LogError};
use crate::file_system::waiting::leave_unless_waiting;
use crate::producer_state::read_marker;
use crate::recovery::producers;
use crate::segment::Segment;
use crate::segment::scan::Step;
use crate::segment::txn_index::AbortedTxn;
use crate::txn_index_checkpoint::{Summary, TxnIndexCheckpoint};

/// The first marker whose entry in a transaction index waits for room.
pub(crate) struct Waiting {
    pub(crate) offset: i64,
    /// `DiskFull`.
    pub(crate) reason: LogError,
}

impl Log {
    /// Writes entries of transaction indexes that wait for room since the start, above the recovery point; answers the first
    /// that still does. (Those of an index that was built anew below it may wait on: what was noted of that index differs
    /// from its file, so the next run builds it anew again.)
    pub(crate) fn write_waiting_transactions(&self) -> Result<Option<Waiting>, LogError> {
        for (segment, _) in self.segments().holding(self.recovery_point()) {
            let index = &segment.txn_index;
            match index.write_waiting() {
                Ok(is_news) => _ = self.directory_changed.fetch_or(is_news, Release),
                Err(source) => {
                    let failed = LogError::io("write the transaction index", index.file().path(), source);
                    match (self.write_failed(failed), index.first_waiting()) {
                        (reason @ LogError::DiskFull { .. }, Some(offset)) => {
                            return Ok(Some(Waiting { offset, reason }));
                        }
                        (failed, _) => return Err(failed),
                    }
                }
            }
        }
        Ok(None)
    }

    /// Aborted transactions of which a reader of `[from, to)` may see records.
    pub fn aborted_transactions(&self, from: i64, to: i64) -> Result<Vec<AbortedTxn>, LogError> {
        let mut aborted = Vec::new();
        // one that began below `to` may have ended in a later segment
        for (segment, _) in self.segments().holding(from) {
            self.check_txn_index(segment)?;
            let found = segment.txn_index.overlapping(from, to);
            aborted.extend(found.during("read the transaction index of", segment.log.path())?);
            if aborted.last().is_some_and(|txn| txn.last_stable_offset >= to) {
                break;
            }
        }
        Ok(aborted)
    }

    /// The same for one who reads `slice` from `offset` on, below `bound`: of read-committed fetches. There may be some
    /// more, of transactions right behind it.
    pub fn aborted_in(&self, slice: &Slice, offset: i64, bound: i64) -> Result<Vec<AbortedTxn>, LogError> {
        let list = self.segments();
        let holding = list.holding(slice.segment_base_offset).next();
        let Some((segment, next_base)) = holding else { return self.aborted_transactions(offset, bound) };
        let mut aborted = self.aborted_transactions(offset, bound.min(next_base.unwrap_or(bound)))?;
        if !aborted.is_empty()
            && let Some(beyond) = segment.offset_beyond(slice.position + slice.length as u64)?
        {
            aborted.retain(|txn| txn.first_offset < beyond);
        }
        Ok(aborted)
    }

    /// Notes what the transaction index of a segment holds, where this run knows that it is right: what it only added to, or
    /// cut, may have been damaged before. A hint: an index of which something else is noted is compared with the batches.
    pub(super) fn note_txn_index(&self, segment: &Segment) {
        let list = self.segments();
        let is_ours = list.iter().any(|it| std::ptr::eq(&raw const **it, segment));
        if !is_ours || !segment.txn_index.is_in_use() {
            return;
        }
        let noted = self.is_as_noted(segment).and_then(|is_right| {
            let summary = if is_right { self.txn_summary(segment)? } else { Summary::UNSURE };
            self.with_txn_indexes(|indexes| {
                let is_there = |base| list.iter().any(|it| it.base_offset == base);
                let is_news = indexes.note(segment.base_offset, summary, is_there);
                if is_news { indexes.write(&*self.storage().file_system, &self.directory()) } else { Ok(()) }
            })
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "the next start will compare a transaction index with the batches");
        }
    }

    /// Does `work` with what is noted, which is read again after a failure.
    fn with_txn_indexes<T>(
        &self,
        work: impl FnOnce(&mut TxnIndexCheckpoint) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut indexes = self.txn_indexes.lock();
        let mut read = match indexes.take() {
            Some(read) => read,
            None => TxnIndexCheckpoint::read(&*self.storage().file_system, &self.directory())?,
        };
        let done = work(&mut read)?;
        *indexes = Some(read);
        Ok(done)
    }

    fn txn_summary(&self, segment: &Segment) -> Result<Summary, LogError> {
        segment.txn_index.summary().during("read the transaction index of", segment.log.path())
    }

    /// Whether the transaction index of a segment is known to be right, now at the latest: it holds what was noted of it.
    /// False = the batches tell. To be asked before something is added to it.
    pub(super) fn is_as_noted(&self, segment: &Segment) -> Result<bool, LogError> {
        if segment.txn_index.is_checked() {
            return Ok(true);
        }
        let found = self.txn_summary(segment)?;
        let is_noted = self.with_txn_indexes(|indexes| Ok(indexes.of(segment.base_offset)))? == found;
        if is_noted {
            segment.txn_index.set_checked();
        }
        Ok(is_noted)
    }

    /// Makes sure that the transaction index of a segment is right.
    pub(super) fn check_txn_index(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        if segment.txn_index.is_checked() {
            return Ok(());
        }
        leave_unless_waiting().during("read the transaction index of", segment.log.path())?;
        if self.is_as_noted(segment)? {
            return Ok(());
        }
        // nobody appends to it, cuts it or puts a copy in its place meanwhile; other readers of the disk are not to wait for that
        let _writer = self.lock_writer()?;
        if !segment.txn_index.is_checked() {
            self.rebuild_txn_index(segment)?;
            segment.txn_index.set_checked();
            self.note_txn_index(segment);
        }
        Ok(())
    }

    fn rebuild_txn_index(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        let path = || segment.log.path();
        let list = self.segments();
        let (mut rebuilt, is_whole) = producers::aborted_in(&self.snapshots(&list), segment)?;
        let before = segment.txn_index.all().during("read the transaction index of", path())?;
        if !is_whole {
            // behind damage: what the index says as far as its markers are there
            for txn in &before {
                if !rebuilt.contains(txn) && self.has_marker(segment, txn)? {
                    rebuilt.push(*txn);
                }
            }
        }
        if rebuilt == before {
            return Ok(());
        }
        tracing::warn!(
            segment = %path().display(),
            entries = before.len(),
            rebuilt = rebuilt.len(),
            "the index of aborted transactions is not this segment's, or damaged; it is built anew from the batches"
        );
        if !list.iter().any(|it| Arc::ptr_eq(it, segment)) {
            // deleted, or a copy took its place: its files are on their way out
            segment.txn_index.set(rebuilt);
            return Ok(());
        }
        segment.txn_index.replace(rebuilt).during("write the transaction index of", path())
    }

    /// Whether an entry names the marker of a transaction of its producer that was aborted.
    fn has_marker(&self, segment: &Segment, txn: &AbortedTxn) -> Result<bool, LogError> {
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        let Ok(Some(located)) = segment.find_batch(txn.last_offset, segment.size()) else { return Ok(false) };
        if located.header.last_offset() != txn.last_offset || located.header.producer_id != txn.producer_id {
            return Ok(false);
        }
        let path = || segment.log.path();
        let mut scan = segment.scan_from(located.position, segment.size())?;
        match scan.step(i64::MIN).during("read", path())? {
            Step::Batch(located) if located.header.attributes.is_control() => {
                let marker = read_marker(scan.batch(&located).during("read", path())?);
                Ok(marker.is_some_and(|marker| marker.is_abort))
            }
            _ => Ok(false),
        }
    }
}
