//! A follower that begins where the object store ends: what its leader has on the disk begins beyond the end of its own log
//! (KIP-405, "auxiliary state").
//!
//! Crash points. The copy of the store's manifest is in the directory before this begins. The start of the log comes down
//! in its checkpoint first. Segments go newest first; then come the epochs, the snapshot of producers and the segment,
//! each synced before the next. A crash before the segment is there leaves a log that is empty at its start, which begins
//! again; a segment is there only with what belongs to it.

use std::sync::atomic::Ordering::Release;

use super::Log;
use crate::epoch_cache::EpochStart;
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::atomic_file;

/// What the object store and the leader tell of a log up to where it is to begin.
#[derive(Clone, Debug)]
pub struct AfterTier {
    /// Where it begins: an uploaded segment ends there.
    pub offset: i64,
    /// Where the leader's whole log starts.
    pub log_start_offset: i64,
    /// The leader epochs below `offset`, ascending.
    pub epochs: Vec<EpochStart>,
    /// The producers as of `offset`, as Kafka's snapshots have them; empty where there were none.
    pub snapshot: Vec<u8>,
}

impl Log {
    /// Drops everything and begins at `begin.offset`, which is the high watermark then; the log still starts where the
    /// leader's does, and below `begin.offset` the object store has it. `checkpoint` and errors as in [`Log::truncate_to`]. Blocks.
    pub fn restart_after_tier(
        &self,
        begin: &AfterTier,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let _cleaner = self.cleaner.stop_patiently(self)?;
        let _flush = self.flushing.lock();
        let offset = begin.offset;
        let start = begin.log_start_offset.min(offset);
        self.lower_to(start, start, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        self.retire_all(now_ms)?;
        {
            let mut epochs = self.epochs.lock();
            let below = begin.epochs.iter().filter(|it| it.start_offset < offset).copied().collect();
            epochs.replace(below);
            epochs.truncate_from_start(begin.log_start_offset);
            epochs.save().map_err(|error| self.write_failed(error))?;
            writer.leader_epoch = epochs.latest().map_or(-1, |latest| latest.epoch);
        }
        self.sync_epochs().inspect_err(|error| self.storage().poison(error))?;
        if !begin.snapshot.is_empty() {
            let path = self.directory().join(file_name::of_offset(offset, file_name::SNAPSHOT));
            let written = atomic_file::replace(&*self.storage().file_system, &path, &begin.snapshot);
            written.during("write the producer snapshot", &path).map_err(|error| self.write_failed(error))?;
        }
        let segment = self.begin_segment(offset, now_ms)?;
        self.log_start_offset.store(begin.log_start_offset, Release);
        self.tiered_end_offset.store(offset, Release);
        self.reopen_end(&mut writer, segment, offset, now_ms)?;
        self.high_watermark.store(offset, Release);
        Ok(())
    }
}
