//! The broker's data plane for Python: it is built, told of topics, listens, and is ended. What touches the disk or the
//! network releases the GIL.

mod control;
mod directories;
mod failure;
mod image;
mod intake;
mod log_lines;
mod parts;
mod process;
mod replicas;
mod settings;

use fastlog_broker::{
    AllowAll, Broker, ChangeError, FetchAnswer, Listener, ListenerProtocol, LogManager, OpenPartition,
    SystemClock, WantedReplica,
};
use fastlog_log::{Checkpoint, Identity, LastStop, LogConfig, LogError, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_server::{ListenerConfig, Server};
use parking_lot::Mutex;
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub(crate) use control::ControlRequest;
pub(crate) use failure::to_python;
pub(crate) use intake::Intake;
pub(crate) use process::{end_process_on_panic, keep_freed_memory};
pub(crate) use settings::{BrokerSettings, TopicSettings};

/// A topic's name and id, (partition, leader epoch) pairs, and its settings.
type TopicLogs<'py> = (String, [u8; 16], Vec<(i32, i32)>, Bound<'py, PyAny>);

/// The data plane of one broker.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct Engine {
    broker: Arc<Broker>,
    node_id: i32,
    rack: Option<String>,
    settings: Mutex<BrokerSettings>,
    last_config: Mutex<Arc<LogConfig>>,
    logs: Mutex<Option<Arc<LogManager>>>,
    server: Mutex<Option<Arc<Server>>>,
}

#[pymethods]
impl Engine {
    #[new]
    fn new(settings: BrokerSettings) -> PyResult<Self> {
        let broker = Broker::new(settings.broker(), Arc::new(AllowAll), Arc::new(SystemClock))
            .map_err(|error| PyOSError::new_err(format!("cannot start the engine: {error}")))?;
        log_lines::follow(&broker);
        Ok(Self::unopened(broker, settings))
    }

    fn configure(&self, settings: BrokerSettings) {
        if let Some(server) = self.server.lock().as_ref() {
            server.limit_connections(settings.max_connections, settings.max_connections_per_ip);
        }
        *self.settings.lock() = settings;
        self.limit_tiers();
    }

    // --- the data directories ---

    #[staticmethod]
    fn read_cluster_id(py: Python<'_>, directory: PathBuf) -> PyResult<Option<String>> {
        py.detach(|| LogManager::cluster_id(&directory)).map_err(|error| to_python(&error))
    }

    fn open_directories(
        &self,
        py: Python<'_>,
        directories: Vec<PathBuf>,
        cluster_id: String,
    ) -> PyResult<(&'static str, bool)> {
        let identity = Identity { cluster_id, node_id: self.node_id };
        let broker = self.broker.clone();
        let tiers = self.settings.lock().tiers().map_err(|error| PyOSError::new_err(error.to_string()))?;
        tiers.into_iter().for_each(|tiers| broker.set_tiers(tiers));
        self.limit_tiers();
        let logs = py
            .detach(|| LogManager::open(broker, Storage::all_real(directories), &identity))
            .map_err(|error| to_python(&error))?;
        let has_lost = logs.has_lost().map_err(|error| to_python(&error))?;
        let last_stop = match logs.last_stop() {
            LastStop::Clean => "clean",
            LastStop::ProcessDied => "process died",
            LastStop::MachineDied => "machine died",
        };
        *self.logs.lock() = Some(Arc::new(logs));
        Ok((last_stop, has_lost))
    }

    fn finish_opening(&self, py: Python<'_>) -> PyResult<Vec<PathBuf>> {
        self.with_logs(py, LogManager::finish_opening)
    }

    /// Of each directory its path, why it cannot be looked at, the bytes of its disk in all and free, and its logs.
    fn describe_directories(&self, py: Python<'_>) -> PyResult<Vec<directories::Described>> {
        let described = self.with_logs(py, LogManager::described)?;
        Ok(described.into_iter().map(directories::described).collect())
    }

    /// Of each replica why it is not moved, if it is not.
    fn move_replicas(
        &self,
        py: Python<'_>,
        replicas: Vec<(String, [u8; 16], i32, PathBuf)>,
    ) -> PyResult<Vec<Option<PyErr>>> {
        let logs = self.logs()?;
        let each = replicas.into_iter().map(|(topic, topic_id, index, directory)| WantedReplica {
            topic,
            topic_id: Uuid::from_bytes(topic_id),
            index,
            directory,
        });
        let wanted: Vec<_> = each.collect();
        let answers = py.detach(|| logs.move_replicas(&wanted)).into_iter();
        Ok(answers.map(|it| it.err().map(|error| failure::kafka_error(error.code, &error.message))).collect())
    }

