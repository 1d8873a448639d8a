//! Offsets by time in the store. The manifest tells which segment, the lookup which chunk; only that is read.

use std::ops::ControlFlow;

use fastlog_log::TimestampedOffset;
use fastlog_log::file_system::read_exact_at;
use fastlog_protocol::batch::{BatchHeader, batches, records};

use crate::cache::CachedChunk;
use crate::error::TierError;
use crate::manifest::Manifest;
use crate::reader::Reader;
use crate::tier::Tier;

/// The largest timestamp of segments that have offsets in `[from, until)`; `None` = none has one.
pub fn max_timestamp(manifest: &Manifest, from: i64, until: i64) -> Option<i64> {
    let within = manifest.from(from).take_while(|it| it.base_offset < until);
    within.map(|it| it.max_timestamp).max().filter(|timestamp| *timestamp >= 0)
}

impl Reader {
    /// The first record of `[from, until)` whose timestamp is at least `timestamp`, as far as the store has them. Blocks.
    pub fn offset_for_timestamp(
        &self,
        tier: &Tier,
        timestamp: i64,
        from: i64,
        until: i64,
    ) -> Result<Option<TimestampedOffset>, TierError> {
        self.search(tier, timestamp, from, until).inspect_err(|error| {
            tracing::warn!(%error, timestamp, prefix = tier.prefix(), "an offset could not be looked for");
        })
    }

    fn search(
        &self,
        tier: &Tier,
        timestamp: i64,
        from: i64,
        until: i64,
    ) -> Result<Option<TimestampedOffset>, TierError> {
        let manifest = tier.manifest();
        let within = manifest.from(from).take_while(|it| it.base_offset < until);
        for entry in within.filter(|it| it.max_timestamp >= timestamp) {
            let (lookup, until) = (self.load_lookup(tier.prefix(), entry)?, until.min(entry.next_offset));
            for (number, chunk) in lookup.chunks.iter().enumerate() {
                if chunk.max_timestamp < timestamp || chunk.base_offset >= until {
                    continue;
                }
                let Some(chunk) = self.load_chunk(tier.prefix(), entry, &lookup, number)? else { continue };
                // beyond is what was cut off, or what the next segment has
                if let Some(found) = first_in(&chunk, timestamp, from)?.filter(|it| it.offset < until) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }
}

fn first_in(chunk: &CachedChunk, timestamp: i64, from: i64) -> Result<Option<TimestampedOffset>, TierError> {
    let mut bytes = vec![0; chunk.length];
    read_exact_at(&*chunk.file, &mut bytes, 0)
        .map_err(|error| TierError::local("read what came from the store", &error))?;
    for batch in batches(&bytes).flatten() {
        let Ok(header) = BatchHeader::parse(batch) else { continue };
        if header.max_timestamp < timestamp || header.last_offset() < from {
            continue;
        }
        let mut found = None;
        let leader_epoch = header.partition_leader_epoch;
        let read = records(batch, |record| {
            if record.timestamp < timestamp || record.offset < from {
                return ControlFlow::Continue(());
            }
            let (offset, timestamp) = (record.offset, record.timestamp);
            found = Some(TimestampedOffset { offset, timestamp, leader_epoch });
            ControlFlow::Break(())
        });
        // a batch whose records do not read has none: the client that fetches it will see that
        if read.is_ok() && found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
