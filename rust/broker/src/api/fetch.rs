//! `Fetch` (key 1), versions 4-12.
//!
//! Differs from Apache Kafka: an incremental answer also names partitions whose last stable offset alone moved;
//! a request as a replica (`replica_id` >= 0) on a listener that is not for brokers is refused with
//! `CLUSTER_AUTHORIZATION_FAILED`.
//! KIPs: 98 (isolation, v4), 227 (sessions, v7), 320 (leader epochs, v9), 110 (zstd, v10), 392 (rack, v11, never
//! sent elsewhere yet), 595 (diverging epoch, v12).

use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::fetch::{DelayedFetch, FetchPlan, Isolation, encode, encode_error};
use crate::partition::Partition;
use crate::request::context::{Operation, Resource};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
};
use fastlog_protocol::primitives::ProtocolError;
use std::sync::Arc;
use std::time::{Duration, Instant};

const READ_COMMITTED: i8 = 1;
/// The first version whose response has an error for the whole request.
const REQUEST_ERROR_VERSION: i16 = 7;

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let correlation_id = incoming.header.correlation_id;
    let request = FetchRequest::decode(&mut incoming.body(), version)?;
    let is_follower = request.replica_id >= 0;
    if is_follower && !may_replicate(broker, incoming) {
        return refuse(incoming, &request, ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let now = Instant::now();
    let began = broker.sessions.begin(&request, now, |topic| broker.partitions.intern(topic));
    let (context, wanted) = match began {
        Ok(begun) => begun,
        Err(error) => return Ok(Outcome::Now(encode_error(error, version, correlation_id)?)),
    };
    let partitions = wanted.iter().map(|it| partition_of(broker, incoming, &it.topic, it.index)).collect();
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(broker.config.fetch_bytes_max);
    let plan = FetchPlan {
        version,
        correlation_id,
        isolation: isolation_of(&request),
        is_follower,
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        max_bytes,
        context,
        wanted,
        partitions,
    };
    let reads = plan.read();
    let max_wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    // a fetch that waits holds memory: when that is short, the client may ask again instead
    if max_wait_ms == 0 || plan.is_enough(&reads) || broker.budget().is_exhausted() {
        return Ok(Outcome::Now(encode(plan, reads, &broker.sessions)?));
    }
    let waiter = DelayedFetch::new(plan, broker.sessions.clone(), broker.budget(), (incoming.reply)());
    waiter.start(&broker.timer, now + Duration::from_millis(max_wait_ms));
    Ok(Outcome::Later { exclusive: false })
}

fn isolation_of(request: &FetchRequest<'_>) -> Isolation {
    match (request.replica_id, request.isolation_level) {
        (0.., _) => Isolation::LogEnd,
        (_, READ_COMMITTED) => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

fn may_replicate(broker: &Broker, incoming: &Incoming<'_, '_>) -> bool {
    let context = incoming.context;
    context.listener.inter_broker && broker.allows(context, Operation::ClusterAction, Resource::Cluster)
}

fn partition_of(
    broker: &Broker,
    incoming: &Incoming<'_, '_>,
    topic: &str,
    index: i32,
) -> Result<Arc<Partition>, ErrorCode> {
    if !broker.allows(incoming.context, Operation::Read, Resource::Topic(topic)) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    broker.led_partition(topic, index)
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
    FetchableTopicResponse {
        topic: topic.topic,
        partitions: partitions.collect(),
        ..FetchableTopicResponse::default()
    }
}
