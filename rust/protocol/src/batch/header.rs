//! The 61 bytes before the records of a batch (magic 2).
//!
//! Layout, big-endian: base_offset 8 | batch_length 4 | partition_leader_epoch 4 | magic 1 | crc 4 |
//! attributes 2 | last_offset_delta 4 | base_timestamp 8 | max_timestamp 8 | producer_id 8 |
//! producer_epoch 2 | base_sequence 4 | record_count 4. `batch_length` counts what follows it; the CRC covers
//! everything from the attributes on, so the first three fields can be patched without touching it.

use super::attributes::Attributes;
use super::error::BatchError;
use crate::crc::{crc32c, crc32c_of_parts};

/// Bytes of a batch before its records section.
pub const HEADER_BYTES: usize = 61;
/// Bytes before what `batch_length` counts: the base offset and the length itself.
pub const LOG_OVERHEAD: usize = 12;
/// Position of the first byte that the CRC covers, the attributes.
pub const CRC_COVERS_FROM: usize = 21;
/// The only batch format served; 0 and 1 are gone since Kafka 4.0.
pub const MAGIC: i8 = 2;
/// "No producer id", "no epoch" and "no sequence" are all -1.
pub const NO_PRODUCER_ID: i64 = -1;
/// "No timestamp": a record without one, or a batch without records.
pub const NO_TIMESTAMP: i64 = -1;

/// The header of a record batch, as it stands in the bytes; nothing in it is trusted by being here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; 0 in what a producer sends.
    pub base_offset: i64,
    /// Bytes after this field: the whole batch is `LOG_OVERHEAD` more.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; -1 in what a producer sends.
    pub partition_leader_epoch: i32,
    /// Format version, 2.
    pub magic: i8,
    /// CRC-32C of the bytes from the attributes to the end.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control.
    pub attributes: Attributes,
    /// Last offset minus base offset; stays when the cleaner drops records.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas add to.
    pub base_timestamp: i64,
    /// Largest timestamp of the records, -1 without any.
    pub max_timestamp: i64,
    /// Id of an idempotent producer, or -1.
    pub producer_id: i64,
    /// Epoch of that id, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// Records in the batch; fewer than the offsets it spans after cleaning.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `batch`. Bounds only: the magic and the length are checked to be possible,
    /// the CRC and the meaning of the fields are not.
    ///
    /// # Errors
    /// Fewer than 61 bytes, another magic, or a length below that of a header.
    pub fn parse(batch: &[u8]) -> Result<Self, BatchError> {
        let header = read_fields(batch)
            .ok_or(BatchError::Truncated { needed: HEADER_BYTES, available: batch.len() })?;
        if header.magic != MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        if header.batch_length < (HEADER_BYTES - LOG_OVERHEAD) as i32 {
            return Err(BatchError::Length(header.batch_length));
        }
        Ok(header)
    }

    /// The header as bytes, CRC as given in `crc`.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut rest = out.as_mut_slice();
        let fields: [&[u8]; 13] = [
            &self.base_offset.to_be_bytes(),
            &self.batch_length.to_be_bytes(),
            &self.partition_leader_epoch.to_be_bytes(),
            &self.magic.to_be_bytes(),
            &self.crc.to_be_bytes(),
            &self.attributes.0.to_be_bytes(),
            &self.last_offset_delta.to_be_bytes(),
            &self.base_timestamp.to_be_bytes(),
            &self.max_timestamp.to_be_bytes(),
            &self.producer_id.to_be_bytes(),
            &self.producer_epoch.to_be_bytes(),
            &self.base_sequence.to_be_bytes(),
            &self.record_count.to_be_bytes(),
        ];
        for field in fields {
            // the fields' sizes add up to HEADER_BYTES, so the split never fails
            if let Some((here, next)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
                here.copy_from_slice(field);
                rest = next;
            }
        }
        out
    }

    /// Encodes the header with the CRC that fits it and `records`, the bytes after it. Sets `crc`.
    pub fn encode_with_crc(&mut self, records: &[u8]) -> [u8; HEADER_BYTES] {
        let bytes = self.encode();
        self.crc = crc32c_of_parts(bytes.split_at(CRC_COVERS_FROM).1, records);
        self.encode()
    }

    /// Bytes of the whole batch, header included, as its length field says.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        LOG_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record, inclusive.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// The offset after the batch: where the next one starts, where a reader goes on.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// From when on the cleaner may drop the batch's tombstones or marker (KIP-534); `None` before its first cleaning.
    #[must_use]
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// Sequence of the last record, wrapping from `i32::MAX` to 0; -1 without a producer id.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

fn field<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

fn read_fields(batch: &[u8]) -> Option<BatchHeader> {
    let mut rest = batch.get(..HEADER_BYTES)?;
    let rest = &mut rest;
    Some(BatchHeader {
        base_offset: i64::from_be_bytes(field(rest)?),
        batch_length: i32::from_be_bytes(field(rest)?),
        partition_leader_epoch: i32::from_be_bytes(field(rest)?),
        magic: i8::from_be_bytes(field(rest)?),
        crc: u32::from_be_bytes(field(rest)?),
        attributes: Attributes(i16::from_be_bytes(field(rest)?)),
        last_offset_delta: i32::from_be_bytes(field(rest)?),
        base_timestamp: i64::from_be_bytes(field(rest)?),
        max_timestamp: i64::from_be_bytes(field(rest)?),
        producer_id: i64::from_be_bytes(field(rest)?),
        producer_epoch: i16::from_be_bytes(field(rest)?),
        base_sequence: i32::from_be_bytes(field(rest)?),
        record_count: i32::from_be_bytes(field(rest)?),
    })
}

/// Whether the CRC in the header of `batch` (one whole batch, nothing after it) fits its bytes.
#[must_use]
pub fn crc_is_valid(batch: &[u8]) -> bool {
    check_crc(batch).is_ok()
}

/// The same as [`crc_is_valid`], with both values in the error.
///
/// # Errors
/// A header that is none, or a CRC that does not fit.
pub fn check_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::parse(batch)?;
    let computed = crc32c(batch.get(CRC_COVERS_FROM..).unwrap_or_default());
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}
