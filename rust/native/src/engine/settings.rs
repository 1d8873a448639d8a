//! Settings as the engine wants them, read from the attributes of Python's typed settings.

use fastlog_broker::{BrokerConfig, CleanerSettings, MoveSettings, ScrubSettings, StoreError, Tiers};
use fastlog_log::{CleanerLimits, Durability, LogConfig};
use fastlog_protocol::batch::TimestampType;
use fastlog_protocol::compression::Compression;
use fastlog_server::ServerConfig;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use std::sync::Arc;
use std::time::Duration;

/// The names of the selector of replicas by rack, Kafka's first.
const RACK_AWARE: [&str; 2] = ["org.apache.kafka.common.replica.RackAwareReplicaSelector", "rack-aware"];

/// What `fastlog.config.BrokerSettings` says to the engine.
#[derive(FromPyObject, Clone)]
pub(crate) struct BrokerSettings {
    pub(super) node_id: i32,
    pub(super) producer_id_expiration_ms: i64,
    pub(super) broker_rack: Option<String>,
    replica_lag_time_max_ms: u64,
    replica_selector_class: Option<String>,
    num_network_threads: usize,
    socket_request_max_bytes: usize,
    socket_send_buffer_bytes: i32,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_ip: usize,
    connections_max_idle_ms: u64,
    fastlog_frame_timeout_ms: u64,
    queued_max_request_bytes: i64,
    queued_max_requests: usize,
    fetch_max_bytes: usize,
    max_incremental_fetch_session_cache_slots: usize,
    log_cleaner_dedupe_buffer_size: usize,
    log_cleaner_io_buffer_load_factor: f64,
    log_cleaner_io_buffer_size: usize,
    log_cleaner_io_max_bytes_per_second: f64,
    fastlog_disk_floor_bytes: i64,
    fastlog_scrub_interval_ms: i64,
    fastlog_scrub_max_bytes_per_second: f64,
    replica_alter_log_dirs_io_max_bytes_per_second: i64,
    remote_log_storage_system_enable: bool,
    fastlog_remote_store_url: Option<String>,
    fastlog_remote_cache_bytes: usize,
    remote_log_manager_copier_thread_pool_size: usize,
    remote_log_manager_copy_max_bytes_per_second: i64,
    remote_log_manager_fetch_max_bytes_per_second: i64,
    zookeeper_connect: Option<String>,
}

impl BrokerSettings {
    pub(super) fn broker(&self) -> BrokerConfig {
        BrokerConfig {
            node_id: self.node_id,
            control_queue_max: self.queued_max_requests,
            request_bytes_max: self.request_bytes_max(),
            fetch_bytes_max: self.fetch_max_bytes,
            fetch_sessions_max: self.max_incremental_fetch_session_cache_slots,
            replica_lag_max: Duration::from_millis(self.replica_lag_time_max_ms),
            rack: self.broker_rack.clone(),
            rack_aware: self.replica_selector_class.as_deref().is_some_and(|it| RACK_AWARE.contains(&it)),
            ..BrokerConfig::default()
        }
    }

    pub(super) fn cleaner(&self) -> CleanerSettings {
        let rate = self.log_cleaner_io_max_bytes_per_second;
        CleanerSettings {
            limits: CleanerLimits {
                map_bytes_max: self.log_cleaner_dedupe_buffer_size,
                load_factor: self.log_cleaner_io_buffer_load_factor,
                write_bytes: self.log_cleaner_io_buffer_size,
            },
            bytes_per_second: (rate < f64::MAX).then_some(rate),
        }
    }

    /// Bytes that a disk is to keep free; `None` where its size says how many.
    pub(super) fn disk_floor(&self) -> Option<u64> {
        u64::try_from(self.fastlog_disk_floor_bytes).ok()
    }

    pub(super) fn moves(&self) -> MoveSettings {
        let rate = self.replica_alter_log_dirs_io_max_bytes_per_second;
        MoveSettings { bytes_per_second: (rate < i64::MAX).then_some(rate as f64) }
    }

    pub(super) fn scrub(&self) -> ScrubSettings {
        let rate = self.fastlog_scrub_max_bytes_per_second;
        ScrubSettings {
            interval_ms: Some(self.fastlog_scrub_interval_ms).filter(|it| *it > 0),
            bytes_per_second: (rate < f64::MAX).then_some(rate),
        }
    }

