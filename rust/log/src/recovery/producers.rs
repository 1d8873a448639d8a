//! Rebuilding the producers' state: the newest good snapshot, then the batches after it. The replay also completes the
//! indexes of aborted transactions.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use fastlog_protocol::batch::BatchHeader;

use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::Storage;
use crate::producer_state::{ProducerState, read_marker, snapshot};
use crate::segment::Segment;
use crate::segment::list::SegmentList;
use crate::segment::scan::Step;
use crate::segment::txn_index::AbortedTxn;

/// The state as of `end_offset` of a log in whose directory there are `names`, and the offset of the snapshot it began
/// with (−1 without). Snapshots beyond the end are removed, and those that do not read or that the batches contradict,
/// those from before the first segment (batches may be missing between them and it), and those of no segment, but for
/// the newest.
///
/// Indexes of aborted transactions may lack entries from offset `unsure_from` on, which may lie below that snapshot.
///
/// Replayed batches count as written at `now_ms`: when they really were is not known (their timestamps are the
/// producer's), and forgetting a producer too late only costs memory, too early it costs a duplicate.
pub(crate) fn restore(
    snapshots: &Snapshots<'_>,
    names: &[String],
    end_offset: i64,
    unsure_from: i64,
    now_ms: i64,
) -> Result<(ProducerState, i64), LogError> {
    let segments = snapshots.segments;
    let (mut state, snapshot_offset) = snapshots.newest(names, end_offset)?;
    let from = snapshot_offset.max(segments.first_base_offset());
    if unsure_from < from {
        let (mut earlier, earlier_from) = snapshots.at_or_below(unsure_from);
        replay_all(segments, earlier_from, from, &mut earlier, now_ms)?;
    }
    replay_all(segments, from, end_offset, &mut state, now_ms)?;
    Ok((state, snapshot_offset))
}

/// Replays the segments that hold offsets from `from` to below `end`.
fn replay_all(
    segments: &SegmentList,
    from: i64,
    end: i64,
    state: &mut ProducerState,
    now_ms: i64,
) -> Result<(), LogError> {
    let holding = segments.holding(from).take_while(|(segment, _)| from < end && segment.base_offset < end);
    holding.map(|(segment, _)| segment).try_for_each(|segment| {
        replay(segment, from..end, state, now_ms, &mut |aborted| {
            let path = segment.txn_index.file().path();
            segment.txn_index.complete(aborted).during("write the transaction index", path)
        })
        .map(|_is_whole| ())
    })
}

/// The transactions that were aborted in `of`, a segment of the log, by its batches and those before it; false = they do
/// not read to its end.
pub(crate) fn aborted_in(
    snapshots: &Snapshots<'_>,
    of: &Segment,
) -> Result<(Vec<AbortedTxn>, bool), LogError> {
    let (mut state, from) = snapshots.at_or_below(of.base_offset);
    let before =
        snapshots.segments.holding(from).take_while(|(segment, _)| segment.base_offset < of.base_offset);
    for (segment, _) in before {
        replay(segment, from..i64::MAX, &mut state, 0, &mut |_| Ok(()))?;
    }
    let mut found = Vec::new();
    let is_whole = replay(of, from..i64::MAX, &mut state, 0, &mut |aborted| {
        found.push(aborted);
        Ok(())
    })?;
    Ok((found, is_whole))
}

/// The state as of `offset`, where a batch begins or the log ends, by the newest snapshot and the batches behind it; `None`
/// where those do not read.
pub(crate) fn as_of(
    snapshots: &Snapshots<'_>,
    offset: i64,
    now_ms: i64,
) -> Result<Option<ProducerState>, LogError> {
    let (mut state, from) = snapshots.at_or_below(offset);
    for (segment, _) in snapshots.segments.holding(from).take_while(|(it, _)| it.base_offset < offset) {
        segment.ensure_loaded(snapshots.interval_bytes)?;
        if !replay(segment, from..offset, &mut state, now_ms, &mut |_| Ok(()))? {
            return Ok(None);
        }
    }
    Ok(Some(state))
}

/// The snapshots of one log, and what they are compared with.
pub(crate) struct Snapshots<'a> {
    pub(crate) storage: Arc<Storage>,
    pub(crate) directory: PathBuf,
    pub(crate) segments: &'a SegmentList,
    /// The index interval.
    pub(crate) interval_bytes: u64,
    /// The log's last batch, where it was just read.
    pub(crate) last: Option<&'a BatchHeader>,
}

