//! What a leader does in the object store: it deletes what retention says, and uploads full segments.

use super::super::LogManager;
use super::{ask_before_giving_up, deleted, keep_copy, tier_of, with_local};
use crate::events::Level;
use crate::partition::Partition;
use crate::tiers::{PartitionTier, Tiers};
use fastlog_log::{Checkpoint, LogConfig};
use fastlog_tiers::{Entry, Local, Manifest, TierError, Writer};
use std::sync::Arc;

impl LogManager {
    /// True = a segment was uploaded, and there may be another one.
    pub(super) fn lead_tier(
        &self,
        tiers: &Tiers,
        partition: &Arc<Partition>,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<bool, TierError> {
        let (node_id, is_clustered) = (self.broker.config.node_id, tiers.is_clustered());
        let writer = Writer { node_id, leader_epoch, is_clustered };
        let tier = tier_of(tiers, partition)?;
        let config = partition.log().config();
        if !config.remote_storage {
            return self.give_up_tier(tiers, partition, &tier).map(|()| false);
        }
        keep_copy(partition, &tier)?;
        with_local(partition, |local| {
            tier.tier.attach(tiers.store(), writer, local)?;
            partition.note_tier(&tier);
            self.start_where_records_are(partition, &tier)?;
            self.delete_by_retention(tiers, partition, (&tier, writer, local), now_ms)?;
            if !config.remote_copy || config.restoring {
                return Ok(false);
            }
            if let Some(lost) = ask_before_giving_up(tiers, partition, &tier, now_ms)? {
                tier.tier.note_lost(lost);
            }
            let Some(closed) = partition.log().next_to_upload()? else {
                return put_back(tiers, partition, (&tier, writer, local));
            };
            tier.tier.add(tiers.store(), writer, &closed, local)?;
            partition.note_tier(&tier);
            Ok(true)
        })
    }

    /// The leaders before may have deleted more than this log knows. And where unclean elections took what lay between the
    /// store and the disk, the log begins on the disk: an offset without a record would stop every reader.
    fn start_where_records_are(&self, partition: &Partition, tier: &PartitionTier) -> Result<(), TierError> {
        let log = partition.log();
        let mut start = tier.tier.whole().log_start_offset;
        let local = log.local_log_start_offset();
        let end = tier.tier.range().map_or(i64::MIN, |it| it.end_offset);
        if end < local && log.log_start_offset() < local {
            let fields = vec![
                ("topic", partition.topic().to_string()),
                ("partition", partition.index().to_string()),
                ("until_offset", local.to_string()),
            ];
            let message = "records are neither in the object store nor on the disk, as after unclean elections: the log \
                           starts behind them";
            self.broker.events().push(Level::Error, message, fields);
            start = local;
        }
        if start > log.log_start_offset() && log.advance_start(start)? {
            partition.notify();
        }
        Ok(())
    }

    fn delete_by_retention(
        &self,
        tiers: &Tiers,
        partition: &Partition,
        (tier, writer, local): (&PartitionTier, Writer, &Local<'_>),
        now_ms: i64,
    ) -> Result<(), TierError> {
        let log = partition.log();
        if let Some(start) = start_by_retention(partition, &tier.tier.manifest(), &log.config(), now_ms)
            && log.advance_start(start)?
        {
            partition.notify();
        }
        if tier.tier.range().is_some_and(|it| it.start_offset < log.log_start_offset()) {
            self.write_checkpoint(Checkpoint::LogStart)?;
            tier.tier.trim(tiers.store(), writer, log.log_start_offset(), local)?;
            partition.note_tier(tier);
        }
        Ok(())
    }

    /// The topic is no longer tiered: the log begins on the disk, and the store forgets it. Not in a cluster, where the
    /// setting is refused: each replica has another part of the log on its disk.
    fn give_up_tier(
        &self,
        tiers: &Tiers,
        partition: &Partition,
        tier: &PartitionTier,
    ) -> Result<(), TierError> {
        if tiers.is_clustered() {
            return Ok(());
        }
        let log = partition.log();
        if log.advance_start(log.local_log_start_offset())? {
            partition.notify();
        }
        self.write_checkpoint(Checkpoint::LogStart)?;
        log.set_tiered_end(None);
        tier.tier.remove_all(tiers.store())?;
        deleted::remove_copy(&log.storage(), &log.directory())?;
        partition.drop_tier();
        Ok(())
    }
}

/// Uploads again one segment that the store lost and the disk has. True = it did, and there may be another one.
fn put_back(
    tiers: &Tiers,
    partition: &Partition,
    (tier, writer, local): (&PartitionTier, Writer, &Local<'_>),
) -> Result<bool, TierError> {
    for entry in tier.tier.lost() {
        let Some(sources) = partition.log().closed_segments(entry.base_offset, entry.next_offset)? else {
            continue;
        };
        tier.tier.put_back(tiers.store(), writer, (&entry, &sources), local)?;
        partition.note_tier(tier);
        return Ok(true);
    }
    Ok(false)
}

/// Where the log should start by `retention.ms` and `retention.bytes` of the whole log, as far as that takes uploaded
/// segments; `None` = nothing is to go. What is on the disk only goes when it is uploaded, and by these rules then.
fn start_by_retention(
    partition: &Partition,
    manifest: &Manifest,
    config: &LogConfig,
    now_ms: i64,
) -> Option<i64> {
    if !config.cleanup_delete || config.restoring {
        return None;
    }
    let expired = |it: &&Entry| {
        let age_ms = now_ms.saturating_sub(it.max_timestamp);
        // one without timestamps stays until its size or DeleteRecords removes it
        config.retention_ms >= 0 && it.max_timestamp >= 0 && age_ms > config.retention_ms
    };
    let by_time = manifest.segments.iter().take_while(expired).last();
    let mut excess = u64::try_from(config.retention_bytes).map_or(0, |limit| {
        let local = partition.log().size_bytes_from(manifest.end_offset().unwrap_or(i64::MIN));
        (manifest.size_bytes() + local).saturating_sub(limit)
    });
    let by_size = manifest.segments.iter().take_while(|it| {
        let fits = excess >= it.log_bytes && excess > 0;
        excess = excess.saturating_sub(it.log_bytes);
        fits
    });
    let ends = [by_time, by_size.last()].into_iter().flatten().map(|it| it.next_offset);
    ends.max()
}
