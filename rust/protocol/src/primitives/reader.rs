//! Reading: nothing is allocated from a claimed count, and every length is checked against the bytes that remain.

use super::ProtocolError;
use uuid::Uuid;

/// The most array elements that one message may hold, all its arrays together.
pub const ELEMENTS_MAX: u32 = 1_000_000;
/// The same for a request from a client: one element of a few bytes makes a few hundred of memory while it is handled,
/// and no cluster has a broker that leads so many partitions.
pub const REQUEST_ELEMENTS_MAX: u32 = 200_000;
/// The most tagged fields that one struct may have; Kafka's own have at most four.
pub const TAGS_MAX: u32 = 64;
/// The longest string, in bytes: Kafka reads and writes none that is longer, not even where its length has room for that.
pub const STRING_BYTES_MAX: usize = i16::MAX as usize;
/// Elements that an array gets room for at once; a longer one grows as its elements are read.
const CAPACITY_MAX: usize = 1_000;

/// Reads one message from a borrowed buffer, with a budget of array elements for the whole of it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// What is not read yet; within a tagged field it ends where that field ends.
    rest: &'a [u8],
    /// Bytes after `rest` that belong to the outer value.
    outside: usize,
    total: usize,
    budget: u32,
}

type Result<T> = core::result::Result<T, ProtocolError>;

impl<'a> Reader<'a> {
    /// A reader at the start of `buffer`.
    #[must_use]
    pub const fn new(buffer: &'a [u8]) -> Self {
        Self::with_budget(buffer, ELEMENTS_MAX)
    }

    /// A reader at the start of `buffer` that reads at most `elements_max` array elements.
    #[must_use]
    pub const fn with_budget(buffer: &'a [u8], elements_max: u32) -> Self {
        Self { rest: buffer, outside: 0, total: buffer.len(), budget: elements_max }
    }

