//! `.timeindex`: the largest timestamp so far → the offset that has it, sparse.
//!
//! 12 bytes an entry, big-endian: timestamp 8 | offset relative to the segment's base 4. Timestamps ascend strictly
//! although those of records need not: an entry says "no record up to and with this batch is younger". The offset is
//! the last one of the batch that holds the record, as in Kafka.

use std::io;

use super::entry_file::EntryFile;
use crate::file_system::LazyFile;

const ENTRY_BYTES: usize = 12;

/// A timestamp and the last offset of the batch that has it; −1 and −1 before the first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimestampOffset {
    pub(crate) timestamp: i64,
    pub(crate) offset: i64,
}

impl TimestampOffset {
    pub(crate) const NONE: Self = Self { timestamp: -1, offset: -1 };
}

#[derive(Debug)]
pub(crate) struct TimeIndex {
    base_offset: i64,
    entries: EntryFile<ENTRY_BYTES>,
}

impl TimeIndex {
    pub(crate) fn new(base_offset: i64, file: LazyFile) -> Self {
        Self { base_offset, entries: EntryFile::new(file) }
    }

    pub(crate) fn entries(&self) -> &EntryFile<ENTRY_BYTES> {
        &self.entries
    }

    /// Keeps the entries that ascend in timestamp and in offset; false = not all did, and the largest timestamp is not
    /// known.
    pub(crate) fn load(&self) -> io::Result<bool> {
        self.entries.load(|last, entry| {
            let last = last.map_or(TimestampOffset { timestamp: -1, offset: self.base_offset - 1 }, |last| {
                self.decode(last)
            });
            let entry = self.decode(entry);
            entry.timestamp > last.timestamp && entry.offset > last.offset
        })
    }

    pub(crate) fn last(&self) -> Option<TimestampOffset> {
        self.entries.last().map(|entry| self.decode(&entry))
    }

    /// Adds an entry unless its timestamp is no larger than the last one's.
    pub(crate) fn maybe_append(&self, entry: TimestampOffset) {
        if entry.timestamp <= self.last().map_or(-1, |last| last.timestamp) {
            return;
        }
        let mut bytes = [0; ENTRY_BYTES];
        let (timestamp, offset) = bytes.split_at_mut(8);
        timestamp.copy_from_slice(&entry.timestamp.to_be_bytes());
        offset.copy_from_slice(&((entry.offset - self.base_offset) as u32).to_be_bytes());
        self.entries.push(bytes);
    }

    /// The last entry that is older than `timestamp`: if it is sound, so is every record before its offset.
    pub(crate) fn last_before(&self, timestamp: i64) -> io::Result<Option<TimestampOffset>> {
        // Strictly older: the batch of an entry with this very timestamp may hold the first record to have it.
        let found = self.entries.last_where(|entry| self.decode(entry).timestamp < timestamp)?;
        Ok(found.map(|(_, entry)| self.decode(&entry)))
    }

    /// Drops entries of batches that reach `offset` or beyond.
    pub(crate) fn truncate_to(&self, offset: i64) -> io::Result<()> {
        let kept = self.entries.last_where(|entry| self.decode(entry).offset < offset)?;
        self.entries.truncate(kept.map_or(0, |(number, _)| number + 1))
    }

    /// Batches from `offset` on that nobody had seen are as young as `timestamp`: drops the entries behind it that say that
    /// none is, and with them those that follow.
    pub(crate) fn found_at(&self, offset: i64, timestamp: i64) -> io::Result<()> {
        let number = |found: Option<(u64, _)>| found.map_or(0, |(number, _)| number + 1);
        let before = number(self.entries.last_where(|entry| self.decode(entry).offset < offset)?);
        let wrong = number(self.entries.last_where(|entry| {
            let entry = self.decode(entry);
            entry.offset < offset || entry.timestamp < timestamp
        })?);
        if wrong > before { self.entries.truncate(before) } else { Ok(()) }
    }

    fn decode(&self, entry: &[u8; ENTRY_BYTES]) -> TimestampOffset {
        let [t0, t1, t2, t3, t4, t5, t6, t7, o0, o1, o2, o3] = *entry;
        TimestampOffset {
            timestamp: i64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            offset: self.base_offset + i64::from(i32::from_be_bytes([o0, o1, o2, o3])),
        }
    }
}
