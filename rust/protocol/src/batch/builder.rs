//! Building batches in Rust: control records, offsets and group metadata, tests.

use super::attributes::Attributes;
use super::error::BatchError;
use super::header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD, MAGIC, NO_PRODUCER_ID, NO_TIMESTAMP};
use super::seal::seal;
use crate::compression::Compression;

/// Collects records and seals them into one batch.
#[derive(Clone, Debug)]
pub struct Builder {
    header: BatchHeader,
    records: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// An empty batch at offset 0, without producer id.
    #[must_use]
    pub fn new() -> Self {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: (HEADER_BYTES - LOG_OVERHEAD) as i32,
            partition_leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, records: Vec::new() }
    }

    /// Sets the offset of the first record.
    #[must_use]
    pub fn base_offset(mut self, offset: i64) -> Self {
        self.header.base_offset = offset;
        self
    }

    /// Sets the leader epoch.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.header.partition_leader_epoch = epoch;
        self
    }

    /// Sets the idempotent producer and the sequence of the first record.
    #[must_use]
    pub fn producer(mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = producer_id;
        self.header.producer_epoch = producer_epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Sets the attributes; the codec is set when the batch is sealed.
    #[must_use]
    pub fn attributes(mut self, attributes: Attributes) -> Self {
        self.header.attributes = attributes;
        self
    }

    /// Adds a record with the next offset.
    pub fn append(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> &mut Self {
        self.append_with_headers(timestamp_ms, key, value, &[])
    }

    /// Adds a record with headers and the next offset.
    pub fn append_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) -> &mut Self {
        if self.header.record_count == 0 {
            self.header.base_timestamp = timestamp_ms;
        }
        let mut body = vec![0];
        put_varlong(&mut body, timestamp_ms.wrapping_sub(self.header.base_timestamp));
        put_varlong(&mut body, i64::from(self.header.record_count));
        put_bytes(&mut body, key);
        put_bytes(&mut body, value);
        put_varlong(&mut body, headers.len() as i64);
        for (key, value) in headers {
            put_bytes(&mut body, Some(key));
            put_bytes(&mut body, *value);
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(&body);
        self.header.last_offset_delta = self.header.record_count;
        self.header.record_count += 1;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp_ms);
        self
    }

    /// Records so far.
    #[must_use]
    pub fn count(&self) -> i32 {
        self.header.record_count
    }

    /// The batch as bytes.
    ///
    /// # Errors
    /// The codec failed, or the batch is larger than 2 GiB.
    pub fn seal(&self, compression: Compression) -> Result<Vec<u8>, BatchError> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.records.len());
        seal(self.header.clone(), &self.records, compression, None, &mut out)?;
        Ok(out)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Zigzag and seven bits a byte; a 32-bit value is coded the same as a 64-bit one.
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}
