//! What a leader does in the object store: it deletes what retention says, and uploads full segments.

use super::super::LogManager;
use super::{ask_before_giving_up, deleted, keep_copy, tier_of, with_local};
use crate::events::Level;
use crate::partition::Partition;
use crate::tiers::{PartitionTier, Tiers};
use fastlog_log::Checkpoint;
use fastlog_tiers::{Local, TierError, Writer};
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
            tier.tier.remove_unneeded(tiers.store());
            self.start_where_records_are(partition, &tier)?;
            // no further than the checkpoint says: a start that moved since is written down in the next turn
            let start = partition.log().log_start_offset().min(tier.written_start());
            if tier.tier.trim(tiers.store(), writer, start, local)? > 0 {
                partition.note_tier(&tier);
            }
            if !config.remote_copy || config.restoring {
                return Ok(false);
            }
            if let Some(lost) = ask_before_giving_up(tiers, partition, &tier, now_ms)? {
                tier.tier.note_lost(lost);
            }
            // first: there is always something new to upload where much is written
            let put_back = put_back(tiers, partition, (&tier, writer, local), now_ms);
            if matches!(put_back, Ok(true)) {
                return Ok(true);
            }
            // one that cannot be put back, as it is damaged here too, keeps no other from the store
            let Some(closed) = partition.log().next_to_upload()? else { return put_back };
            tier.tier.add(tiers.store(), writer, &closed, local)?;
            partition.note_tier(&tier);
            if let Err(error) = put_back {
                self.tell_tier(partition, &error, now_ms);
            }
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
        self.write_checkpoint_of_log(log, Checkpoint::LogStart)?;
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
    now_ms: i64,
) -> Result<bool, TierError> {
    for entry in tier.tier.lost() {
        let found = partition.log().closed_segments(entry.base_offset, entry.next_offset, now_ms)?;
        let Some(sources) = found else { continue };
        tier.tier.put_back(tiers.store(), writer, (&entry, &sources), local)?;
        partition.note_tier(tier);
        return Ok(true);
    }
    Ok(false)
}
