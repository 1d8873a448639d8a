//! The loops of the benchmarks for Python; see fastlog-bench. All block, and all release the GIL.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fastlog_bench::{append, clean, file_server, lookup, reader, write};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::batch::kafka_error;
use crate::buffer::ReadBuffer;

/// A new file that is only appended to, preallocated as a log's segments are.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct BareFile(Mutex<write::BareFile>);

#[pymethods]
impl BareFile {
    #[new]
    #[pyo3(signature = (path, *, preallocate = true))]
    fn new(py: Python<'_>, path: PathBuf, preallocate: bool) -> PyResult<Self> {
        Ok(Self(Mutex::new(py.detach(|| write::BareFile::create(&path, preallocate))?)))
    }

    #[pyo3(signature = (buffer, count = 1, *, sync = false))]
    fn append(&self, buffer: &Bound<'_, PyAny>, count: usize, sync: bool) -> PyResult<Vec<u64>> {
        let (py, buffer) = (buffer.py(), ReadBuffer::shared(buffer)?);
        let bytes = buffer.bytes();
        Ok(py.detach(|| self.0.lock().append_times(bytes, count, sync))?)
    }
}

/// Appends a batch `count` times to a new log of its own; the nanoseconds of each append.
#[pyfunction]
#[pyo3(signature = (directory, topic, batch, count, *, now_ms))]
pub(crate) fn append_batches(
    directory: PathBuf,
    topic: &str,
    batch: &Bound<'_, PyAny>,
    count: usize,
    now_ms: i64,
) -> PyResult<Vec<u64>> {
    let (py, buffer) = (batch.py(), ReadBuffer::get(batch)?);
    let bytes = buffer.bytes();
    py.detach(|| append::append_times(&directory, topic, bytes, count, now_ms))
        .map_err(|error| kafka_error(py, error.code, &error.message))
}

/// Looks offsets up in a log; the nanoseconds of each.
#[pyfunction]
#[pyo3(signature = (directory, topic, offsets, *, now_ms))]
pub(crate) fn look_offsets_up(
    py: Python<'_>,
    directory: PathBuf,
    topic: &str,
    offsets: Vec<i64>,
    now_ms: i64,
) -> PyResult<Vec<u64>> {
    py.detach(|| lookup::lookup_times(&directory, topic, &offsets, now_ms))
        .map_err(|error| kafka_error(py, error.code(), &error.to_string()))
}

/// Fills a log and cleans it; (bytes before, bytes after, records before, records that stayed, nanoseconds of the pass).
#[pyfunction]
pub(crate) fn clean_log(
    py: Python<'_>,
    directory: PathBuf,
    log_bytes: u64,
    keys: u64,
) -> PyResult<(u64, u64, u64, u64, u128)> {
    let found = py.detach(|| clean::clean(&directory, log_bytes, keys))?;
    Ok((
        found.bytes_before,
        found.bytes_after,
        found.records_before,
        found.records_kept,
        found.took.as_nanos(),
    ))
}

/// Sends a whole file by sendfile(2) to each who connects.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct FileServer(Mutex<Option<file_server::FileServer>>, SocketAddr);

#[pymethods]
impl FileServer {
    #[new]
    #[pyo3(signature = (path, *, chunk_bytes))]
    fn new(path: PathBuf, chunk_bytes: usize) -> PyResult<Self> {
        let server = file_server::FileServer::start(&path, chunk_bytes)?;
        let address = server.address();
        Ok(Self(Mutex::new(Some(server)), address))
    }

    #[getter]
    fn port(&self) -> u16 {
        self.1.port()
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.lock().take()));
    }
}

/// Takes frames from a server and throws them away; (bytes, the nanoseconds from frame to frame).
#[pyfunction]
#[pyo3(signature = (address, count, *, requests, ahead, every = None, within = None))]
pub(crate) fn discard_frames(
    py: Python<'_>,
    address: &str,
    count: usize,
    requests: Vec<Vec<u8>>,
    ahead: usize,
    every: Option<Duration>,
    within: Option<Duration>,
) -> PyResult<(u64, Vec<u64>)> {
    let (address, pace) = (parse(address)?, reader::Pace { every, within });
    Ok(py.detach(|| reader::discard_frames(address, count, &requests, ahead, pace))?)
}

/// Reads batches until the server ends the connection and checks their CRCs; (bytes, batches, nanoseconds).
#[pyfunction]
pub(crate) fn check_batches(py: Python<'_>, address: &str) -> PyResult<(u64, u64, u64)> {
    let address = parse(address)?;
    Ok(py.detach(|| reader::check_batches(address))?)
}

fn parse(address: &str) -> PyResult<SocketAddr> {
    address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is not IP:PORT")))
}
