//! Bytes that Python hands in.

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The content of a bytes object, borrowed, or a copy of any other buffer, which Python could change meanwhile.
pub(super) enum Input<'a> {
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
}

impl<'a> Input<'a> {
    /// The bytes of any object with the buffer protocol.
    pub(super) fn new(buffer: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        match buffer.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Borrowed(bytes.as_bytes())),
            Err(_) => Ok(Self::Copied(PyBuffer::<u8>::get(buffer)?.to_vec(buffer.py())?)),
        }
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}
