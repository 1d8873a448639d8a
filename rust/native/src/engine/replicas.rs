//! Replication for Python: roles, positions, what followers do to their logs, and the lease.

use super::Engine;
use super::failure::kafka_error;
use super::settings::TopicSettings;
use fastlog_broker::{
    Assignment, ChangeError, Duty, FetchAnswer, FetchResult, FetchedFrom, Notice, OpenPartition, Partition,
    ReplicaChange,
};
use fastlog_log::{DamagedRange, KnownProducer};
use fastlog_protocol::ErrorCode;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Topic, topic id, partition, leader, leader epoch, partition epoch, replicas, in-sync replicas.
type Plain = (String, [u8; 16], i32, i32, i32, i32, Vec<i32>, Vec<i32>);

/// The same, and whether the high watermark is held.
type Held = (String, [u8; 16], i32, i32, i32, i32, Vec<i32>, Vec<i32>, bool);

/// A replica's change.
#[derive(FromPyObject)]
pub(super) enum Change {
    #[pyo3(transparent)]
    Held(Held),
    #[pyo3(transparent)]
    Plain(Plain),
}

/// Replica, broker epoch, log end offset, log start offset, milliseconds since it was caught up.
pub(super) type Follower = (i32, i64, i64, i64, i64);

/// Topic, partition, leader epoch, log end offset, high watermark, epoch start offset, followers.
pub(super) type Position = (String, i32, i32, i64, i64, i64, Vec<Follower>);

/// Log end offset, epoch of the last record, durable end offset, log start offset, high watermark.
pub(super) type Place = (i64, i32, i64, i64, i64);

/// Topic id, partition, error code, log end offset, diverging epoch and its end offset, message.
pub(super) type Taken = ([u8; 16], i32, i16, i64, Option<(i32, i64)>, String);

/// A remembered producer: its id, epoch, last sequence, the time of its last write, its coordinator's epoch, and where
/// its open transaction starts, -1 without one.
pub(super) type Producer = (i64, i16, i32, i64, i32, i64);

/// Topic, topic id, partition, the first damaged offset, the first good one behind it, bytes, what is wrong.
pub(super) type Damaged = (String, [u8; 16], i32, i64, i64, u64, String);

pub(super) fn damaged(partition: &Partition, range: DamagedRange) -> Damaged {
    let DamagedRange { offset, next_offset, bytes, reason } = range;
    let id = partition.topic_id().into_bytes();
    (partition.topic().to_string(), id, partition.index(), offset, next_offset, bytes, reason)
}

pub(super) fn producer(known: KnownProducer) -> Producer {
    (
        known.producer_id,
        known.producer_epoch,
        known.last_sequence,
        known.last_timestamp_ms,
        known.coordinator_epoch,
        known.txn_first_offset.unwrap_or(-1),
    )
}

impl Engine {
    pub(super) fn replica(&self, topic: &str, index: i32) -> PyResult<Arc<Partition>> {
        let open = self.broker.partitions().get(topic, index);
        open.ok_or_else(|| {
            kafka_error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &format!("{topic}-{index} is not open here"))
        })
    }

    pub(super) fn throttle_topic(&self, topic: &str, settings: &TopicSettings) {
        let (leaders, followers) = (
            &settings.leader_replication_throttled_replicas,
            &settings.follower_replication_throttled_replicas,
        );
        self.broker.throttle_topic(topic, leaders, followers);
    }

    pub(super) fn replica_change(
        &self,
        change: Change,
        settings: &HashMap<String, TopicSettings>,
    ) -> PyResult<ReplicaChange> {
        let (plain, held) = match change {
            Change::Plain(plain) => (plain, None),
            Change::Held((a, b, c, d, e, f, g, h, held)) => ((a, b, c, d, e, f, g, h), Some(held)),
        };
        let (topic, topic_id, index, leader, leader_epoch, partition_epoch, replicas, isr) = plain;
        let of_topic = settings.get(&topic).ok_or_else(|| {
            pyo3::exceptions::PyValueError::new_err(format!("no settings were given for topic {topic}"))
        })?;
        let partition = OpenPartition {
            topic: topic.into(),
            topic_id: Uuid::from_bytes(topic_id),
            index,
            leader_epoch,
            config: self.log_config(of_topic)?,
            min_insync_replicas: of_topic.min_insync_replicas,
        };
        Ok(ReplicaChange {
            partition,
            to: Assignment { leader, leader_epoch, partition_epoch, replicas, isr, held },
        })
    }
}

pub(super) fn outcome(result: Result<(), ChangeError>) -> (i16, String) {
    result.map_or_else(|error| (error.code.0, error.message), |()| (0, String::new()))
}

pub(super) fn position(partition: &Partition, now_ns: i64) -> Option<Position> {
    let role = partition.role();
    let replication = partition.replication();
    if role.duty != Duty::Leader || replication.followers().is_empty() {
        return None;
    }
    let followers = replication.followers().iter().map(|(id, it)| {
        let behind_ms = now_ns.saturating_sub(it.caught_up_ns) / 1_000_000;
        (*id, it.broker_epoch, it.log_end_offset, it.log_start_offset, behind_ms)
    });
    let log = partition.log();
    Some((
        partition.topic().to_string(),
        partition.index(),
        role.leader_epoch,
        log.log_end_offset(),
        log.high_watermark(),
        replication.epoch_start_offset(),
        followers.collect(),
    ))
}

pub(super) fn place(partition: &Arc<Partition>) -> Place {
    let (position, log) = (partition.follower_position(), partition.log());
    (
        position.log_end_offset,
        position.last_epoch,
        position.durable_end_offset,
        log.log_start_offset(),
        log.high_watermark(),
    )
}

/// What was asked of the partitions that the answer names: a session has thousands, most answers name few.
pub(super) fn asked(answer: &FetchAnswer<'_>, asked: &Bound<'_, PyDict>) -> PyResult<FetchedFrom> {
    let mut from = FetchedFrom::new();
    for (topic_id, index) in answer.keys() {
        let id = PyBytes::new(asked.py(), topic_id.as_bytes());
        if let Some(it) = asked.get_item((id, index))? {
            from.insert((topic_id, index), it.extract()?);
        }
    }
    Ok(from)
}

pub(super) fn told(topic_id: Uuid, index: i32, result: FetchResult) -> Taken {
    let id = topic_id.into_bytes();
    match result {
        FetchResult::Appended(end) => (id, index, 0, end, None, String::new()),
        FetchResult::Diverging(epoch, end) => (id, index, 0, -1, Some((epoch, end)), String::new()),
        FetchResult::Failed(code, message) => (id, index, code.0, -1, None, message),
    }
}

/// What happened, topic, partition, replica or -1.
pub(super) fn notice(notice: Notice) -> (&'static str, String, i32, i32) {
    match notice {
        Notice::Joinable { topic, index, replica_id } => ("joinable", topic.to_string(), index, replica_id),
        Notice::Synced { topic, index } => ("synced", topic.to_string(), index, -1),
    }
}
