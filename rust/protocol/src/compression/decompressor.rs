//! Decompression as a stream of pieces under a cap.

use std::io::{BufRead, Read};

use super::contexts::{give_piece, take_piece};
use super::gzip::GzipDecoder;
use super::lz4::Lz4Decoder;
use super::snappy::SnappyDecoder;
use super::zstd::ZstdDecoder;
use super::{Compression, CompressionError};

/// No batch may expand beyond this, whatever its size.
pub const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
/// No batch may expand more than this many times,
const RATIO_MAX: usize = 1000;
/// except up to what a default-sized batch could hold uncompressed: a megabyte of zeros is an honest batch of
/// sixty bytes in zstd.
const CAP_BYTES_MIN: usize = 1_048_588;
/// Size of a piece for the codecs that have no blocks of their own.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// The most bytes that `compressed_bytes` may expand to: a thousandfold (at least 1 MiB), at most 256 MiB.
#[must_use]
pub fn cap_for(compressed_bytes: usize) -> usize {
    compressed_bytes.saturating_mul(RATIO_MAX).clamp(CAP_BYTES_MIN, DECOMPRESSED_BYTES_MAX)
}

enum Decoder<'a> {
    Plain(Option<&'a [u8]>),
    Gzip(Box<GzipDecoder<'a>>),
    Snappy(SnappyDecoder<'a>),
    Lz4(Box<Lz4Decoder<'a>>),
    Zstd(ZstdDecoder<'a>),
}

/// Reads compressed bytes piece by piece, never more than `cap` in all.
///
/// It implements `Read` and `BufRead`; errors of the codec come as `io::Error` of kind `InvalidData` there, and as
/// they are from [`Decompressor::fill`].
pub struct Decompressor<'a> {
    decoder: Decoder<'a>,
    codec: &'static str,
    piece: Vec<u8>,
    start: usize,
    end: usize,
    produced: usize,
    cap: usize,
}

impl<'a> Decompressor<'a> {
    /// A reader of `input` under the usual cap, [`cap_for`] its length.
    #[must_use]
    pub fn new(kind: Compression, input: &'a [u8]) -> Self {
        let cap = if kind == Compression::None { input.len() } else { cap_for(input.len()) };
        Self::with_cap(kind, input, cap)
    }

    /// A reader of `input` that fails as soon as more than `cap` bytes came out.
    #[must_use]
    pub fn with_cap(kind: Compression, input: &'a [u8], cap: usize) -> Self {
        let decoder = match kind {
            Compression::None => Decoder::Plain(Some(input)),
            Compression::Gzip => Decoder::Gzip(Box::new(GzipDecoder::new(input))),
            Compression::Snappy => Decoder::Snappy(SnappyDecoder::new(input)),
            Compression::Lz4 => Decoder::Lz4(Box::new(Lz4Decoder::new(input))),
            Compression::Zstd => Decoder::Zstd(ZstdDecoder::new(input)),
        };
        Self { decoder, codec: kind.name(), piece: take_piece(), start: 0, end: 0, produced: 0, cap }
    }

    /// The bytes that are ready; reads the next piece when there are none. Empty means the end.
    ///
    /// # Errors
    /// The input is corrupt, or expands beyond the cap.
    pub fn fill(&mut self) -> Result<&[u8], CompressionError> {
        while self.start == self.end {
            let Some(length) = self.next_piece()? else {
                return Ok(&[]);
            };
            self.produced = self.produced.saturating_add(length);
            if self.produced > self.cap {
                return Err(CompressionError::TooLarge { codec: self.codec, cap: self.cap });
            }
            (self.start, self.end) = (0, length);
        }
        Ok(self.piece.get(self.start..self.end).unwrap_or_default())
    }

    /// Marks `count` of the bytes that [`Decompressor::fill`] gave as read.
    pub fn advance(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
    }

    /// The cap, in bytes.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.cap
    }

    fn next_piece(&mut self) -> Result<Option<usize>, CompressionError> {
        let room = self.cap - self.produced.min(self.cap);
        match &mut self.decoder {
            Decoder::Plain(input) => Ok(input.take().map(|bytes| {
                self.piece.clear();
                self.piece.extend_from_slice(bytes);
                bytes.len()
            })),
            Decoder::Gzip(decoder) => decoder.next(&mut self.piece),
            Decoder::Snappy(decoder) => decoder.next(&mut self.piece, room),
            Decoder::Lz4(decoder) => decoder.next(&mut self.piece),
            Decoder::Zstd(decoder) => decoder.next(&mut self.piece),
        }
    }
}

impl Drop for Decompressor<'_> {
    fn drop(&mut self) {
        give_piece(std::mem::take(&mut self.piece));
    }
}

impl Read for Decompressor<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let mut ready = self.fill_buf()?;
        let count = ready.read(buf)?;
        self.advance(count);
        Ok(count)
    }
}

impl BufRead for Decompressor<'_> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.fill().map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }

    fn consume(&mut self, amount: usize) {
        self.advance(amount);
    }
}

/// Appends `input`, decompressed, to `out`; at most `max_bytes` of it.
///
/// # Errors
/// The input is corrupt, or expands beyond `max_bytes`. `out` then holds what came before the fault.
pub fn decompress(
    kind: Compression,
    input: &[u8],
    out: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<(), CompressionError> {
    if kind == Compression::None {
        if input.len() > max_bytes {
            return Err(CompressionError::TooLarge { codec: kind.name(), cap: max_bytes });
        }
        out.extend_from_slice(input);
        return Ok(());
    }
    let mut reader = Decompressor::with_cap(kind, input, max_bytes);
    loop {
        let piece = reader.fill()?;
        if piece.is_empty() {
            return Ok(());
        }
        out.extend_from_slice(piece);
        let count = piece.len();
        reader.advance(count);
    }
}
