//! The first half of a pass: the last offset of each key in the dirty part.

use std::ops::ControlFlow;
use std::sync::Arc;

use fastlog_protocol::batch::records;

use super::{OffsetMap, Pass, Transactions};
use crate::error::{During, LogError};
use crate::segment::Segment;
use crate::segment::scan::{BatchScan, Located, Step};

/// Keys that are noted together: enough for the memory to be asked for many at a time, whatever a batch holds.
const KEYS_AT_ONCE: usize = 1024;

impl Pass<'_> {
    /// Reads `[from, upper)` until memory is used up; the map tells how far it came. Records of aborted transactions count
    /// for nothing.
    pub(super) fn build_map(
        &mut self,
        from: i64,
        upper: i64,
        transactions: &mut Transactions,
    ) -> Result<OffsetMap, LogError> {
        let list = self.log.segments();
        let key_count = u64::try_from(upper.saturating_sub(from)).unwrap_or(0);
        let mut map = OffsetMap::new(key_count, self.limits.map_bytes_max, self.limits.load_factor);
        for (segment, next_base) in list.holding(from) {
            let Some(next_base) = next_base.filter(|next| *next <= upper) else { break };
            if !self.map_segment(segment, from, &mut map, transactions)? {
                return Ok(map);
            }
            // what an earlier pass took from the segment's end is clean too
            map.reached(next_base - 1);
        }
        Ok(map)
    }

    /// False = memory is used up.
    fn map_segment(
        &mut self,
        segment: &Arc<Segment>,
        from: i64,
        map: &mut OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<bool, LogError> {
        segment.ensure_loaded(self.log.config().index_interval_bytes)?;
        let mut entries = Vec::with_capacity(KEYS_AT_ONCE);
        let mut scan = segment.scan_from(0, segment.size())?;
        while let Some(located) = self.next_batch(segment, &mut scan)? {
            let header = &located.header;
            let batch = scan.batch(&located).during("read", segment.log.path())?;
            if header.attributes.is_control() {
                transactions.note_control(header, batch);
            } else if !transactions.note_batch(header) && header.last_offset() >= from {
                let mut has_room = true;
                let read = records(batch, |record| {
                    if let Some(key) = record.key.filter(|_| record.offset >= from) {
                        entries.push((map.hash(key), record.offset));
                    }
                    if entries.len() == KEYS_AT_ONCE {
                        has_room = map.put_all(&mut entries);
                    }
                    if has_room { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                read.map_err(|error| segment.unreadable(&located, error.to_string()))?;
                if !has_room || !map.put_all(&mut entries) {
                    return Ok(false);
                }
            }
            if header.last_offset() >= from {
                map.reached(header.last_offset());
            }
        }
        Ok(true)
    }

    /// The next batch of a segment, whose CRC fits; damage is an error, since what a copy leaves out is gone.
    pub(super) fn next_batch(
        &mut self,
        segment: &Segment,
        scan: &mut BatchScan,
    ) -> Result<Option<Located>, LogError> {
        match scan.step(i64::MIN).during("read", segment.log.path())? {
            Step::End => Ok(None),
            Step::Batch(located) => {
                let bytes = located.header.size_bytes() as u64;
                self.done.bytes_read += bytes;
                self.note_bytes(bytes)?;
                Ok(Some(located))
            }
            Step::Bad(bad) => {
                let damage = segment.note_damage(&bad, scan.offset_min(), scan.leader_epoch())?;
                Err(segment.corrupt(&damage))
            }
        }
    }
}
