//! What a topic's settings mean to one partition's log.

use fastlog_protocol::batch::TimestampType;
use fastlog_protocol::compression::Compression;

/// When an append counts as done; the setting `fastlog.durability`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// Written to the page cache, as in Kafka: survives the death of the process, not of the machine.
    #[default]
    Os,
    /// An answer waits for fdatasync, which many requests share.
    Fsync,
}

/// The settings of one log. Defaults are Kafka 4's.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment that would grow beyond this is rolled.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment whose first record is older than this is rolled at the next append.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this much is taken off `segment_ms`, so that segments do not all roll at once.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: the largest index file; a full index rolls the segment.
    pub segment_index_bytes: u64,
    /// `index.interval.bytes`: an index entry for about every so many bytes of batches.
    pub index_interval_bytes: u64,
    /// `retention.ms`; −1 = for ever.
    pub retention_ms: i64,
    /// `retention.bytes` of this partition; −1 = no limit.
    pub retention_bytes: i64,
    /// `delete.retention.ms`: how long tombstones stay after their first cleaning.
    pub delete_retention_ms: i64,
    /// `min.cleanable.dirty.ratio`: a log is cleaned when this part of it was not cleaned yet.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a record is not compacted before it is that old.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a log with older records that were not cleaned yet is cleaned whatever its dirty ratio.
    pub max_compaction_lag_ms: i64,
    /// `max.message.bytes`: the largest batch, as sent (compressed).
    pub max_message_bytes: usize,
    /// `compression.type` and its level: the codec that batches get which come in another; `None` = as they came.
    pub compression: Option<(Compression, Option<i32>)>,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record's timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `delete`.
    pub cleanup_delete: bool,
    /// `cleanup.policy` has `compact`: records need keys.
    pub cleanup_compact: bool,
    /// `file.delete.delay.ms`: how long a deleted segment's files stay under `.deleted` names.
    pub file_delete_delay_ms: i64,
    /// `preallocate`: reserve a segment's blocks at once instead of in growing steps.
    pub preallocate: bool,
    /// `producer.id.expiration.ms`: how long an idle producer's sequence numbers are remembered.
    pub producer_id_expiration_ms: i64,
    /// `fastlog.durability`.
    pub durability: Durability,
    /// `remote.storage.enable`, where the broker has a store: what was uploaded is part of the log.
    pub remote_storage: bool,
    /// That, and not `remote.log.copy.disable`: full segments are uploaded, and go from the disk by
    /// local retention once they are.
    pub remote_copy: bool,
    /// `local.retention.ms` of segments that are uploaded; −1 = for ever.
    pub local_retention_ms: i64,
    /// `local.retention.bytes` of segments that are uploaded; −1 = no limit.
    pub local_retention_bytes: i64,
    /// `fastlog.restoring`: clients write batches of a backup, which keep their offsets; nothing is deleted or cleaned.
    pub restoring: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            delete_retention_ms: DAY_MS,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            max_message_bytes: 1_048_588,
            compression: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            cleanup_delete: true,
            cleanup_compact: false,
            file_delete_delay_ms: 60_000,
            preallocate: false,
            producer_id_expiration_ms: DAY_MS,
            durability: Durability::Os,
            remote_storage: false,
            remote_copy: false,
            local_retention_ms: -1,
            local_retention_bytes: -1,
            restoring: false,
        }
    }
}

impl LogConfig {
    /// The age at which a segment is rolled; of a compacted log also the most that its records may wait for the cleaner,
    /// which passes over the active segment (Kafka's `LogConfig.maxSegmentMs`).
    pub(crate) fn segment_ms_max(&self) -> i64 {
        if self.cleanup_compact && self.max_compaction_lag_ms > 0 {
            self.segment_ms.min(self.max_compaction_lag_ms)
        } else {
            self.segment_ms
        }
    }

    /// How many entries the offset index may hold.
    pub(crate) fn offset_index_entries_max(&self) -> u64 {
        self.segment_index_bytes / 8
    }

    /// How many entries the time index may hold, one of which Kafka keeps free for the entry written at a roll.
    pub(crate) fn time_index_entries_max(&self) -> u64 {
        (self.segment_index_bytes / 12).saturating_sub(1)
    }
}
