//! The part of a partition that lies in an object store.

use super::Partition;
use crate::tiers::PartitionTier;
use fastlog_tiers::{Reader, Tier};
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

    /// The store has nothing of it any more.
    pub(crate) fn drop_tier(&self) {
        self.tier.store(None);
    }
}
