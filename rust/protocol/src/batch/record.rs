//! One record of a batch, borrowed from its bytes.

use super::cursor::{Fault, SliceSource, Source};
use super::error::RecordFault;

/// A record, its bytes borrowed from the (decompressed) batch. Null and empty differ: `None` and `Some(&[])`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Absolute offset.
    pub offset: i64,
    /// Milliseconds since the epoch, -1 for none; the batch's where the broker sets the time.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for null (a tombstone in a compacted topic).
    pub value: Option<&'a [u8]>,
    /// The headers, in order, duplicates kept.
    pub headers: Headers<'a>,
}

/// A record header: a key and a nullable value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, UTF-8 by Kafka's rule, not checked.
    pub key: &'a [u8],
    /// The value, `None` for null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, checked when the record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    raw: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The encoded headers, without their count.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The headers, one by one.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let mut source = SliceSource::new(self.raw);
        // the record was read whole before, so no header fails here
        (0..self.count).map_while(move |_| read_header(&mut source).ok())
    }
}

/// The fields of a record as they are coded, relative to its batch.
pub(super) struct RawRecord<'a> {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

/// Reads the next record, length and all, and checks that its fields fill it.
pub(super) fn read_record<'a>(source: &mut SliceSource<'a>) -> Result<RawRecord<'a>, Fault> {
    let length = source.length()?;
    let mut body = SliceSource::new(source.take(length)?);
    body.byte()?;
    let timestamp_delta = body.varlong()?;
    let offset_delta = body.varint()?;
    let key = read_bytes(&mut body)?;
    let value = read_bytes(&mut body)?;
    let count = body.header_count()?;
    let raw = body.rest();
    for _ in 0..count {
        read_header(&mut body)?;
    }
    if body.left() != 0 {
        return Err(RecordFault::LeftOver.into());
    }
    Ok(RawRecord { timestamp_delta, offset_delta, key, value, headers: Headers { count, raw } })
}

fn read_bytes<'a>(source: &mut SliceSource<'a>) -> Result<Option<&'a [u8]>, Fault> {
    match source.nullable_length()? {
        None => Ok(None),
        Some(length) => source.take(length).map(Some),
    }
}

fn read_header<'a>(source: &mut SliceSource<'a>) -> Result<Header<'a>, Fault> {
    let length = source.length()?;
    Ok(Header { key: source.take(length)?, value: read_bytes(source)? })
}
