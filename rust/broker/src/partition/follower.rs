//! What a follower does to its log: append what its leader sent, cut where it diverges, start anew.
//!
//! Each call names the leader epoch that it comes from. One of an older epoch changes nothing: the answer of a fetch may
//! come after the role changed.

use super::{Duty, Partition};
use crate::cluster::Notice;
use fastlog_log::{AppendError, LogError};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, batches};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Where a follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerPosition {
    /// What to fetch next.
    pub log_end_offset: i64,
    /// The epoch of the last record, -1 without one.
    pub last_epoch: i32,
    /// Less than the log's end while a sync is to come, without which it may not fetch on.
    pub durable_end_offset: i64,
}

/// What a leader's answer said of one partition.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// The epoch that the fetch named.
    pub leader_epoch: i32,
    /// The offset that the fetch named.
    pub fetch_offset: i64,
    /// The leader's.
    pub high_watermark: i64,
    /// The leader's.
    pub log_start_offset: i64,
    /// Whole batches, perhaps a partial one at the end.
    pub records: &'a [u8],
}

impl Partition {
    /// Where a follower goes on, and what it says of its end. Where that is not durable yet a sync is asked for, again with
    /// each look: one on a full disk may have done nothing.
    pub fn follower_position(self: &Arc<Self>) -> FollowerPosition {
        let log_end_offset = self.log.log_end_offset();
        if self.log.syncs_appends() {
            self.ask_for_sync();
        }
        FollowerPosition {
            log_end_offset,
            // not the latest epoch that is known: a leader that wrote nothing left no record of its own
            last_epoch: self.log.epoch_for_offset(log_end_offset - 1).unwrap_or(-1),
            durable_end_offset: self.log.durable_end_offset(),
        }
    }

    /// Appends what a leader sent, as it is, and takes over its high watermark and log start; the new log end offset.
    /// An answer to an older epoch, or to another offset than the log's end, changes nothing.
    pub fn append_fetched(self: &Arc<Self>, fetched: Fetched<'_>, now_ms: i64) -> Result<i64, AppendError> {
        // one thread has all partitions of a leader: where the log stands still, it goes on with the others
        let changing = self.log.lock_patiently(&self.changing)?;
        self.check_follows(fetched.leader_epoch)?;
        let end = self.log.log_end_offset();
        if fetched.fetch_offset != end {
            let offset = fetched.fetch_offset;
            let reason = format!("the answer is to a fetch from offset {offset}, but the log ends at {end}");
            return Err(LogError::Invalid { reason }.into());
        }
        self.note_fetched(fetched.records.len());
        let appended = self.log.append_replica(fetched.records, fetched.leader_epoch, now_ms);
        self.leaders_high_watermark.store(fetched.high_watermark, Ordering::Release);
        self.follow_high_watermark();
        let started = self.log.follow_log_start(fetched.log_start_offset);
        drop(changing);
        if self.log.log_end_offset() > end {
            if self.log.syncs_appends() {
                self.ask_for_sync();
            } else {
                self.ask_for_later_writes();
            }
        }
        self.notify();
        // what came is in the log all the same, and had to be synced and told first
        started?;
        appended
    }

    /// Drops what the leader of that epoch does not have, from `offset` on; true when there was any. `checkpoint` writes
    /// recovery points and log starts down, see [`fastlog_log::Log::truncate_to`]. Nothing is changed where the log stands
    /// still for long (`StandsStill`), for the thread that cuts has other partitions.
    pub(crate) fn truncate(
        &self,
        leader_epoch: i32,
        offset: i64,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<bool, LogError> {
        let changing = self.log.lock_patiently(&self.changing)?;
        self.check_follows(leader_epoch)?;
        let is_cut = self.log.truncate_to(offset, now_ms, checkpoint);
        // one that was broken off is done later, by who comes
        if !matches!(is_cut, Err(LogError::StandsStill { .. })) {
            self.tier().inspect(|tier| tier.tier.cut(offset));
        }
        drop(changing);
        let is_cut = is_cut?;
        self.notify();
        Ok(is_cut)
    }

    /// Drops everything and starts anew at `offset`, the log start of the leader of that epoch. `StandsStill` as above.
    pub(crate) fn restart_at(
        self: &Arc<Self>,
        leader_epoch: i32,
        offset: i64,
        now_ms: i64,
        checkpoint: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let changing = self.log.lock_patiently(&self.changing)?;
        self.check_follows(leader_epoch)?;
        self.log.truncate_fully_and_start_at(offset, now_ms, checkpoint)?;
        drop(changing);
        if self.log.syncs_appends() {
            // it may not fetch before its end counts as durable, and without a fetch nothing else would ask
            self.ask_for_sync();
        }
        self.notify();
        Ok(())
    }

    /// Where the first batch that came begins, if the log is empty and ends within it: the leader deleted the records
    /// before. A batch is stored whole, so the log has to begin with it (Kafka: `UnexpectedAppendOffsetException`).
    pub(crate) fn begins_within(&self, fetched: &Fetched<'_>) -> Option<i64> {
        let end = self.log.log_end_offset();
        if self.log.log_start_offset() != end || fetched.fetch_offset != end {
            return None;
        }
        let header = BatchHeader::parse(batches(fetched.records).next()?.ok()?).ok()?;
        (header.base_offset < end && end < header.next_offset()).then_some(header.base_offset)
    }

    pub(super) fn check_follows(&self, leader_epoch: i32) -> Result<(), LogError> {
        let role = self.role();
        if role.duty == Duty::Follower && role.leader_epoch == leader_epoch {
            return Ok(());
        }
        let (topic, index) = (self.topic(), self.index());
        let reason =
            format!("{topic}-{index} does not follow a leader of epoch {leader_epoch}: it is {role:?}");
        Err(LogError::NotLeader { reason })
    }

    /// A follower shows what is committed as far as it has it, and durably where that is asked for.
    fn follow_high_watermark(&self) {
        let told = self.leaders_high_watermark.load(Ordering::Acquire);
        self.log.advance_high_watermark(told.min(self.log.durable_end_offset()));
    }

    /// After a sync.
    pub(super) fn tell_synced(&self) {
        if !self.log.syncs_appends() || self.role().duty != Duty::Follower {
            return;
        }
        let _changing = self.changing.lock();
        if self.role().duty == Duty::Follower {
            self.follow_high_watermark();
            self.cluster.notices.push(Notice::Synced { topic: self.topic.clone(), index: self.index });
        }
    }

    /// The largest epoch known here that is no later than `epoch`, and the offset where it ends; (-1, -1) for a later
    /// one. A follower truncates by it (KIP-101, KIP-279).
    pub fn end_offset_for(&self, epoch: i32) -> Result<(i32, i64), ErrorCode> {
        if self.is_deleted() {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        self.log.end_offset_for_epoch(epoch).map_err(|error| error.code())
    }
}
