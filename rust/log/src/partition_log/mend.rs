//! Mending: the bytes of damaged batches are written anew, from a replica that has them.
//!
//! Below the high watermark all replicas hold the same batches (invariant I2 of the cluster), so what another one sends for
//! the damaged offsets is what was here, and has the same length. Nothing else of the log changes: not where it ends, nor
//! what this replica counts for. Where a cleaner has been at work since, on either side, the lengths differ, and the log
//! is left as it is.
//!
//! Crash points: the bytes are written in place and synced. A crash in between leaves damage, which was listed in
//! `damaged-segments` before and is found again. One before the list is shorter has the next start build the indexes anew.

use std::io::IoSlice;
use std::sync::Arc;

use fastlog_protocol::batch::{BatchHeader, batches, check_crc};

use super::Log;
use super::open::list_names;
use crate::error::{During, LogError};
use crate::file_system::write_all_at;
use crate::recovery::producers;
use crate::segment::scan::{Located, Step};
use crate::segment::time_index::TimestampOffset;
use crate::segment::{Damage, Segment};

/// Damaged bytes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The first offset that cannot be read.
    pub offset: i64,
    /// The first offset behind it that can be.
    pub next_offset: i64,
    /// How many bytes.
    pub bytes: u64,
    /// For a person: file, position, and what is wrong.
    pub reason: String,
}

/// Where damage lies.
struct Hole {
    segment: Arc<Segment>,
    damage: Damage,
    end: u64,
    next_offset: i64,
}

impl Log {
    /// The damaged ranges that are known and end before something readable, by offset. Damage at the very end of a log,
    /// behind which nobody knows what was, is not among them. Blocks where it has to look where exactly damage lies.
    pub fn damaged_ranges(&self) -> Result<Vec<DamagedRange>, LogError> {
        self.locate_damage()?;
        Ok(self.holes().iter().map(Hole::range).collect())
    }

    fn holes(&self) -> Vec<Hole> {
        let list = self.segments();
        let mut holes = Vec::new();
        for (segment, next_base) in list.with_next() {
            for damage in segment.damages() {
                let following = damage.following.or(next_base);
                let end = damage.next.or(following.map(|offset| (segment.size(), offset)));
                if let Some((end, next_offset)) = end.filter(|(end, _)| *end > damage.position) {
                    holes.push(Hole { segment: Arc::clone(segment), damage, end, next_offset });
                }
            }
        }
        holes
    }

    /// Writes `records`, whole batches as another replica has them, in the place of the damaged range that begins at
    /// `offset`; batches beyond it are passed over. Synced when it returns. Blocks on the disk; stops the cleaner.
    ///
    /// # Errors
    /// `Invalid` where there is no such range, it is not below the high watermark, or the records are not those that were
    /// there: bad CRCs, other offsets or leader epochs, another length. Nothing was changed then. A write that fails
    /// poisons the directory.
    pub fn mend(&self, offset: i64, records: &[u8], now_ms: i64) -> Result<(), LogError> {
        let _nobody_cuts = self.cleaner().stop();
        let _flush = self.lock_flushing();
        self.storage().check()?;
        let hole = self.holes().into_iter().find(|hole| hole.damage.offset == offset);
        let hole = hole.ok_or_else(|| self.not_mended(offset, "no damage is known there".to_owned()))?;
        let bytes = self.fitting(&hole, records).map_err(|why| self.not_mended(offset, why))?;
        let path = hole.segment.log.path();
        let file = hole.segment.file()?;
        let edit = hole.segment.begin_edit();
        write_all_at(&*file, &mut [IoSlice::new(bytes)], hole.damage.position)
            .and_then(|()| file.sync_data())
            .during("mend", &path)
            .inspect_err(|error| self.poison(error))?;
        let youngest = self.check_mended(&hole)?;
        self.note_mended(&hole, youngest)?;
        drop(edit);
        hole.segment.forget_damage(hole.damage.position);
        self.list_damaged_segments();
        self.restore_producers(&hole, now_ms)
    }

