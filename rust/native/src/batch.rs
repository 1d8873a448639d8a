//! Record batches for Python: sealing what a builder collected, opening what a broker sent.

use fastlog_protocol::batch::{
    self, Attributes, BatchError, BatchHeader, HEADER_BYTES, LOG_OVERHEAD, Rules, TimestampType,
};
use fastlog_protocol::compression::{self, Compression, CompressionError, cap_for};
use fastlog_protocol::{ErrorCode, crc};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};

use crate::buffer::ReadBuffer;

/// Up to this many bytes a CRC (30 GB/s and more) takes about ten microseconds, and keeping the GIL is better: taking
/// it back from a thread that computes costs a switch interval, five milliseconds by default.
const CRC_BYTES_WITH_GIL: usize = 512 * 1024;

/// `fastlog.errors.error_for(code, message)`.
pub(crate) fn kafka_error(py: Python<'_>, code: ErrorCode, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "fastlog.errors"))
        .and_then(|errors| errors.call_method1(intern!(py, "error_for"), (code.0, message)));
    made.map_or_else(|failure| failure, PyErr::from_value)
}

fn batch_error(py: Python<'_>, error: &BatchError) -> PyErr {
    kafka_error(py, error.code(), &error.to_string())
}

fn codec_error(py: Python<'_>, error: CompressionError) -> PyErr {
    match error {
        CompressionError::Failed { .. } => PyValueError::new_err(error.to_string()),
        error => batch_error(py, &error.into()),
    }
}

fn codec(id: i16) -> PyResult<Compression> {
    Compression::from_id(id).ok_or_else(|| {
        PyValueError::new_err(format!("{id} is no codec: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd"))
    })
}

/// The CRC-32C of a buffer. Releases the GIL.
#[pyfunction]
#[pyo3(signature = (buffer, /))]
pub(crate) fn crc32c(py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<u32> {
    let buffer = ReadBuffer::get(buffer)?;
    let bytes = buffer.bytes();
    Ok(py.detach(|| crc::crc32c(bytes)))
}

/// A buffer, compressed as a records section is. Releases the GIL.
#[pyfunction]
#[pyo3(signature = (buffer, compression, level = None, /))]
pub(crate) fn compress<'py>(
    buffer: &Bound<'py, PyAny>,
    compression: i16,
    level: Option<i32>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (py, kind, buffer) = (buffer.py(), codec(compression)?, ReadBuffer::get(buffer)?);
    let bytes = buffer.bytes();
    let mut out = Vec::new();
    py.detach(|| compression::compress(kind, level, bytes, &mut out))
        .map_err(|error| codec_error(py, error))?;
    Ok(PyBytes::new(py, &out))
}

/// A buffer, decompressed; at most `max_bytes`, or the usual cap for its size. Releases the GIL.
#[pyfunction]
#[pyo3(signature = (buffer, compression, max_bytes = None, /))]
pub(crate) fn decompress<'py>(
    buffer: &Bound<'py, PyAny>,
    compression: i16,
    max_bytes: Option<usize>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (py, kind, buffer) = (buffer.py(), codec(compression)?, ReadBuffer::get(buffer)?);
    let bytes = buffer.bytes();
    let cap = max_bytes.unwrap_or_else(|| cap_for(bytes.len()));
    let mut out = Vec::new();
    py.detach(|| compression::decompress(kind, bytes, &mut out, cap))
        .map_err(|error| codec_error(py, error))?;
    Ok(PyBytes::new(py, &out))
}

/// The header of the batch that `builder` collected, before compression.
fn header_of(builder: &Bound<'_, PyAny>, size: usize, attributes: Attributes) -> PyResult<BatchHeader> {
    let py = builder.py();
    let record_count: i32 = builder.getattr(intern!(py, "count"))?.extract()?;
    if record_count == 0 {
        return Err(PyValueError::new_err("an empty batch cannot be sealed: a broker takes none"));
    }
    let batch_length = i32::try_from(size.saturating_sub(LOG_OVERHEAD))
        .map_err(|_| PyValueError::new_err("the batch is larger than 2 GiB"))?;
    Ok(BatchHeader {
        base_offset: 0,
        batch_length,
        partition_leader_epoch: -1,
        magic: batch::MAGIC,
        crc: 0,
        attributes,
        last_offset_delta: record_count - 1,
        base_timestamp: builder.getattr(intern!(py, "base_timestamp_ms"))?.extract()?,
        max_timestamp: builder.getattr(intern!(py, "max_timestamp_ms"))?.extract()?,
        producer_id: batch::NO_PRODUCER_ID,
        producer_epoch: -1,
        base_sequence: -1,
        record_count,
    })
}

