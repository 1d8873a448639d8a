//! Retention by time, by size, and of what lies below the log's start.

use std::sync::Arc;

use super::{Log, Writer};
use crate::config::LogConfig;
use crate::error::LogError;
use crate::segment::Segment;
use crate::segment::list::SegmentList;

/// How far clocks differ without anybody being told: what `message.timestamp.after.max.ms` lets producers be ahead, as a
/// rule.
const CLOCKS_DIFFER_MS: i64 = 3_600_000;

impl Log {
    /// Deletes segments whose time is up, oldest first, and never beyond the high watermark; returns how many. An
    /// active segment that is expired is rolled and deleted too. Also forgets idle producers. Call it every
    /// `log.retention.check.interval.ms`.
    pub fn enforce_retention(&self, now_ms: i64) -> Result<usize, LogError> {
        let config = self.config();
        // no flush may look for files that are renamed and purged under it
        let _flush = self.flushing.lock();
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        writer.producers.expire(now_ms, config.producer_id_expiration_ms);
        let list = self.segments();
        let below_start = self.count_below_start(&list);
        let count = if config.remote_copy && !config.restoring {
            let end = self.tiered_end_offset().min(self.keep_from_offset());
            below_start.max(self.count_tiered(&list, now_ms, &config, end)?)
        } else if config.cleanup_delete && !config.restoring {
            let by_time = self.count_expired(&list, now_ms, config.retention_ms)?;
            below_start.max(by_time).max(self.count_oversize(&list, config.retention_bytes))
        } else {
            below_start
        };
        if count == 0 {
            return Ok(0);
        }
        self.delete_first(&mut writer, count, now_ms, !config.remote_copy)?;
        Ok(count)
    }

    /// Up to which offset local retention would delete what is uploaded, were it not for [`Log::set_keep_from`]; `None` =
    /// it would delete nothing. Whoever asks the store what it has need ask for no more.
    pub fn local_retention_end(&self, now_ms: i64) -> Result<Option<i64>, LogError> {
        let config = self.config();
        if !config.remote_copy || config.restoring {
            return Ok(None);
        }
        let list = self.segments();
        let count = self.count_tiered(&list, now_ms, &config, self.tiered_end_offset())?;
        Ok(list.with_next().take(count).last().and_then(|(_, next_base)| next_base))
    }

    /// Up to which offsets `retention.ms`, and `retention.bytes`, would delete full segments of the disk if no store had or
    /// was to have any of the log; `None` = nothing.
    pub fn full_retention_ends(&self, now_ms: i64) -> Result<(Option<i64>, Option<i64>), LogError> {
        let config = self.config();
        let list = self.segments();
        let end_of =
            |count: usize| list.with_next().take(count).filter_map(|(_, next_base)| next_base).last();
        let by_time = end_of(self.count_expired(&list, now_ms, config.retention_ms)?);
        Ok((by_time, end_of(self.count_oversize(&list, config.retention_bytes))))
    }

    /// Bytes of batches on the disk that local retention would delete if a store had them.
    pub fn kept_bytes(&self, now_ms: i64) -> Result<u64, LogError> {
        let config = self.config();
        let list = self.segments();
        let count = self.count_tiered(&list, now_ms, &config, i64::MAX)?;
        Ok(list.iter().take(count).map(|it| it.size()).sum())
    }

    /// Segments that local retention says, and that end at `end` at the latest: the log starts where it did.
    fn count_tiered(
        &self,
        list: &SegmentList,
        now_ms: i64,
        config: &LogConfig,
        end: i64,
    ) -> Result<usize, LogError> {
        let is_tiered = |next_base: &Option<i64>| next_base.is_some_and(|next| next <= end);
        let tiered = list.with_next().take_while(|(_, next_base)| is_tiered(next_base)).count();
        let by_time = self.count_expired(list, now_ms, config.local_retention_ms)?;
        Ok(by_time.max(self.count_oversize(list, config.local_retention_bytes)).min(tiered))
    }

    fn delete_first(
        &self,
        writer: &mut Writer,
        count: usize,
        now_ms: i64,
        moves_start: bool,
    ) -> Result<(), LogError> {
        if count == self.segments().len() {
            self.roll(writer, now_ms)?;
        }
        let (kept, gone) = self.segments().without_first(count);
        let start = kept.first_base_offset();
        // The start moves before the files do: whoever reads below it hears "out of range", not "no such file".
        if moves_start {
            self.move_start(start)?;
        }
        *self.segments.write() = Arc::new(kept);
        tracing::info!(topic = self.topic, partition = self.partition, count, start, "deleted segments");
        self.retire(gone, now_ms)
    }

    /// How many segments at the front satisfy `is_due`. The high watermark must have passed them, and an empty active
    /// segment stays.
    fn count_front(
        &self,
        list: &SegmentList,
        mut is_due: impl FnMut(&Segment, Option<i64>) -> Result<bool, LogError>,
    ) -> Result<usize, LogError> {
        let (high_watermark, end) = (self.high_watermark(), self.log_end_offset());
        let mut count = 0;
        for (segment, next_base) in list.with_next() {
            let is_empty_active = next_base.is_none() && segment.size() == 0;
            let passed = high_watermark >= next_base.unwrap_or(end);
            if is_empty_active || !passed || !is_due(segment, next_base)? {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    /// By the largest timestamp of their records; segments without timestamps by the time they were opened.
    fn count_expired(&self, list: &SegmentList, now_ms: i64, retention_ms: i64) -> Result<usize, LogError> {
        if retention_ms < 0 {
            return Ok(0);
        }
        let config = self.config();
        self.count_front(list, |segment, _| {
            let newest = segment.newest(config.index_interval_bytes)?.timestamp;
            let newest = if newest < 0 { segment.created_ms } else { newest };
            self.tell_of_the_future(segment, newest, now_ms);
            Ok(now_ms.saturating_sub(newest) > retention_ms)
        })
    }

    /// A segment whose records are dated in the future keeps all that follow, for as long as the clock says: somebody should
    /// know. (Kafka: "contains future timestamp(s), making it ineligible to be deleted".)
    fn tell_of_the_future(&self, segment: &Segment, newest_ms: i64, now_ms: i64) {
        let ahead_ms = newest_ms.saturating_sub(now_ms);
        if ahead_ms > CLOCKS_DIFFER_MS && segment.tell_of_the_future_once() {
            tracing::warn!(
                topic = self.topic,
                partition = self.partition,
                segment = %segment.log.path().display(),
                newest_ms,
                ahead_ms,
                "records are dated in the future: their segment and all later ones are kept until retention.ms after \
                 that. Look at the clocks of this machine and of producers; retention.bytes and DeleteRecords still delete"
            );
        }
    }

    /// Only while what remains is at least the limit.
    fn count_oversize(&self, list: &SegmentList, retention_bytes: i64) -> usize {
        let Ok(limit) = u64::try_from(retention_bytes) else { return 0 };
        let total: u64 = list.iter().map(|segment| segment.size()).sum();
        let mut excess = total.saturating_sub(limit);
        let due = self.count_front(list, |segment, _| {
            let fits = excess >= segment.size() && excess > 0;
            excess = excess.saturating_sub(segment.size());
            Ok(fits)
        });
        due.unwrap_or(0)
    }

    /// Segments that end at or before the log's start.
    fn count_below_start(&self, list: &SegmentList) -> usize {
        let start = self.log_start_offset();
        let due = self.count_front(list, |_, next_base| Ok(next_base.is_some_and(|next| next <= start)));
        due.unwrap_or(0)
    }
}
