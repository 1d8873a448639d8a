//! Starting a new segment.
//!
//! Crash points: the old segment is complete before the new one is made, so whatever is missing after a crash (its last
//! index entries, the snapshot, the new files) is rebuilt; an empty new segment is taken over as it is. Where the process
//! lives on without one, records may go on in the old segment: so nothing is left of one that could not be made, and the
//! next open removes what is.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use fastlog_protocol::batch::BatchHeader;

use super::tail::LogPosition;
use super::{Log, Writer};
use crate::config::LogConfig;
use crate::error::LogError;
use crate::file_name;
use crate::producer_state::snapshot;
use crate::segment::Segment;

impl Log {
    /// Makes room for a batch: rolls when it does not belong in the active segment any more (Kafka's
    /// `LogSegment.shouldRoll`).
    pub(super) fn roll_if_needed(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        now_ms: i64,
        config: &LogConfig,
    ) -> Result<(), LogError> {
        if must_roll(writer, header, now_ms, config)? { self.roll(writer, now_ms) } else { Ok(()) }
    }

    /// Starts a segment at the log's end. An empty active segment at that very offset stays.
    pub(super) fn roll(&self, writer: &mut Writer, now_ms: i64) -> Result<(), LogError> {
        let base_offset = self.log_end_offset();
        if writer.active.size() == 0 && writer.active.base_offset == base_offset {
            return Ok(());
        }
        writer.active.seal(false).map_err(|error| self.write_failed(error))?;
        self.note_txn_index(&writer.active);
        self.take_snapshot(writer, base_offset)?;
        let directory = self.directory();
        let segment = Segment::create(&self.storage(), &directory, base_offset, now_ms)
            .map_err(|error| self.write_failed(error))?;
        let segment = Arc::new(segment);
        writer.active.keep_open_until_synced();
        writer.active = Arc::clone(&segment);
        writer.since_entry = 0;
        writer.reserved_to = 0;
        self.directory_changed.store(true, Relaxed);
        let list = Arc::new(self.segments().with(segment));
        *self.segments.write() = list;
        self.tail.lock().reset(LogPosition { offset: base_offset, segment_base: base_offset, position: 0 });
        self.filled.store(true, Release);
        Ok(())
    }

    /// Writes the producers' state as of `offset`, the log's end. Not synced: one that a crash of the machine tore has a
    /// wrong CRC and is passed over for an older one.
    pub(super) fn take_snapshot(&self, writer: &mut Writer, offset: i64) -> Result<(), LogError> {
        let is_empty = offset == self.segments().first_base_offset() && writer.producers.count() == 0;
        if offset <= writer.snapshot_offset || is_empty {
            return Ok(());
        }
        let path = self.directory().join(file_name::of_offset(offset, file_name::SNAPSHOT));
        snapshot::write(&*self.storage().file_system, &path, &writer.producers)
            .map_err(|error| self.write_failed(error))?;
        writer.snapshot_offset = offset;
        self.directory_changed.store(true, Relaxed);
        Ok(())
    }
}

fn must_roll(
    writer: &Writer,
    header: &BatchHeader,
    now_ms: i64,
    config: &LogConfig,
) -> Result<bool, LogError> {
    let active = &writer.active;
    let size = active.size();
    if header.last_offset() - active.base_offset > i64::from(i32::MAX) {
        return Ok(true);
    }
    if size == 0 {
        return Ok(false);
    }
    // positions in the index have 32 bits, of which Kafka uses 31
    let bytes_max = config.segment_bytes.min(i32::MAX as u64);
    if size + header.size_bytes() as u64 > bytes_max
        || active.offset_index.entries().len() >= config.offset_index_entries_max()
        || active.time_index.entries().len() >= config.time_index_entries_max()
    {
        return Ok(true);
    }
    let age_ms = match active.first_timestamp()? {
        Some(first) => header.max_timestamp.saturating_sub(first),
        None => now_ms.saturating_sub(active.created_ms),
    };
    Ok(age_ms > config.segment_ms_max().saturating_sub(jitter_ms(active.base_offset, config)))
}

/// Up to `segment_jitter_ms`, the same for the same segment after a restart: a hash of its base offset.
fn jitter_ms(base_offset: i64, config: &LogConfig) -> i64 {
    let range = config.segment_jitter_ms.min(config.segment_ms_max()).max(0) as u64;
    if range == 0 {
        return 0;
    }
    // Fibonacci hashing: the high bits of the product are well mixed
    let mixed = (base_offset as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16;
    (mixed % range) as i64
}
