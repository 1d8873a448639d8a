//! A follower that begins where the object store ends: what its leader has on the disk begins beyond the end of its own log
//! (KIP-405, "auxiliary state").
//!
//! Crash points. The copy of the store's manifest is in the directory before this begins. The start of the log comes down
//! in its checkpoint first. Segments go newest first; then come the epochs, the snapshot of producers and the segment,
//! each synced before the next. A crash before the segment is there leaves a log that is empty at its start, which begins
//! again; a segment is there only with what belongs to it.

use super::Log;
use super::cut::{Anew, Cut, Then};
use crate::epoch_cache::EpochStart;
use crate::error::LogError;

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
        self.finish_cut(&mut self.writer.lock(), now_ms)?;
        self.lower_to(start, start, checkpoint)?;
        let mut writer = self.writer.lock();
        self.check_writable(&writer)?;
        let below = begin.epochs.iter().filter(|it| it.start_offset < offset);
        let anew = Anew {
            start: begin.log_start_offset,
            epochs: below.copied().collect(),
            snapshot: begin.snapshot.clone(),
            tiered_end: Some(offset),
        };
        let gone = self.segments().iter().cloned().collect();
        self.carry_out(&mut writer, Cut { gone, end: offset, then: Then::Anew(anew) }, now_ms)
    }
}
