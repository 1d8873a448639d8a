//! The second half of a pass: copies the segments of a group into one, without what nobody needs.

use std::io::IoSlice;
use std::sync::Arc;

use fastlog_protocol::batch::BatchHeader;

use super::filter::{Filter, Outcome};
use super::group::Group;
use super::{OffsetMap, Pass, Transactions};
use crate::error::{During, LogError};
use crate::file_system::{FileHandle, write_all_at};
use crate::segment::Segment;
use crate::segment::scan::Located;

/// The copy as it grows.
struct Copy {
    segment: Segment,
    /// Held open: the name may be another's by the time it is opened again.
    file: Arc<dyn FileHandle>,
    buffer: Vec<u8>,
    /// Where the buffer's first byte goes.
    position: u64,
    since_entry: u64,
    /// The copy differs from what was read.
    changed: bool,
}

impl Pass<'_> {
    /// Copies the group and puts the copy in its place, unless that would change nothing.
    pub(super) fn clean_group(
        &mut self,
        group: &Group,
        map: &OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<(), LogError> {
        self.done.segments_before += group.segments.len();
        self.done.segments_after += 1;
        let Some(first) = group.segments.first() else { return Ok(()) };
        let segment = self.log.create_copy(first.base_offset, group.created_ms())?;
        let mut copy = Copy {
            file: segment.file()?,
            segment,
            buffer: Vec::with_capacity(self.limits.write_bytes),
            position: 0,
            since_entry: 0,
            changed: group.segments.len() > 1,
        };
        let copied = self.copy_group(group, &mut copy, map, transactions);
        match copied {
            Ok(()) if copy.changed => self.log.swap_in(&group.segments, group.next_base, copy.segment, self),
            Ok(()) => self.log.discard_copy(&copy.segment),
            Err(error) => {
                // best effort: the next start removes what is left
                let _ = self.log.discard_copy(&copy.segment);
                Err(error)
            }
        }
    }

    fn copy_group(
        &mut self,
        group: &Group,
        copy: &mut Copy,
        map: &OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<(), LogError> {
        let mut filter = Filter {
            map,
            transactions,
            producers: self.log.last_of_producers(),
            now_ms: self.now_ms,
            delete_retention_ms: self.log.config().delete_retention_ms,
            plain: Vec::new(),
            hashes: Vec::new(),
            kept: Vec::new(),
        };
        self.copy_all(group, copy, &mut filter)?;
        self.finish(group, copy)
    }

    fn copy_all(&mut self, group: &Group, copy: &mut Copy, filter: &mut Filter<'_>) -> Result<(), LogError> {
        let last_with_batches = group.segments.iter().rposition(|segment| segment.size() > 0);
        for (number, segment) in group.segments.iter().enumerate() {
            let mut scan = segment.scan_from(0, segment.size())?;
            while let Some(located) = self.next_batch(segment, &mut scan)? {
                let is_last = Some(number) == last_with_batches && located.end() == segment.size();
                let batch = scan.batch(&located).during("read", segment.log.path())?;
                let from = copy.buffer.len();
                let outcome = filter
                    .batch(&located.header, batch, is_last, &mut copy.buffer)
                    .map_err(|error| segment.unreadable(&located, error.to_string()))?;
                self.account(copy, &located, &outcome, from)?;
            }
        }
        Ok(())
    }

    /// Indexes what was put at `from` of the buffer, and writes the buffer when it is full.
    fn account(
        &mut self,
        copy: &mut Copy,
        located: &Located,
        outcome: &Outcome,
        from: usize,
    ) -> Result<(), LogError> {
        self.done.records_read += u64::try_from(located.header.record_count).unwrap_or(0);
        self.done.records_kept += u64::try_from(outcome.kept).unwrap_or(0);
        copy.changed |= outcome.changed;
        let path = || copy.segment.log.path();
        if let Some(aborted) = outcome.aborted {
            let written = copy.segment.txn_index.append(aborted);
            written.during("write", path()).map_err(|error| self.log.write_failed(error))?;
        }
        if !outcome.stays {
            return Ok(());
        }
        let position = copy.position + from as u64;
        let bytes = copy.buffer.get(from..).unwrap_or_default();
        let header =
            BatchHeader::parse(bytes).map_err(|error| copy.segment.unreadable(located, error.to_string()))?;
        if position + bytes.len() as u64 > i32::MAX as u64 {
            // Kafka's tools could not read it; only records coded anew can have grown so much
            let reason = format!("the copy of {} would be larger than 2 GiB", path().display());
            return Err(LogError::Invalid { reason });
        }
        let interval = self.log.config().index_interval_bytes;
        let indexed = copy.segment.index_batch(&header, position, &mut copy.since_entry, interval);
        indexed.map_err(|error| self.log.write_failed(error))?;
        if copy.buffer.len() >= self.limits.write_bytes { self.write(copy) } else { Ok(()) }
    }

    fn write(&mut self, copy: &mut Copy) -> Result<(), LogError> {
        let bytes = copy.buffer.len() as u64;
        let written = write_all_at(&*copy.file, &mut [IoSlice::new(&copy.buffer)], copy.position);
        written.during("write", copy.segment.log.path()).map_err(|error| self.log.write_failed(error))?;
        copy.position += bytes;
        copy.buffer.clear();
        self.done.bytes_written += bytes;
        self.note_bytes(bytes)
    }

    /// Writes what is left, and has all of it on the disk.
    fn finish(&mut self, group: &Group, copy: &mut Copy) -> Result<(), LogError> {
        self.write(copy)?;
        // at the latest here: a pass that changed nothing needs no sync
        if !copy.changed {
            return Ok(());
        }
        let segment = &copy.segment;
        segment.set_size(copy.position);
        let first = group.segments.first().map(|first| first.txn_index.is_used());
        let has_index = first.transpose().during("read the transaction index of", segment.log.path())?;
        let sealed = segment.seal(false).and_then(|()| {
            // an empty one too: it takes the place of the original's when the swap is completed after a crash
            if has_index == Some(true) {
                segment.txn_index.create().during("make", segment.log.path())
            } else {
                Ok(())
            }
        });
        sealed.map_err(|error| self.log.write_failed(error))?;
        segment.sync().inspect_err(|error| self.log.sync_failed(error))?;
        segment.set_loaded();
        Ok(())
    }
}
