//! `ListOffsets` (key 2), versions 1-11.
//!
//! Timestamps: -1 the end that the isolation level shows, -2 the log start, -3 (v7) the record with the largest
//! timestamp, -4 (v8) the first offset on the disk, -5 (v9) the last one that the object store has, -6 (v11) the first
//! that it does not have; else the first record that is not older. None found is offset -1 without an error, and so are
//! -5 and -6 of a topic without tiered storage. What only the object store can tell is looked for by a thread of its
//! own, and the answer comes later; a store that fails is `KAFKA_STORAGE_ERROR`. Other negative timestamps are
//! `UNSUPPORTED_VERSION`; a partition that is named twice is `INVALID_REQUEST`. The time-out (v10) is not looked at: the
//! store's own requests have one.
//! A new leader does not tell its end before it has committed in its epoch: `OFFSET_NOT_AVAILABLE` (v5), before it
//! `LEADER_NOT_AVAILABLE`.
//! A replica (`replica_id` >= 0) is told the end of the log; on a listener that is not for brokers it is refused with
//! `CLUSTER_AUTHORIZATION_FAILED`.
//! KIPs: 207 (the new leader), 320 (leader epochs, v4), 734 (-3, v7), 405 (-4, v8), 1005 (-5, v9), 1075 (the time-out,
//! v10), 1023 (-6, v11).

use super::may_replicate;
use crate::broker::Broker;
use crate::dispatch::{Incoming, handle_on};
use crate::partition::Partition;
use crate::request::context::{Operation, Resource};
use crate::request::response::{Outcome, Response};
use crate::tiers::{PartitionTier, UNREADABLE};
use fastlog_log::TimestampedOffset;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::write_response_header;
use fastlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use fastlog_protocol::primitives::{ProtocolError, Writer};
use std::collections::HashSet;
use std::sync::Arc;

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

impl From<TimestampedOffset> for Found {
    fn from(it: TimestampedOffset) -> Self {
        Self { offset: it.offset, timestamp: it.timestamp, leader_epoch: it.leader_epoch }
    }
}

/// What becomes of one partition that was asked for.
enum Answer {
    Now(Result<Found, ErrorCode>),
    /// To be looked for in the object store; and the error where neither that nor the disk has it.
    Store(InStore, Option<ErrorCode>),
}

/// A timestamp whose record only the object store may have.
struct InStore {
    partition: Arc<Partition>,
    tier: Arc<PartitionTier>,
    timestamp: i64,
    bound: i64,
}

impl Answer {
    fn waits_on(&self) -> Option<Arc<PartitionTier>> {
        match self {
            Answer::Now(_) => None,
            Answer::Store(in_store, _) => Some(in_store.tier.clone()),
        }
    }

    /// Blocks on the store.
    fn wait(self) -> Result<Found, ErrorCode> {
        match self {
            Answer::Now(found) => found,
            Answer::Store(in_store, otherwise) => {
                let found = in_store.find()?;
                found.map(|it| Ok(it.into())).or(otherwise.map(Err)).unwrap_or(Ok(Found::NOTHING))
            }
        }
    }
}

impl InStore {
    fn find(&self) -> Result<Option<TimestampedOffset>, ErrorCode> {
        let log = self.partition.log();
        let local = |timestamp| match timestamp {
            MAX_TIMESTAMP => log.max_timestamp(self.bound),
            timestamp => log.offset_for_timestamp(timestamp, self.bound),
        };
        let timestamp = match self.timestamp {
            MAX_TIMESTAMP => self.tier.max_timestamp(&self.partition).unwrap_or(i64::MAX),
            timestamp => timestamp,
        };
        // the reader's own line says why
        let stored = self.tier.offset_for_timestamp(&self.partition, timestamp).map_err(|_| UNREADABLE)?;
        let stored = stored.filter(|it| it.offset < self.bound);
        if self.timestamp == MAX_TIMESTAMP {
            let local = local(MAX_TIMESTAMP).map_err(|error| error.code())?;
            // of those that are equally young the first by offset, which is that in the store
            return Ok(local
                .filter(|it| stored.is_none_or(|stored| it.timestamp > stored.timestamp))
                .or(stored));
        }
        match stored {
            Some(stored) => Ok(Some(stored)),
            None => local(self.timestamp).map_err(|error| error.code()),
        }
    }
}

/// The tier of the partition, if it must be asked for that timestamp.
fn tier_for(partition: &Partition, timestamp: i64) -> Option<Arc<PartitionTier>> {
    let tier = partition.tier()?;
    let may_hold = match timestamp {
        MAX_TIMESTAMP => tier.max_timestamp(partition).is_some(),
        timestamp => timestamp >= 0 && tier.may_hold(partition, timestamp),
    };
    may_hold.then_some(tier)
}

