//! `OffsetForLeaderEpoch` (key 23), versions 2-4: where a leader epoch ends, for the detection of truncation
//! (KIP-101, KIP-320). A replica asks only on a listener for brokers.

use super::{may_replicate, respond};
use crate::broker::Broker;
use crate::dispatch::{Incoming, handle_on};
use crate::request::context::{Operation, Resource};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use fastlog_protocol::primitives::ProtocolError;

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = OffsetForLeaderEpochRequest::decode(&mut incoming.body(), version)?;
    let is_stranger = request.replica_id >= 0 && !may_replicate(broker, incoming);
    let topics =
        request.topics.iter().map(|topic| answer_topic(broker, incoming, topic, is_stranger)).collect();
    if let Some(disk) = incoming.missed.get() {
        return Ok(handle_on(disk, broker, incoming));
    }
    let response = OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() };
    Ok(Outcome::Now(respond(incoming, |writer, version| response.encode(writer, version))?))
}

fn answer_topic<'a>(
    broker: &Broker,
    incoming: &Incoming<'_, '_>,
    topic: &OffsetForLeaderTopic<'a>,
    is_stranger: bool,
) -> OffsetForLeaderTopicResult<'a> {
    let allowed = broker.allows(incoming.context, Operation::Describe, Resource::Topic(topic.topic));
    let partitions = topic.partitions.iter().map(|asked| {
        let found = if is_stranger {
            Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
        } else if allowed {
            find(broker, incoming, topic.topic, asked)
        } else {
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        };
        let (error, (leader_epoch, end_offset)) = match found {
            Ok(found) => (ErrorCode::NONE, found),
            Err(error) => (error, (-1, -1)),
        };
        EpochEndOffset { error_code: error.0, partition: asked.partition, leader_epoch, end_offset }
    });
    OffsetForLeaderTopicResult { topic: topic.topic, partitions: partitions.collect() }
}

fn find(
    broker: &Broker,
    incoming: &Incoming<'_, '_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = broker.open_partition(topic, asked.partition)?;
    partition.check_leads(asked.current_leader_epoch)?;
    let log = partition.log();
    let found = incoming.look(log, || log.end_offset_for_epoch(asked.leader_epoch)).unwrap_or(Ok((-1, -1)));
    found.map_err(|error| error.code())
}
