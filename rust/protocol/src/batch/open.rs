//! Reading the records of a batch.

use std::ops::ControlFlow;

use super::attributes::TimestampType;
use super::cursor::SliceSource;
use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD};
use super::record::{RecordView, read_record};
use crate::compression::{Compression, cap_for, decompress};

/// The header and the records section of one batch, which must be whole. Bytes after it are not looked at.
pub(super) fn parts(batch: &[u8]) -> Result<(BatchHeader, Compression, &[u8]), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let size = header.size_bytes();
    let records = batch
        .get(HEADER_BYTES..size)
        .ok_or(BatchError::Truncated { needed: size, available: batch.len() })?;
    let compression = header.attributes.compression().map_err(BatchError::Codec)?;
    if header.record_count < 0 {
        return Err(BatchError::Count(header.record_count));
    }
    Ok((header, compression, records))
}

/// Appends one whole batch to `out` with its records decompressed: what the record reader of the SDK works on. The
/// copy is a valid batch of its own (length, codec and CRC fit it); offsets, times and producer are the original's.
/// The CRC of `batch` is not checked: see [`super::check_crc`].
///
/// # Errors
/// The batch is cut short, its codec unknown, or its records section corrupt or larger than the cap
/// ([`cap_for`]). `out` is then as it was.
pub fn open(batch: &[u8], out: &mut Vec<u8>) -> Result<BatchHeader, BatchError> {
    let (mut header, compression, records) = parts(batch)?;
    let at = out.len();
    let result = open_at(&mut header, compression, records, out);
    if result.is_err() {
        out.truncate(at);
    }
    result.map(|()| header)
}

fn open_at(
    header: &mut BatchHeader,
    compression: Compression,
    records: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    if !records.is_empty() || header.record_count != 0 {
        decompress(compression, records, out, cap_for(records.len()).max(records.len()))?;
    }
    let (head, plain) = out.split_at_mut(at).1.split_at_mut(HEADER_BYTES);
    header.attributes = header.attributes.with_compression(Compression::None);
    header.batch_length =
        i32::try_from(plain.len() + HEADER_BYTES - LOG_OVERHEAD).map_err(|_| BatchError::Length(i32::MAX))?;
    head.copy_from_slice(&header.encode_with_crc(plain));
    Ok(())
}

/// Calls `visit` with each record of one whole batch, in order, until it breaks. Compressed records are
/// decompressed first, whole, under the usual cap. The CRC is not checked.
///
/// # Errors
/// As [`open`], or a record that is malformed. Records before it were visited.
pub fn records(
    batch: &[u8],
    mut visit: impl FnMut(RecordView<'_>) -> ControlFlow<()>,
) -> Result<BatchHeader, BatchError> {
    let mut plain = Vec::new();
    let (header, section) = section(batch, &mut plain)?;
    let mut source = SliceSource::new(section);
    for index in 0..header.record_count {
        let raw = read_record(&mut source).map_err(|fault| fault.at(index))?;
        let record = RecordView {
            offset: header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp: timestamp_of(&header, raw.timestamp_delta),
            key: raw.key,
            value: raw.value,
            headers: raw.headers,
        };
        if visit(record).is_break() {
            break;
        }
    }
    Ok(header)
}

/// The header of one whole batch and its records as coded: borrowed from the batch, or decompressed into `plain`, which
/// is emptied first. The CRC is not checked.
///
/// # Errors
/// As [`open`].
pub fn section<'a>(batch: &'a [u8], plain: &'a mut Vec<u8>) -> Result<(BatchHeader, &'a [u8]), BatchError> {
    let (header, compression, section) = parts(batch)?;
    if compression == Compression::None || header.record_count == 0 {
        return Ok((header, section));
    }
    plain.clear();
    decompress(compression, section, plain, cap_for(section.len()))?;
    Ok((header, plain.as_slice()))
}

/// The timestamp of a record: the broker's where it set the time, else the producer's.
pub(super) fn timestamp_of(header: &BatchHeader, delta: i64) -> i64 {
    match header.attributes.timestamp_type() {
        TimestampType::LogAppendTime => header.max_timestamp,
        TimestampType::CreateTime => header.base_timestamp.wrapping_add(delta),
    }
}
