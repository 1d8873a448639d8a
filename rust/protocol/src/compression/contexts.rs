//! What is kept per thread between batches: codec contexts and the piece buffer.

use std::cell::RefCell;

use super::gzip::GzipEncoder;

/// A buffer or context above this is dropped after use, so that one odd batch does not pin memory for good. The
/// largest ordinary one is a zstd context with an 8 MiB window (level 19).
const KEPT_BYTES_MAX: usize = 12 << 20;

#[derive(Default)]
pub(super) struct Contexts {
    pub(super) gzip: Option<GzipEncoder>,
    pub(super) snappy: Option<snap::raw::Encoder>,
    pub(super) lz4: Option<lz4_flex::block::CompressTable>,
    pub(super) zstd: Option<zstd::zstd_safe::CCtx<'static>>,
    zstd_reader: Option<zstd::zstd_safe::DCtx<'static>>,
    piece: Option<Vec<u8>>,
}

thread_local! {
    // scratch space only: nothing in it outlives one call but its allocation
    static CONTEXTS: RefCell<Contexts> = RefCell::new(Contexts::default());
}

/// Runs `work` with this thread's contexts.
pub(super) fn with<T>(work: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => work(&mut contexts),
        Err(_) => work(&mut Contexts::default()),
    })
}

pub(super) fn take_piece() -> Vec<u8> {
    with(|contexts| contexts.piece.take()).unwrap_or_default()
}

pub(super) fn give_piece(piece: Vec<u8>) {
    if piece.capacity() <= KEPT_BYTES_MAX {
        with(|contexts| contexts.piece = Some(piece));
    }
}

pub(super) fn take_zstd_reader() -> Option<zstd::zstd_safe::DCtx<'static>> {
    with(|contexts| contexts.zstd_reader.take()).or_else(zstd::zstd_safe::DCtx::try_create)
}

pub(super) fn give_zstd_reader(reader: zstd::zstd_safe::DCtx<'static>) {
    if reader.sizeof() <= KEPT_BYTES_MAX {
        with(|contexts| contexts.zstd_reader = Some(reader));
    }
}