/// Ends the batch of a `BatchBuilder` and gives all of its bytes: a view of the builder's own memory without
/// compression, else new bytes. Releases the GIL to compress, or for a long CRC.
#[pyfunction]
#[pyo3(
    signature = (
        builder, *, compression = 0, level = None, producer_id = -1, producer_epoch = -1, base_sequence = -1,
        is_transactional = false
    ),
    // PyO3 would write negative defaults as an ellipsis
    text_signature = "(builder, *, compression=0, level=None, producer_id=-1, producer_epoch=-1, base_sequence=-1, \
                      is_transactional=False)"
)]
pub(crate) fn seal_batch<'py>(
    builder: &Bound<'py, PyAny>,
    compression: i16,
    level: Option<i32>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    is_transactional: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, kind) = (builder.py(), codec(compression)?);
    // from here to the drop of the buffer nothing can be appended
    let buffer = ReadBuffer::get(builder)?;
    let attributes = Attributes::of(kind).with_transactional(is_transactional);
    let mut header = header_of(builder, buffer.bytes().len(), attributes)?;
    (header.producer_id, header.producer_epoch, header.base_sequence) =
        (producer_id, producer_epoch, base_sequence);
    let records = buffer.bytes().get(HEADER_BYTES..).unwrap_or_default();
    if kind == Compression::None {
        let bytes = if records.len() <= CRC_BYTES_WITH_GIL {
            header.encode_with_crc(records)
        } else {
            py.detach(|| header.encode_with_crc(records))
        };
        drop(buffer);
        builder.call_method1(intern!(py, "seal_with"), (PyBytes::new(py, &bytes),))?;
        return Ok(PyMemoryView::from(builder)?.into_any());
    }
    let mut out = Vec::new();
    py.detach(|| batch::seal(header, records, kind, level, &mut out))
        .map_err(|error| batch_error(py, &error))?;
    Ok(PyBytes::new(py, &out).into_any())
}

/// The CRCs for the headers of batches, each in a buffer with its header, of which only the CRC is not there yet. Keeps
/// the GIL, except for long ones: made for many batches of a few records, of which a call for each would cost more.
#[pyfunction]
#[pyo3(signature = (batches, /))]
pub(crate) fn batch_crcs(batches: &Bound<'_, PyList>) -> PyResult<Vec<u32>> {
    let py = batches.py();
    let mut crcs = Vec::with_capacity(batches.len());
    for one in batches.iter() {
        let buffer = ReadBuffer::get(&one)?;
        let covered = buffer.bytes().get(batch::CRC_COVERS_FROM..).unwrap_or_default();
        crcs.push(if covered.len() <= CRC_BYTES_WITH_GIL {
            crc::crc32c(covered)
        } else {
            py.detach(|| crc::crc32c(covered))
        });
    }
    Ok(crcs)
}

/// A copy of a sealed batch with another producer id, epoch and base sequence; for batches that are sent again
/// after the producer's epoch changed. Releases the GIL for the CRC.
#[pyfunction]
#[pyo3(signature = (batch, *, producer_id, producer_epoch, base_sequence))]
pub(crate) fn restamp_batch<'py>(
    batch: &Bound<'py, PyAny>,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> PyResult<Bound<'py, PyBytes>> {
    let (py, buffer) = (batch.py(), ReadBuffer::get(batch)?);
    let bytes = buffer.bytes();
    let mut header = BatchHeader::parse(bytes).map_err(|error| batch_error(py, &error))?;
    (header.producer_id, header.producer_epoch, header.base_sequence) =
        (producer_id, producer_epoch, base_sequence);
    let records = bytes.get(HEADER_BYTES..header.size_bytes()).ok_or_else(|| {
        batch_error(py, &BatchError::Truncated { needed: header.size_bytes(), available: bytes.len() })
    })?;
    let head = py.detach(|| header.encode_with_crc(records));
    PyBytes::new_with(py, HEADER_BYTES + records.len(), |out| {
        let (first, rest) = out.split_at_mut(HEADER_BYTES);
        first.copy_from_slice(&head);
        rest.copy_from_slice(records);
        Ok(())
    })
}