    fn close_directories(&self, py: Python<'_>) -> PyResult<()> {
        let Some(logs) = self.logs.lock().take() else { return Ok(()) };
        py.detach(|| logs.close()).map_err(|error| to_python(&error))
    }

    // --- topics ---

    /// Of each topic the first failure, if any.
    fn open_topics(&self, py: Python<'_>, topics: Vec<TopicLogs<'_>>) -> PyResult<Vec<Option<PyErr>>> {
        let mut wanted = Vec::new();
        let mut counts = Vec::with_capacity(topics.len());
        // topics that set the same come with the same object
        let mut last: Option<(Bound<'_, PyAny>, Arc<LogConfig>, usize)> = None;
        for (topic, topic_id, partitions, settings) in topics {
            let (config, min_insync_replicas) = match &last {
                Some((known, config, min_insync)) if known.is(&settings) => (config.clone(), *min_insync),
                _ => {
                    let read: TopicSettings = settings.extract()?;
                    let config = self.log_config(&read)?;
                    last = Some((settings, config.clone(), read.min_insync_replicas));
                    (config, read.min_insync_replicas)
                }
            };
            let (topic, topic_id) = (Arc::from(topic), Uuid::from_bytes(topic_id));
            counts.push(partitions.len());
            wanted.extend(partitions.into_iter().map(|(index, leader_epoch)| OpenPartition {
                topic: Arc::clone(&topic),
                topic_id,
                index,
                leader_epoch,
                config: config.clone(),
                min_insync_replicas,
            }));
        }
        let now_ms = self.broker.clock().now_ms();
        let results = self.with_logs(py, |logs| Ok(logs.open_partitions(&wanted, now_ms)))?;
        let mut results = results.into_iter();
        let first_failure = |count| results.by_ref().take(count).fold(None, |first, it| first.or(it.err()));
        Ok(counts.into_iter().map(first_failure).map(|error| error.map(|it| to_python(&it))).collect())
    }

    /// Of each topic how many directories were put away, or why not all of them.
    fn delete_topics<'py>(
        &self,
        py: Python<'py>,
        topics: Vec<(String, [u8; 16])>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let named: Vec<_> = topics.into_iter().map(|(topic, id)| (topic, Uuid::from_bytes(id))).collect();
        let now_ms = self.broker.clock().now_ms();
        let results = self.with_logs(py, |logs| Ok(logs.delete_topics(&named, now_ms)))?;
        let told = |result: Result<usize, LogError>| match result {
            Ok(count) => Ok(count.into_pyobject(py)?.into_any()),
            Err(error) => Ok(to_python(&error).into_pyobject(py)?.into_any()),
        };
        results.into_iter().map(told).collect()
    }

    fn set_topic_settings(&self, py: Python<'_>, topic: &str, settings: TopicSettings) -> PyResult<()> {
        let config = self.log_config(&settings)?;
        py.detach(|| self.broker.configure_topic(topic, &config, settings.min_insync_replicas));
        self.throttle_topic(topic, &settings);
        Ok(())
    }

    fn delete_records(
        &self,
        py: Python<'_>,
        topic: &str,
        partition: i32,
        before_offset: i64,
    ) -> PyResult<i64> {
        self.with_logs(py, |logs| logs.delete_records(topic, partition, before_offset))
    }

    fn wait_deleted(
        &self,
        py: Python<'_>,
        partitions: Vec<(String, i32, i64)>,
        timeout_ms: u64,
    ) -> Vec<(i64, i16)> {
        let timeout = Duration::from_millis(timeout_ms);
        let outcomes = py.detach(|| self.broker.wait_deleted(&partitions, timeout));
        let told = |outcome: Result<i64, ErrorCode>| outcome.map_or_else(|code| (-1, code.0), |low| (low, 0));
        outcomes.into_iter().map(told).collect()
    }

    fn log_sizes(&self, py: Python<'_>) -> PyResult<Vec<(String, i32, u64)>> {
        let sizes = self.with_logs(py, |logs| Ok(logs.sizes()))?;
        Ok(sizes.into_iter().map(|(topic, index, bytes)| (topic.to_string(), index, bytes)).collect())
    }

    fn producers(&self, py: Python<'_>, topic: &str, partition: i32) -> PyResult<Vec<replicas::Producer>> {
        let replica = self.replica(topic, partition)?;
        let known = py.detach(|| replica.log().producers()).map_err(|error| to_python(&error))?;
        Ok(known.into_iter().map(replicas::producer).collect())
    }

