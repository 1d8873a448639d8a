//! From one codec into another, as a stream.

use super::decompressor::Decompressor;
use super::gzip::GzipStream;
use super::lz4::Lz4Stream;
use super::snappy::SnappyStream;
use super::zstd::ZstdStream;
use super::{Compression, CompressionError, compress};

/// What expands to no more is held whole and compressed at once: most batches, which so keep the parameters that fit
/// their size and the contexts of their thread.
const HELD_BYTES_MAX: usize = 1 << 20;

enum Encoder {
    Plain,
    Gzip(Box<GzipStream>),
    Snappy(Box<SnappyStream>),
    Lz4(Lz4Stream),
    Zstd(ZstdStream),
}

impl Encoder {
    /// Starts a stream, whose header goes to `out`.
    fn start(kind: Compression, level: Option<i32>, out: &mut Vec<u8>) -> Result<Self, CompressionError> {
        Ok(match kind {
            Compression::None => Self::Plain,
            Compression::Gzip => Self::Gzip(Box::new(GzipStream::new(level)?)),
            Compression::Snappy => Self::Snappy(Box::new(SnappyStream::start(out))),
            Compression::Lz4 => Self::Lz4(Lz4Stream::start(out)),
            Compression::Zstd => Self::Zstd(ZstdStream::new(level)?),
        })
    }

    fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        match self {
            Self::Plain => {
                out.extend_from_slice(input);
                Ok(())
            }
            Self::Gzip(stream) => stream.write(input, out),
            Self::Snappy(stream) => stream.write(input, out),
            Self::Lz4(stream) => stream.write(input, out),
            Self::Zstd(stream) => stream.write(input, out),
        }
    }

    fn finish(self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        match self {
            Self::Plain => Ok(()),
            Self::Gzip(stream) => stream.finish(out),
            Self::Snappy(stream) => stream.finish(out),
            Self::Lz4(stream) => stream.finish(out),
            Self::Zstd(stream) => stream.finish(out),
        }
    }
}

/// Appends `input` to `out`, decompressed from one codec and compressed with another; at most `max_bytes` of it. However
/// far it expands, no more than a mebibyte of it, a piece of either codec and their windows are held.
///
/// # Errors
/// The input is corrupt or expands beyond the usual cap, the codec failed, or the result has more than `max_bytes`.
/// `out` then holds what was written before.
pub fn transcode(
    from: Compression,
    input: &[u8],
    to: Compression,
    level: Option<i32>,
    out: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<(), CompressionError> {
    let at = out.len();
    let check = |out: &Vec<u8>| {
        if out.len() - at <= max_bytes {
            Ok(())
        } else {
            Err(CompressionError::Output { codec: to.name(), max_bytes })
        }
    };
    let mut reader = Decompressor::new(from, input);
    let mut held = Vec::new();
    while held.len() <= HELD_BYTES_MAX {
        let piece = reader.fill()?;
        if piece.is_empty() {
            compress(to, level, &held, out)?;
            return check(out);
        }
        held.extend_from_slice(piece);
        let count = piece.len();
        reader.advance(count);
    }
    let mut encoder = Encoder::start(to, level, out)?;
    encoder.write(&held, out)?;
    drop(held);
    loop {
        check(out)?;
        let piece = reader.fill()?;
        if piece.is_empty() {
            encoder.finish(out)?;
            return check(out);
        }
        encoder.write(piece, out)?;
        let count = piece.len();
        reader.advance(count);
    }
}
