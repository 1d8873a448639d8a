//! `.index`: offset → position in the segment, sparse.
//!
//! 8 bytes an entry, big-endian: offset relative to the segment's base 4 | position 4. As in Kafka an entry holds the
//! *last* offset of a batch and the position where that batch starts. A hint, never trusted: the batch header at the
//! position decides.

use std::io;

use super::entry_file::EntryFile;
use crate::file_system::LazyFile;

const ENTRY_BYTES: usize = 8;

/// The last offset of a batch and where the batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: i64,
    pub(crate) position: u64,
}

#[derive(Debug)]
pub(crate) struct OffsetIndex {
    base_offset: i64,
    entries: EntryFile<ENTRY_BYTES>,
}

impl OffsetIndex {
    pub(crate) fn new(base_offset: i64, file: LazyFile) -> Self {
        Self { base_offset, entries: EntryFile::new(file) }
    }

    pub(crate) fn entries(&self) -> &EntryFile<ENTRY_BYTES> {
        &self.entries
    }

    /// Keeps the entries that ascend and point into a segment of `size` bytes. Kafka never writes an entry for the
    /// first batch, so a position of 0 is no entry but padding.
    pub(crate) fn load(&self, size: u64) -> io::Result<()> {
        // what is cut off is found again by the walk from the last entry on
        let _is_whole = self.entries.load(|last, entry| {
            let last = last.map(|last| self.decode(last));
            let entry = self.decode(entry);
            let (offset, position) =
                last.map_or((self.base_offset - 1, 0), |last| (last.offset, last.position));
            entry.offset > offset && entry.position > position && entry.position < size
        })?;
        Ok(())
    }

    pub(crate) fn last(&self) -> Option<OffsetEntry> {
        self.entries.last().map(|entry| self.decode(&entry))
    }

    /// The offset must fit in 31 bits from the base and the position in 32, which the roll rules see to.
    pub(crate) fn append(&self, entry: OffsetEntry) {
        let mut bytes = [0; ENTRY_BYTES];
        let (offset, position) = bytes.split_at_mut(4);
        offset.copy_from_slice(&((entry.offset - self.base_offset) as u32).to_be_bytes());
        position.copy_from_slice(&(entry.position as u32).to_be_bytes());
        self.entries.push(bytes);
    }

    /// Where to start to look for the batch that holds `offset`.
    pub(crate) fn position_before(&self, offset: i64) -> io::Result<u64> {
        let found = self.entries.last_where(|entry| self.decode(entry).offset <= offset)?;
        Ok(found.map_or(0, |(_, entry)| self.decode(&entry).position))
    }

    /// Where a batch starts at or before `position`.
    pub(crate) fn batch_start_before(&self, position: u64) -> io::Result<u64> {
        let found = self.entries.last_where(|entry| self.decode(entry).position <= position)?;
        Ok(found.map_or(0, |(_, entry)| self.decode(&entry).position))
    }

    /// The first entry of a batch that starts at `position` or later.
    pub(crate) fn entry_from(&self, position: u64) -> io::Result<Option<OffsetEntry>> {
        let before = self.entries.last_where(|entry| self.decode(entry).position < position)?;
        let next = self.entries.get(before.map_or(0, |(number, _)| number + 1))?;
        Ok(next.map(|entry| self.decode(&entry)))
    }

    /// Drops entries of batches that reach `offset` or beyond.
    pub(crate) fn truncate_to(&self, offset: i64) -> io::Result<()> {
        let kept = self.entries.last_where(|entry| self.decode(entry).offset < offset)?;
        self.entries.truncate(kept.map_or(0, |(number, _)| number + 1))
    }

    fn decode(&self, entry: &[u8; ENTRY_BYTES]) -> OffsetEntry {
        let [a, b, c, d, e, f, g, h] = *entry;
        OffsetEntry {
            offset: self.base_offset + i64::from(i32::from_be_bytes([a, b, c, d])),
            position: u64::from(u32::from_be_bytes([e, f, g, h])),
        }
    }
}