/// What `open_all` found: where the last whole batch ends, and the opened copy if one was needed.
struct Opened {
    end: usize,
    copy: Option<Vec<u8>>,
}

/// Checks the CRC of each whole batch of `bytes` and, if any is compressed, opens all into one buffer.
fn open_all(bytes: &[u8]) -> Result<Opened, BatchError> {
    let mut all = batch::batches(bytes);
    let mut compressed = false;
    let mut end = 0;
    while let Some(one) = all.next().transpose()? {
        batch::check_crc(one)?;
        compressed |= BatchHeader::parse(one)?.attributes.compression() != Ok(Compression::None);
        end += one.len();
    }
    if !compressed {
        return Ok(Opened { end, copy: None });
    }
    let mut out = Vec::with_capacity(bytes.len());
    for one in batch::batches(bytes) {
        batch::open(one?, &mut out)?;
    }
    Ok(Opened { end, copy: Some(out) })
}

/// The whole batches at the start of a buffer, decompressed, one after the other, their CRCs checked: what
/// `RecordBatch` and `read_batches` read. A partial last batch is left out. Without a compressed batch it is a view
/// of the buffer. Releases the GIL.
#[pyfunction]
#[pyo3(signature = (buffer, /))]
pub(crate) fn open_batches<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, held) = (buffer.py(), ReadBuffer::get(buffer)?);
    let bytes = held.bytes();
    let opened = py.detach(|| open_all(bytes)).map_err(|error| batch_error(py, &error))?;
    if let Some(copy) = opened.copy {
        return Ok(PyBytes::new(py, &copy).into_any());
    }
    let end = isize::try_from(opened.end).unwrap_or(isize::MAX);
    PyMemoryView::from(buffer)?.get_item(PySlice::new(py, 0, end, 1))
}

/// The one batch at the start of a buffer, as `open_batches` gives it; what follows it is left out.
#[pyfunction]
#[pyo3(signature = (buffer, /))]
pub(crate) fn open_batch<'py>(buffer: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, held) = (buffer.py(), ReadBuffer::get(buffer)?);
    let bytes = held.bytes();
    let size = BatchHeader::parse(bytes).map_err(|error| batch_error(py, &error))?.size_bytes();
    if size > bytes.len() {
        return Err(batch_error(py, &BatchError::Truncated { needed: size, available: bytes.len() }));
    }
    drop(held);
    let end = isize::try_from(size).unwrap_or(isize::MAX);
    open_batches(&PyMemoryView::from(buffer)?.get_item(PySlice::new(py, 0, end, 1))?)
}

/// Checks a batch as a broker does before it appends, with Kafka's default limits; raises the error that a client would
/// be told. Gives the largest timestamp. Releases the GIL.
#[pyfunction]
#[pyo3(signature = (batch, /, *, now_ms, max_batch_bytes = 1_048_588, is_compacted = false))]
pub(crate) fn validate_batch(
    batch: &Bound<'_, PyAny>,
    now_ms: i64,
    max_batch_bytes: usize,
    is_compacted: bool,
) -> PyResult<i64> {
    let (py, buffer) = (batch.py(), ReadBuffer::get(batch)?);
    let bytes = buffer.bytes();
    let rules = Rules {
        max_batch_bytes,
        compacted: is_compacted,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        now_ms,
        from_client: true,
        zstd_allowed: true,
    };
    py.detach(|| batch::validate(bytes, &rules))
        .map(|checked| checked.max_timestamp)
        .map_err(|invalid| kafka_error(py, invalid.code, &invalid.message))
}
