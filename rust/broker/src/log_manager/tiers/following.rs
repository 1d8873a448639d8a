//! What a follower reads in the object store: what its leader uploaded and deleted, by which it deletes of its own disk, and
//! leads when its time comes.
//!
//! A listing costs money, and most partitions are idle. So a follower looks only where something of its own says that
//! there may be news, and less and less often where there is none. What it does not know of stays on its disk; who comes
//! to lead looks anyway.

use super::{ask_before_giving_up, keep_copy, tier_of, with_local};
use crate::partition::Partition;
use crate::tiers::{News, PartitionTier, Tiers};
use fastlog_tiers::TierError;
use std::sync::Arc;

pub(super) fn follow_tier(tiers: &Tiers, partition: &Arc<Partition>, now_ms: i64) -> Result<(), TierError> {
    let tier = tier_of(tiers, partition)?;
    // whatever it looked at: what the store has of a topic that is deleted is removed by it
    keep_copy(partition, &tier)?;
    let news = news(partition, &tier);
    if tier.looks().is_due(news) {
        with_local(partition, |local| tier.tier.follow(tiers.store(), local))?;
        tier.looks().looked();
    }
    // also where nothing came: the log has more by now than when it was compared last
    partition.note_tier(&tier);
    let lost = ask_before_giving_up(tiers, partition, &tier, now_ms)?;
    tier.looks().note_lost(lost.as_ref().map(|it| it.entry.id));
    // one that it looked for already: neither was it deleted nor uploaded again
    if let Some(lost) = lost.filter(|it| news.lost == Some(it.entry.id)) {
        tier.tier.note_lost(lost);
    }
    Ok(())
}

/// What says that the leader may have changed something in the store.
fn news(partition: &Partition, tier: &PartitionTier) -> News {
    let log = partition.log();
    let start = log.log_start_offset();
    let known_end = tier.tier.range().map_or(start, |it| it.end_offset.max(start));
    let full_end = log.full_end_offset().min(log.high_watermark());
    let whole = tier.tier.whole();
    let looks = tier.looks();
    News {
        leader_epoch: partition.role().leader_epoch,
        uploaded: Some(full_end).filter(|end| *end > known_end && log.config().remote_copy),
        deleted: whole.segments.first().filter(|it| it.next_offset <= start).map(|_| start),
        lost: looks.lost(),
        unread: looks.unread().filter(|version| *version == whole.version),
    }
}
