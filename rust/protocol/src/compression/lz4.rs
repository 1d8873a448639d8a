//! The LZ4 frame format, as Kafka's Java clients write it: independent blocks of 64 KiB, no checksums but the
//! header's. Any frame is read: linked blocks, blocks to 4 MiB, block and content checksums, several frames.

use std::hash::Hasher;

use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};
use twox_hash::XxHash32;

use super::blocks::Blocks;
use super::{CompressionError, contexts};

const MAGIC: u32 = 0x184D_2204;
/// Bits 6–7 of FLG: the format's version, 01.
const FLG_VERSION: u8 = 0x40;
const FLG_INDEPENDENT: u8 = 0x20;
const FLG_BLOCK_CHECKSUM: u8 = 0x10;
const FLG_CONTENT_SIZE: u8 = 0x08;
const FLG_CONTENT_CHECKSUM: u8 = 0x04;
const FLG_DICTIONARY: u8 = 0x01;
/// Bits 4–6 of BD: blocks of 64 KiB.
const BD_64_KIB: u8 = 0x40;
const BLOCK_BYTES: usize = 64 << 10;
/// The high bit of a block's length says that the block is not compressed.
const STORED: u32 = 0x8000_0000;
/// How far back a linked block may refer.
const WINDOW_BYTES: usize = 64 << 10;
/// A byte of LZ4 adds at most 255 to a match's length.
const EXPANSION_MAX: usize = 255;

fn corrupt(reason: &'static str) -> CompressionError {
    CompressionError::Corrupt { codec: "lz4", reason }
}

fn cut_short() -> CompressionError {
    corrupt("it is cut short")
}

fn xxh32(bytes: &[u8]) -> u32 {
    XxHash32::oneshot(0, bytes)
}

fn header_checksum(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor) >> 8) as u8
}

fn start(out: &mut Vec<u8>) {
    let descriptor = [FLG_VERSION | FLG_INDEPENDENT, BD_64_KIB];
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&descriptor);
    out.push(header_checksum(&descriptor));
}

fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(&0u32.to_le_bytes());
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    start(out);
    contexts::with(|contexts| {
        let table = contexts.lz4.get_or_insert_with(CompressTable::large);
        input.chunks(BLOCK_BYTES).try_for_each(|block| compress_block(table, block, out))
    })?;
    end(out);
    Ok(())
}

fn compress_block(
    table: &mut CompressTable,
    block: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    let at = out.len();
    out.resize(at + 4 + get_maximum_output_size(block.len()), 0);
    let (length_field, space) = out.split_at_mut(at).1.split_at_mut(4);
    let mut length = compress_into_with_table(block, space, table)
        .map_err(|error| CompressionError::Failed { codec: "lz4", reason: error.to_string() })?;
    // a length is at most 64 KiB and a little, so it fits
    let mut field = length as u32;
    if length >= block.len() {
        length = block.len();
        field = length as u32 | STORED;
        if let Some(space) = space.get_mut(..length) {
            space.copy_from_slice(block);
        }
    }
    length_field.copy_from_slice(&field.to_le_bytes());
    out.truncate(at + 4 + length);
    Ok(())
}

/// Writes one frame piece by piece.
pub(super) struct Lz4Stream {
    table: CompressTable,
    blocks: Blocks,
}

impl Lz4Stream {
    /// Writes the frame's header.
    pub(super) fn start(out: &mut Vec<u8>) -> Self {
        start(out);
        Self { table: CompressTable::large(), blocks: Blocks::of(BLOCK_BYTES) }
    }

    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.blocks.write(input, |block| compress_block(&mut self.table, block, out))
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.blocks.finish(|block| compress_block(&mut self.table, block, out))?;
        end(out);
        Ok(())
    }
}

/// What a frame's header says.
#[derive(Clone, Copy)]
struct Frame {
    flags: u8,
    block_bytes_max: usize,
    content_bytes: Option<u64>,
}

impl Frame {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Reads LZ4 frames block by block.
pub(super) struct Lz4Decoder<'a> {
    input: &'a [u8],
    frame: Option<Frame>,
    started: bool,
    content_bytes: u64,
    content_hash: XxHash32,
    window: Vec<u8>,
}

