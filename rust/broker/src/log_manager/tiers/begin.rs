//! A follower whose leader answers that only the object store has what comes next (OFFSET_MOVED_TO_TIERED_STORAGE): it begins
//! where an uploaded segment ends, with epochs and producers from the store. They are fetched by threads that may wait for
//! the store, so that the other partitions of that leader do not.

use super::super::LogManager;
use super::{tier_of, with_local};
use crate::partition::Partition;
use crate::tiers::Begin;
use fastlog_log::{AfterTier, LogError};
use std::sync::Arc;

impl LogManager {
    /// Has a follower begin behind what only the store has. `local_start_offset` is where its leader's disk begins,
    /// `log_start_offset` where its whole log does. False: what is needed is on its way; ask again. An error says why it
    /// could not be had; asking again tries again.
    pub fn begin_after_tier(
        &self,
        (topic, index): (&str, i32),
        leader_epoch: i32,
        local_start_offset: i64,
        log_start_offset: i64,
        now_ms: i64,
    ) -> Result<bool, LogError> {
        let partition = self.open_replica(topic, index)?;
        let tiers = self.broker.tiers().ok_or_else(|| LogError::Invalid {
            reason: format!(
                "the leader of {topic}-{index} has records in an object store only, and none is set here: set \
                 remote.log.storage.system.enable and fastlog.remote.store.url on every broker"
            ),
        })?;
        let invalid = |reason: String| LogError::Invalid { reason };
        let tier = tier_of(tiers, &partition).map_err(|error| invalid(error.to_string()))?;
        match tier.take_begin(local_start_offset) {
            Begin::Ready(begin) => {
                let begin = AfterTier { log_start_offset: log_start_offset.min(begin.offset), ..begin };
                self.lower_cleaner_checkpoint(partition.log(), log_start_offset)?;
                let checkpoint = || self.checkpoint_ends(partition.log());
                partition.restart_after_tier(leader_epoch, &begin, &tier, now_ms, checkpoint)?;
                Ok(true)
            }
            Begin::Failed(reason) => Err(invalid(reason)),
            Begin::Asked => Ok(false),
            begin @ (Begin::Idle | Begin::Late) => {
                let (asked, store) = (Arc::clone(&tier), tiers.store_handle());
                // Where the leader's disk begins, so that the disks have the same. Where that moved on before anything was
                // fetched, the end of what is uploaded: a leader that deletes at once is not caught up with else (KIP-1023).
                let is_late = matches!(begin, Begin::Late) || has_only_begun(&partition);
                let is_asked = tier.call(move || {
                    let found =
                        with_local(&partition, |local| asked.tier.follow(&*store, local)).and_then(|_| {
                            let end = asked.tier.whole().end_offset().filter(|_| is_late);
                            let offset = end.map_or(local_start_offset, |end| end.max(local_start_offset));
                            asked.tier.after(&*store, offset)
                        });
                    asked
                        .set_begin(found.map_or_else(|error| Begin::Failed(error.to_string()), Begin::Ready));
                });
                if !is_asked {
                    tier.set_begin(Begin::Idle);
                }
                Ok(false)
            }
        }
    }
}

/// Whether a log begins behind the store, and has nothing yet.
fn has_only_begun(partition: &Partition) -> bool {
    let log = partition.log();
    let end = log.log_end_offset();
    log.tiered_end() == Some(end) && log.local_log_start_offset() == end
}
