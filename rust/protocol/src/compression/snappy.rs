//! Snappy in the framing of xerial's snappy-java, as Kafka's Java clients write it: a 16-byte header (magic, version
//! 1, compatible with 1), then blocks, each a big-endian length and raw snappy. Input that does not start with the
//! magic is one block of raw snappy, which is what librdkafka writes.

use super::blocks::Blocks;
use super::{CompressionError, contexts};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const HEADER_BYTES: usize = 16;
/// snappy-java's block size in Kafka: what its readers' buffers are made for.
const BLOCK_BYTES: usize = 32 << 10;
/// The best that snappy can do is a copy of 64 bytes for 3 (21.3 times): a block that claims more lies.
const EXPANSION_MAX: usize = 22;

fn corrupt(reason: &'static str) -> CompressionError {
    CompressionError::Corrupt { codec: "snappy", reason }
}

fn start(out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    start(out);
    contexts::with(|contexts| {
        let encoder = contexts.snappy.get_or_insert_with(snap::raw::Encoder::new);
        input.chunks(BLOCK_BYTES).try_for_each(|block| compress_block(encoder, block, out))
    })
}

fn compress_block(
    encoder: &mut snap::raw::Encoder,
    block: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let failed = |reason: &dyn std::fmt::Display| CompressionError::Failed {
        codec: "snappy",
        reason: reason.to_string(),
    };
    let at = out.len();
    out.resize(at + 4 + snap::raw::max_compress_len(block.len()), 0);
    let (length_field, space) = out.split_at_mut(at).1.split_at_mut(4);
    let length = encoder.compress(block, space).map_err(|error| failed(&error))?;
    let field = i32::try_from(length).map_err(|error| failed(&error))?;
    length_field.copy_from_slice(&field.to_be_bytes());
    out.truncate(at + 4 + length);
    Ok(())
}

/// Writes xerial blocks piece by piece.
pub(super) struct SnappyStream {
    encoder: snap::raw::Encoder,
    blocks: Blocks,
}

impl SnappyStream {
    /// Writes the header.
    pub(super) fn start(out: &mut Vec<u8>) -> Self {
        start(out);
        Self { encoder: snap::raw::Encoder::new(), blocks: Blocks::of(BLOCK_BYTES) }
    }

    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.blocks.write(input, |block| compress_block(&mut self.encoder, block, out))
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.blocks.finish(|block| compress_block(&mut self.encoder, block, out))
    }
}

/// Reads xerial blocks, or one raw block.
pub(super) struct SnappyDecoder<'a> {
    input: &'a [u8],
    framed: bool,
    started: bool,
}

impl<'a> SnappyDecoder<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, framed: false, started: false }
    }

    /// Puts the next piece at the start of `piece`; its length, or `None` at the end. A block is decoded whole, so
    /// one that claims more than `room` fails before memory is taken for it.
    pub(super) fn next(
        &mut self,
        piece: &mut Vec<u8>,
        room: usize,
    ) -> Result<Option<usize>, CompressionError> {
        if !self.started {
            self.started = true;
            self.framed = self.skip_header()?;
            if !self.framed {
                return decode_block(std::mem::take(&mut self.input), piece, room).map(Some);
            }
        }
        // streams may be joined: snappy-java accepts a header where a block could start
        while self.skip_header()? {}
        let Some((length, rest)) = self.input.split_first_chunk::<4>() else {
            return if self.input.is_empty() { Ok(None) } else { Err(corrupt("it is cut short")) };
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| corrupt("a block length is negative"))?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(|| corrupt("it is cut short"))?;
        self.input = rest;
        decode_block(block, piece, room).map(Some)
    }

    fn skip_header(&mut self) -> Result<bool, CompressionError> {
        if !self.input.starts_with(&MAGIC) {
            return Ok(false);
        }
        self.input = self.input.get(HEADER_BYTES..).ok_or_else(|| corrupt("its header is cut short"))?;
        Ok(true)
    }
}

fn decode_block(block: &[u8], piece: &mut Vec<u8>, room: usize) -> Result<usize, CompressionError> {
    let claimed = snap::raw::decompress_len(block).map_err(|_| corrupt("a block has no valid length"))?;
    if block.is_empty() || claimed > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(corrupt("a block claims more than it can hold"));
    }
    if claimed > room {
        return Err(CompressionError::TooLarge { codec: "snappy", cap: room });
    }
    if piece.len() < claimed {
        piece.resize(claimed, 0);
    }
    snap::raw::Decoder::new().decompress(block, piece).map_err(|_| corrupt("a block is no snappy"))
}
