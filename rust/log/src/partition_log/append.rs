//! Appending: check, number, stamp, one write.
//!
//! Crash points: before the write nothing happened. A process that dies inside the write leaves the start of a batch at
//! the end of the file, which nobody was told of; recovery cuts it. After the write the batch is in the page cache and
//! survives the process; memory (index entries, producers, epochs, offsets) is rebuilt from it, and so is the entry of the
//! transaction index, which comes after the batch and before anybody sees it.
//!
//! What fails leaves the log as it was: a batch whose entry in the transaction index cannot be written is cut off again, and
//! whatever is behind that cannot fail. So an append that is tried again meets the same log.

use std::io::IoSlice;
use std::sync::atomic::Ordering::Release;

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{
    BatchError, BatchHeader, Checked, HEADER_BYTES, Invalid, Order, Rules, Stamp, TimestampType, batches,
    check_crc, epoch_order, offset_order, recompress, stamp, validate,
};
use fastlog_protocol::compression::CompressionError;

use super::tail::LogPosition;
use super::{Log, Writer};
use crate::config::LogConfig;
use crate::error::{AppendError, During, LogError};
use crate::file_system::write_all_at;
use crate::producer_state::{Verdict, read_marker};

/// The least and the most that is reserved ahead of the end of a segment. Steps grow with the segment, so that ten
/// thousand small partitions do not fill the disk with promises.
const RESERVE_BYTES_MIN: u64 = 64 << 10;
const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// How an append differs from that of a plain client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOptions {
    /// A client sent the batch; else a coordinator of this broker did, which may write control batches.
    pub from_client: bool,
    /// The request's version may carry zstd (Produce 7 and up).
    pub zstd_allowed: bool,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self { from_client: true, zstd_allowed: true }
    }
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset of its last record, inclusive.
    pub last_offset: i64,
    /// The broker's time with LogAppendTime, −1 with CreateTime.
    pub log_append_time_ms: i64,
    /// The log's start when it was appended.
    pub log_start_offset: i64,
    /// The batch was there already; the offsets are those it got then.
    pub duplicate: bool,
}

impl From<Invalid> for AppendError {
    fn from(invalid: Invalid) -> Self {
        Self { code: invalid.code, message: invalid.message, record_errors: invalid.record_errors }
    }
}

