//! A broker's machine that is simulated, for Python. In builds with Cargo's feature `simulation` only.

use crate::engine::{BrokerSettings, Engine, TopicSettings, to_python};
use fastlog_broker::simulation::{Handled, Node};
use fastlog_broker::{OpenPartition, Partition};
use fastlog_log::file_system::memory::Faults;
use fastlog_log::{LastStop, LogError};
use fastlog_protocol::batch::{BatchHeader, batches, records};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// How many bytes a look at records reads at a time.
const LOOK_BYTES: usize = 1 << 20;
/// Kafka's default of `producer.id.expiration.ms`.
const PRODUCER_ID_EXPIRATION_MS: i64 = 86_400_000;

/// An answer, its token, and why there is none.
type Late<'py> = (u64, Option<Bound<'py, PyBytes>>, Option<String>);

/// Log start, high watermark, log end, and epochs with where they start.
type Look = (i64, i64, i64, Vec<(i32, i64)>);

/// A broker's machine and, while one runs, its process.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct SimulatedNode(Mutex<Node>);

fn raise<T>(result: Result<T, LogError>) -> PyResult<T> {
    result.map_err(|error| to_python(&error))
}

impl SimulatedNode {
    fn partition(&self, topic: &str, index: i32) -> PyResult<Arc<Partition>> {
        let found = raise(self.0.lock().broker().cloned())?.partitions().get(topic, index);
        found.ok_or_else(|| PyRuntimeError::new_err(format!("{topic}-{index} is not open")))
    }
}

#[pymethods]
impl SimulatedNode {
    #[new]
    #[pyo3(signature = (node_id, seed, *, cluster_id = "AAAAAAAAAAAAAAAAAAAAAQ"))]
    fn new(node_id: i32, seed: u64, cluster_id: &str) -> Self {
        Self(Mutex::new(Node::new(node_id, cluster_id, seed)))
    }

    // --- life ---

