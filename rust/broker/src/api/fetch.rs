//! `Fetch` (key 1), versions 4-18.
//!
//! A replica is answered only in partitions that it is assigned, under the broker epoch that it is registered with, and
//! when it names the leader epoch; each of its fetches tells its position (`Replication`). It hears of a high watermark
//! that moved when it has the records (v18, KIP-1166), at once or, under load, with the next records.
//! Differs from Apache Kafka: an incremental answer also names partitions whose last stable offset alone moved;
//! a request as a replica (`replica_id` >= 0) on a listener that is not for brokers is refused with
//! `CLUSTER_AUTHORIZATION_FAILED`.
//! A consumer that tells its rack is sent to an in-sync follower in it, where `replica.selector.class` says so and this
//! broker is in another: its answer then has no records.
//! KIPs: 98 (isolation, v4), 227 (sessions, v7), 320 (leader epochs, v9), 110 (zstd, v10), 392 (rack, v11), 595 (diverging
//! epoch, v12), 516 (topic ids, v13), 903 (broker epochs, v15), 951 (the leader beside NOT_LEADER_OR_FOLLOWER and
//! FENCED_LEADER_EPOCH, v16), 1166 (high watermarks of replicas, v18).

use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::fetch::{
    DelayedFetch, FetchPlan, Isolation, Look, Replica, Served, TOPIC_IDS_VERSION, View, Wanted, encode,
    encode_error, tells_leaders,
};
use crate::leaders::LeaderHints;
use crate::reachable::Reachable;
use crate::request::context::{Operation, Resource};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use fastlog_protocol::primitives::ProtocolError;
use std::time::Duration;

const READ_COMMITTED: i8 = 1;
/// The first version whose response has an error for the whole request.
const REQUEST_ERROR_VERSION: i16 = 7;

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let correlation_id = incoming.header.correlation_id;
    let request = FetchRequest::decode(&mut incoming.body(), version)?;
    let replica = replica_of(&request);
    if replica.is_some() && !super::may_replicate(broker, incoming) {
        return refuse(incoming, &request, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let now = broker.clock.now();
    let (isolation, nearer) = (isolation_of(&request, replica), nearer(broker, incoming, &request, replica));
    let view = View { version, isolation, replica, prefers_nearer: !nearer.is_empty() };
    let intern = |topic: &str| broker.partitions.intern(topic);
    let began = broker.sessions.begin(&request, view, now, intern, |it| partition_of(broker, incoming, it));
    let (context, Look { wanted, partitions }) = match began {
        Ok(begun) => begun,
        Err(error) => return Ok(Outcome::Now(encode_error(error, version, correlation_id)?)),
    };
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(broker.config.fetch_bytes_max);
    let plan = FetchPlan {
        version,
        correlation_id,
        began: now,
        isolation,
        replica,
        connection_id: incoming.context.connection_id,
        sent: broker.sent.clone(),
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        context,
        nearer,
        wanted,
        partitions,
    };
    let may_wait = broker.may_wait();
    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let read = plan.read_first(&may_wait, &*broker.clock);
    // a fetch that waits holds memory: when that is short, the client may ask again instead
    let is_patient = max_wait_ms > 0 && !broker.budget().is_exhausted();
    let deadline = is_patient.then(|| now + Duration::from_millis(max_wait_ms));
    let reads = match read {
        Ok(reads) => reads,
        Err(disk) => {
            DelayedFetch::new(broker, incoming, plan).start_on(disk, deadline);
            return Ok(Outcome::Later { exclusive: false });
        }
    };
    let Some(deadline) = deadline.filter(|_| !plan.is_enough(&reads)) else {
        let tells = tells_leaders(&reads, version);
        let hints = tells.then(|| LeaderHints::new(broker, incoming.context));
        return Ok(Outcome::Now(encode(plan, reads, &broker.sessions, hints)?));
    };
    DelayedFetch::new(broker, incoming, plan).start(deadline);
    Ok(Outcome::Later { exclusive: false })
}

/// The broker that fetches: from version 15 on it tells its epoch too.
fn replica_of(request: &FetchRequest<'_>) -> Option<Replica> {
    let state = &request.replica_state;
    let (id, epoch) = if request.replica_id >= 0 {
        (request.replica_id, -1)
    } else {
        (state.replica_id, state.replica_epoch)
    };
    (id >= 0).then_some(Replica { id, epoch })
}

/// The brokers in the client's rack, if it is a consumer that tells one and this broker is in another (Kafka's
/// `RackAwareReplicaSelector`).
fn nearer(
    broker: &Broker,
    incoming: &Incoming<'_, '_>,
    request: &FetchRequest<'_>,
    replica: Option<Replica>,
) -> Vec<i32> {
    let config = &broker.config;
    let is_here = config.rack.as_deref() == Some(request.rack_id);
    if !config.rack_aware || request.rack_id.is_empty() || replica.is_some() || is_here {
        return Vec::new();
    }
    let image = broker.image.load();
    let reachable = Reachable::new(&image, config.node_id, incoming.context);
    let there = image.brokers.iter().filter(|it| {
        it.id != config.node_id && it.rack.as_deref() == Some(request.rack_id) && reachable.has(it.id)
    });
    there.map(|it| it.id).collect()
}

fn isolation_of(request: &FetchRequest<'_>, replica: Option<Replica>) -> Isolation {
    match (replica, request.isolation_level) {
        (Some(_), _) => Isolation::LogEnd,
        (_, READ_COMMITTED) => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

fn partition_of(broker: &Broker, incoming: &Incoming<'_, '_>, wanted: &Wanted) -> Result<Served, ErrorCode> {
    let may_read = |topic: &str| {
        let allowed = broker.allows(incoming.context, Operation::Read, Resource::Topic(topic));
        if allowed { Ok(()) } else { Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED) }
    };
    let (id, index) = (wanted.topic_id, wanted.index);
    let partition = if incoming.header.api_version < TOPIC_IDS_VERSION {
        may_read(&wanted.topic)?;
        broker.open_partition(&wanted.topic, index)?
    } else if let Some(partition) = broker.partitions.get_by_id(id, index) {
        may_read(partition.topic())?;
        partition
    } else {
        let topic = broker.topic_name(id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        may_read(&topic)?;
        broker.open_partition_by_id(id, &topic, index, ErrorCode::INCONSISTENT_TOPIC_ID)?
    };
    let role = partition.role();
    Ok(Served { partition, role })
}

/// The same error for everything that was asked.
fn refuse(
    incoming: &Incoming<'_, '_>,
    request: &FetchRequest<'_>,
    error: ErrorCode,
) -> Result<Outcome, ProtocolError> {
    let (version, correlation_id) = (incoming.header.api_version, incoming.header.correlation_id);
    if version >= REQUEST_ERROR_VERSION {
        return Ok(Outcome::Now(encode_error(error, version, correlation_id)?));
    }
    let response = FetchResponse {
        responses: request.topics.iter().map(|topic| refuse_topic(topic, error)).collect(),
        ..FetchResponse::default()
    };
    Ok(Outcome::Now(super::respond(incoming, |writer, version| response.encode(writer, version))?))
}

fn refuse_topic<'a>(topic: &FetchTopic<'a>, error: ErrorCode) -> FetchableTopicResponse<'a> {
    let partitions = topic.partitions.iter().map(|partition| PartitionData {
        partition_index: partition.partition,
        error_code: error.0,
        high_watermark: -1,
        aborted_transactions: None,
        records: Some(&[]),
        ..PartitionData::default()
    });
    FetchableTopicResponse { topic: topic.topic, topic_id: topic.topic_id, partitions: partitions.collect() }
}