impl Log {
    /// Appends one batch as the leader of `leader_epoch`. `batch` is never written to: its header is copied, stamped
    /// with offset, epoch and (LogAppendTime) time, and written together with the rest by one system call. Where the
    /// topic wants another codec, a copy in that codec is written instead.
    pub fn append(
        &self,
        batch: &[u8],
        leader_epoch: i32,
        now_ms: i64,
        options: AppendOptions,
    ) -> Result<Appended, AppendError> {
        let config = self.config();
        if config.restoring && options.from_client {
            return self.append_restored(batch, leader_epoch, now_ms, &config);
        }
        let mut checked = validate(batch, &rules(&config, now_ms, options))?;
        let copy = recompressed(batch, &checked, &config, options)?;
        let batch = match &copy {
            None => batch,
            Some((header, copy)) => {
                checked.header = header.clone();
                copy.as_slice()
            }
        };
        check_fits_segment(batch.len(), &config)?;
        let log_append_time_ms = (config.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        // The offset lies outside the CRC: all but that is done before the lock is taken.
        let stamped = stamp(batch, &checked, Stamp { base_offset: 0, leader_epoch, log_append_time_ms });
        let mut header = BatchHeader::parse(&stamped).map_err(Invalid::from)?;

        let mut writer = self.lock_whole(now_ms)?;
        self.check_appendable(&writer, leader_epoch)?;
        // a coordinator's batches carry producer ids, but no sequences
        let verdict =
            if options.from_client { writer.producers.check(&checked.header)? } else { Verdict::Append };
        if let Verdict::Duplicate(known) = verdict {
            return Ok(Appended {
                base_offset: known.base_offset(),
                last_offset: known.last_offset,
                log_append_time_ms: log_append_time_ms.map_or(-1, |_| known.timestamp_ms),
                log_start_offset: self.log_start_offset(),
                duplicate: true,
            });
        }
        header.base_offset = self.log_end_offset();
        self.append_stamped(&mut writer, &header, batch, now_ms, &config)?;
        Ok(Appended {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            log_append_time_ms: log_append_time_ms.unwrap_or(-1),
            log_start_offset: self.log_start_offset(),
            duplicate: false,
        })
    }

    /// Appends whole batches as a follower of the leader of `leader_epoch`, as they are: offsets and epochs are the
    /// leader's. Every CRC is checked, and what no CRC covers with the batches before and behind; sequences are taken as
    /// they come. A partial batch at the end is left out, and so are a batch of a later epoch and all behind it, which
    /// that leader cannot have (KAFKA-18723), and a last one of which nobody can tell. Returns the new log end offset;
    /// after an error the batches before the bad one are in the log.
    pub fn append_replica(&self, bytes: &[u8], leader_epoch: i32, now_ms: i64) -> Result<i64, AppendError> {
        let config = self.config();
        let mut writer = self.lock_whole(now_ms)?;
        let mut before = self.epoch_for_offset(self.log_end_offset() - 1).unwrap_or(-1);
        let mut sent = batches(bytes).enumerate().peekable();
        while let Some((number, batch)) = sent.next() {
            let batch = batch.map_err(Invalid::from)?;
            check_crc(batch).map_err(Invalid::from)?;
            let header = BatchHeader::parse(batch).map_err(Invalid::from)?;
            let behind = sent.peek().and_then(|(_, behind)| behind.as_ref().ok());
            let behind = behind.and_then(|behind| BatchHeader::parse(behind).ok());
            let end = self.log_end_offset();
            let place = Place { end, before, leader_epoch, is_first: number == 0 };
            if place.order(&header, behind.as_ref())? == Order::Unsure {
                break;
            }
            self.check_writable(&writer)?;
            self.append_stamped(&mut writer, &header, batch, now_ms, &config)?;
            before = header.partition_leader_epoch;
        }
        Ok(self.log_end_offset())
    }

    /// Writes `header` and the records of `batch` at the end and makes them visible.
    pub(super) fn append_stamped(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        batch: &[u8],
        now_ms: i64,
        config: &LogConfig,
    ) -> Result<(), AppendError> {
        self.storage().check_room()?;
        self.roll_if_needed(writer, header, now_ms, config)?;
        self.note_epoch(writer, header.partition_leader_epoch, header.base_offset)?;
        let position = writer.active.size();
        self.write_batch(writer, header, batch, position, config)?;
        // from here on nothing fails: the batch is in the log
        writer.active.set_size(position + batch.len() as u64);
        let indexed = {
            let Writer { active, since_entry, .. } = &mut *writer;
            active.index_batch(header, position, since_entry, config.index_interval_bytes)
        };
        if let Err(error) = indexed {
            // whatever becomes of its index entry; the next one will be refused
            self.write_failed(error);
        }
        self.note_producer(writer, header, batch, now_ms);
        let end = LogPosition {
            offset: header.next_offset(),
            segment_base: writer.active.base_offset,
            position: position + batch.len() as u64,
        };
        self.tail.lock().advance(end);
        self.log_end_offset.store(end.offset, Release);
        self.note_appended(batch.len());
        Ok(())
    }

    /// Writes a batch at the end of the file, one pwritev as a rule, and what it tells of an aborted transaction. Where
    /// either fails nothing is left behind: the file is cut to where it was.
    fn write_batch(
        &self,
        writer: &mut Writer,
        header: &BatchHeader,
        batch: &[u8],
        position: u64,
        config: &LogConfig,
    ) -> Result<(), LogError> {
        let file = writer.active.file().map_err(|error| self.open_failed(error))?;
        let end = position + batch.len() as u64;
        if end > writer.reserved_to {
            let step = if config.preallocate {
                config.segment_bytes
            } else {
                position.clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX)
            };
            let length = step.min(config.segment_bytes.saturating_sub(position)).max(batch.len() as u64);
            // Without room, or a file system that cannot: the write itself decides.
            let _ = file.allocate(position, length);
            writer.reserved_to = position + length;
        }
        let path = writer.active.log.path();
        let encoded = header.encode();
        let records = batch.get(HEADER_BYTES..).unwrap_or_default();
        let mut parts = [IoSlice::new(&encoded), IoSlice::new(records)];
        let written = write_all_at(&*file, &mut parts, position).during("append to", &path);
        let failed = match written.and_then(|()| self.index_aborted(writer, header, batch)) {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        writer.reserved_to = position;
        if let Err(cut) = file.set_len(position).during("cut off a failed append from", &path) {
            self.storage().poison(&cut);
            return Err(cut);
        }
        Err(self.write_failed(failed))
    }

    /// Has the transaction index tell of the transaction that a marker aborts, before the batch counts: a marker without
    /// its entry would show what it aborts to read-committed consumers.
    fn index_aborted(&self, writer: &Writer, header: &BatchHeader, batch: &[u8]) -> Result<(), LogError> {
        let marker = if header.attributes.is_control() { read_marker(batch) } else { None };
        let aborted = marker.and_then(|marker| writer.producers.aborted_by(header, marker));
        let Some(aborted) = aborted else { return Ok(()) };
        if let Err(error) = self.is_as_noted(&writer.active) {
            tracing::warn!(%error, "a transaction index will be compared with the batches");
        }
        let index = &writer.active.txn_index;
        let appended = index.is_written().and_then(|is_written| index.append(aborted).map(|()| !is_written));
        let is_made = appended.during("write the transaction index", index.file().path())?;
        self.directory_changed.fetch_or(is_made, Release);
        Ok(())
    }

    /// Keeps sequences and transactions of the batch's producer.
    fn note_producer(&self, writer: &mut Writer, header: &BatchHeader, batch: &[u8], now_ms: i64) {
        if header.producer_id < 0 {
            return;
        }
        if !header.attributes.is_control() {
            writer.producers.append(header, now_ms);
        } else if let Some(marker) = read_marker(batch) {
            writer.producers.end_transaction(header, marker, now_ms);
        }
        if header.attributes.is_transactional() {
            self.publish_unstable(writer);
        }
    }
}

/// Where a batch of a leader is to go.
struct Place {
    end: i64,
    /// The epoch of the batch before, −1 when there is none.
    before: i32,
    leader_epoch: i32,
    /// It is the first of an answer: the leader found it by its offset.
    is_first: bool,
}

impl Place {
    /// Whether the batch is to be appended there (`Follows`) or nothing from it on (`Unsure`).
    fn order(&self, header: &BatchHeader, behind: Option<&BatchHeader>) -> Result<Order, AppendError> {
        let (offset, epoch) = (header.base_offset, header.partition_leader_epoch);
        if header.last_offset_delta < 0 || (self.is_first && offset < self.end) {
            return Err(AppendError::new(
                ErrorCode::UNKNOWN_SERVER_ERROR,
                format!("the leader sent offset {offset}, but the log ends at {}", self.end),
            ));
        }
        let orders = [
            offset_order(header, self.end, behind, self.is_first),
            epoch_order(header, self.before, behind, self.is_first),
        ];
        if orders.contains(&Order::Contradicted) {
            let Self { end, before, .. } = self;
            let reason = format!(
                "the leader sent a batch of offset {offset} and leader epoch {epoch}, where the log ends at {end} in \
                 epoch {before}, and the batch behind it says otherwise: one of them turned"
            );
            return Err(AppendError::new(ErrorCode::CORRUPT_MESSAGE, reason));
        }
        let is_later = epoch > self.leader_epoch;
        Ok(if is_later || orders.contains(&Order::Unsure) { Order::Unsure } else { Order::Follows })
    }
}

fn rules(config: &LogConfig, now_ms: i64, options: AppendOptions) -> Rules {
    Rules {
        max_batch_bytes: config.max_message_bytes,
        compacted: config.cleanup_compact,
        timestamp_type: config.timestamp_type,
        before_max_ms: config.timestamp_before_max_ms,
        after_max_ms: config.timestamp_after_max_ms,
        now_ms,
        from_client: options.from_client,
        zstd_allowed: options.zstd_allowed,
    }
}

/// The batch in the codec that the topic wants, with its header; `None` where it came in that one. Only what clients
/// send is changed: what the broker writes for itself is as small as it is to be.
fn recompressed(
    batch: &[u8],
    checked: &Checked,
    config: &LogConfig,
    options: AppendOptions,
) -> Result<Option<(BatchHeader, Vec<u8>)>, AppendError> {
    let Some((codec, level)) = config.compression.filter(|_| options.from_client) else { return Ok(None) };
    if checked.header.attributes.compression() == Ok(codec) {
        return Ok(None);
    }
    // as in Kafka, the limit holds for what came and for what is stored
    match recompress(batch, codec, level, config.max_message_bytes) {
        Ok(copy) => Ok(Some(copy)),
        Err(BatchError::Compression(CompressionError::Output { .. })) => Err(AppendError::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "in the topic's codec {} the record batch has more than the {} bytes that the topic takes \
                 (max.message.bytes)",
                codec.name(),
                config.max_message_bytes
            ),
        )),
        Err(error) => Err(Invalid::from(error).into()),
    }
}

fn check_fits_segment(bytes: usize, config: &LogConfig) -> Result<(), AppendError> {
    if bytes as u64 <= config.segment_bytes {
        return Ok(());
    }
    Err(AppendError::new(
        ErrorCode::RECORD_LIST_TOO_LARGE,
        format!(
            "the record batch has {bytes} bytes, a segment takes {} (segment.bytes)",
            config.segment_bytes
        ),
    ))
}
