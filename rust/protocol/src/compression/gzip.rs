//! gzip (RFC 1952) by zlib-rs.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::decompressor::PIECE_BYTES;
use super::{CompressionError, contexts};

const LEVEL_DEFAULT: u32 = 6;
/// Base-2 logarithm of the window: 32 KiB, the most that gzip has and what every reader expects.
const WINDOW_BITS: u8 = 15;

fn corrupt(reason: &'static str) -> CompressionError {
    CompressionError::Corrupt { codec: "gzip", reason }
}

fn failed(reason: impl ToString) -> CompressionError {
    CompressionError::Failed { codec: "gzip", reason: reason.to_string() }
}

/// A compressor that is kept between batches, for one level.
pub(super) struct GzipEncoder {
    level: u32,
    state: Compress,
}

impl GzipEncoder {
    fn new(level: u32) -> Self {
        Self { level, state: Compress::new_gzip(flate2::Compression::new(level), WINDOW_BITS) }
    }
}

fn checked(level: Option<i32>) -> Result<u32, CompressionError> {
    match level {
        None => Ok(LEVEL_DEFAULT),
        Some(level) => {
            u32::try_from(level).ok().filter(|level| *level <= 9).ok_or_else(|| failed("level is not 0-9"))
        }
    }
}

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let level = checked(level)?;
    contexts::with(|contexts| {
        let encoder = match &mut contexts.gzip {
            Some(encoder) if encoder.level == level => {
                encoder.state.reset();
                encoder
            }
            slot => slot.insert(GzipEncoder::new(level)),
        };
        run(&mut encoder.state, input, out)
    })
}

fn run(state: &mut Compress, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    loop {
        out.reserve(4096.max(input.len() / 2));
        let read = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = input.get(read..).unwrap_or_default();
        match state.compress_vec(rest, out, FlushCompress::Finish).map_err(failed)? {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {}
        }
    }
}

/// Writes one gzip member piece by piece.
pub(super) struct GzipStream(Compress);

impl GzipStream {
    pub(super) fn new(level: Option<i32>) -> Result<Self, CompressionError> {
        Ok(Self(GzipEncoder::new(checked(level)?).state))
    }

    pub(super) fn write(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        while !input.is_empty() {
            out.reserve(PIECE_BYTES);
            let before = self.0.total_in();
            self.0.compress_vec(input, out, FlushCompress::None).map_err(failed)?;
            let read = usize::try_from(self.0.total_in() - before).unwrap_or(input.len());
            input = input.get(read..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        loop {
            out.reserve(PIECE_BYTES);
            if self.0.compress_vec(&[], out, FlushCompress::Finish).map_err(failed)? == Status::StreamEnd {
                return Ok(());
            }
        }
    }
}

/// Reads one or more gzip members.
pub(super) struct GzipDecoder<'a> {
    input: &'a [u8],
    state: Decompress,
    ended: bool,
}

impl<'a> GzipDecoder<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, state: Decompress::new_gzip(WINDOW_BITS), ended: false }
    }

    /// Puts the next piece at the start of `piece`; its length, or `None` at the end.
    pub(super) fn next(&mut self, piece: &mut Vec<u8>) -> Result<Option<usize>, CompressionError> {
        if self.ended {
            if self.input.is_empty() {
                return Ok(None);
            }
            // another member; what is no gzip header fails below
            (self.state, self.ended) = (Decompress::new_gzip(WINDOW_BITS), false);
        }
        if piece.len() < PIECE_BYTES {
            piece.resize(PIECE_BYTES, 0);
        }
        let (read, written) = (self.state.total_in(), self.state.total_out());
        let status = self
            .state
            .decompress(self.input, piece, FlushDecompress::None)
            .map_err(|_| corrupt("its bytes are no gzip stream, or its checksum does not fit"))?;
        let read = usize::try_from(self.state.total_in() - read).unwrap_or(usize::MAX);
        let written = usize::try_from(self.state.total_out() - written).unwrap_or(usize::MAX);
        self.input = self.input.get(read..).unwrap_or_default();
        match status {
            Status::StreamEnd => self.ended = true,
            _ if read == 0 && written == 0 => return Err(corrupt("it is cut short")),
            _ => {}
        }
        Ok(Some(written))
    }
}
