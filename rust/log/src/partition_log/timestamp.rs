//! Offsets by time: ListOffsets with a timestamp, and with −3 (largest timestamp).

use std::ops::ControlFlow;
use std::sync::Arc;

use fastlog_protocol::batch::{RecordView, records};

use super::Log;
use crate::error::{During, LogError};
use crate::segment::Segment;
use crate::segment::scan::{BatchScan, Located, Step};

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// The record's offset.
    pub offset: i64,
    /// Its timestamp.
    pub timestamp: i64,
    /// The leader epoch it was written in.
    pub leader_epoch: i32,
}

impl Log {
    /// The first record whose timestamp is at least `timestamp`, below offset `bound`; `None` when there is none.
    /// Timestamps need not ascend: it is the first by offset.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        bound: i64,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        self.search(|start| self.first_at_or_after(timestamp, bound, start))
    }

    /// The first record with the largest timestamp below offset `bound`; `None` when no record has one.
    pub fn max_timestamp(&self, bound: i64) -> Result<Option<TimestampedOffset>, LogError> {
        self.search(|start| self.newest_record(bound, start))
    }

    /// Searches from the log's start; once more when segments at the front were deleted and purged meanwhile.
    fn search<T>(&self, search: impl Fn(i64) -> Result<T, LogError>) -> Result<T, LogError> {
        loop {
            let start = self.log_start_offset();
            match search(start) {
                Err(LogError::Io { .. }) if start < self.log_start_offset() => {}
                result => return result,
            }
        }
    }

    fn first_at_or_after(
        &self,
        timestamp: i64,
        bound: i64,
        start: i64,
    ) -> Result<Option<TimestampedOffset>, LogError> {
        let interval = self.config().index_interval_bytes;
        for (segment, _) in self.segments().holding(start) {
            if segment.base_offset >= bound {
                break;
            }
            if segment.newest(interval)?.timestamp < timestamp {
                continue;
            }
            if let Some(found) = first_in(segment, timestamp, start)? {
                return Ok(Some(found).filter(|found| found.offset < bound));
            }
        }
        Ok(None)
    }

    fn newest_record(&self, bound: i64, start: i64) -> Result<Option<TimestampedOffset>, LogError> {
        let interval = self.config().index_interval_bytes;
        let mut best: Option<(i64, Arc<Segment>)> = None;
        for (segment, _) in self.segments().holding(start) {
            let newest = segment.newest(interval)?.timestamp;
            if newest >= 0 && best.as_ref().is_none_or(|(timestamp, _)| newest > *timestamp) {
                best = Some((newest, Arc::clone(segment)));
            }
        }
        let Some((timestamp, segment)) = best else { return Ok(None) };
        Ok(first_in(&segment, timestamp, start)?.filter(|found| found.offset < bound))
    }
}

/// The first record of a segment that is as young as `timestamp` and not below offset `start`.
fn first_in(segment: &Segment, timestamp: i64, start: i64) -> Result<Option<TimestampedOffset>, LogError> {
    let from = segment.offset_before(timestamp)?.max(start);
    let wanted = |record: &RecordView<'_>| record.timestamp >= timestamp && record.offset >= start;
    first_record(segment, from, timestamp, wanted)
}

/// The first record from offset `from` on that is `wanted`; batches with no record as young as `timestamp` are passed
/// over by their header.
fn first_record(
    segment: &Segment,
    from: i64,
    timestamp: i64,
    wanted: impl Fn(&RecordView<'_>) -> bool,
) -> Result<Option<TimestampedOffset>, LogError> {
    let end = segment.size();
    let Some(first) = segment.find_batch(from, end)? else { return Ok(None) };
    let mut scan = segment.scan_from(first.position, end)?;
    while let Step::Batch(located) = scan.step(i64::MAX).during("read", segment.log.path())? {
        if located.header.max_timestamp >= timestamp {
            let found = record_in(segment, &mut scan, &located, &wanted)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

fn record_in(
    segment: &Segment,
    scan: &mut BatchScan,
    located: &Located,
    wanted: &impl Fn(&RecordView<'_>) -> bool,
) -> Result<Option<TimestampedOffset>, LogError> {
    let leader_epoch = located.header.partition_leader_epoch;
    let batch = scan.batch(located).during("read", segment.log.path())?;
    Ok(first_wanted(batch, leader_epoch, wanted))
}

/// A batch whose records do not read has none: the client that fetches it will see the damage.
fn first_wanted(
    batch: &[u8],
    leader_epoch: i32,
    wanted: &impl Fn(&RecordView<'_>) -> bool,
) -> Option<TimestampedOffset> {
    let mut found = None;
    let outcome = records(batch, |record| {
        if !wanted(&record) {
            return ControlFlow::Continue(());
        }
        found = Some(TimestampedOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch });
        ControlFlow::Break(())
    });
    outcome.ok().and(found)
}