    /// Bytes not read yet.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.total - self.outside - self.rest.len()
    }

    /// The bytes not read yet; the reader stays where it is.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails where bytes are left.
    ///
    /// # Errors
    /// `TrailingBytes`.
    pub fn expect_end(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(ProtocolError::TrailingBytes { remaining, at: self.position() }),
        }
    }

    fn truncated(&self, needed: usize) -> ProtocolError {
        ProtocolError::Truncated { needed, remaining: self.remaining(), at: self.position() }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.truncated(length))?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(N))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte; any value but 0 is true, as in Kafka.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.i8()? != 0)
    }

    /// A big-endian number of one byte.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i8(&mut self) -> Result<i8> {
        Ok(i8::from_be_bytes(self.chunk()?))
    }

    /// A big-endian number of two bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.chunk()?))
    }

    /// A big-endian number of two bytes without sign.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.chunk()?))
    }

    /// A big-endian number of four bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.chunk()?))
    }

    /// A big-endian number of four bytes without sign.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    /// A big-endian number of eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.chunk()?))
    }

    /// A big-endian floating-point number of eight bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_be_bytes(self.chunk()?))
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.chunk()?))
    }

    /// A base-128 number without sign, at most `BITS` bits of payload.
    fn base128(&mut self, bits: u32) -> Result<u64> {
        let at = self.position();
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let [byte] = self.chunk()?;
            let payload = u64::from(byte & 0x7f);
            if shift >= bits || payload > (u64::MAX >> (64 - bits)) >> shift {
                return Err(ProtocolError::VarintTooLong { at });
            }
            value |= payload << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// A variable-length number without sign, as flexible lengths and tags are.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn uvarint(&mut self) -> Result<u32> {
        self.base128(32).map(|value| u32::try_from(value).unwrap_or(u32::MAX))
    }

    /// A zigzag-coded number of at most 32 bits.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn varint(&mut self) -> Result<i32> {
        let value = self.uvarint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A zigzag-coded number of at most 64 bits.
    ///
    /// # Errors
    /// `Truncated`, `VarintTooLong`.
    pub fn varlong(&mut self) -> Result<i64> {
        let value = self.base128(64)?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A length or count; `None` is null.
    fn length(&mut self, flexible: bool, wide: bool) -> Result<Option<usize>> {
        let length = match (flexible, wide) {
            (true, _) => i64::from(self.uvarint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(ProtocolError::NegativeLength { length, at: self.position() }),
        }
    }

    fn required<T>(&self, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| ProtocolError::Null { at: self.position() })
    }

    /// A string that must be there.
    ///
    /// # Errors
    /// `Truncated`, `Null`, `NegativeLength`, `NotUtf8`, `VarintTooLong`.
    pub fn string(&mut self, flexible: bool) -> Result<&'a str> {
        let value = self.nullable_string(flexible)?;
        self.required(value)
    }

    /// A string or null.
    ///
    /// # Errors
    /// `Truncated`, `NegativeLength`, `NotUtf8`, `VarintTooLong`, `StringTooLong`.
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>> {
        let Some(length) = self.length(flexible, false)? else { return Ok(None) };
        if length > STRING_BYTES_MAX {
            return Err(ProtocolError::StringTooLong {
                length,
                limit: STRING_BYTES_MAX,
                at: self.position(),
            });
        }
        let bytes = self.take(length)?;
        let text = str::from_utf8(bytes).map_err(|_| ProtocolError::NotUtf8 { at: self.position() })?;
        Ok(Some(text))
    }

    /// Bytes (or records) that must be there.
    ///
    /// # Errors
    /// `Truncated`, `Null`, `NegativeLength`, `VarintTooLong`.
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8]> {
        let value = self.nullable_bytes(flexible)?;
        self.required(value)
    }

    /// Bytes (or records) or null.
    ///
    /// # Errors
    /// `Truncated`, `NegativeLength`, `VarintTooLong`.
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>> {
        self.length(flexible, true)?.map(|length| self.take(length)).transpose()
    }

    /// An array's count, taken from the message's budget; `min_bytes` is the least that one element takes.
    ///
    /// # Errors
    /// `Truncated`, `NegativeLength`, `TooManyElements`, `VarintTooLong`.
    pub fn nullable_count(&mut self, flexible: bool, min_bytes: usize) -> Result<Option<usize>> {
        let Some(count) = self.length(flexible, true)? else { return Ok(None) };
        let limit = self.remaining().checked_div(min_bytes).unwrap_or(0).min(self.budget as usize);
        if count > limit {
            let (count, limit) = (count as u64, limit as u64);
            return Err(ProtocolError::TooManyElements { count, limit, at: self.position() });
        }
        self.budget = self.budget.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        Ok(Some(count))
    }

    /// An array's count where null is not allowed; see [`Self::nullable_count`].
    ///
    /// # Errors
    /// As `nullable_count`, and `Null`.
    pub fn count(&mut self, flexible: bool, min_bytes: usize) -> Result<usize> {
        let count = self.nullable_count(flexible, min_bytes)?;
        self.required(count)
    }

    /// An array that must be there; `read` reads one element.
    ///
    /// # Errors
    /// As `count`, and what `read` fails with.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        min_bytes: usize,
        read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(flexible, min_bytes)?;
        self.elements(count, read)
    }

    /// An array or null; `read` reads one element.
    ///
    /// # Errors
    /// As `nullable_count`, and what `read` fails with.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        min_bytes: usize,
        read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(count) = self.nullable_count(flexible, min_bytes)? else { return Ok(None) };
        self.elements(count, read).map(Some)
    }

    fn elements<T>(&mut self, count: usize, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = Vec::with_capacity(count.min(CAPACITY_MAX));
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The byte before a nullable struct: whether the struct follows.
    ///
    /// # Errors
    /// `Truncated`, `BadMarker`.
    pub fn is_present(&mut self) -> Result<bool> {
        match self.i8()? {
            -1 => Ok(false),
            1 => Ok(true),
            marker => Err(ProtocolError::BadMarker { marker, at: self.position() }),
        }
    }

    /// The tagged fields that end a flexible struct. `read` gets each tag with the reader bounded to its field and
    /// says whether it knew (and read) it; other fields are skipped and not kept.
    ///
    /// # Errors
    /// `TooManyTags`, `TrailingBytes` for a known field with another size than it says, and what `read` fails with.
    pub fn tags(&mut self, read: impl FnMut(u32, &mut Self) -> Result<bool>) -> Result<()> {
        self.tags_or(read)
    }

    /// As [`Self::tags`], where `read` fails with an error of its own.
    ///
    /// # Errors
    /// As `tags`.
    pub fn tags_or<E: From<ProtocolError>>(
        &mut self,
        mut read: impl FnMut(u32, &mut Self) -> core::result::Result<bool, E>,
    ) -> core::result::Result<(), E> {
        let count = self.uvarint()?;
        if count > TAGS_MAX {
            return Err(ProtocolError::TooManyTags { count, limit: TAGS_MAX, at: self.position() }.into());
        }
        for _ in 0..count {
            let tag = self.uvarint()?;
            let size = self.uvarint()? as usize;
            let (field, after) = self.rest.split_at_checked(size).ok_or_else(|| self.truncated(size))?;
            self.rest = field;
            self.outside += after.len();
            if read(tag, self)? {
                self.expect_end()?;
            }
            self.rest = after;
            self.outside -= after.len();
        }
        Ok(())
    }

    /// Skips the tagged fields of a struct that has none of its own.
    ///
    /// # Errors
    /// `Truncated`, `TooManyTags`, `VarintTooLong`.
    pub fn skip_tags(&mut self) -> Result<()> {
        self.tags(|_, _| Ok(false))
    }
}
