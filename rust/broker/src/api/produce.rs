//! `Produce` (key 0), versions 3-13; advertised from 0.
//!
//! One batch per partition. acks=0 has no response: an error closes the connection, as in Kafka. With acks=-1 the
//! answer waits until every in-sync replica has the batch; the requests behind it are handled meanwhile. So does that
//! with acks=1 until the batch is synced, where the topic's `fastlog.durability` is fsync.
//! Differs from Apache Kafka: null records are answered with `INVALID_RECORD` instead of with nothing, and
//! transactional batches with `INVALID_TXN_STATE` as long as there is no transaction that they could belong to.
//! Only the broker itself writes to Kafka's own topics (`__consumer_offsets`); Kafka lets a client with the client id
//! `__admin_client` do so too. A batch of its own that names a leader epoch is written in that epoch only, else
//! `NOT_LEADER_OR_FOLLOWER`: it was decided on what was known then.
//! A topic with `fastlog.restoring` takes the batches of a backup, which keep their offsets, and no others.
//! KIPs: 467 (record errors, v8), 110 (zstd, v7), 951 (the leader beside NOT_LEADER_OR_FOLLOWER, v10), 516 (topic ids,
//! v13). Versions 11 and 12 only differ for transactions (890).

use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::image::is_internal_topic;
use crate::leaders::LeaderHints;
use crate::partition::{Duty, Partition};
use crate::produce::{Copies, DelayedProduce, PartitionResult, TopicResult, encode, tells_leaders};
use crate::request::context::{Operation, Resource};
use crate::request::response::Outcome;
use fastlog_log::{AppendOptions, RESTORED_EPOCH};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::BatchHeader;
use fastlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use fastlog_protocol::primitives::ProtocolError;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The first version that names topics by their ids.
const TOPIC_IDS_VERSION: i16 = 13;
/// The first version whose batches may be compressed with zstd.
const ZSTD_VERSION: i16 = 7;
/// What a producer is told of a batch that was not appended, and that it will send again as it is.
const REFUSED_FOR_NOW: [ErrorCode; 3] =
    [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::KAFKA_STORAGE_ERROR];

pub(crate) fn handle(broker: &Broker, incoming: &mut Incoming<'_, '_>) -> Result<Outcome, ProtocolError> {
    let version = incoming.header.api_version;
    let request = ProduceRequest::decode(&mut incoming.body(), version)?;
    let mut produce = Produce { broker, incoming, request: &request, appended: Vec::new() };
    let results: Vec<_> = request.topic_data.iter().map(|topic| produce.topic(topic)).collect();
    let appended = produce.appended;
    for partition in &appended {
        partition.notify();
    }
    if request.acks == 0 {
        return Ok(without_answer(&results));
    }
    if results.iter().any(TopicResult::is_waiting) {
        Ok(wait(broker, incoming, &request, results))
    } else {
        answer(broker, incoming, &results)
    }
}

fn answer(
    broker: &Broker,
    incoming: &Incoming<'_, '_>,
    results: &[TopicResult<&str>],
) -> Result<Outcome, ProtocolError> {
    let (version, correlation_id) = (incoming.header.api_version, incoming.header.correlation_id);
    let hints = tells_leaders(results, version).then(|| LeaderHints::new(broker, incoming.context));
    Ok(Outcome::Now(encode(results, version, correlation_id, hints)?))
}

/// A client that wants no answer learns of an error by the end of its connection.
fn without_answer(results: &[TopicResult<&str>]) -> Outcome {
    let failed = results.iter().flat_map(|topic| topic.partitions.iter().map(move |it| (topic.name, it)));
    match failed.into_iter().find(|(_, partition)| partition.error != ErrorCode::NONE) {
        None => Outcome::NoResponse,
        Some((topic, partition)) => Outcome::Close(format!(
            "a produce request with acks=0 failed with {:?} at {topic}-{}: {}",
            partition.error,
            partition.index,
            partition.message.as_deref().unwrap_or("no details"),
        )),
    }
}

fn wait(
    broker: &Broker,
    incoming: &mut Incoming<'_, '_>,
    request: &ProduceRequest<'_>,
    results: Vec<TopicResult<&str>>,
) -> Outcome {
    let results = results.into_iter().map(TopicResult::into_owned).collect();
    let waiter = DelayedProduce::new(broker, incoming, results);
    let timeout_ms = u64::try_from(request.timeout_ms).unwrap_or(0);
    waiter.start(&broker.timer, broker.clock.now() + Duration::from_millis(timeout_ms));
    Outcome::Later { exclusive: false }
}

struct Produce<'b, 'i, 'a, 'r> {
    broker: &'b Broker,
    incoming: &'i Incoming<'a, 'r>,
    request: &'i ProduceRequest<'a>,
    /// Partitions that got a batch, of which those who wait are to be told.
    appended: Vec<Arc<Partition>>,
}

