//! Reading for a fetch what only the object store has. It is not waited for: what is not in the cache is on its way, and
//! the fetch waits for it as it would for new records, at most as long as the client wants to; the next one finds it.

use super::read::{FetchPlan, Isolation, PartitionRead, cut_before_zstd};
use super::session::{Told, Wanted};
use crate::partition::Partition;
use crate::tiers::{Limits, PartitionTier, UNREADABLE, file_range};
use fastlog_log::{AbortedTxn, LogError};
use fastlog_protocol::ErrorCode;
use fastlog_tiers::Found;

impl FetchPlan {
    /// Reads from `offset` on, which is below what the disk has.
    pub(super) fn read_tiered(
        &self,
        partition: &Partition,
        wanted: &Wanted,
        told: Told,
        limits: &Limits,
    ) -> Result<PartitionRead, ErrorCode> {
        if self.replica.is_some() {
            return Err(ErrorCode::OFFSET_MOVED_TO_TIERED_STORAGE);
        }
        // without it the log would begin on the disk
        let tier = partition.tier().ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
        let nothing_yet = || PartitionRead { is_unread: true, ..PartitionRead::nothing(told) };
        // what the store has beyond may be another history's
        let bound = limits.bound.min(partition.log().tiered_end().unwrap_or(i64::MIN));
        let range = match tier.read(wanted.fetch_offset, &Limits { bound, ..*limits }) {
            Found::Here(Some(range)) => range,
            Found::Here(None) | Found::Coming => return Ok(nothing_yet()),
            Found::Failed => return Err(UNREADABLE),
        };
        let Some(aborted) = self.aborted_in_tier(&tier, partition, wanted.fetch_offset, range.next_offset)?
        else {
            return Ok(nothing_yet());
        };
        let mut records = file_range(&range);
        if self.version < super::read::ZSTD_VERSION {
            cut_before_zstd(&mut records)?;
        }
        Ok(PartitionRead { records: Some(records), aborted, ..nothing_yet() })
    }

    /// `None` = they are on their way.
    fn aborted_in_tier(
        &self,
        tier: &PartitionTier,
        partition: &Partition,
        from: i64,
        to: i64,
    ) -> Result<Option<Vec<AbortedTxn>>, ErrorCode> {
        if self.isolation != Isolation::ReadCommitted {
            return Ok(Some(Vec::new()));
        }
        match tier.aborted(partition, from, to).map_err(|error: LogError| error.code())? {
            Found::Here(aborted) => Ok(Some(aborted)),
            Found::Coming => Ok(None),
            Found::Failed => Err(UNREADABLE),
        }
    }
}
