//! The SDK's fetcher for Python: what waits or decompresses releases the GIL.

mod chunk;
mod event;

use std::time::{Duration, Instant};

use fastlog_client::{BrokerAddress, FetchOptions, Fetcher as ClientFetcher, Next, Target};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use uuid::Uuid;

pub(crate) use chunk::FetchedChunk;
pub(crate) use event::{BrokerFailed, PartitionFailed};

/// Signals are looked for this often while a thread waits: a Ctrl-C must not wait for records.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// Fetches partitions ahead of their reader, one thread per broker.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct Fetcher {
    inner: ClientFetcher,
}

/// Slot, generation, topic, topic id (16 bytes), partition, broker id, leader epoch, offset.
type TargetTuple = (u64, u64, String, [u8; 16], i32, i32, i32, i64);

#[pymethods]
impl Fetcher {
    #[new]
    #[pyo3(signature = (*, client_id, rack, fetch_min_bytes, fetch_max_bytes, max_partition_fetch_bytes,
        fetch_max_wait_ms, read_committed, check_crcs, prefetch_bytes, connect_timeout_ms, request_timeout_ms,
        reconnect_backoff_ms, reconnect_backoff_max_ms))]
    #[expect(clippy::too_many_arguments, reason = "keyword-only settings")]
    fn new(
        client_id: String,
        rack: String,
        fetch_min_bytes: i32,
        fetch_max_bytes: usize,
        max_partition_fetch_bytes: i32,
        fetch_max_wait_ms: u64,
        read_committed: bool,
        check_crcs: bool,
        prefetch_bytes: usize,
        connect_timeout_ms: u64,
        request_timeout_ms: u64,
        reconnect_backoff_ms: u64,
        reconnect_backoff_max_ms: u64,
    ) -> Self {
        let options = FetchOptions {
            client_id,
            rack,
            fetch_bytes_min: fetch_min_bytes,
            wait_max: Duration::from_millis(fetch_max_wait_ms),
            fetch_bytes_max: fetch_max_bytes,
            partition_bytes_max: max_partition_fetch_bytes,
            read_committed,
            check_crcs,
            prefetch_bytes,
            connect_timeout: Duration::from_millis(connect_timeout_ms),
            request_timeout: Duration::from_millis(request_timeout_ms),
            backoff: Duration::from_millis(reconnect_backoff_ms),
            backoff_max: Duration::from_millis(reconnect_backoff_max_ms),
            ..FetchOptions::default()
        };
        Self { inner: ClientFetcher::new(options) }
    }

    fn set_brokers(&self, brokers: Vec<(i32, String, i32)>) -> PyResult<()> {
        let addresses = brokers
            .into_iter()
            .map(|(broker_id, host, port)| {
                let port = u16::try_from(port)
                    .map_err(|_| PyValueError::new_err(format!("port {port} of broker {broker_id}")))?;
                Ok(BrokerAddress { broker_id, host, port })
            })
            .collect::<PyResult<Vec<_>>>()?;
        self.inner.set_brokers(&addresses);
        Ok(())
    }

    fn fetch(&self, targets: Vec<TargetTuple>) {
        self.inner.set(targets.into_iter().map(target).collect());
    }

    fn move_to(&self, slot: u64, generation: u64, broker_id: i32, leader_epoch: i32) -> bool {
        self.inner.move_to(slot, generation, broker_id, leader_epoch)
    }

    fn stop(&self, slots: Vec<u64>) {
        self.inner.remove(&slots);
    }

    fn next(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<Option<FetchedChunk>> {
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match py.detach(|| self.inner.next(left.min(SIGNAL_CHECK))) {
                Next::Chunk(chunk) => return Ok(Some(FetchedChunk::new(chunk))),
                Next::TimedOut if left > SIGNAL_CHECK => py.check_signals()?,
                Next::Woken | Next::TimedOut | Next::Closed => return Ok(None),
            }
        }
    }

    fn next_event<'py>(&self, py: Python<'py>, timeout_ms: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        let event = py.detach(|| self.inner.next_event(Duration::from_millis(timeout_ms)));
        event.map(|event| event::to_python(py, event)).transpose()
    }

    fn wake(&self) {
        self.inner.wake();
    }

    fn wake_events(&self) {
        self.inner.wake_events();
    }

    fn watermarks(&self, slot: u64) -> Option<(i64, i64, i64)> {
        let marks = self.inner.watermarks(slot)?;
        Some((marks.high_watermark, marks.last_stable_offset, marks.log_start_offset))
    }

    #[getter]
    fn buffered_bytes(&self) -> usize {
        self.inner.buffered_bytes()
    }

    fn close(&self, py: Python<'_>, timeout_ms: u64) -> bool {
        py.detach(|| self.inner.close(Duration::from_millis(timeout_ms)))
    }
}

fn target(fields: TargetTuple) -> Target {
    let (slot, generation, topic, topic_id, partition, broker_id, leader_epoch, offset) = fields;
    Target {
        slot,
        generation,
        topic: topic.into(),
        topic_id: Uuid::from_bytes(topic_id),
        partition,
        broker_id,
        leader_epoch,
        offset,
    }
}
