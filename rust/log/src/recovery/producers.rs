//! Rebuilding the producers' state: the newest good snapshot, then the batches after it. The replay also completes the
//! indexes of aborted transactions.

use std::path::Path;

use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::Storage;
use crate::producer_state::{ProducerState, read_marker, snapshot};
use crate::segment::Segment;
use crate::segment::list::SegmentList;
use crate::segment::scan::Step;

/// The state as of `end_offset` of a log in whose directory there are `names`, and the offset of the snapshot it began
/// with (−1 without). Snapshots beyond the end are removed, and those that do not read, those from before the first
/// segment (batches may be missing between them and it), and those of no segment, but for the newest.
///
/// Indexes of aborted transactions may lack entries from offset `unsure_from` on, which may lie below that snapshot.
///
/// Replayed batches count as written at `now_ms`: when they really were is not known (their timestamps are the
/// producer's), and forgetting a producer too late only costs memory, too early it costs a duplicate.
pub(crate) fn restore(
    storage: &Storage,
    directory: &Path,
    names: &[String],
    segments: &SegmentList,
    end_offset: i64,
    unsure_from: i64,
    now_ms: i64,
) -> Result<(ProducerState, i64), LogError> {
    let (mut state, snapshot_offset) = newest_snapshot(storage, directory, names, segments, end_offset)?;
    let from = snapshot_offset.max(segments.first_base_offset());
    if unsure_from < from {
        let (mut earlier, earlier_from) = snapshot_at_or_below(storage, directory, segments, unsure_from);
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
    holding.map(|(segment, _)| segment).try_for_each(|segment| replay(segment, from, state, now_ms))
}

/// The newest snapshot at the start of a segment at or below `offset`, and that start; nothing known at the log's start
/// where there is none.
fn snapshot_at_or_below(
    storage: &Storage,
    directory: &Path,
    segments: &SegmentList,
    offset: i64,
) -> (ProducerState, i64) {
    let bases: Vec<_> = segments.iter().map(|segment| segment.base_offset).collect();
    let found = bases.iter().rev().filter(|base| **base <= offset).find_map(|base| {
        let path = directory.join(file_name::of_offset(*base, file_name::SNAPSHOT));
        snapshot::read(&*storage.file_system, &path).ok().map(|state| (state, *base))
    });
    found.unwrap_or_else(|| (ProducerState::default(), segments.first_base_offset()))
}

fn newest_snapshot(
    storage: &Storage,
    directory: &Path,
    names: &[String],
    segments: &SegmentList,
    end_offset: i64,
) -> Result<(ProducerState, i64), LogError> {
    let file_system = &*storage.file_system;
    let mut offsets: Vec<i64> = names
        .iter()
        .filter_map(|name| file_name::parse(name))
        .filter_map(|(offset, suffix)| (suffix == file_name::SNAPSHOT).then_some(offset))
        .collect();
    offsets.sort_unstable();
    let mut found = None;
    let mut removed = false;
    for offset in offsets.into_iter().rev() {
        let path = directory.join(file_name::of_offset(offset, file_name::SNAPSHOT));
        let is_of_segment = segments.iter().any(|segment| segment.base_offset == offset);
        let counts = (segments.first_base_offset()..=end_offset).contains(&offset);
        if counts && found.is_none() {
            match snapshot::read(file_system, &path) {
                Ok(state) => {
                    found = Some((state, offset));
                    continue;
                }
                Err(error) => tracing::warn!(%error, "a producer snapshot is passed over"),
            }
        } else if counts && is_of_segment {
            continue;
        }
        file_system.remove_file(&path).during("remove", &path)?;
        removed = true;
    }
    if removed {
        // one of another history (before a truncation) that came back after a power cut would be believed
        file_system.sync_directory(directory).during("sync", directory)?;
    }
    Ok(found.unwrap_or_else(|| (ProducerState::default(), -1)))
}

/// Goes through the batches of a segment from offset `from` on. It stops at damage, where sequences cannot be known.
fn replay(segment: &Segment, from: i64, state: &mut ProducerState, now_ms: i64) -> Result<(), LogError> {
    let path = || segment.log.path();
    let start = segment.offset_index.position_before(from).during("read the index of", path())?;
    let mut scan = segment.scan_from(start, segment.size())?;
    loop {
        match scan.step(i64::MAX).during("read", path())? {
            Step::Batch(located) if located.header.base_offset < from || located.header.producer_id < 0 => {}
            Step::Batch(located) if located.header.attributes.is_control() => {
                let marker = read_marker(scan.batch(&located).during("read", path())?);
                let aborted =
                    marker.and_then(|marker| state.end_transaction(&located.header, marker, now_ms));
                if let Some(aborted) = aborted {
                    let path = segment.txn_index.file().path();
                    segment.txn_index.complete(aborted).during("write the transaction index", path)?;
                }
            }
            Step::Batch(located) => state.append(&located.header, now_ms),
            Step::Bad(_) | Step::End => return Ok(()),
        }
    }
}