/// The last offset that is uploaded, or the first that is not; nothing where the topic has no tiered storage (KIP-1005,
/// KIP-1023).
fn by_uploads(partition: &Partition, timestamp: i64) -> Found {
    let log = partition.log();
    if !log.config().remote_storage {
        return Found::NOTHING;
    }
    let offset = match (log.tiered_end(), timestamp) {
        (Some(end), LATEST_TIERED) => end - 1,
        (Some(end), _) => end.max(log.log_start_offset()),
        (None, LATEST_TIERED) => return Found::NOTHING,
        (None, _) => log.log_start_offset(),
    };
    Found { offset, timestamp: -1, leader_epoch: log.epoch_for_offset(offset).unwrap_or(-1) }
}

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = ListOffsetsRequest::decode(&mut incoming.body(), version)?;
    let is_stranger = request.replica_id >= 0 && !may_replicate(broker, incoming);
    let list = ListOffsets { broker, incoming, request: &request, twice: named_twice(&request), is_stranger };
    let topics: Vec<_> = request.topics.iter().map(|topic| list.topic(topic)).collect();
    if let Some(disk) = incoming.missed.get() {
        return Ok(handle_on(disk, broker, incoming));
    }
    let waits_on = topics.iter().flat_map(|(_, answers)| answers).find_map(|(_, answer)| answer.waits_on());
    let Some(tier) = waits_on else {
        let header = &incoming.header;
        return Ok(Outcome::Now(encode(topics, header.api_version, header.correlation_id)?));
    };
    // the I/O thread must not wait for the object store
    let (reply, correlation_id) = ((incoming.reply)(), incoming.header.correlation_id);
    let topics: Vec<_> = topics.into_iter().map(|(name, answers)| (name.to_owned(), answers)).collect();
    // where too much waits, the reply is dropped, which ends the connection: the client asks again
    tier.call(move || match encode(topics, version, correlation_id) {
        Ok(response) => reply.send(response),
        Err(error) => reply.close(format!("a ListOffsets response cannot be written: {error}")),
    });
    Ok(Outcome::Later { exclusive: false })
}

/// The response, for which those answers that lie in the object store are waited for.
fn encode<N: AsRef<str>>(
    topics: Vec<(N, Vec<(i32, Answer)>)>,
    version: i16,
    correlation_id: i32,
) -> Result<Response, ProtocolError> {
    let found: Vec<(N, Vec<_>)> = topics
        .into_iter()
        .map(|(name, answers)| (name, answers.into_iter().map(|(index, it)| (index, it.wait())).collect()))
        .collect();
    let topics = found.iter().map(|(name, answers)| {
        let partitions = answers.iter().map(|(partition_index, found)| {
            let (error, found) = match found {
                Ok(found) => (ErrorCode::NONE, found),
                Err(error) => (*error, &Found::NOTHING),
            };
            ListOffsetsPartitionResponse {
                partition_index: *partition_index,
                error_code: error.0,
                timestamp: found.timestamp,
                offset: found.offset,
                leader_epoch: found.leader_epoch,
            }
        });
        ListOffsetsTopicResponse { name: name.as_ref(), partitions: partitions.collect() }
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() };
    let mut writer = Writer::with_capacity(256);
    write_response_header(&mut writer, api_key::LIST_OFFSETS, version, correlation_id);
    response.encode(&mut writer, version)?;
    Ok(writer.into_bytes().into())
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
    fn topic(&self, topic: &ListOffsetsTopic<'a>) -> (&'a str, Vec<(i32, Answer)>) {
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
            (asked.partition_index, found.unwrap_or_else(|error| Answer::Now(Err(error))))
        });
        (topic.name, partitions.collect())
    }

    fn partition(&self, topic: &'a str, asked: &ListOffsetsPartition) -> Result<Answer, ErrorCode> {
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
        if let Some(tier) = tier_for(&partition, asked.timestamp) {
            let bound = self.shown(&partition);
            // as below: what is found is right whatever comes above
            let end = partition.shown_end(i64::MAX).map_err(|error| self.not_available(error));
            let in_store = InStore { partition, tier, timestamp: asked.timestamp, bound };
            return Ok(Answer::Store(in_store, end.err()));
        }
        let found = self.incoming.look(partition.log(), || self.find(&partition, asked.timestamp));
        found.unwrap_or(Ok(Found::NOTHING)).map(|found| Answer::Now(Ok(found)))
    }

    /// Below which offset the client may know of records.
    fn shown(&self, partition: &Partition) -> i64 {
        let (log, is_committed) = (partition.log(), self.request.isolation_level == READ_COMMITTED);
        if is_committed { log.last_stable_offset() } else { log.high_watermark() }
    }

    fn find(&self, partition: &Partition, timestamp: i64) -> Result<Found, ErrorCode> {
        let log = partition.log();
        if self.request.replica_id >= 0 && timestamp == LATEST {
            let (offset, leader_epoch) = (log.log_end_offset(), partition.leader_epoch());
            return Ok(Found { offset, timestamp: -1, leader_epoch });
        }
        // none below what was shown before this leadership, or while it is in doubt
        let end = partition.shown_end(i64::MAX).map_err(|error| self.not_available(error));
        let bound = self.shown(partition);
        let found = match timestamp {
            LATEST => {
                end?;
                let leader_epoch = partition.leader_epoch();
                return Ok(Found { offset: bound, timestamp: -1, leader_epoch });
            }
            EARLIEST | EARLIEST_LOCAL => {
                let is_local = timestamp == EARLIEST_LOCAL;
                let offset = if is_local { log.local_log_start_offset() } else { log.log_start_offset() };
                let leader_epoch = log.epoch_for_offset(offset).unwrap_or(-1);
                return Ok(Found { offset, timestamp: -1, leader_epoch });
            }
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => return Ok(by_uploads(partition, timestamp)),
            MAX_TIMESTAMP => log.max_timestamp(bound),
            timestamp => log.offset_for_timestamp(timestamp, bound),
        };
        match found.map_err(|error| error.code())? {
            // as in Kafka: what is found below the bound is right whatever comes above
            Some(it) => Ok(it.into()),
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
