//! zstd (RFC 8878), contexts kept per thread: 1.2–1.8 times faster on small batches than a new one each time.

use zstd::zstd_safe::{
    self, CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective,
    zstd_sys::ZSTD_EndDirective,
};

use super::decompressor::PIECE_BYTES;
use super::{CompressionError, contexts};

const LEVEL_DEFAULT: i32 = 1;
/// Frames with a larger window are refused: 128 MiB is zstd's own limit, reserved but touched only as bytes come out.
const WINDOW_LOG_MAX: u32 = 27;
/// The window of a stream whose length is not known: 1 MiB.
const STREAM_WINDOW_LOG: u32 = 20;
/// From this level on the tables are told to fit that window: those of level 19 take 80 MiB otherwise.
const LARGE_TABLES_LEVEL: i32 = 7;

fn corrupt(reason: &'static str) -> CompressionError {
    CompressionError::Corrupt { codec: "zstd", reason }
}

fn failed(code: usize) -> CompressionError {
    CompressionError::Failed { codec: "zstd", reason: zstd_safe::get_error_name(code).to_owned() }
}

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    contexts::with(|contexts| {
        let context = match &mut contexts.zstd {
            Some(context) => context,
            slot => slot.insert(CCtx::try_create().ok_or_else(|| failed(0))?),
        };
        context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        let level = CParameter::CompressionLevel(level.unwrap_or(LEVEL_DEFAULT));
        context.set_parameter(level).map_err(failed)?;
        let at = out.len();
        out.reserve(zstd_safe::compress_bound(input.len()));
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around_pos(out, at);
        // with room for the worst case one call takes all of the input and ends the frame
        match context
            .compress_stream2(&mut target, &mut source, ZSTD_EndDirective::ZSTD_e_end)
            .map_err(failed)?
        {
            0 => Ok(()),
            _ => Err(failed(0)),
        }
    })
}

/// Writes one zstd frame piece by piece, with a context of its own.
pub(super) struct ZstdStream(CCtx<'static>);

impl ZstdStream {
    pub(super) fn new(level: Option<i32>) -> Result<Self, CompressionError> {
        let mut context = CCtx::try_create().ok_or_else(|| failed(0))?;
        let level = level.unwrap_or(LEVEL_DEFAULT);
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
        context.set_parameter(CParameter::WindowLog(STREAM_WINDOW_LOG)).map_err(failed)?;
        if level >= LARGE_TABLES_LEVEL {
            context.set_parameter(CParameter::HashLog(STREAM_WINDOW_LOG + 1)).map_err(failed)?;
            context.set_parameter(CParameter::ChainLog(STREAM_WINDOW_LOG + 1)).map_err(failed)?;
        }
        Ok(Self(context))
    }

    pub(super) fn write(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let mut source = InBuffer::around(input);
        while source.pos() < input.len() {
            self.step(&mut source, ZSTD_EndDirective::ZSTD_e_continue, out)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CompressionError> {
        while self.step(&mut InBuffer::around(&[]), ZSTD_EndDirective::ZSTD_e_end, out)? != 0 {}
        Ok(())
    }

    fn step(
        &mut self,
        source: &mut InBuffer<'_>,
        directive: ZSTD_EndDirective,
        out: &mut Vec<u8>,
    ) -> Result<usize, CompressionError> {
        let at = out.len();
        out.reserve(PIECE_BYTES);
        let mut target = OutBuffer::around_pos(out, at);
        self.0.compress_stream2(&mut target, source, directive).map_err(failed)
    }
}

/// Reads one or more zstd frames.
pub(super) struct ZstdDecoder<'a> {
    input: &'a [u8],
    context: Option<DCtx<'static>>,
    /// Whether the last call ended a frame, so that the input may end here.
    at_boundary: bool,
}

impl<'a> ZstdDecoder<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { input, context: None, at_boundary: false }
    }

    /// Puts the next piece at the start of `piece`; its length, or `None` at the end.
    pub(super) fn next(&mut self, piece: &mut Vec<u8>) -> Result<Option<usize>, CompressionError> {
        if self.at_boundary && self.input.is_empty() {
            return Ok(None);
        }
        let context = match &mut self.context {
            Some(context) => context,
            slot => slot.insert(fresh_context()?),
        };
        if piece.len() < PIECE_BYTES {
            piece.resize(PIECE_BYTES, 0);
        }
        let mut source = InBuffer::around(self.input);
        let mut target = OutBuffer::around(piece.as_mut_slice());
        let hint = context
            .decompress_stream(&mut target, &mut source)
            .map_err(|_| corrupt("its bytes are no zstd frame, or its checksum does not fit"))?;
        let (read, written) = (source.pos(), target.pos());
        self.input = self.input.get(read..).unwrap_or_default();
        self.at_boundary = hint == 0;
        if read == 0 && written == 0 && !self.at_boundary {
            return Err(corrupt("it is cut short"));
        }
        Ok(Some(written))
    }
}

fn fresh_context() -> Result<DCtx<'static>, CompressionError> {
    let mut context = contexts::take_zstd_reader().ok_or_else(|| failed(0))?;
    context.reset(ResetDirective::SessionOnly).map_err(failed)?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(failed)?;
    Ok(context)
}

impl Drop for ZstdDecoder<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.context.take() {
            contexts::give_zstd_reader(context);
        }
    }
}
