//! Makes a segment's indexes sound: what is good stays, the rest is built from the batches.

use super::scan::{Bad, Located, Step};
use super::time_index::TimestampOffset;
use super::{OffsetEntry, Segment};
use crate::error::{During, LogError};

/// What a walk to the end of a segment found.
#[derive(Debug)]
pub(crate) struct Rescan {
    /// The byte after the last good batch.
    pub(crate) end: u64,
    /// The offset after the last good batch.
    pub(crate) next_offset: i64,
    /// Bytes since the last index entry.
    pub(crate) since_entry: u64,
    /// Leader epoch of the last good batch, −1 without one.
    pub(crate) leader_epoch: i32,
    /// What stopped the walk before the end of the file, and the offset expected there.
    pub(crate) bad: Option<(Bad, i64)>,
}

impl Segment {
    /// Walks from the last sound index entry to the end, adding what the indexes lack. CRCs are checked from offset
    /// `verify_from` on, and index entries from there on are dropped first, since their batches may not be on disk.
    /// `observe` sees every batch walked over.
    pub(crate) fn rescan(
        &self,
        verify_from: i64,
        interval_bytes: u64,
        observe: &mut dyn FnMut(&Located),
    ) -> Result<Rescan, LogError> {
        let start = self.sound_start(verify_from)?;
        self.rescan_from(start, None, verify_from, interval_bytes, observe)
    }

    /// The walk itself, from a `start` where a batch starts; `expected` is the offset that should be there.
    pub(crate) fn rescan_from(
        &self,
        start: u64,
        expected: Option<i64>,
        verify_from: i64,
        interval_bytes: u64,
        observe: &mut dyn FnMut(&Located),
    ) -> Result<Rescan, LogError> {
        let mut scan = self.scan_from(start, self.size())?;
        if let Some(expected) = expected {
            scan.expect_offset(expected);
        }
        let mut since_entry = 0;
        let bad = loop {
            match scan.step(verify_from).during("read", self.log.path())? {
                Step::Batch(located) => {
                    observe(&located);
                    self.index_batch(&located.header, located.position, &mut since_entry, interval_bytes)
                        .during("write the index of", self.log.path())?;
                }
                Step::End => break None,
                Step::Bad(bad) => break Some((bad, scan.offset_min())),
            }
        };
        Ok(Rescan {
            end: scan.position(),
            next_offset: scan.offset_min(),
            since_entry,
            leader_epoch: scan.leader_epoch(),
            bad,
        })
    }

    /// Loads both indexes and returns where the walk starts: the batch of the last good entry, or 0.
    fn sound_start(&self, verify_from: i64) -> Result<u64, LogError> {
        let path = || self.log.path();
        self.offset_index.load(self.size()).during("read the index of", path())?;
        self.time_index.load().during("read the time index of", path())?;
        if verify_from < i64::MAX {
            self.offset_index.truncate_to(verify_from).during("cut the index of", path())?;
            self.time_index.truncate_to(verify_from).during("cut the time index of", path())?;
        }
        match self.offset_index.last() {
            // without a time index nobody knows the largest timestamp before the last entry
            Some(last) if self.time_index.last().is_some() && self.is_sound(last)? => {
                self.set_newest(self.time_index.last().unwrap_or(TimestampOffset::NONE));
                Ok(last.position)
            }
            _ => {
                self.offset_index.entries().truncate(0).during("reset the index of", path())?;
                self.time_index.entries().truncate(0).during("reset the time index of", path())?;
                self.set_newest(TimestampOffset::NONE);
                Ok(0)
            }
        }
    }

    fn is_sound(&self, entry: OffsetEntry) -> Result<bool, LogError> {
        let step = self.scan_from(entry.position, self.size())?.step(i64::MAX);
        let step = step.during("read", self.log.path())?;
        Ok(matches!(step, Step::Batch(located) if located.header.last_offset() == entry.offset))
    }
}