    /// The bytes of `records` that belong into the hole, or why they do not fit.
    fn fitting<'a>(&self, hole: &Hole, records: &'a [u8]) -> Result<&'a [u8], String> {
        let high_watermark = self.high_watermark();
        if hole.next_offset > high_watermark {
            return Err(format!(
                "the range ends at {}, but only what is below {high_watermark} is known to be the same everywhere",
                hole.next_offset
            ));
        }
        let (mut length, mut offset) = (0, hole.damage.offset);
        for batch in batches(records) {
            let batch = batch.map_err(|error| error.to_string())?;
            let header = BatchHeader::parse(batch).map_err(|error| error.to_string())?;
            if header.base_offset >= hole.next_offset {
                break;
            }
            check_crc(batch).map_err(|error| error.to_string())?;
            let (first, next) = (header.base_offset, header.next_offset());
            if first < offset || next > hole.next_offset {
                return Err(format!(
                    "the batch of {first} to {next} is not within {offset} to {}",
                    hole.next_offset
                ));
            }
            // of a batch whose first records were deleted the epochs know the rest
            let epoch = self.epoch_for_offset(first.max(self.log_start_offset())).unwrap_or(-1);
            if header.partition_leader_epoch != epoch {
                let other = header.partition_leader_epoch;
                return Err(format!("offset {first} was written in leader epoch {epoch}, not {other}"));
            }
            length += batch.len();
            offset = next;
        }
        let wanted = hole.end - hole.damage.position;
        match records.get(..length).filter(|bytes| bytes.len() as u64 == wanted) {
            Some(bytes) => Ok(bytes),
            None => Err(format!("{length} bytes came for a place of {wanted}")),
        }
    }

    /// Reads back what was written, up to what follows; which of it is the youngest.
    fn check_mended(&self, hole: &Hole) -> Result<TimestampOffset, LogError> {
        let path = hole.segment.log.path();
        let mut youngest = TimestampOffset::NONE;
        let mut scan = hole.segment.scan_from(hole.damage.position, hole.end)?;
        scan.expect_offset(hole.damage.offset);
        loop {
            match scan.step(i64::MIN).during("read", &path)? {
                Step::Batch(Located { header, .. }) if header.max_timestamp > youngest.timestamp => {
                    let (timestamp, offset) = (header.max_timestamp, header.last_offset());
                    youngest = TimestampOffset { timestamp, offset };
                }
                Step::Batch(_) => {}
                Step::End => return Ok(youngest),
                Step::Bad(bad) => return Err(self.not_mended(hole.damage.offset, bad.reason)),
            }
        }
    }

    /// Who loaded the segment's indexes passed over the damage, so its timestamps are not among theirs. To be done while the
    /// list of damaged segments names it: a start after a death in between makes them anew.
    fn note_mended(&self, hole: &Hole, youngest: TimestampOffset) -> Result<(), LogError> {
        hole.segment.ensure_loaded(self.config().index_interval_bytes)?;
        let _nobody_appends = self.writer.lock();
        hole.segment.note_mended(hole.damage.position, hole.damage.offset, youngest)
    }

    /// What recovery knows of producers ends where it met the damage.
    fn restore_producers(&self, hole: &Hole, now_ms: i64) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        if hole.next_offset <= writer.snapshot_offset {
            return Ok(());
        }
        let end = self.log_end_offset();
        let list = self.segments();
        let snapshots = self.snapshots(&list);
        let names = list_names(&snapshots.storage, &snapshots.directory)?;
        // transactions that were aborted in the hole are in no index yet
        let unsure_from = hole.damage.offset;
        let restored = producers::restore(&snapshots, &names, end, unsure_from, now_ms)?;
        (writer.producers, writer.snapshot_offset) = restored;
        writer.producers.high_watermark_moved(self.high_watermark());
        self.publish_unstable(&writer);
        Ok(())
    }

    fn not_mended(&self, offset: i64, why: String) -> LogError {
        let (topic, partition) = (self.topic(), self.partition());
        LogError::Invalid { reason: format!("{topic}-{partition} was not mended at offset {offset}: {why}") }
    }
}

impl Hole {
    fn range(&self) -> DamagedRange {
        DamagedRange {
            offset: self.damage.offset,
            next_offset: self.next_offset,
            bytes: self.end - self.damage.position,
            reason: self.segment.corrupt(&self.damage).to_string(),
        }
    }
}
