//! The checks that a batch passes before the log takes it (semantics of Kafka's `LogValidator`, and stricter).

use super::attributes::TimestampType;
use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES, NO_TIMESTAMP, check_crc};
use super::quick::Bounds;
use super::walk::{Shape, Visitor, walk};
use crate::compression::Compression;
use crate::error_code::ErrorCode;

/// Per-record errors that are reported; a batch with more is refused all the same.
const RECORD_ERRORS_MAX: usize = 10_000;

/// What a topic and a request ask of a batch.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `max.message.bytes`: size of the batch as it came, compressed.
    pub max_batch_bytes: usize,
    /// Whether the topic is compacted, so that every record needs a key.
    pub compacted: bool,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far in the past a record may lie.
    pub before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far in the future.
    pub after_max_ms: i64,
    /// The broker's time.
    pub now_ms: i64,
    /// Whether a client sent the batch; else the broker itself did (coordinators), which may write control batches.
    pub from_client: bool,
    /// Whether the request's version may carry zstd (Produce 7 and up).
    pub zstd_allowed: bool,
}

/// What was learnt about a batch that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The header as the client sent it.
    pub header: BatchHeader,
    /// Largest timestamp of the records (not what the header claims), or the broker's time with LogAppendTime;
    /// -1 where no record has one.
    pub max_timestamp: i64,
    /// Which record has it, the first one if several do.
    pub offset_delta_of_max_timestamp: i32,
}

/// Why a batch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// What the client is told.
    pub code: ErrorCode,
    /// Why, in words.
    pub message: String,
    /// The records at fault, by their place in the batch, each with a reason; empty where it is the whole batch.
    pub record_errors: Vec<(i32, String)>,
}

impl Invalid {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), record_errors: Vec::new() }
    }

    fn record(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_RECORD, message)
    }
}

impl From<BatchError> for Invalid {
    fn from(error: BatchError) -> Self {
        let record_errors = match &error {
            BatchError::Record { index, fault } => vec![(*index, fault.to_string())],
            _ => Vec::new(),
        };
        Self { code: error.code(), message: error.to_string(), record_errors }
    }
}

/// Checks that `batch` is exactly one batch that may be appended under `rules`.
///
/// Every record is looked at: count, offset deltas 0, 1, 2, …, field lengths, timestamps, keys. Uncompressed that is
/// a walk over the integers (100-byte records at about 20 GB/s, CRC included); compressed the records are decompressed
/// as a stream and thrown away, which costs the codec's decompression (in all 0.3 ms a MiB of records with snappy or
/// lz4, 0.5 with zstd, 0.8 with gzip, against 0.05 uncompressed) and at most one piece of memory.
///
/// # Errors
/// [`Invalid`] with Kafka's code: 87 INVALID_RECORD for what is malformed, 2 CORRUPT_MESSAGE for a CRC or a length
/// that does not fit, 10 for size, 32 for timestamps, 76 for zstd in an old request.
pub fn validate(batch: &[u8], rules: &Rules) -> Result<Checked, Invalid> {
    validate_with(batch, rules, true)
}

/// `quick`: usual records may be passed over the quick way.
fn validate_with(batch: &[u8], rules: &Rules, quick: bool) -> Result<Checked, Invalid> {
    let header = one_batch(batch)?;
    let compression = codec(&header, rules)?;
    if batch.len() > rules.max_batch_bytes {
        return Err(Invalid::new(
            ErrorCode::MESSAGE_TOO_LARGE,
            format!(
                "the record batch has {} bytes, the topic takes {} (max.message.bytes)",
                batch.len(),
                rules.max_batch_bytes
            ),
        ));
    }
    check_crc(batch)?;
    if rules.from_client {
        check_header(&header)?;
    }
    check_records(batch, header, compression, rules, quick)
}

/// The header of `batch`, whose length must be all there is: neither cut short nor followed by anything.
fn one_batch(batch: &[u8]) -> Result<BatchHeader, Invalid> {
    if batch.is_empty() {
        return Err(Invalid::record("there is no record batch; a partition takes exactly one"));
    }
    let header = BatchHeader::parse(batch)?;
    let size = header.size_bytes();
    if size > batch.len() {
        return Err(BatchError::Truncated { needed: size, available: batch.len() }.into());
    }
    if size < batch.len() {
        return Err(Invalid::record(format!(
            "{} bytes follow the record batch; a partition takes exactly one",
            batch.len() - size
        )));
    }
    Ok(header)
}

fn codec(header: &BatchHeader, rules: &Rules) -> Result<Compression, Invalid> {
    let compression = header.attributes.compression().map_err(BatchError::Codec)?;
    if compression == Compression::Zstd && !rules.zstd_allowed {
        return Err(Invalid::new(
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            "zstd needs Produce version 7 or newer",
        ));
    }
    Ok(compression)
}

/// What a client may not put into a header.
fn check_header(header: &BatchHeader) -> Result<(), Invalid> {
    let attributes = header.attributes;
    if header.base_offset != 0 {
        return Err(Invalid::record(format!(
            "the base offset is {}, a producer sends 0",
            header.base_offset
        )));
    }
    if header.record_count <= 0 || i64::from(header.last_offset_delta) + 1 != i64::from(header.record_count) {
        return Err(Invalid::record(format!(
            "the batch declares {} records, but a last offset delta of {}",
            header.record_count, header.last_offset_delta
        )));
    }
    if attributes.is_control() {
        return Err(Invalid::record("clients may not write control batches"));
    }
    if attributes.has_delete_horizon() {
        return Err(Invalid::record("clients may not set a delete horizon"));
    }
    if attributes.timestamp_type() == TimestampType::LogAppendTime {
        return Err(Invalid::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a producer may not set the timestamp type to LogAppendTime",
        ));
    }
    check_producer(header)
}