    /// The object store, where tiered storage is on. Asks nothing of it.
    pub(super) fn tiers(&self) -> Result<Option<Arc<Tiers>>, StoreError> {
        match &self.fastlog_remote_store_url {
            Some(url) if self.remote_log_storage_system_enable => {
                Tiers::open(url, self.fastlog_remote_cache_bytes, self.zookeeper_connect.is_some()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Of how many partitions the object store is asked at a time.
    pub(super) fn tier_threads(&self) -> usize {
        self.remote_log_manager_copier_thread_pool_size
    }

    /// How many bytes a second go to the object store and come from it; `None` = any number.
    pub(super) fn tier_limits(&self) -> (Option<u64>, Option<u64>) {
        let limit = |rate: i64| u64::try_from(rate).ok().filter(|_| rate < i64::MAX);
        (
            limit(self.remote_log_manager_copy_max_bytes_per_second),
            limit(self.remote_log_manager_fetch_max_bytes_per_second),
        )
    }

    pub(super) fn server(&self) -> ServerConfig {
        ServerConfig {
            io_threads: self.num_network_threads,
            request_bytes_max: self.socket_request_max_bytes,
            send_buffer_bytes: usize::try_from(self.socket_send_buffer_bytes).ok(),
            connections_max: self.max_connections,
            connections_per_ip_max: self.max_connections_per_ip,
            idle: Duration::from_millis(self.connections_max_idle_ms),
            frame_deadline: Duration::from_millis(self.fastlog_frame_timeout_ms),
            ..ServerConfig::default()
        }
    }

    /// A negative limit is a quarter of the machine's memory.
    fn request_bytes_max(&self) -> usize {
        usize::try_from(self.queued_max_request_bytes)
            .unwrap_or_else(|_| fastlog_sys::limits::memory_bytes() / 4)
    }
}

/// What `fastlog.config.TopicSettings` says to the engine.
#[derive(FromPyObject)]
pub(crate) struct TopicSettings {
    pub(crate) min_insync_replicas: usize,
    pub(super) leader_replication_throttled_replicas: Vec<String>,
    pub(super) follower_replication_throttled_replicas: Vec<String>,
    fastlog_durability: String,
    fastlog_restoring: bool,
    max_message_bytes: usize,
    cleanup_policy: Vec<String>,
    min_cleanable_dirty_ratio: f64,
    min_compaction_lag_ms: i64,
    max_compaction_lag_ms: i64,
    delete_retention_ms: i64,
    segment_bytes: u64,
    segment_ms: i64,
    segment_jitter_ms: i64,
    retention_ms: i64,
    retention_bytes: i64,
    file_delete_delay_ms: i64,
    index_interval_bytes: u64,
    segment_index_bytes: u64,
    preallocate: bool,
    compression_type: String,
    compression_gzip_level: i32,
    compression_zstd_level: i32,
    message_timestamp_type: String,
    message_timestamp_before_max_ms: i64,
    message_timestamp_after_max_ms: i64,
    remote_storage_enable: bool,
    remote_log_copy_disable: bool,
    local_retention_ms: i64,
    local_retention_bytes: i64,
}

impl TopicSettings {
    /// The codec that batches are stored in, with its level; `None` = as they came.
    fn compression(&self) -> PyResult<Option<(Compression, Option<i32>)>> {
        Ok(match self.compression_type.as_str() {
            "producer" => None,
            "uncompressed" => Some((Compression::None, None)),
            "snappy" => Some((Compression::Snappy, None)),
            "lz4" => Some((Compression::Lz4, None)),
            // Kafka's -1 is the library's own default
            "gzip" => Some((Compression::Gzip, Some(self.compression_gzip_level).filter(|it| *it >= 0))),
            "zstd" => Some((Compression::Zstd, Some(self.compression_zstd_level))),
            other => return Err(PyValueError::new_err(format!("unknown codec {other}"))),
        })
    }

    /// The settings of the topic's logs, of a broker that has an object store or not.
    pub(crate) fn log(&self, producer_id_expiration_ms: i64, has_store: bool) -> PyResult<Arc<LogConfig>> {
        let has = |policy: &str| self.cleanup_policy.iter().any(|it| it == policy);
        let durability = match self.fastlog_durability.as_str() {
            "os" => Durability::Os,
            "fsync" => Durability::Fsync,
            other => return Err(PyValueError::new_err(format!("unknown durability {other}"))),
        };
        let timestamp_type = match self.message_timestamp_type.as_str() {
            "CreateTime" => TimestampType::CreateTime,
            "LogAppendTime" => TimestampType::LogAppendTime,
            other => return Err(PyValueError::new_err(format!("unknown timestamp type {other}"))),
        };
        Ok(Arc::new(LogConfig {
            segment_bytes: self.segment_bytes,
            segment_ms: self.segment_ms,
            segment_jitter_ms: self.segment_jitter_ms,
            segment_index_bytes: self.segment_index_bytes,
            index_interval_bytes: self.index_interval_bytes,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
            delete_retention_ms: self.delete_retention_ms,
            min_cleanable_dirty_ratio: self.min_cleanable_dirty_ratio,
            min_compaction_lag_ms: self.min_compaction_lag_ms,
            max_compaction_lag_ms: self.max_compaction_lag_ms,
            max_message_bytes: self.max_message_bytes,
            compression: self.compression()?,
            timestamp_type,
            timestamp_before_max_ms: self.message_timestamp_before_max_ms,
            timestamp_after_max_ms: self.message_timestamp_after_max_ms,
            cleanup_delete: has("delete"),
            cleanup_compact: has("compact"),
            file_delete_delay_ms: self.file_delete_delay_ms,
            preallocate: self.preallocate,
            producer_id_expiration_ms,
            durability,
            remote_storage: has_store && self.remote_storage_enable,
            remote_copy: has_store && self.remote_storage_enable && !self.remote_log_copy_disable,
            local_retention_ms: or_whole(self.local_retention_ms, self.retention_ms),
            local_retention_bytes: or_whole(self.local_retention_bytes, self.retention_bytes),
            restoring: self.fastlog_restoring,
        }))
    }
}

/// A local retention of -2 is that of the whole log.
fn or_whole(local: i64, whole: i64) -> i64 {
    if local == -2 { whole } else { local }
}