    #[pyo3(signature = (*, replica_lag_max_ms = 30_000))]
    fn start(&self, replica_lag_max_ms: u64) -> PyResult<&'static str> {
        Ok(match raise(self.0.lock().start(Duration::from_millis(replica_lag_max_ms)))? {
            LastStop::Clean => "clean",
            LastStop::ProcessDied => "process died",
            LastStop::MachineDied => "machine died",
        })
    }

    fn finish_opening(&self) -> PyResult<usize> {
        raise(self.0.lock().logs().and_then(|logs| logs.finish_opening())).map(|strays| strays.len())
    }

    fn engine(&self, settings: BrokerSettings) -> PyResult<Engine> {
        let node = self.0.lock();
        let (broker, logs) = (raise(node.broker().cloned())?, raise(node.logs().cloned())?);
        Ok(Engine::of(broker, settings, logs))
    }

    fn stop(&self) -> PyResult<()> {
        raise(self.0.lock().stop())
    }

    #[pyo3(signature = (*, lose_unsynced))]
    fn crash(&self, lose_unsynced: bool) {
        self.0.lock().crash(lose_unsynced);
    }

    fn wipe(&self) {
        self.0.lock().wipe();
    }

    fn is_dead(&self) -> bool {
        self.0.lock().files().is_dead()
    }

    #[pyo3(signature = (
        *, die_in_calls = None, short_write = None, room = None, write_error = false, sync_error = false
    ))]
    fn set_faults(
        &self,
        die_in_calls: Option<u64>,
        short_write: Option<usize>,
        room: Option<u64>,
        write_error: bool,
        sync_error: bool,
    ) {
        let node = self.0.lock();
        let die_at_call = die_in_calls.map(|calls| node.files().calls() + calls);
        let faults = Faults { die_at_call, short_write, room, write_error, sync_error, ..Faults::default() };
        node.files().set_faults(faults);
    }

    // --- time ---

    fn advance_to(&self, now_ms: i64) {
        self.0.lock().advance_to(now_ms);
    }

    fn jump_to(&self, now_ms: i64) {
        self.0.lock().jump_to(now_ms);
    }

    fn set_wall_clock(&self, ahead_ms: i64) {
        self.0.lock().set_wall_clock(ahead_ms);
    }

    fn next_due_ms(&self) -> Option<i64> {
        self.0.lock().next_due_ms()
    }

    fn run_syncs(&self) -> PyResult<()> {
        raise(self.0.lock().run_syncs())
    }

    fn checkpoint(&self) -> PyResult<()> {
        raise(self.0.lock().checkpoint())
    }

    fn flush(&self) -> PyResult<()> {
        raise(self.0.lock().flush())
    }

    // --- partitions and requests ---

    fn open_partitions(
        &self,
        topic: &str,
        topic_id: [u8; 16],
        partitions: Vec<(i32, i32)>,
        settings: TopicSettings,
    ) -> PyResult<()> {
        let config = settings.log(PRODUCER_ID_EXPIRATION_MS, false)?;
        let wanted = partitions.into_iter().map(|(index, leader_epoch)| OpenPartition {
            topic: Arc::from(topic),
            topic_id: Uuid::from_bytes(topic_id),
            index,
            leader_epoch,
            config: config.clone(),
            min_insync_replicas: settings.min_insync_replicas,
        });
        let wanted: Vec<_> = wanted.collect();
        let node = self.0.lock();
        raise(node.logs().and_then(|logs| {
            let results = logs.open_partitions(&wanted, node.now_ms());
            results.into_iter().collect()
        }))
    }

    #[pyo3(signature = (token, request, *, inter_broker = false))]
    fn handle<'py>(
        &self,
        py: Python<'py>,
        token: u64,
        request: &[u8],
        inter_broker: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match raise(self.0.lock().handle(token, request, inter_broker))? {
            Handled::Answer(bytes) => Ok(Some(PyBytes::new(py, &bytes))),
            Handled::Later | Handled::Nothing => Ok(None),
            Handled::Close(reason) => Err(PyRuntimeError::new_err(reason)),
        }
    }

    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Vec<Late<'py>>> {
        let late = raise(self.0.lock().drain())?.into_iter().map(|(token, handled)| match handled {
            Handled::Answer(bytes) => (token, Some(PyBytes::new(py, &bytes)), None),
            Handled::Later | Handled::Nothing => (token, None, None),
            Handled::Close(reason) => (token, None, Some(reason)),
        });
        Ok(late.collect())
    }

    // --- looks ---

    fn look(&self, topic: &str, index: i32) -> PyResult<Look> {
        let partition = self.partition(topic, index)?;
        let log = partition.log();
        let epochs = log.epochs().into_iter().map(|it| (it.epoch, it.start_offset));
        Ok((log.log_start_offset(), log.high_watermark(), log.log_end_offset(), epochs.collect()))
    }

    fn records(&self, topic: &str, index: i32, start: i64, end: i64) -> PyResult<Vec<(i64, i32, u64)>> {
        let partition = self.partition(topic, index)?;
        let log = partition.log();
        let mut found = Vec::new();
        let mut offset = start.max(log.log_start_offset());
        while offset < end.min(log.log_end_offset())
            && let Some(slice) = raise(log.read(offset, LOOK_BYTES, log.log_end_offset(), true))?
        {
            let mut bytes = vec![0; slice.length];
            fastlog_log::file_system::read_exact_at(&*slice.file, &mut bytes, slice.position)?;
            let next = records_of(&bytes, &mut found)?;
            if next <= offset {
                break;
            }
            offset = next;
        }
        found.retain(|(offset, ..)| (start..end).contains(offset));
        Ok(found)
    }
}

/// Offset, leader epoch and checksum (of key and value) of each record of whole batches; the offset after them.
fn records_of(bytes: &[u8], found: &mut Vec<(i64, i32, u64)>) -> io::Result<i64> {
    let mut next = -1;
    for batch in batches(bytes).map_while(Result::ok) {
        let header = BatchHeader::parse(batch).map_err(io::Error::other)?;
        records(batch, |record| {
            let key = u64::from(fastlog_protocol::crc::crc32c(record.key.unwrap_or_default()));
            let value = u64::from(fastlog_protocol::crc::crc32c(record.value.unwrap_or_default()));
            found.push((record.offset, header.partition_leader_epoch, key << 32 | value));
            ControlFlow::Continue(())
        })
        .map_err(io::Error::other)?;
        next = header.next_offset();
    }
    Ok(next)
}
