//! Appending what a backup kept: the same records at the same offsets.
//!
//! Crash points: those of any append. Recovery takes a segment that does not begin where the one before ends for a loss,
//! so no gap may be wider than what a segment spans: it begins at the log's end, and its index counts in 31 bits. Whoever
//! restores puts batches without records into wider ones.

use std::sync::atomic::Ordering::Acquire;

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, Invalid, batches, check_crc};

use super::append::Appended;
use super::{Log, Writer};
use crate::config::LogConfig;
use crate::error::AppendError;

/// The leader epoch that a batch names which is to keep its offsets. No client writes it by accident: they name −1, 0, or
/// an epoch.
pub const RESTORED_EPOCH: i32 = -2;

impl Log {
    /// Appends batches of a backup as they are, but for the epoch, as the leader of `leader_epoch`. Gaps stay, and so do
    /// batches without records, which the cleaner leaves. CRCs are checked, records are not looked at. After an error the
    /// batches before the bad one are in the log.
    ///
    /// # Errors
    /// `POLICY_VIOLATION` for a batch that does not say that it is to keep its offsets; `OUT_OF_ORDER_SEQUENCE_NUMBER` for
    /// one that begins before the log's end: an offset names one record for ever; `INVALID_RECORD` for one too far behind
    /// it.
    pub(super) fn append_restored(
        &self,
        bytes: &[u8],
        leader_epoch: i32,
        now_ms: i64,
        config: &LogConfig,
    ) -> Result<Appended, AppendError> {
        let mut appended: Option<Appended> = None;
        let mut left = bytes.len();
        let mut writer = self.lock_whole(now_ms)?;
        for batch in batches(bytes) {
            let batch = batch.map_err(Invalid::from)?;
            check_crc(batch).map_err(Invalid::from)?;
            let mut header = BatchHeader::parse(batch).map_err(Invalid::from)?;
            check_restored(&header, self.log_end_offset())?;
            header.partition_leader_epoch = leader_epoch;
            self.check_appendable(&writer, leader_epoch)?;
            self.append_stamped(&mut writer, &header, batch, now_ms, config)?;
            left -= batch.len();
            appended = Some(Appended {
                base_offset: appended.map_or(header.base_offset, |it| it.base_offset),
                last_offset: header.last_offset(),
                log_append_time_ms: -1,
                log_start_offset: self.log_start_offset(),
                duplicate: false,
            });
        }
        appended.filter(|_| left == 0).ok_or_else(|| {
            AppendError::new(ErrorCode::INVALID_RECORD, format!("the last {left} bytes are no whole batch"))
        })
    }

    /// Whether the leader of `leader_epoch` may append.
    pub(super) fn check_appendable(&self, writer: &Writer, leader_epoch: i32) -> Result<(), AppendError> {
        self.check_writable(writer)?;
        if leader_epoch < self.least_epoch.load(Acquire) {
            return Err(AppendError::new(
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                format!("the leadership of epoch {leader_epoch} is over; nothing was appended"),
            ));
        }
        Ok(())
    }
}

/// Whether a batch may be appended to a log that ends at `end`.
fn check_restored(header: &BatchHeader, end: i64) -> Result<(), AppendError> {
    let (code, message) = if header.partition_leader_epoch != RESTORED_EPOCH {
        let message = "the topic is being restored from a backup (fastlog.restoring); it takes records when that is done";
        (ErrorCode::POLICY_VIOLATION, message.to_owned())
    } else if header.base_offset < end || header.last_offset_delta < 0 {
        let message = format!("the batch begins at offset {}, but the log ends at {end}", header.base_offset);
        (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, message)
    } else if header.last_offset() - end > i64::from(i32::MAX) {
        let last = header.last_offset();
        let message = format!(
            "the batch ends at offset {last}, more than 2^31 behind the log's end {end}; send batches without records between"
        );
        (ErrorCode::INVALID_RECORD, message)
    } else {
        return Ok(());
    };
    Err(AppendError::new(code, message))
}