/// Id, epoch and sequence of an idempotent producer come together or not at all.
fn check_producer(header: &BatchHeader) -> Result<(), Invalid> {
    let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
    if id >= 0 && (epoch < 0 || sequence < 0) {
        return Err(Invalid::record(format!(
            "producer id {id} comes with epoch {epoch} and base sequence {sequence}"
        )));
    }
    if id < 0 && header.attributes.is_transactional() {
        return Err(Invalid::record("a transactional batch needs a producer id"));
    }
    Ok(())
}

/// What is gathered on the way over the records.
struct Tally<'r> {
    rules: &'r Rules,
    quick: bool,
    base_timestamp: i64,
    earliest: i64,
    latest: i64,
    max_timestamp: i64,
    delta_of_max: i32,
    code: ErrorCode,
    errors: Vec<(i32, String)>,
}

impl Visitor for Tally<'_> {
    fn bounds(&self) -> Bounds {
        let delta_of = |timestamp: i64| {
            let delta = timestamp.saturating_sub(self.base_timestamp);
            delta.clamp(i32::MIN.into(), i32::MAX.into()) as i32
        };
        let deltas = match self.rules.timestamp_type {
            #[expect(clippy::reversed_empty_ranges, reason = "no record is within it")]
            _ if !self.quick => i32::MAX..=i32::MIN,
            TimestampType::LogAppendTime => i32::MIN..=i32::MAX,
            TimestampType::CreateTime => delta_of(self.earliest)..=delta_of(self.latest),
        };
        Bounds::new(deltas, self.rules.compacted)
    }

    fn pass(&mut self, (delta, index): (i32, i32)) {
        let timestamp = self.base_timestamp.saturating_add(delta.into());
        if timestamp > self.max_timestamp {
            (self.max_timestamp, self.delta_of_max) = (timestamp, index);
        }
    }

    fn visit(&mut self, index: i32, shape: Shape) {
        if shape.offset_delta != index {
            let found = shape.offset_delta;
            self.refuse(index, ErrorCode::INVALID_RECORD, || {
                format!("its offset delta is {found}, its place in the batch {index}")
            });
        }
        if self.rules.compacted && !shape.has_key {
            self.refuse(index, ErrorCode::INVALID_RECORD, || {
                "it has no key, which a compacted topic needs".to_owned()
            });
        }
        if self.rules.timestamp_type == TimestampType::CreateTime {
            self.note_time(index, shape.timestamp_delta);
        }
    }
}

impl Tally<'_> {
    fn note_time(&mut self, index: i32, delta: i64) {
        let Some(timestamp) = self.base_timestamp.checked_add(delta) else {
            self.refuse(index, ErrorCode::INVALID_TIMESTAMP, || "its timestamp overflows 64 bits".to_owned());
            return;
        };
        if timestamp > self.max_timestamp {
            (self.max_timestamp, self.delta_of_max) = (timestamp, index);
        }
        if (timestamp < self.earliest || timestamp > self.latest) && timestamp != NO_TIMESTAMP {
            let rules = self.rules;
            let (bound, side) = match timestamp > rules.now_ms {
                true => (rules.after_max_ms, "after"),
                false => (rules.before_max_ms, "before"),
            };
            self.refuse(index, ErrorCode::INVALID_TIMESTAMP, || {
                format!(
                    "its timestamp {timestamp} is more than {bound} ms {side} the broker's time {} \
                     (message.timestamp.{side}.max.ms)",
                    rules.now_ms
                )
            });
        }
    }

    #[cold]
    fn refuse(&mut self, index: i32, code: ErrorCode, reason: impl FnOnce() -> String) {
        if self.errors.is_empty() {
            self.code = code;
        }
        if self.errors.len() < RECORD_ERRORS_MAX {
            self.errors.push((index, reason()));
        }
    }
}

/// As [`validate`], but every record is looked at the careful way.
///
/// # Errors
/// The same.
#[cfg(feature = "fuzzing")]
pub fn validate_carefully(batch: &[u8], rules: &Rules) -> Result<Checked, Invalid> {
    validate_with(batch, rules, false)
}

fn check_records(
    batch: &[u8],
    header: BatchHeader,
    compression: Compression,
    rules: &Rules,
    quick: bool,
) -> Result<Checked, Invalid> {
    let mut tally = Tally {
        rules,
        quick,
        base_timestamp: header.base_timestamp,
        earliest: rules.now_ms.saturating_sub(rules.before_max_ms),
        latest: rules.now_ms.saturating_add(rules.after_max_ms),
        max_timestamp: NO_TIMESTAMP,
        delta_of_max: 0,
        code: ErrorCode::NONE,
        errors: Vec::new(),
    };
    let records = batch.get(HEADER_BYTES..).unwrap_or_default();
    if header.record_count < 0 {
        return Err(BatchError::Count(header.record_count).into());
    }
    walk(compression, records, header.record_count, &mut tally)?;
    if let Some((index, reason)) = tally.errors.first() {
        let message =
            format!("{} of the batch's records refused; record {index}: {reason}", tally.errors.len());
        return Err(Invalid { code: tally.code, message, record_errors: tally.errors });
    }
    let (max_timestamp, offset_delta_of_max_timestamp) = match rules.timestamp_type {
        TimestampType::LogAppendTime => (rules.now_ms, 0),
        TimestampType::CreateTime => (tally.max_timestamp, tally.delta_of_max),
    };
    Ok(Checked { header, max_timestamp, offset_delta_of_max_timestamp })
}