impl Snapshots<'_> {
    /// The newest one at the start of a segment at or below `offset`, and that start; nothing known at the log's start
    /// where there is none.
    fn at_or_below(&self, offset: i64) -> (ProducerState, i64) {
        let bases: Vec<_> = self.segments.iter().map(|segment| segment.base_offset).collect();
        let below = bases.iter().rev().filter(|base| **base <= offset);
        let mut found = below.filter_map(|base| self.read(*base).ok().map(|state| (state, *base)));
        found.next().unwrap_or_else(|| (ProducerState::default(), self.segments.first_base_offset()))
    }

    /// The newest one of those among `names` up to `end_offset`, and its offset (−1 without). Those that are of no use are
    /// removed.
    fn newest(&self, names: &[String], end_offset: i64) -> Result<(ProducerState, i64), LogError> {
        let file_system = &*self.storage.file_system;
        let mut offsets: Vec<i64> = names
            .iter()
            .filter_map(|name| file_name::parse(name))
            .filter_map(|(offset, suffix)| (suffix == file_name::SNAPSHOT).then_some(offset))
            .collect();
        offsets.sort_unstable();
        let mut found = None;
        let mut removed = false;
        for offset in offsets.into_iter().rev() {
            let is_of_segment = self.segments.iter().any(|segment| segment.base_offset == offset);
            let counts = (self.segments.first_base_offset()..=end_offset).contains(&offset);
            if counts && found.is_none() {
                match self.read(offset) {
                    Ok(state) => {
                        found = Some((state, offset));
                        continue;
                    }
                    Err(error) => tracing::warn!(%error, "a producer snapshot is passed over"),
                }
            } else if counts && is_of_segment {
                continue;
            }
            let path = self.path(offset);
            file_system.remove_file(&path).during("remove", &path)?;
            removed = true;
        }
        if removed {
            // one of another history (before a truncation) that came back after a power cut would be believed
            file_system.sync_directory(&self.directory).during("sync", &self.directory)?;
        }
        Ok(found.unwrap_or_else(|| (ProducerState::default(), -1)))
    }

    fn path(&self, offset: i64) -> PathBuf {
        self.directory.join(file_name::of_offset(offset, file_name::SNAPSHOT))
    }

    /// The one of `offset`; an error where it does not read, or says what the batches do not.
    fn read(&self, offset: i64) -> Result<ProducerState, LogError> {
        let path = self.path(offset);
        let state = snapshot::read(&*self.storage.file_system, &path)?;
        match self.contradiction(&state, offset)? {
            None => Ok(state),
            Some(reason) => Err(LogError::BadFile { path, reason }),
        }
    }

    /// What the log says against a snapshot of that offset. Its checksum does not tell that it is another log's, or of
    /// another offset: then sequences of new records would pass for old ones, and be acknowledged without being written.
    fn contradiction(&self, state: &ProducerState, offset: i64) -> Result<Option<String>, LogError> {
        if state.count() == 0 {
            return Ok(None);
        }
        if let Some(beyond) = state.last_offset().filter(|last| *last >= offset) {
            return Ok(Some(format!("it knows of offset {beyond}, and is of offset {offset}")));
        }
        if let Some((producer_id, last)) = state.newest_batch()
            && let Some(header) = self.batch_of(last.last_offset)?
            && (header.producer_id, header.last_offset(), header.last_sequence())
                != (producer_id, last.last_offset, last.last_sequence)
        {
            return Ok(Some(format!(
                "the batch of offset {} is not producer {producer_id}'s",
                last.last_offset
            )));
        }
        let behind = self.batch_of(offset - 1)?.filter(|header| state.is_behind(header));
        Ok(behind.map(|header| {
            format!(
                "it does not know of producer {}'s batch of offset {}",
                header.producer_id, header.base_offset
            )
        }))
    }

    /// The header of the batch that holds `offset`; `None` where the log has none, or it does not read.
    fn batch_of(&self, offset: i64) -> Result<Option<BatchHeader>, LogError> {
        let holds = |last: &&BatchHeader| (last.base_offset..=last.last_offset()).contains(&offset);
        if let Some(last) = self.last.filter(holds) {
            return Ok(Some(last.clone()));
        }
        let holding = self.segments.holding(offset).next().filter(|(it, _)| it.base_offset <= offset);
        let Some((segment, _)) = holding else { return Ok(None) };
        segment.ensure_loaded(self.interval_bytes)?;
        match segment.find_batch(offset, segment.size()) {
            Ok(located) => Ok(located.map(|it| it.header).filter(|it| it.base_offset <= offset)),
            Err(LogError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Goes through the batches of a segment that begin at `offsets`. It stops at damage, where sequences cannot be known; false
/// = there was some. `note` is told of transactions that were aborted.
fn replay(
    segment: &Segment,
    offsets: Range<i64>,
    state: &mut ProducerState,
    now_ms: i64,
    note: &mut dyn FnMut(AbortedTxn) -> Result<(), LogError>,
) -> Result<bool, LogError> {
    let path = || segment.log.path();
    let start = segment.offset_index.position_before(offsets.start).during("read the index of", path())?;
    let mut scan = segment.scan_from(start, segment.size())?;
    loop {
        match scan.step(i64::MAX).during("read", path())? {
            Step::Batch(located) if located.header.base_offset >= offsets.end => return Ok(true),
            Step::Batch(located)
                if located.header.base_offset < offsets.start || located.header.producer_id < 0 => {}
            Step::Batch(located) if located.header.attributes.is_control() => {
                let marker = read_marker(scan.batch(&located).during("read", path())?);
                let aborted =
                    marker.and_then(|marker| state.end_transaction(&located.header, marker, now_ms));
                if let Some(aborted) = aborted {
                    note(aborted)?;
                }
            }
            Step::Batch(located) => state.append(&located.header, now_ms),
            Step::Bad(_) => return Ok(false),
            Step::End => return Ok(true),
        }
    }
}
