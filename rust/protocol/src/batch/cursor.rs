//! Reading the fields of a record: from a slice, or from a stream that is being decompressed.

use super::error::{BatchError, RecordFault};
use crate::compression::{CompressionError, Decompressor};

/// Why a record could not be read: it is malformed, or its bytes could not be decompressed.
#[derive(Debug)]
pub(super) enum Fault {
    Record(RecordFault),
    Compression(CompressionError),
}

impl Fault {
    pub(super) fn at(self, index: i32) -> BatchError {
        match self {
            Self::Record(fault) => BatchError::Record { index, fault },
            Self::Compression(error) => BatchError::Compression(error),
        }
    }
}

impl From<RecordFault> for Fault {
    fn from(fault: RecordFault) -> Self {
        Self::Record(fault)
    }
}

impl From<CompressionError> for Fault {
    fn from(error: CompressionError) -> Self {
        Self::Compression(error)
    }
}

/// Where a record's fields come from, one after the other.
pub(super) trait Source {
    /// Bytes left of the record.
    fn left(&self) -> usize;
    /// The next byte.
    fn byte(&mut self) -> Result<u8, Fault>;
    /// Passes over `count` bytes.
    fn skip(&mut self, count: usize) -> Result<(), Fault>;

    /// A zigzag-coded 32-bit integer of at most five bytes.
    #[inline(always)]
    fn varint(&mut self) -> Result<i32, Fault> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(zigzag32(u32::from(first)));
        }
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let byte = self.byte()?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(zigzag32(value));
            }
        }
        Err(RecordFault::Varint.into())
    }

    /// A zigzag-coded 64-bit integer of at most ten bytes.
    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, Fault> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28, 35, 42, 49, 56, 63] {
            let byte = self.byte()?;
            if shift == 63 && byte > 0x01 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(zigzag64(value));
            }
        }
        Err(RecordFault::Varint.into())
    }

    /// A length that may not be negative.
    #[inline(always)]
    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.varint()?).map_err(|_| RecordFault::NegativeLength.into())
    }

    /// A length, or `None` for null (-1).
    #[inline(always)]
    fn nullable_length(&mut self) -> Result<Option<usize>, Fault> {
        match self.varint()? {
            -1 => Ok(None),
            length => Ok(Some(usize::try_from(length).map_err(|_| RecordFault::NegativeLength)?)),
        }
    }

    /// The number of headers; each takes at least two bytes.
    #[inline(always)]
    fn header_count(&mut self) -> Result<usize, Fault> {
        let count = usize::try_from(self.varint()?).map_err(|_| RecordFault::HeaderCount)?;
        if count > self.left() / 2 { Err(RecordFault::HeaderCount.into()) } else { Ok(count) }
    }
}

fn zigzag32(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

fn zigzag64(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Fields from a slice.
pub(super) struct SliceSource<'a> {
    rest: &'a [u8],
}

impl<'a> SliceSource<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline(always)]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(RecordFault::CutShort)?;
        self.rest = tail;
        Ok(head)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl Source for SliceSource<'_> {
    #[inline(always)]
    fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (first, rest) = self.rest.split_first().ok_or(RecordFault::CutShort)?;
        self.rest = rest;
        Ok(*first)
    }

    #[inline(always)]
    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.take(count).map(|_| ())
    }
}

/// Fields from a stream. `limit` is what is left of the record, so that a field cannot reach into the next one.
pub(super) struct StreamSource<'s, 'a> {
    pub(super) stream: &'s mut Decompressor<'a>,
    pub(super) limit: usize,
}

impl Source for StreamSource<'_, '_> {
    fn left(&self) -> usize {
        self.limit
    }

    fn byte(&mut self) -> Result<u8, Fault> {
        self.limit = self.limit.checked_sub(1).ok_or(RecordFault::CutShort)?;
        let byte = *self.stream.fill()?.first().ok_or(RecordFault::CutShort)?;
        self.stream.advance(1);
        Ok(byte)
    }

    fn skip(&mut self, count: usize) -> Result<(), Fault> {
        self.limit = self.limit.checked_sub(count).ok_or(RecordFault::CutShort)?;
        let mut left = count;
        while left > 0 {
            let ready = self.stream.fill()?.len();
            if ready == 0 {
                return Err(RecordFault::CutShort.into());
            }
            self.stream.advance(ready.min(left));
            left -= ready.min(left);
        }
        Ok(())
    }
}
