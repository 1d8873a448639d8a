//! Which segments become one (Kafka's `groupSegmentsBySize`): else compaction would leave ever smaller ones.

use std::sync::Arc;

use super::Pass;
use crate::error::LogError;
use crate::segment::Segment;
use crate::segment::list::SegmentList;

/// Segments that follow one another and become one.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) segments: Vec<Arc<Segment>>,
    /// The base offset of the segment after them.
    pub(super) next_base: i64,
    bytes: u64,
    offset_entries: u64,
    time_entries: u64,
}

impl Group {
    /// When the last of them was made: what stands for the age of records without timestamps.
    pub(super) fn created_ms(&self) -> i64 {
        self.segments.last().map_or(0, |last| last.created_ms)
    }
}

impl Pass<'_> {
    /// The segments below `end`, in groups; none reaches beyond `upper`.
    pub(super) fn groups(&self, list: &SegmentList, end: i64, upper: i64) -> Result<Vec<Group>, LogError> {
        let config = self.log.config();
        let bytes_max = config.segment_bytes.min(i32::MAX as u64);
        let mut groups: Vec<Group> = Vec::new();
        for (segment, next_base) in list.with_next() {
            let Some(next_base) = next_base.filter(|next| *next <= upper && segment.base_offset < end) else {
                break;
            };
            segment.ensure_loaded(config.index_interval_bytes)?;
            let bytes = segment.size();
            let offset_entries = segment.offset_index.entries().len();
            let time_entries = segment.time_index.entries().len();
            let fits = groups.last().is_some_and(|group| {
                let base = group.segments.first().map_or(0, |first| first.base_offset);
                group.bytes + bytes <= bytes_max
                    && group.offset_entries + offset_entries <= config.offset_index_entries_max()
                    && group.time_entries + time_entries <= config.time_index_entries_max()
                    && next_base - 1 - base <= i64::from(i32::MAX)
            });
            if !fits {
                groups.push(Group::default());
            }
            if let Some(group) = groups.last_mut() {
                group.segments.push(Arc::clone(segment));
                group.next_base = next_base;
                group.bytes += bytes;
                group.offset_entries += offset_entries;
                group.time_entries += time_entries;
            }
        }
        Ok(groups)
    }
}