    // --- metadata ---

    fn publish_topics(&self, put: Vec<image::Topic>, removed: Vec<String>) {
        self.broker.image().update(|image| image::change_topics(image, put, &removed));
    }

    #[pyo3(signature = (
        *, cluster_id, controller_id, auto_create_topics, apis, endpoints, zmq_endpoint, node_id = None,
        brokers = Vec::new()
    ))]
    #[allow(clippy::too_many_arguments, reason = "Python names them")]
    fn publish_cluster(
        &self,
        cluster_id: String,
        controller_id: i32,
        auto_create_topics: bool,
        apis: Vec<image::Api>,
        endpoints: image::Endpoints,
        zmq_endpoint: Option<(String, u16)>,
        node_id: Option<i32>,
        brokers: Vec<image::Other>,
    ) {
        let own = (node_id.unwrap_or(self.node_id), self.rack.clone(), endpoints);
        let brokers = image::brokers(own, zmq_endpoint, brokers);
        self.broker.image().update(|image| {
            image.cluster_id = cluster_id;
            image.controller_id = controller_id;
            image.auto_create_topics = auto_create_topics;
            (image.group_apis, image.control_apis) = image::apis(apis);
            image.brokers = brokers;
        });
    }

    // --- the control queue ---

    fn control_fd(&self) -> i32 {
        self.broker.wakeup().as_raw_fd()
    }

    fn drain_control(&self, limit: usize) -> Vec<ControlRequest> {
        self.broker.wakeup().clear();
        self.drain(self.broker.control(), limit)
    }

    fn groups_fd(&self) -> i32 {
        self.broker.groups().wakeup().as_raw_fd()
    }

    fn drain_groups(&self, limit: usize) -> Vec<ControlRequest> {
        let groups = self.broker.groups();
        groups.wakeup().clear();
        self.drain(groups, limit)
    }

    fn drain_events(&self) -> (Vec<log_lines::Line>, u64) {
        let (events, dropped) = self.broker.events().drain();
        (events.into_iter().map(log_lines::line).collect(), dropped)
    }

    // --- listeners ---

    fn listen(&self, py: Python<'_>, name: String, host: String, port: u16) -> PyResult<u16> {
        let server = self.server()?;
        let config =
            ListenerConfig { name, protocol: ListenerProtocol::Plaintext, host, port, inter_broker: false };
        let bound = py.detach(|| server.listen(&config));
        bound.map(|address| address.port()).map_err(|error| PyOSError::new_err(error.to_string()))
    }

    #[pyo3(signature = (name, host, port, inter_broker = false))]
    fn zmq_intake(&self, name: String, host: String, port: u16, inter_broker: bool) -> PyResult<Intake> {
        self.intake(Listener { name, protocol: ListenerProtocol::Zmq, inter_broker, host, port })
    }

    /// What comes in here comes from the broker itself.
    fn own_intake(&self) -> PyResult<Intake> {
        let (name, host) = ("the broker".to_owned(), String::new());
        self.intake(Listener { name, protocol: ListenerProtocol::Zmq, inter_broker: true, host, port: 0 })
    }

    fn finish_waiting(&self, py: Python<'_>) {
        py.detach(|| self.broker.finish_waiting());
    }

    fn stop_listening(&self, py: Python<'_>, grace_ms: u64) {
        let server = self.server.lock().take();
        py.detach(|| {
            if let Some(server) = server {
                server.shutdown(Duration::from_millis(grace_ms));
            }
        });
    }

    fn shutdown(&self, py: Python<'_>) {
        self.stop_listening(py, 0);
        py.detach(|| self.broker.shutdown());
        // a directory that was not closed by now is not marked as clean
        let _left_open = self.logs.lock().take();
    }

    // --- housekeeping ---

    fn directory_count(&self, py: Python<'_>) -> PyResult<usize> {
        self.with_logs(py, LogManager::directory_count)
    }

    fn enforce_retention(&self, py: Python<'_>, directory: usize, now_ms: i64) -> PyResult<usize> {
        self.with_logs(py, |logs| logs.enforce_retention(directory, now_ms))
    }

    fn purge_deleted(&self, py: Python<'_>, directory: usize, now_ms: i64) -> PyResult<usize> {
        self.with_logs(py, |logs| logs.purge_deleted(directory, now_ms))
    }

    fn look_at_rooms(&self, py: Python<'_>) -> PyResult<()> {
        let floor = self.settings.lock().disk_floor();
        self.with_logs(py, |logs| logs.look_at_rooms(floor))
    }

    fn close_idle_files(&self, py: Python<'_>) -> PyResult<usize> {
        self.with_logs(py, LogManager::close_idle_files)
    }

    fn clean_one(&self, py: Python<'_>, now_ms: i64) -> PyResult<bool> {
        let settings = self.settings.lock().cleaner();
        self.with_logs(py, |logs| logs.clean_one(&settings, now_ms))
    }

    fn run_tiers(&self, py: Python<'_>, now_ms: i64) -> PyResult<bool> {
        let threads = self.settings.lock().tier_threads();
        self.with_logs(py, |logs| Ok(logs.run_tiers(now_ms, threads)))
    }

    fn stop_tiers(&self) {
        self.broker.tiers().inspect(|tiers| tiers.stop());
    }

    fn stop_cleaner(&self, py: Python<'_>) {
        let logs = self.logs.lock().clone();
        py.detach(|| logs.map(|logs| logs.stop_cleaner()));
    }

    fn move_next(&self, py: Python<'_>, now_ms: i64) -> PyResult<bool> {
        let settings = self.settings.lock().moves();
        self.with_logs(py, |logs| logs.move_next(&settings, now_ms))
    }

    fn stop_moves(&self) {
        if let Some(logs) = self.logs.lock().as_ref() {
            logs.stop_moves();
        }
    }

    fn scrub_next(&self, py: Python<'_>, now_ms: i64) -> PyResult<bool> {
        let settings = self.settings.lock().scrub();
        self.with_logs(py, |logs| logs.scrub_next(&settings, now_ms))
    }

    fn stop_scrub(&self) {
        if let Some(logs) = self.logs.lock().as_ref() {
            logs.stop_scrub();
        }
    }

    fn checkpoint_recovery_points(&self, py: Python<'_>, directory: usize) -> PyResult<()> {
        self.with_logs(py, |logs| logs.checkpoint(directory, Checkpoint::RecoveryPoint))
    }

    fn checkpoint_log_starts(&self, py: Python<'_>, directory: usize) -> PyResult<()> {
        self.with_logs(py, |logs| logs.checkpoint(directory, Checkpoint::LogStart))
    }

    fn checkpoint_high_watermarks(&self, py: Python<'_>, directory: usize) -> PyResult<()> {
        self.with_logs(py, |logs| logs.checkpoint(directory, Checkpoint::HighWatermark))
    }

    // --- replication ---

    fn apply_partitions(
        &self,
        py: Python<'_>,
        changes: Vec<replicas::Change>,
        settings: HashMap<String, TopicSettings>,
    ) -> PyResult<Vec<(i16, String)>> {
        let mut wanted = Vec::with_capacity(changes.len());
        for change in changes {
            wanted.push(self.replica_change(change, &settings)?);
        }
        let logs = self.logs()?;
        let results = py.detach(|| logs.change_replicas(&wanted, self.broker.clock().now_ms()));
        settings.iter().for_each(|(topic, it)| self.throttle_topic(topic, it));
        Ok(results.into_iter().map(replicas::outcome).collect())
    }

    #[pyo3(signature = (
        topic, index, leader_epoch, committed, maximal, partition_epoch, held = false
    ))]
    #[allow(clippy::too_many_arguments, reason = "Python names them")]
    fn set_isr(
        &self,
        py: Python<'_>,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        committed: Vec<i32>,
        maximal: Vec<i32>,
        partition_epoch: i32,
        held: bool,
    ) -> PyResult<()> {
        let partition = self.replica(topic, index)?;
        py.detach(|| partition.set_isr(leader_epoch, committed, maximal, partition_epoch, held))
            .map_err(|code| failure::kafka_error(code, "the in-sync replicas were not changed"))
    }

    fn resign(&self, py: Python<'_>) -> usize {
        py.detach(|| self.broker.resign())
    }

    fn delete_partitions(
        &self,
        py: Python<'_>,
        topic: &str,
        topic_id: [u8; 16],
        partitions: Vec<(i32, i32)>,
        is_deleted: bool,
    ) -> PyResult<usize> {
        let now_ms = self.broker.clock().now_ms();
        self.with_logs(py, |logs| {
            logs.delete_replicas(topic, Uuid::from_bytes(topic_id), &partitions, is_deleted, now_ms)
        })
    }

    fn replica_positions(&self, py: Python<'_>) -> Vec<replicas::Position> {
        py.detach(|| {
            let now_ns = self.broker.clock().monotonic_ns();
            let all = self.broker.partitions().all();
            all.iter().filter_map(|partition| replicas::position(partition, now_ns)).collect()
        })
    }

    fn drain_notices(&self) -> Vec<(&'static str, String, i32, i32)> {
        self.broker.notices().drain().into_iter().map(replicas::notice).collect()
    }

    fn fetch_positions(&self, partitions: Vec<(String, i32)>) -> Vec<Option<replicas::Place>> {
        let each = partitions.into_iter().map(|(topic, index)| {
            let partition = self.broker.partitions().get(&topic, index)?;
            // nothing can be appended where the data directory failed
            partition.log().storage().check().ok()?;
            Some(replicas::place(&partition))
        });
        each.collect()
    }

    fn append_fetched(
        &self,
        py: Python<'_>,
        answer: &[u8],
        version: i16,
        asked: &Bound<'_, PyDict>,
    ) -> PyResult<Vec<replicas::Taken>> {
        let refused = |error: ChangeError| failure::kafka_error(error.code, &error.message);
        let answer = py.detach(|| FetchAnswer::parse(answer, version)).map_err(refused)?;
        let asked = replicas::asked(&answer, asked)?;
        let logs = self.logs()?;
        let taken = py.detach(|| logs.append_fetched(&answer, &asked, self.broker.clock().now_ms()));
        Ok(taken.into_iter().map(|(id, index, result)| replicas::told(id, index, result)).collect())
    }

    fn truncate(
        &self,
        py: Python<'_>,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        offset: i64,
    ) -> PyResult<bool> {
        self.with_logs(py, |logs| {
            logs.truncate(topic, index, leader_epoch, offset, self.broker.clock().now_ms())
        })
    }

    fn restart_at(
        &self,
        py: Python<'_>,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        offset: i64,
    ) -> PyResult<()> {
        self.with_logs(py, |logs| {
            logs.restart_at(topic, index, leader_epoch, offset, self.broker.clock().now_ms())
        })
    }

    fn begin_after_tier(
        &self,
        py: Python<'_>,
        topic: &str,
        index: i32,
        leader_epoch: i32,
        local_start_offset: i64,
        log_start_offset: i64,
    ) -> PyResult<bool> {
        self.with_logs(py, |logs| {
            let now_ms = self.broker.clock().now_ms();
            logs.begin_after_tier((topic, index), leader_epoch, local_start_offset, log_start_offset, now_ms)
        })
    }

    fn end_offset_for(&self, topic: &str, index: i32, epoch: i32) -> PyResult<(i32, i64)> {
        let found = self.replica(topic, index)?.end_offset_for(epoch);
        found.map_err(|code| failure::kafka_error(code, "the end of a leader epoch is not known"))
    }

    fn damages_found(&self, py: Python<'_>) -> PyResult<u64> {
        self.with_logs(py, LogManager::damages_found)
    }

    fn damaged(&self, py: Python<'_>) -> PyResult<Vec<replicas::Damaged>> {
        let damaged = self.with_logs(py, |logs| Ok(logs.damaged()))?;
        Ok(damaged.into_iter().map(|(partition, range)| replicas::damaged(&partition, range)).collect())
    }

    fn verify(
        &self,
        py: Python<'_>,
        topic: &str,
        topic_id: [u8; 16],
        index: i32,
        offset: i64,
    ) -> PyResult<bool> {
        self.with_logs(py, |logs| logs.verify(topic, Uuid::from_bytes(topic_id), index, offset))
    }

    fn mend(
        &self,
        py: Python<'_>,
        topic: &str,
        topic_id: [u8; 16],
        index: i32,
        offset: i64,
        records: &[u8],
    ) -> PyResult<()> {
        let (id, now_ms) = (Uuid::from_bytes(topic_id), self.broker.clock().now_ms());
        self.with_logs(py, |logs| logs.mend(topic, id, index, offset, records, now_ms))
    }

    fn set_broker_epochs(&self, py: Python<'_>, epochs: HashMap<i32, i64>) {
        py.detach(|| self.broker.set_broker_epochs(epochs));
    }

    fn set_lease(&self, until_ns: i64) {
        self.broker.set_lease(until_ns);
    }

    fn set_replication_rates(&self, leader: u64, follower: u64) {
        self.broker.set_replication_rates(leader, follower);
    }

    fn offline_replicas(&self, py: Python<'_>) -> PyResult<Vec<(String, [u8; 16], i32)>> {
        let offline = self.with_logs(py, LogManager::offline)?;
        Ok(offline.into_iter().map(|(topic, id, index)| (topic, id.into_bytes(), index)).collect())
    }

    fn held_back(&self) -> Vec<([u8; 16], i32)> {
        self.broker.held_back().into_iter().map(|(id, index)| (id.into_bytes(), index)).collect()
    }
}
