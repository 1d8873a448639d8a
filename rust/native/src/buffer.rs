//! Bytes that Python owns, as Rust slices: the only unsafe code at the border.

use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The bytes of any object with the buffer protocol, kept in place (and, by Python's rule for exported buffers, not
/// resized) while this lives.
pub(crate) struct ReadBuffer {
    view: PyUntypedBuffer,
    /// The bytes of a writable buffer, which another thread could change while the GIL is released.
    copy: Option<Vec<u8>>,
}

impl ReadBuffer {
    /// Borrows a read-only buffer (bytes, a sealed batch); copies a writable one (bytearray).
    ///
    /// # Errors
    /// The object has no buffer, or one that is not contiguous.
    pub(crate) fn get(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut buffer = Self::shared(object)?;
        if !buffer.view.readonly() {
            buffer.copy = Some(buffer.bytes().to_vec());
        }
        Ok(buffer)
    }

    /// Borrows any buffer. The caller knows that nobody writes to it meanwhile, as with a message that just came from a
    /// socket and that no one else holds.
    ///
    /// # Errors
    /// As for [`ReadBuffer::get`].
    pub(crate) fn shared(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let view = PyUntypedBuffer::get(object)?;
        if !view.is_c_contiguous() {
            return Err(PyValueError::new_err("the buffer is not contiguous"));
        }
        Ok(Self { view, copy: None })
    }

    /// The bytes. They may be read without the GIL.
    pub(crate) fn bytes(&self) -> &[u8] {
        if let Some(copy) = &self.copy {
            return copy;
        }
        let (start, length) = (self.view.buf_ptr().cast::<u8>().cast_const(), self.view.len_bytes());
        if start.is_null() || length == 0 {
            return &[];
        }
        // SAFETY: the exporter guarantees `length` contiguous bytes at `start` until the view is released, which is
        // when `self` is dropped; the returned slice borrows `self`. `get` borrows only what is read-only, and
        // the callers of `shared` answer for the rest.
        unsafe { std::slice::from_raw_parts(start, length) }
    }
}
