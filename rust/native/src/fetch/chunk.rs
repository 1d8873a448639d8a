//! A fetched chunk for Python: its batches are handed out one by one.

use fastlog_client::{Batch, Chunk, open_batch};
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The batches that one fetch brought for one partition.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct FetchedChunk {
    /// the caller's number for the partition
    #[pyo3(get)]
    slot: u64,
    #[pyo3(get)]
    generation: u64,
    #[pyo3(get)]
    fetch_offset: i64,
    #[pyo3(get)]
    size_bytes: usize,
    inner: Mutex<Chunk>,
}

/// A batch, opened: (bytes, base offset, position after it).
type BatchTuple<'py> = (Bound<'py, PyBytes>, i64, i64);

impl FetchedChunk {
    pub(crate) fn new(chunk: Chunk) -> Self {
        Self {
            slot: chunk.slot,
            generation: chunk.generation,
            fetch_offset: chunk.fetch_offset,
            size_bytes: chunk.size_bytes,
            inner: Mutex::new(chunk),
        }
    }

    /// The next batch, opened; one that cannot be opened ends the chunk as corrupt.
    fn take(&self) -> Option<Batch> {
        let mut chunk = self.inner.lock();
        let mut batch = chunk.batches.pop_front()?;
        if !batch.open {
            match open_batch(&batch.bytes) {
                Ok(bytes) => batch.bytes = bytes,
                Err(error) => {
                    chunk.fail(batch.base_offset, &error);
                    return None;
                }
            }
        }
        Some(batch)
    }
}

#[pymethods]
impl FetchedChunk {
    /// The offset after everything in it.
    #[getter]
    fn next_offset(&self) -> i64 {
        self.inner.lock().next_offset
    }

    /// Where and why it ends at a batch that cannot be read; known for sure once `pop` has given None.
    #[getter]
    fn corrupt(&self) -> Option<(i64, String)> {
        self.inner.lock().corrupt.as_ref().map(|corrupt| (corrupt.offset, corrupt.reason.clone()))
    }

    /// The next batch; None after the last one.
    fn pop<'py>(&self, py: Python<'py>) -> Option<BatchTuple<'py>> {
        let batch = py.detach(|| self.take())?;
        Some((PyBytes::new(py, &batch.bytes), batch.base_offset, batch.next_offset))
    }

    fn __len__(&self) -> usize {
        self.inner.lock().batches.len()
    }
}
