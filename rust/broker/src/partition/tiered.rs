//! The part of a partition that lies in an object store.
//!
//! What the log may delete of its disk is said under the lock under which a follower's log is cut: what is told of another
//! history must not come after the cut.

use super::Partition;
use crate::tiers::PartitionTier;
use fastlog_log::{AfterTier, LogError};
use fastlog_tiers::{Manifest, Reader, Tier};
use std::sync::Arc;

impl Partition {
    /// What the store has of it; `None` = it is not tiered.
    pub(crate) fn tier(&self) -> Option<Arc<PartitionTier>> {
        self.tier.load_full()
    }

    /// Takes what the store has into use.
    pub(crate) fn set_tier(self: &Arc<Self>, tier: Tier, reader: &Arc<Reader>) -> Arc<PartitionTier> {
        let tier = Arc::new(PartitionTier::new(tier, Arc::clone(reader), Arc::downgrade(self)));
        self.tier.store(Some(Arc::clone(&tier)));
        tier
    }

    /// Up to where a manifest is the history of the log here.
    pub(crate) fn agreed_end(&self, manifest: &Manifest) -> i64 {
        let offsets = manifest.start_offset().zip(manifest.end_offset());
        offsets.map_or(i64::MIN, |(start, end)| self.log.agreed_end(&manifest.epochs(), start, end))
    }

    /// The manifest in force may be another: what of it is the history of the log here may be read, and go from the disk.
    pub(crate) fn note_tier(&self, tier: &PartitionTier) {
        let _changing = self.changing.lock();
        self.compare_tier(tier);
    }

    fn compare_tier(&self, tier: &PartitionTier) {
        tier.tier.compare(&|it: &Manifest| self.agreed_end(it));
        // First what is to stay: local retention may run at any time.
        self.log.set_keep_from(tier.tier.keep_from(self.log.local_log_start_offset()));
        self.log.set_tiered_end(tier.tier.range().map(|it| it.end_offset));
    }

    /// Drops everything and begins where the store ends, as a follower of the leader of that epoch. Blocks, but where
    /// the log stands still for long (`StandsStill`).
    pub(crate) fn restart_after_tier(
        self: &Arc<Self>,
        leader_epoch: i32,
        begin: &AfterTier,
        tier: &PartitionTier,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let changing = self.log.lock_patiently(&self.changing)?;
        self.check_follows(leader_epoch)?;
        self.log.restart_after_tier(begin, now_ms, checkpoint)?;
        self.compare_tier(tier);
        drop(changing);
        if self.log.syncs_appends() {
            // as where it starts anew: nothing else would ask
            self.ask_for_sync();
        }
        self.notify();
        Ok(())
    }

    /// The store has nothing of it any more.
    pub(crate) fn drop_tier(&self) {
        self.tier.store(None);
    }
}
