//! Writing: the same types, appended to one growing buffer.

use super::{ProtocolError, STRING_BYTES_MAX};
use uuid::Uuid;

/// Appends values to a buffer of its own.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

type Result<T> = core::result::Result<T, ProtocolError>;

impl Writer {
    /// An empty writer.
    #[must_use]
    pub const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// An empty writer with room for `bytes`.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes) }
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.buffer
    }

    /// What was written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing is written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// `length` zero bytes, returned to be filled.
    pub fn reserve(&mut self, length: usize) -> &mut [u8] {
        let start = self.buffer.len();
        self.buffer.resize(start.saturating_add(length), 0);
        self.buffer.get_mut(start..).unwrap_or_default()
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.raw(&[u8::from(value)]);
    }

    /// A big-endian number of one byte.
    pub fn i8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian number of two bytes.
    pub fn i16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian number of two bytes without sign.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian number of four bytes.
    pub fn i32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian number of four bytes without sign.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian number of eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian floating-point number of eight bytes.
    pub fn f64(&mut self, value: f64) {
        self.raw(&value.to_be_bytes());
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(value.as_bytes());
    }

    fn base128(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.buffer.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push(value as u8);
    }

    /// A variable-length number without sign.
    pub fn uvarint(&mut self, value: u32) {
        self.base128(u64::from(value));
    }

    /// A zigzag-coded number of 32 bits.
    pub fn varint(&mut self, value: i32) {
        self.base128(u64::from(((value << 1) ^ (value >> 31)).cast_unsigned()));
    }

    /// A zigzag-coded number of 64 bits.
    pub fn varlong(&mut self, value: i64) {
        self.base128(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    fn length(&mut self, length: usize, flexible: bool, wide: bool) -> Result<()> {
        let limit = if wide { i32::MAX as usize - 1 } else { STRING_BYTES_MAX };
        if length > limit {
            return Err(ProtocolError::TooLong { length, limit });
        }
        match (flexible, wide) {
            (true, _) => self.uvarint(length as u32 + 1),
            (false, true) => self.i32(length as i32),
            (false, false) => self.i16(length as i16),
        }
        Ok(())
    }

    /// A string.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn string(&mut self, value: &str, flexible: bool) -> Result<()> {
        self.length(value.len(), flexible, false)?;
        self.raw(value.as_bytes());
        Ok(())
    }

    /// A string or null.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn nullable_string(&mut self, value: Option<&str>, flexible: bool) -> Result<()> {
        match (value, flexible) {
            (Some(value), _) => self.string(value, flexible)?,
            (None, true) => self.uvarint(0),
            (None, false) => self.i16(-1),
        }
        Ok(())
    }

    /// Bytes (or records) after their length.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn bytes(&mut self, value: &[u8], flexible: bool) -> Result<()> {
        self.count(value.len(), flexible)?;
        self.raw(value);
        Ok(())
    }

    /// Bytes (or records) after their length, or null.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, flexible: bool) -> Result<()> {
        self.nullable_count(value.map(<[u8]>::len), flexible)?;
        self.raw(value.unwrap_or_default());
        Ok(())
    }

    /// The count before an array's elements, or the length before bytes that come from elsewhere.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn count(&mut self, count: usize, flexible: bool) -> Result<()> {
        self.length(count, flexible, true)
    }

    /// As [`Self::count`]; `None` is a null array or null bytes.
    ///
    /// # Errors
    /// `TooLong`.
    pub fn nullable_count(&mut self, count: Option<usize>, flexible: bool) -> Result<()> {
        match (count, flexible) {
            (Some(count), _) => self.count(count, flexible)?,
            (None, true) => self.uvarint(0),
            (None, false) => self.i32(-1),
        }
        Ok(())
    }

    /// The byte before a nullable struct.
    pub fn present(&mut self, present: bool) {
        self.i8(if present { 1 } else { -1 });
    }

    /// One tagged field: its tag, its size and what `write` writes.
    ///
    /// # Errors
    /// `TooLong`, and what `write` fails with.
    pub fn tagged(&mut self, tag: u32, write: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut field = Self::new();
        write(&mut field)?;
        let size = u32::try_from(field.len());
        let size =
            size.map_err(|_| ProtocolError::TooLong { length: field.len(), limit: u32::MAX as usize })?;
        self.uvarint(tag);
        self.uvarint(size);
        self.raw(field.as_bytes());
        Ok(())
    }
}
