//! Finishing a batch: compression, length, CRC; and the broker's stamp on the header of one it accepted.

use super::attributes::TimestampType;
use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD, MAGIC};
use super::open::parts;
use super::validate::Checked;
use crate::compression::{Compression, CompressionError, compress, transcode};

/// Appends to `out` the batch of `header` and `records` (plain, as coded), compressed with `compression`. The magic,
/// length, codec and CRC of `header` are set; the rest of it is the caller's.
///
/// # Errors
/// The codec failed, or the batch would be larger than 2 GiB. `out` is then as it was.
pub fn seal(
    header: BatchHeader,
    records: &[u8],
    compression: Compression,
    level: Option<i32>,
    out: &mut Vec<u8>,
) -> Result<BatchHeader, BatchError> {
    seal_with(header, compression, out, |out| compress(compression, level, records, out))
}

/// As [`seal`], of the records that `write` appends in the codec.
fn seal_with(
    mut header: BatchHeader,
    compression: Compression,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CompressionError>,
) -> Result<BatchHeader, BatchError> {
    let at = out.len();
    let result = seal_at(&mut header, compression, out, write);
    if result.is_err() {
        out.truncate(at);
    }
    result.map(|()| header)
}

fn seal_at(
    header: &mut BatchHeader,
    compression: Compression,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), CompressionError>,
) -> Result<(), BatchError> {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    write(out)?;
    let (head, section) = out.split_at_mut(at).1.split_at_mut(HEADER_BYTES);
    header.magic = MAGIC;
    header.attributes = header.attributes.with_compression(compression);
    header.batch_length = i32::try_from(section.len() + HEADER_BYTES - LOG_OVERHEAD)
        .map_err(|_| BatchError::Length(i32::MAX))?;
    head.copy_from_slice(&header.encode_with_crc(section));
    Ok(())
}

/// The same batch with its records in another codec, for a topic whose `compression.type` names one; offsets, times and
/// producer stay. `batch` is one whole batch that passed [`super::validate`]: its CRC is not checked. It goes from codec
/// to codec as a stream ([`transcode`]), so that what expands far is not held.
///
/// # Errors
/// As [`super::open`], or the codec failed, or the copy would have more than `max_bytes`
/// ([`CompressionError::Output`]).
pub fn recompress(
    batch: &[u8],
    compression: Compression,
    level: Option<i32>,
    max_bytes: usize,
) -> Result<(BatchHeader, Vec<u8>), BatchError> {
    let (header, from, records) = parts(batch)?;
    let mut out = Vec::new();
    let header = if from == Compression::None || header.record_count == 0 {
        seal(header, records, compression, level, &mut out)?
    } else {
        seal_with(header, compression, &mut out, |out| {
            transcode(from, records, compression, level, out, max_bytes)
        })?
    };
    if out.len() > max_bytes {
        return Err(CompressionError::Output { codec: compression.name(), max_bytes }.into());
    }
    Ok((header, out))
}

/// What the broker writes into the header of a batch that it appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// The broker's time, where the topic has LogAppendTime; else `None`.
    pub log_append_time_ms: Option<i64>,
}

/// The 61 bytes to write instead of the header of `batch`, one whole batch that passed [`super::validate`] with
/// `checked`; its other bytes stay. Offset and epoch lie outside the CRC. The CRC is computed anew only where
/// LogAppendTime changes attributes and time, or where the producer's `max_timestamp` was not the largest of its
/// records.
#[must_use]
pub fn stamp(batch: &[u8], checked: &Checked, stamp: Stamp) -> [u8; HEADER_BYTES] {
    let mut header = checked.header.clone();
    header.base_offset = stamp.base_offset;
    header.partition_leader_epoch = stamp.leader_epoch;
    header.max_timestamp = stamp.log_append_time_ms.unwrap_or(checked.max_timestamp);
    if stamp.log_append_time_ms.is_some() {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    }
    let same_checksum = header.attributes == checked.header.attributes
        && header.max_timestamp == checked.header.max_timestamp;
    if same_checksum {
        header.encode()
    } else {
        header.encode_with_crc(batch.get(HEADER_BYTES..).unwrap_or_default())
    }
}