impl<'a> Produce<'_, '_, 'a, '_> {
    fn topic(&mut self, topic: &TopicProduceData<'a>) -> TopicResult<&'a str> {
        let has_id = self.incoming.header.api_version >= TOPIC_IDS_VERSION;
        let by_id = has_id.then(|| self.broker.topic_name(topic.topic_id));
        let name = match &by_id {
            None => Ok(topic.name),
            Some(name) => name.as_deref().ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
        };
        let allowed = name.and_then(|name| self.check(name).map(|()| name));
        let partitions = topic.partition_data.iter().map(|data| match allowed {
            Ok(name) => self.partition(name, topic.topic_id, data),
            Err(error) => PartitionResult::refused(data.index, error, None),
        });
        TopicResult { name: topic.name, topic_id: topic.topic_id, partitions: partitions.collect() }
    }

    /// Whether the client may write to the topic at all.
    fn check(&self, topic: &str) -> Result<(), ErrorCode> {
        let context = self.incoming.context;
        if !matches!(self.request.acks, -1..=1) {
            Err(ErrorCode::INVALID_REQUIRED_ACKS)
        } else if !self.broker.allows(context, Operation::Write, Resource::Topic(topic)) {
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        } else if is_internal_topic(topic) && !context.listener.inter_broker {
            Err(ErrorCode::INVALID_TOPIC_EXCEPTION)
        } else {
            Ok(())
        }
    }

    fn partition(&mut self, topic: &str, topic_id: Uuid, data: &PartitionProduceData<'_>) -> PartitionResult {
        let refuse = |error, message: &str| PartitionResult::refused(data.index, error, Some(message.into()));
        let found = if topic_id.is_nil() {
            self.broker.open_partition(topic, data.index)
        } else {
            let other = ErrorCode::UNKNOWN_TOPIC_ID;
            self.broker.open_partition_by_id(topic_id, topic, data.index, other)
        };
        let partition = match found {
            Ok(partition) => partition,
            Err(error) => return PartitionResult::refused(data.index, error, None),
        };
        let Some(records) = data.records else {
            return refuse(ErrorCode::INVALID_RECORD, "the request has no records for the partition");
        };
        let header = BatchHeader::parse(records).ok();
        let result = match self.judge(&partition, records, header.as_ref()) {
            Ok(result) => result,
            Err(error) => {
                let message =
                    "the batch was sent behind one that was refused, and that has to come again first";
                return refuse(error, message);
            }
        };
        if REFUSED_FOR_NOW.contains(&result.error)
            && let Some(header) = &header
        {
            partition.note_refused(header, result.error);
        }
        result
    }

    /// An error alone = it waits for one that was refused.
    fn judge(
        &mut self,
        partition: &Arc<Partition>,
        records: &[u8],
        header: Option<&BatchHeader>,
    ) -> Result<PartitionResult, ErrorCode> {
        let refuse =
            |error, message: &str| PartitionResult::refused(partition.index(), error, Some(message.into()));
        // its transaction ended long ago
        let is_restored = header.is_some_and(|header| header.partition_leader_epoch == RESTORED_EPOCH)
            && partition.log().config().restoring;
        if !is_restored && header.is_some_and(|header| header.attributes.is_transactional()) {
            let message = "the batch is transactional, but the producer has no transaction here";
            return Ok(refuse(ErrorCode::INVALID_TXN_STATE, message));
        }
        let role = partition.role();
        if role.duty != Duty::Leader {
            let message = "the partition is led by another broker";
            return Ok(refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER, message));
        }
        let named_epoch = header.map_or(-1, |header| header.partition_leader_epoch);
        // what clients write there means nothing
        if self.incoming.context.listener.inter_broker && named_epoch >= 0 && named_epoch != role.leader_epoch
        {
            let message = "the batch is of another leadership";
            return Ok(refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER, message));
        }
        if let Some(error) = header.and_then(|header| partition.waits_for_refused(header)) {
            return Err(error);
        }
        Ok(match partition.check_may_acknowledge(self.request.acks == -1) {
            Ok(()) => self.append(partition.clone(), role.leader_epoch, records),
            Err(error @ ErrorCode::NOT_ENOUGH_REPLICAS) => {
                let message = "fewer replicas are in sync than min.insync.replicas; nothing was appended";
                refuse(error, message)
            }
            Err(error) => refuse(error, "this broker cannot be sure that it leads; nothing was appended"),
        })
    }

    fn append(&mut self, partition: Arc<Partition>, leader_epoch: i32, records: &[u8]) -> PartitionResult {
        let options = AppendOptions {
            from_client: true,
            zstd_allowed: self.incoming.header.api_version >= ZSTD_VERSION,
        };
        match partition.append_in(leader_epoch, records, self.broker.clock.now_ms(), options) {
            Ok(appended) => {
                let copies = match self.request.acks {
                    0 => Copies::None,
                    1 => Copies::Leader,
                    _ => Copies::All,
                };
                let result = PartitionResult::appended(&partition, &appended, copies, leader_epoch);
                // where a sync has to come first, nothing changed yet, and the sync tells
                if !appended.duplicate && !partition.log().syncs_appends() {
                    self.appended.push(partition);
                }
                result
            }
            // a producer gives up on this: who may not be the leader any more must not say so
            Err(error)
                if error.code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER && partition.is_lease_over() =>
            {
                let message = "the batch does not follow what is here, and another broker may lead by now";
                PartitionResult::refused(
                    partition.index(),
                    ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    Some(message.into()),
                )
            }
            Err(error) => PartitionResult::failed(&partition, error),
        }
    }
}
