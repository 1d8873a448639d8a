//! Where the logs of tiered topics start by the retention of the whole log. The store is not asked: what is to go goes from
//! the disk also while the store is away, and from the store when it is back.
//!
//! Crash points. The starts of all partitions move first, then they are written down, once for all of a directory, and
//! only then does the store forget what lies below.

use super::super::LogManager;
use super::super::directories::has;
use super::tier_of;
use crate::events::Level;
use crate::partition::{Duty, Partition};
use crate::tiers::Tiers;
use fastlog_log::{Checkpoint, LogConfig, LogError};
use fastlog_tiers::{Entry, Manifest, TierError};
use std::sync::Arc;

impl LogManager {
    /// Moves the starts of what is led here as retention says, and writes them down.
    pub(super) fn move_starts(&self, tiers: &Tiers, due: &[Arc<Partition>], now_ms: i64) {
        let mut moved = Vec::new();
        for partition in due {
            // one that is handed over comes in the next turn
            let Some(_not_handed_over) = self.moves.claim(partition) else { continue };
            if self.is_to_be_moved(partition) || partition.role().duty != Duty::Leader {
                continue;
            }
            match move_start(tiers, partition, now_ms) {
                Ok(()) => {}
                Err(error) => self.tell_tier(partition, &error, now_ms),
            }
            let Some(tier) = partition.tier() else { continue };
            let start = partition.log().log_start_offset();
            let is_below = |it: &Entry| it.next_offset <= start;
            if tier.tier.whole().segments.first().is_some_and(is_below) && tier.written_start() != start {
                moved.push((partition, tier, start));
            }
        }
        let Ok(directories) = self.directories() else { return };
        for directory in directories.healthy() {
            let moved: Vec<_> = moved.iter().filter(|(it, ..)| has(directory, it.log())).collect();
            if moved.is_empty() {
                continue;
            }
            match self.write_checkpoint_in_turn(directory, Checkpoint::LogStart) {
                Ok(()) => moved.iter().for_each(|(_, tier, start)| tier.note_written_start(*start)),
                Err(error) => self.tell_unwritten(&error),
            }
        }
    }

    fn tell_unwritten(&self, error: &LogError) {
        let message = "where logs start could not be written down, it is tried again; until then the object store keeps what \
                       lies below";
        self.broker.events().push(Level::Error, message, vec![("reason", error.to_string())]);
    }
}

fn move_start(tiers: &Tiers, partition: &Arc<Partition>, now_ms: i64) -> Result<(), TierError> {
    let log = partition.log();
    let config = log.config();
    if !config.remote_storage || !config.cleanup_delete || config.restoring {
        return Ok(());
    }
    let manifest = tier_of(tiers, partition)?.tier.manifest();
    let start = uploaded_until(partition, &manifest, &config, now_ms)
        .max(full_until(partition, &manifest, &config, now_ms)?);
    if let Some(start) = start
        && log.advance_start(start)?
    {
        partition.notify();
    }
    Ok(())
}

/// Up to where `retention.ms` and `retention.bytes` take uploaded segments; `None` = nothing is to go.
fn uploaded_until(
    partition: &Partition,
    manifest: &Manifest,
    config: &LogConfig,
    now_ms: i64,
) -> Option<i64> {
    let by_time = manifest.segments.iter().take_while(|it| is_expired(it, config, now_ms)).last();
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

/// The same of full segments that could not be uploaded until now, as the store is away or does not take them: they go when
/// all that is uploaded does. A disk that waits for a store has to have room for `retention.*`, and no more.
fn full_until(
    partition: &Partition,
    manifest: &Manifest,
    config: &LogConfig,
    now_ms: i64,
) -> Result<Option<i64>, LogError> {
    let (by_time, by_size) = partition.log().full_retention_ends(now_ms)?;
    let is_all_expired = manifest.segments.iter().all(|it| is_expired(it, config, now_ms));
    let uploaded = manifest.end_offset().unwrap_or(i64::MIN);
    Ok(by_time.filter(|_| is_all_expired).max(by_size).filter(|end| *end > uploaded))
}

fn is_expired(entry: &Entry, config: &LogConfig, now_ms: i64) -> bool {
    let age_ms = now_ms.saturating_sub(entry.max_timestamp);
    // one without timestamps stays until its size or DeleteRecords removes it
    config.retention_ms >= 0 && entry.max_timestamp >= 0 && age_ms > config.retention_ms
}
