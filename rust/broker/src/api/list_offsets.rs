//! `ListOffsets` (key 2), versions 1-11.
//!
//! Timestamps: -1 the end that the isolation level shows, -2 the log start, -3 (v7) the record with the largest
//! timestamp, -4 (v8) the log start too, since all that there is is here, else the first record that is not older. None
//! found is offset -1 without an error, and so are the ends of what is, or is about to be, in another tier, which there
//! is none of: -5 (v9) and -6 (v11). Other negative timestamps are `UNSUPPORTED_VERSION`; a partition that is named twice
//! is `INVALID_REQUEST`. The time-out (v10) is for tiered storage only.
//! A new leader does not tell its end before it has committed in its epoch: `OFFSET_NOT_AVAILABLE` (v5), before it
//! `LEADER_NOT_AVAILABLE`.
//! A replica (`replica_id` >= 0) is told the end of the log; on a listener that is not for brokers it is refused with
//! `CLUSTER_AUTHORIZATION_FAILED`.
//! KIPs: 207 (the new leader), 320 (leader epochs, v4), 734 (-3, v7), 405 (-4, v8), 1005 (-5, v9), 1075 (the time-out,
//! v10), 1023 (-6, v11).

use super::{may_replicate, respond};
use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::partition::Partition;
use crate::request::context::{Operation, Resource};
use crate::request::response::Outcome;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use fastlog_protocol::primitives::ProtocolError;
use std::collections::HashSet;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
/// The timestamps with a meaning of their own, and the version from which on each has it.
const SPECIAL: [(i64, i16); 6] = [
    (LATEST, 1),
    (EARLIEST, 1),
    (MAX_TIMESTAMP, 7),
    (EARLIEST_LOCAL, 8),
    (LATEST_TIERED, 9),
    (EARLIEST_PENDING_UPLOAD, 11),
];
/// The first version whose clients know `OFFSET_NOT_AVAILABLE`.
const NOT_AVAILABLE_VERSION: i16 = 5;
const READ_COMMITTED: i8 = 1;

/// An offset that was found.
struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

impl Found {
    const NOTHING: Self = Self { offset: -1, timestamp: -1, leader_epoch: -1 };
}

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = ListOffsetsRequest::decode(&mut incoming.body(), version)?;
    let is_stranger = request.replica_id >= 0 && !may_replicate(broker, incoming);
    let list = ListOffsets { broker, incoming, request: &request, twice: named_twice(&request), is_stranger };
    let topics = request.topics.iter().map(|topic| list.topic(topic)).collect();
    let response = ListOffsetsResponse { topics, ..ListOffsetsResponse::default() };
    Ok(Outcome::Now(respond(incoming, |writer, version| response.encode(writer, version))?))
}

fn named_twice<'a>(request: &ListOffsetsRequest<'a>) -> HashSet<(&'a str, i32)> {
    let mut seen = HashSet::new();
    let all = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |partition| (topic.name, partition.partition_index))
    });
    all.filter(|key| !seen.insert(*key)).collect()
}

struct ListOffsets<'b, 'i, 'a, 'r> {
    broker: &'b Broker,
    incoming: &'i Incoming<'a, 'r>,
    request: &'i ListOffsetsRequest<'a>,
    twice: HashSet<(&'a str, i32)>,
    /// It says that it is a replica, where none may ask.
    is_stranger: bool,
}

impl<'a> ListOffsets<'_, '_, 'a, '_> {
    fn topic(&self, topic: &ListOffsetsTopic<'a>) -> ListOffsetsTopicResponse<'a> {
        let resource = Resource::Topic(topic.name);
        let allowed = self.broker.allows(self.incoming.context, Operation::Describe, resource);
        let mut answered = HashSet::new();
        // one that is named twice has one answer
        let mut is_first = |asked: &&ListOffsetsPartition| {
            !self.twice.contains(&(topic.name, asked.partition_index))
                || answered.insert(asked.partition_index)
        };
        let partitions = topic.partitions.iter().filter(|asked| is_first(asked)).map(|asked| {
            let found = if self.is_stranger {
                Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
            } else if allowed {
                self.partition(topic.name, asked)
            } else {
                Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
            };
            let (error, found) = match found {
                Ok(found) => (ErrorCode::NONE, found),
                Err(error) => (error, Found::NOTHING),
            };
            ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                error_code: error.0,
                timestamp: found.timestamp,
                offset: found.offset,
                leader_epoch: found.leader_epoch,
            }
        });
        ListOffsetsTopicResponse { name: topic.name, partitions: partitions.collect() }
    }

    fn partition(&self, topic: &'a str, asked: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
        if self.twice.contains(&(topic, asked.partition_index)) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let version = self.incoming.header.api_version;
        let is_special = SPECIAL.iter().any(|(it, since)| *it == asked.timestamp && version >= *since);
        if asked.timestamp < 0 && !is_special {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let partition = self.broker.open_partition(topic, asked.partition_index)?;
        partition.check_leads(asked.current_leader_epoch)?;
        self.find(&partition, asked.timestamp)
    }

    fn find(&self, partition: &Partition, timestamp: i64) -> Result<Found, ErrorCode> {
        let log = partition.log();
        if self.request.replica_id >= 0 && timestamp == LATEST {
            let (offset, leader_epoch) = (log.log_end_offset(), partition.leader_epoch());
            return Ok(Found { offset, timestamp: -1, leader_epoch });
        }
        // none below what was shown before this leadership, or while it is in doubt
        let end = partition.shown_end(i64::MAX).map_err(|error| self.not_available(error));
        let shown = log.high_watermark();
        let bound =
            if self.request.isolation_level == READ_COMMITTED { log.last_stable_offset() } else { shown };
        let found = match timestamp {
            LATEST => {
                end?;
                let leader_epoch = partition.leader_epoch();
                return Ok(Found { offset: bound, timestamp: -1, leader_epoch });
            }
            EARLIEST | EARLIEST_LOCAL => {
                let offset = log.log_start_offset();
                let leader_epoch = log.epoch_for_offset(offset).unwrap_or(-1);
                return Ok(Found { offset, timestamp: -1, leader_epoch });
            }
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(Found::NOTHING),
            MAX_TIMESTAMP => log.max_timestamp(bound),
            timestamp => log.offset_for_timestamp(timestamp, bound),
        };
        match found.map_err(|error| error.code())? {
            // as in Kafka: what is found below the bound is right whatever comes above
            Some(it) => {
                Ok(Found { offset: it.offset, timestamp: it.timestamp, leader_epoch: it.leader_epoch })
            }
            None => end.map(|_| Found::NOTHING),
        }
    }

    fn not_available(&self, error: ErrorCode) -> ErrorCode {
        let is_known = self.incoming.header.api_version >= NOT_AVAILABLE_VERSION;
        if error == ErrorCode::OFFSET_NOT_AVAILABLE && !is_known {
            ErrorCode::LEADER_NOT_AVAILABLE
        } else {
            error
        }
    }
}