impl<'a> Lz4Decoder<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self {
            input,
            frame: None,
            started: false,
            content_bytes: 0,
            content_hash: XxHash32::with_seed(0),
            window: Vec::new(),
        }
    }

    /// Puts the next piece (one block) at the start of `piece`; its length, or `None` at the end.
    pub(super) fn next(&mut self, piece: &mut Vec<u8>) -> Result<Option<usize>, CompressionError> {
        let frame = match self.frame {
            Some(frame) => frame,
            None if self.started && self.input.is_empty() => return Ok(None),
            None => self.read_header()?,
        };
        let field = self.read_u32()?;
        if field == 0 {
            self.end_frame(frame)?;
            return Ok(Some(0));
        }
        let length = (field & !STORED) as usize;
        if length > frame.block_bytes_max {
            return Err(corrupt("a block is larger than the frame allows"));
        }
        let block = self.take(length)?;
        if frame.has(FLG_BLOCK_CHECKSUM) && self.read_u32()? != xxh32(block) {
            return Err(corrupt("a block's checksum does not fit"));
        }
        let written = self.decode(frame, block, field & STORED != 0, piece)?;
        self.note(frame, piece.get(..written).unwrap_or_default());
        Ok(Some(written))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], CompressionError> {
        let (head, tail) = self.input.split_at_checked(count).ok_or_else(cut_short)?;
        self.input = tail;
        Ok(head)
    }

    fn read_u32(&mut self) -> Result<u32, CompressionError> {
        let (head, tail) = self.input.split_first_chunk::<4>().ok_or_else(cut_short)?;
        self.input = tail;
        Ok(u32::from_le_bytes(*head))
    }

    fn read_header(&mut self) -> Result<Frame, CompressionError> {
        if self.read_u32()? != MAGIC {
            return Err(corrupt("it does not start with the frame's magic"));
        }
        let from = self.input;
        let &[flags, descriptor] = self.take(2)? else { return Err(cut_short()) };
        if flags & 0xC0 != FLG_VERSION || flags & FLG_DICTIONARY != 0 {
            return Err(corrupt("the frame has another version, or needs a dictionary"));
        }
        let block_bytes_max = match descriptor >> 4 & 0x07 {
            code @ 4..=7 => 1usize << (8 + 2 * code),
            _ => return Err(corrupt("the frame's block size is undefined")),
        };
        let mut content_bytes = None;
        if flags & FLG_CONTENT_SIZE != 0 {
            let (size, rest) = self.input.split_first_chunk::<8>().ok_or_else(cut_short)?;
            self.input = rest;
            content_bytes = Some(u64::from_le_bytes(*size));
        }
        let covered = from.get(..from.len() - self.input.len()).unwrap_or_default();
        if self.take(1)? != [header_checksum(covered)] {
            return Err(corrupt("the frame header's checksum does not fit"));
        }
        let frame = Frame { flags, block_bytes_max, content_bytes };
        (self.started, self.frame, self.content_bytes) = (true, Some(frame), 0);
        self.content_hash = XxHash32::with_seed(0);
        self.window.clear();
        Ok(frame)
    }

    fn end_frame(&mut self, frame: Frame) -> Result<(), CompressionError> {
        if frame.has(FLG_CONTENT_CHECKSUM) && u64::from(self.read_u32()?) != self.content_hash.finish() {
            return Err(corrupt("the content's checksum does not fit"));
        }
        if frame.content_bytes.is_some_and(|size| size != self.content_bytes) {
            return Err(corrupt("the content is not as long as the frame says"));
        }
        self.frame = None;
        Ok(())
    }

    fn decode(
        &self,
        frame: Frame,
        block: &[u8],
        stored: bool,
        piece: &mut Vec<u8>,
    ) -> Result<usize, CompressionError> {
        let needed = if stored {
            block.len()
        } else {
            frame.block_bytes_max.min(block.len().saturating_mul(EXPANSION_MAX))
        };
        if piece.len() < needed {
            piece.resize(needed, 0);
        }
        let space = piece.get_mut(..needed).unwrap_or_default();
        if stored {
            space.copy_from_slice(block);
            return Ok(needed);
        }
        let decoded = match self.window.as_slice() {
            [] => decompress_into(block, space),
            window => decompress_into_with_dict(block, space, window),
        };
        decoded.map_err(|_| corrupt("a block is no LZ4"))
    }

    /// Keeps what the checksum and linked blocks need of the piece just decoded.
    fn note(&mut self, frame: Frame, piece: &[u8]) {
        self.content_bytes += piece.len() as u64;
        if frame.has(FLG_CONTENT_CHECKSUM) {
            self.content_hash.write(piece);
        }
        if !frame.has(FLG_INDEPENDENT) {
            self.window.extend_from_slice(piece);
            let surplus = self.window.len().saturating_sub(WINDOW_BYTES);
            self.window.drain(..surplus);
        }
    }
}
