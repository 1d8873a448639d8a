//! Chunks: ranges of whole batches of about a mebibyte, each with its checksum. They are what is read from the store, and
//! how offsets and timestamps are found there.

use std::ops::Range;

use fastlog_log::ClosedSegment;
use fastlog_log::file_system::read_up_to_at;
use fastlog_protocol::batch::{BatchHeader, batches, check_crc};
use fastlog_protocol::crc::crc32c;

use crate::encoding::{Fields, count};
use crate::error::TierError;

/// A request to a store costs some milliseconds whatever it brings: this much makes up for it, and four of them are
/// little memory for a reader.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Bytes of an encoded chunk.
pub(crate) const ENCODED_BYTES: usize = 32;

/// A range of whole batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The first offset of its first batch.
    pub base_offset: i64,
    /// Its first byte in the segment.
    pub position: u64,
    /// How many bytes.
    pub length: u32,
    /// CRC-32C of them.
    pub crc: u32,
    /// The largest timestamp of its batches; −1 = none.
    pub max_timestamp: i64,
}

/// Where a batch of a chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// Its last offset, inclusive.
    pub last_offset: i64,
    /// Its first byte in the chunk.
    pub position: u32,
    /// The largest timestamp of its records.
    pub max_timestamp: i64,
}

impl Chunk {
    /// Its bytes in the segment.
    pub fn range(&self) -> Range<u64> {
        self.position..self.position + u64::from(self.length)
    }

    pub(crate) fn encode_all(chunks: &[Self]) -> Vec<u8> {
        let mut out = count(chunks.len()).to_vec();
        for chunk in chunks {
            out.extend(chunk.base_offset.to_be_bytes());
            out.extend(chunk.position.to_be_bytes());
            out.extend(chunk.length.to_be_bytes());
            out.extend(chunk.crc.to_be_bytes());
            out.extend(chunk.max_timestamp.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode_all(bytes: &[u8]) -> Option<Vec<Self>> {
        let mut fields = Fields(bytes);
        let chunks = fields.list(ENCODED_BYTES, |fields| {
            Some(Self {
                base_offset: fields.i64()?,
                position: fields.u64()?,
                length: fields.u32()?,
                crc: fields.u32()?,
                max_timestamp: fields.i64()?,
            })
        })?;
        fields.0.is_empty().then_some(chunks)
    }
}

/// Compares every byte with its checksum: `bytes` are those of `chunk`, whose batches lie below offset `next_offset`.
/// Answers where its batches are, or what is wrong.
pub fn verify(chunk: &Chunk, next_offset: i64, bytes: &[u8]) -> Result<Vec<BatchPlace>, String> {
    if bytes.len() != chunk.length as usize {
        return Err(format!("{} bytes came, not {}", bytes.len(), chunk.length));
    }
    let crc = crc32c(bytes);
    if crc != chunk.crc {
        return Err(format!("the checksum of {} bytes is {crc:08x}, not {:08x}", bytes.len(), chunk.crc));
    }
    let (places, whole) = places(bytes, chunk.base_offset, next_offset)?;
    if whole == bytes.len() { Ok(places) } else { Err("its last batch is not whole".to_owned()) }
}

/// The whole batches at the start of `bytes`, and how many bytes they are.
fn places(bytes: &[u8], base_offset: i64, next_offset: i64) -> Result<(Vec<BatchPlace>, usize), String> {
    let (mut places, mut position, mut expected) = (Vec::new(), 0, base_offset);
    for batch in batches(bytes) {
        let batch = batch.map_err(|error| format!("at byte {position}: {error}"))?;
        let header = BatchHeader::parse(batch).map_err(|error| format!("at byte {position}: {error}"))?;
        check_crc(batch).map_err(|error| format!("at byte {position}: {error}"))?;
        if header.base_offset < expected || header.last_offset_delta < 0 || header.next_offset() > next_offset
        {
            return Err(format!(
                "at byte {position}: a batch of offsets {} to {}, where {expected} to {next_offset} was expected",
                header.base_offset,
                header.last_offset()
            ));
        }
        expected = header.next_offset();
        places.push(BatchPlace {
            last_offset: header.last_offset(),
            position: u32::try_from(position).map_err(|_| "a batch lies beyond 4 GiB".to_owned())?,
            max_timestamp: header.max_timestamp,
        });
        position += batch.len();
    }
    Ok((places, position))
}

/// Reads a closed segment chunk by chunk, and checks each batch; positions of chunks count from where what is to be uploaded
/// begins.
pub(crate) struct Scanner<'a> {
    source: &'a ClosedSegment,
    position: u64,
    expected: i64,
    window: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(source: &'a ClosedSegment) -> Self {
        Self { source, position: 0, expected: source.base_offset, window: Vec::new() }
    }

    /// The next chunk and its bytes; `None` at the end. `Corrupt` where it is damaged: damage is not uploaded. Blocks.
    pub(crate) fn next(&mut self) -> Result<Option<(Chunk, &[u8])>, TierError> {
        let &ClosedSegment { next_offset, size_bytes: size, position: from, .. } = self.source;
        let position = self.position;
        if position >= size {
            return Ok(None);
        }
        let left = usize::try_from(size - position).unwrap_or(usize::MAX);
        let (mut found, mut whole) = (Vec::new(), 0);
        let mut wanted = left.min(CHUNK_BYTES);
        while whole == 0 {
            self.window.resize(wanted, 0);
            let got = read_up_to_at(&*self.source.log, &mut self.window, from + position);
            let got = got.map_err(|error| TierError::local("read a segment", &error))?;
            if got < wanted {
                return Err(self.corrupt(format!("it ends {} bytes too early", wanted - got)));
            }
            let read = places(&self.window, self.expected, next_offset);
            (found, whole) = read.map_err(|reason| self.corrupt(reason))?;
            if whole == 0 {
                // one batch that is larger
                let first = BatchHeader::parse(&self.window);
                let first = first.map_err(|error| self.corrupt(error.to_string()))?;
                if first.size_bytes() <= wanted || first.size_bytes() > left {
                    return Err(self.corrupt("its last batch is not whole".to_owned()));
                }
                wanted = first.size_bytes();
            }
        }
        let bytes = self.window.get(..whole).unwrap_or_default();
        let first = BatchHeader::parse(bytes).map_err(|error| self.corrupt(error.to_string()))?;
        let chunk = Chunk {
            base_offset: first.base_offset,
            position,
            length: u32::try_from(whole).map_err(|_| self.corrupt("a batch of over 4 GiB".to_owned()))?,
            crc: crc32c(bytes),
            max_timestamp: found.iter().map(|place| place.max_timestamp).max().unwrap_or(-1),
        };
        self.expected = found.last().map_or(self.expected, |place| place.last_offset + 1);
        self.position += whole as u64;
        Ok(Some((chunk, bytes)))
    }

    fn corrupt(&self, reason: String) -> TierError {
        TierError::Corrupt {
            object: format!("the local segment {}", self.source.base_offset),
            reason: format!("from byte {} on: {reason}", self.position),
        }
    }
}

/// The chunks of a closed segment, as they are stored. Blocks.
///
/// # Errors
/// `Corrupt` where it is damaged.
pub fn scan(source: &ClosedSegment) -> Result<Vec<Chunk>, TierError> {
    let (mut scanner, mut chunks) = (Scanner::new(source), Vec::new());
    while let Some((chunk, _)) = scanner.next()? {
        chunks.push(chunk);
    }
    Ok(chunks)
}
