//! What of a log may be cleaned, and whether it is worth it (Kafka's `LogCleanerManager`).

use crate::error::LogError;
use crate::partition_log::Log;
use crate::segment::list::SegmentList;

/// What a pass would find.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cleanable {
    /// Where the pass starts: everything below was cleaned before.
    pub first_dirty_offset: i64,
    /// Bytes that were cleaned before.
    pub clean_bytes: u64,
    /// Bytes that were not and may be.
    pub dirty_bytes: u64,
    /// Records have waited longer than `max.compaction.lag.ms`.
    pub is_overdue: bool,
    /// The dirty part is large enough, or overdue.
    pub is_due: bool,
}

impl Cleanable {
    /// The dirty part of what may be clean after a pass, 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            total => self.dirty_bytes as f64 / total as f64,
        }
    }
}

impl Log {
    /// What a pass would find; `checkpoint` is where the last one ended, `None` when there was none. A checkpoint outside
    /// of the log is not believed: then all of it is dirty.
    pub fn cleanable(&self, checkpoint: Option<i64>, now_ms: i64) -> Result<Cleanable, LogError> {
        let config = self.config();
        let start = self.log_start_offset();
        let known = checkpoint.filter(|offset| (start..=self.log_end_offset()).contains(offset));
        let first_dirty_offset = known.unwrap_or(start);
        let upper = self.uncleanable_offset(first_dirty_offset, now_ms)?;
        let list = self.segments();
        let mut found = Cleanable { first_dirty_offset, ..Cleanable::default() };
        let mut oldest = i64::MAX;
        for (segment, next_base) in list.with_next() {
            let is_dirty = next_base.is_none_or(|next| next > first_dirty_offset);
            if is_dirty && next_base.is_some() {
                oldest =
                    oldest.min(segment.first_timestamp()?.filter(|first| *first > 0).unwrap_or(i64::MAX));
            }
            if segment.base_offset >= upper.max(first_dirty_offset) {
                continue;
            }
            // a pass that found too little memory ends inside a segment, whose bytes then count as dirty
            if is_dirty { found.dirty_bytes += segment.size() } else { found.clean_bytes += segment.size() }
        }
        if upper <= first_dirty_offset {
            found.dirty_bytes = 0;
        }
        let waited_ms = now_ms.saturating_sub(oldest);
        found.is_overdue = oldest < i64::MAX && waited_ms > config.max_compaction_lag_ms.max(0);
        found.is_due = config.cleanup_compact
            && !config.restoring
            && found.dirty_bytes > 0
            && (found.is_overdue || found.dirty_ratio() > config.min_cleanable_dirty_ratio);
        Ok(found)
    }

    /// The first offset that a pass must not touch; a segment starts there.
    pub(super) fn uncleanable_offset(&self, first_dirty_offset: i64, now_ms: i64) -> Result<i64, LogError> {
        let config = self.config();
        // before the list: whatever is rolled meanwhile is above it
        let stable = self.last_stable_offset();
        let list = self.segments();
        let active_base = list.last().map_or(0, |active| active.base_offset);
        let mut upper = segment_start_at_or_before(&list, stable.min(active_base));
        let youngest_ms = now_ms.saturating_sub(config.min_compaction_lag_ms.max(0));
        if config.min_compaction_lag_ms > 0 {
            for (segment, next_base) in list.holding(first_dirty_offset) {
                let Some(_) = next_base.filter(|next| *next <= upper) else { break };
                if segment.newest(config.index_interval_bytes)?.timestamp > youngest_ms {
                    upper = segment.base_offset;
                    break;
                }
            }
        }
        Ok(upper)
    }

    /// An error when damage is known below `upper`.
    pub(super) fn check_undamaged(&self, upper: i64) -> Result<(), LogError> {
        let list = self.segments();
        let known = list.iter().take_while(|segment| segment.base_offset < upper);
        known.filter_map(|segment| segment.first_damage()).next().map_or(Ok(()), Err)
    }
}

/// The base offset of the segment that holds `offset`.
fn segment_start_at_or_before(list: &SegmentList, offset: i64) -> i64 {
    list.holding(offset).next().map_or(offset, |(segment, _)| segment.base_offset.min(offset))
}
