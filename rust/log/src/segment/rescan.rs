//! Makes a segment's indexes sound: what is good stays, the rest is built from the batches.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::scan::{Bad, Located, Step};
use super::time_index::TimestampOffset;
use super::{CHECKED, OffsetEntry, Segment, UNKNOWN};
use crate::error::{During, LogError};
use crate::file_system::waiting::leave_unless_waiting;

/// How much of a segment is believed without a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Batches, and index entries as far as they are plausible; of a segment that no longer grows.
    Indexes,
    /// What lies below this offset; the CRCs of the rest are checked, and index entries of it dropped.
    Below(i64),
    /// Batches below this offset, but no index entry.
    BatchesBelow(i64),
}

impl Trust {
    /// The offset from which on CRCs are checked.
    pub(crate) fn verify_from(self) -> i64 {
        match self {
            Self::Indexes => i64::MAX,
            Self::Below(offset) | Self::BatchesBelow(offset) => offset,
        }
    }
}

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

impl Rescan {
    /// Of a segment without batches and without indexes.
    pub(crate) fn of_nothing(base_offset: i64) -> Self {
        Self { end: 0, next_offset: base_offset, since_entry: 0, leader_epoch: -1, bad: None }
    }
}

impl Segment {
    /// Walks from the last sound index entry to the end, adding what the indexes lack. `observe` sees every batch walked
    /// over.
    pub(crate) fn rescan(
        &self,
        trust: Trust,
        interval_bytes: u64,
        observe: &mut dyn FnMut(&Located),
    ) -> Result<Rescan, LogError> {
        // first of all: a segment that was deleted and purged under a reader must not get new index files
        self.file()?;
        let start = self.sound_start(trust)?;
        let lone = self.time_index.last().filter(|_| self.offset_index.last().is_none());
        let found = self.rescan_from(start, None, trust.verify_from(), interval_bytes, observe)?;
        let is_sound = |lone| self.offset_index.last().is_none() && *self.newest.lock() == lone;
        if lone.is_none_or(is_sound) {
            return Ok(found);
        }
        let start = self.reset_indexes()?;
        self.rescan_from(start, None, trust.verify_from(), interval_bytes, observe)
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
        let known = self.damages();
        let bad = loop {
            if let Some(damage) = known.iter().find(|damage| damage.position == scan.position()) {
                // what is there may look like a batch, of another length
                let Some((position, offset)) = damage.next else { break None };
                scan = self.scan_from(position, self.size())?;
                scan.expect_offset(offset);
                continue;
            }
            match scan.step(verify_from).during("read", self.log.path())? {
                Step::Batch(located) => {
                    observe(&located);
                    self.index_batch(&located.header, located.position, &mut since_entry, interval_bytes)?;
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
    fn sound_start(&self, trust: Trust) -> Result<u64, LogError> {
        let path = || self.log.path();
        if matches!(trust, Trust::BatchesBelow(_)) {
            return self.reset_indexes();
        }
        self.offset_index.load(self.size()).during("read the index of", path())?;
        if !self.time_index.load().during("read the time index of", path())? {
            return self.reset_indexes();
        }
        if let Trust::Below(offset) = trust {
            self.offset_index.truncate_to(offset).during("cut the index of", path())?;
            self.time_index.truncate_to(offset).during("cut the time index of", path())?;
        }
        match self.offset_index.last() {
            // without a time index nobody knows the largest timestamp before the last entry
            Some(last) => match self.time_index.last() {
                Some(newest) if self.is_sound(last)? && self.is_sound_time(newest)? => {
                    if trust == Trust::Indexes {
                        // a reader needs no timestamps; who does has that looked at
                        self.newest_unchecked.store(newest.offset, Release);
                    } else if self.is_younger_after(newest.offset, newest.timestamp, last.position)? {
                        return self.reset_indexes();
                    }
                    self.set_newest(newest);
                    Ok(last.position)
                }
                _ => self.reset_indexes(),
            },
            None if self.time_index.entries().len() == 1 => {
                // all that one shorter than an index interval has: the walk finds whether it is the largest timestamp.
                // Of ten thousand logs most are so, and to write it anew at each start waits for the disk
                self.forget_newest();
                Ok(0)
            }
            None => self.reset_indexes(),
        }
    }

    /// Whether the batch that an entry of the time index names has that timestamp.
    pub(super) fn is_sound_time(&self, newest: TimestampOffset) -> Result<bool, LogError> {
        let from =
            self.offset_index.position_before(newest.offset).during("read the index of", self.log.path())?;
        let mut scan = self.scan_from(from, self.size())?;
        while let Step::Batch(located) = scan.step(i64::MAX).during("read", self.log.path())? {
            if located.header.last_offset() >= newest.offset {
                let header = &located.header;
                return Ok(header.base_offset <= newest.offset && header.max_timestamp == newest.timestamp);
            }
        }
        Ok(false)
    }

    /// Whether a batch after the one that ends with `offset` is younger than `timestamp`, up to byte `end`: an index that
    /// lost its last entries looks like one of fewer. Where timestamps go up that is one of the last batches, so there is
    /// little to read.
    fn is_younger_after(&self, offset: i64, timestamp: i64, end: u64) -> Result<bool, LogError> {
        let path = || self.log.path();
        let from = self.offset_index.position_before(offset).during("read the index of", path())?;
        let mut scan = self.scan_from(from.min(end), end)?;
        while let Step::Batch(located) = scan.step(i64::MAX).during("read", path())? {
            if located.header.max_timestamp > timestamp && located.header.last_offset() > offset {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks whether the time index of a segment that no longer grows lacks entries, and builds both indexes anew if so.
    pub(super) fn check_newest(&self, interval_bytes: u64) -> Result<(), LogError> {
        leave_unless_waiting().during("read", self.log.path())?;
        let _one = self.loading.lock();
        let offset = self.newest_unchecked.load(Acquire);
        if offset == CHECKED {
            return Ok(());
        }
        let known = self.newest.lock().timestamp;
        if self.is_younger_after(offset, known, self.size())? {
            tracing::warn!(segment = %self.log.path().display(), "the time index lacks entries and is built anew");
            let start = self.reset_indexes()?;
            self.rescan_from(start, None, i64::MAX, interval_bytes, &mut |_| {})?;
        }
        self.newest_unchecked.store(CHECKED, Release);
        self.note_newest();
        self.flush_indexes()
    }

    /// Batches can be read that could not when the segment was loaded, from byte `position` and `offset` on, `youngest` the
    /// youngest of them. Its time index then survives the death of the machine. Nobody appends meanwhile.
    pub(crate) fn note_mended(
        &self,
        position: u64,
        offset: i64,
        youngest: TimestampOffset,
    ) -> Result<(), LogError> {
        let _one = self.loading.lock();
        if position == 0 {
            self.first_timestamp.store(UNKNOWN, Relaxed);
        }
        {
            let mut newest = self.newest.lock();
            if youngest.timestamp > newest.timestamp {
                *newest = youngest;
            }
        }
        let dropped = self.time_index.found_at(offset, youngest.timestamp);
        dropped.during("cut the time index of", self.log.path())?;
        self.note_newest();
        self.flush_indexes()?;
        self.time_index.entries().sync().during("sync the time index of", self.log.path())
    }

    fn reset_indexes(&self) -> Result<u64, LogError> {
        self.offset_index.entries().load(|_, _| false).during("reset the index of", self.log.path())?;
        self.time_index.entries().load(|_, _| false).during("reset the time index of", self.log.path())?;
        self.forget_newest();
        Ok(0)
    }

    /// A walk from the start is to find the largest timestamp.
    fn forget_newest(&self) {
        self.set_newest(TimestampOffset::NONE);
        self.newest_unchecked.store(CHECKED, Release);
    }

    /// Whether a batch starts where an entry of the offset index says, and ends with its offset.
    pub(super) fn is_sound(&self, entry: OffsetEntry) -> Result<bool, LogError> {
        let step = self.scan_from(entry.position, self.size())?.step(i64::MAX);
        let step = step.during("read", self.log.path())?;
        Ok(matches!(step, Step::Batch(located) if located.header.last_offset() == entry.offset))
    }
}
