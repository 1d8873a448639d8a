//! Produce requests after the append: what became of each partition, the answer, and the wait for the disk or the
//! replicas.

use crate::broker::Broker;
use crate::dispatch::Incoming;
use crate::leaders::{LeaderHints, Leaders};
use crate::partition::Partition;
use crate::request::response::{Reply, Response};
use crate::waiters::{Cause, Delayed, Timer};
use fastlog_log::{AppendError, Appended};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::write_response_header;
use fastlog_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, ProduceResponse,
    TopicProduceResponse,
};
use fastlog_protocol::primitives::{ProtocolError, Writer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

/// The first version whose answers tell the leader beside `NOT_LEADER_OR_FOLLOWER` (KIP-951).
const LEADERS_VERSION: i16 = 10;

/// What became of one topic's partitions.
pub(crate) struct TopicResult<Name> {
    /// Empty where the request names topics by their ids (v13).
    pub(crate) name: Name,
    /// Nil where it names them by their names.
    pub(crate) topic_id: Uuid,
    pub(crate) partitions: Vec<PartitionResult>,
}

/// What became of one partition's batch.
pub(crate) struct PartitionResult {
    pub(crate) index: i32,
    pub(crate) error: ErrorCode,
    pub(crate) message: Option<String>,
    record_errors: Vec<(i32, String)>,
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
    /// None once the result is known.
    waits_for: Option<Wait>,
}

/// What an acknowledgement of a batch still needs.
struct Wait {
    partition: Arc<Partition>,
    /// The offset after the batch.
    required: i64,
    copies: Copies,
    /// The epoch in which it was appended.
    leader_epoch: i32,
}

/// Whose copies of a batch an acknowledgement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// Nobody's: there is no acknowledgement (acks=0).
    None,
    /// The leader's (acks=1).
    Leader,
    /// That of every in-sync replica, the leader included (acks=-1).
    All,
}

impl Copies {
    /// Whether they have everything below `required`, as durable as the topic's `fastlog.durability` says.
    fn reach(self, partition: &Partition, required: i64) -> bool {
        match self {
            Copies::None => true,
            Copies::Leader => partition.log().durable_end_offset() >= required,
            Copies::All => partition.log().high_watermark() >= required,
        }
    }
}

impl Wait {
    fn is_over(&self) -> bool {
        self.copies.reach(&self.partition, self.required)
    }

    /// What is said of a batch that has its copies, looked at before this: the high watermark of a leader counts only
    /// while it leads, and the role is read after it.
    fn verdict(&self) -> ErrorCode {
        let acks_all = self.copies == Copies::All;
        if !self.partition.leads_in(self.leader_epoch)
            || (self.copies != Copies::None && self.partition.lost_what_vouches(acks_all))
        {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        } else if acks_all && !self.partition.has_enough_copies() {
            // the record is in the log, but the promise was made of more replicas than are left
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        } else {
            ErrorCode::NONE
        }
    }

    /// Whether it ends without a deadline: a sync is done or fails, but replicas may never come.
    fn is_sure_to_end(&self) -> bool {
        match self.copies {
            Copies::None | Copies::Leader => true,
            Copies::All => self.partition.waits_for_sync_alone(),
        }
    }
}

impl PartitionResult {
    /// Nothing was appended.
    pub(crate) fn refused(index: i32, error: ErrorCode, message: Option<String>) -> Self {
        Self {
            index,
            error,
            message,
            record_errors: Vec::new(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            waits_for: None,
        }
    }

    /// The log refused the batch. As in Kafka the answer tells the log's start, which producers look at after a
    /// sequence error, except where the error says nothing about this log's content.
    pub(crate) fn failed(partition: &Partition, error: AppendError) -> Self {
        let is_untold = matches!(
            error.code,
            ErrorCode::CORRUPT_MESSAGE
                | ErrorCode::MESSAGE_TOO_LARGE
                | ErrorCode::RECORD_LIST_TOO_LARGE
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        );
        let log_start_offset = if is_untold { -1 } else { partition.log().log_start_offset() };
        let refused = Self::refused(partition.index(), error.code, Some(error.message));
        Self { record_errors: error.record_errors, log_start_offset, ..refused }
    }

    /// The batch is in the log, perhaps since an earlier request; it is not done before the copies are there.
    pub(crate) fn appended(
        partition: &Arc<Partition>,
        appended: &Appended,
        copies: Copies,
        leader_epoch: i32,
    ) -> Self {
        let required = appended.last_offset + 1;
        // whether it still leads is asked after the copies, as in `Wait::verdict`
        let waits = !copies.reach(partition, required)
            || !partition.leads_in(leader_epoch)
            || partition.lost_what_vouches(copies == Copies::All);
        let wait = || Wait { partition: partition.clone(), required, copies, leader_epoch };
        Self {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            waits_for: waits.then(wait),
            ..Self::refused(partition.index(), ErrorCode::NONE, None)
        }
    }

    /// Looks whether the wait is over, and with which result.
    fn settle(&mut self, cause: Cause) {
        let Some(wait) = &self.waits_for else { return };
        let partition = &wait.partition;
        let error = if partition.is_deleted() {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        } else if wait.is_over() {
            wait.verdict()
        } else if !partition.leads_in(wait.leader_epoch) {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        } else if let Some(reason) = partition.sync_failure() {
            self.message = Some(format!("the batch is in the log, but not on the disk: {reason}"));
            ErrorCode::KAFKA_STORAGE_ERROR
        } else {
            match cause {
                Cause::Change => return,
                Cause::Stop if wait.is_sure_to_end() => return,
                Cause::Deadline | Cause::Stop => ErrorCode::REQUEST_TIMED_OUT,
            }
        };
        self.error = error;
        self.waits_for = None;
    }

    fn response(&self) -> PartitionProduceResponse<'_> {
        let failed = self.error != ErrorCode::NONE;
        let record_errors = self.record_errors.iter().map(|(index, message)| BatchIndexAndErrorMessage {
            batch_index: *index,
            batch_index_error_message: Some(message),
        });
        PartitionProduceResponse {
            index: self.index,
            error_code: self.error.0,
            base_offset: if failed { -1 } else { self.base_offset },
            log_append_time_ms: if failed { -1 } else { self.log_append_time_ms },
            log_start_offset: self.log_start_offset,
            record_errors: record_errors.collect(),
            error_message: self.message.as_deref(),
            ..PartitionProduceResponse::default()
        }
    }
}

impl<Name: AsRef<str>> TopicResult<Name> {
    /// Whether a partition waits for the disk or for its replicas.
    pub(crate) fn is_waiting(&self) -> bool {
        self.partitions.iter().any(|it| it.waits_for.is_some())
    }

    pub(crate) fn into_owned(self) -> TopicResult<String> {
        TopicResult {
            name: self.name.as_ref().to_owned(),
            topic_id: self.topic_id,
            partitions: self.partitions,
        }
    }
}

/// Whether the answer tells who leads partitions instead of this broker.
pub(crate) fn tells_leaders<Name>(results: &[TopicResult<Name>], version: i16) -> bool {
    let is_moved = |it: &PartitionResult| it.error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
    version >= LEADERS_VERSION && results.iter().any(|topic| topic.partitions.iter().any(is_moved))
}

/// The whole response; `hints` where it tells leaders.
pub(crate) fn encode<Name: AsRef<str>>(
    results: &[TopicResult<Name>],
    version: i16,
    correlation_id: i32,
    mut hints: Option<LeaderHints<'_>>,
) -> Result<Response, ProtocolError> {
    let mut responses = Vec::with_capacity(results.len());
    for topic in results {
        let (name, topic_id) = (topic.name.as_ref(), topic.topic_id);
        let partition_responses = topic.partitions.iter().map(|partition| {
            let mut response = partition.response();
            if let Some(hints) = &mut hints
                && partition.error == ErrorCode::NOT_LEADER_OR_FOLLOWER
            {
                let (leader_id, leader_epoch) = hints.leader(name, topic_id, partition.index);
                response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            }
            response
        });
        let partition_responses = partition_responses.collect();
        responses.push(TopicProduceResponse { name, topic_id, partition_responses });
    }
    let nodes = hints.map(|it| it.nodes()).unwrap_or_default();
    let node_endpoints = nodes.iter().map(|it| NodeEndpoint {
        node_id: it.id,
        host: &it.host,
        port: it.port.into(),
        rack: it.rack.as_deref(),
    });
    let node_endpoints = node_endpoints.collect();
    let response = ProduceResponse { responses, node_endpoints, ..ProduceResponse::default() };
    let mut writer = Writer::with_capacity(128);
    write_response_header(&mut writer, api_key::PRODUCE, version, correlation_id);
    response.encode(&mut writer, version)?;
    Ok(writer.into_bytes().into())
}

/// A produce request whose batches are not yet where its acks want them.
pub(crate) struct DelayedProduce {
    pending: Mutex<Option<Pending>>,
}

struct Pending {
    results: Vec<TopicResult<String>>,
    version: i16,
    correlation_id: i32,
    /// None before the version that tells them.
    leaders: Option<Leaders>,
    reply: Reply,
}

impl DelayedProduce {
    /// Waits for `results`, of a request that `incoming` had.
    pub(crate) fn new(
        broker: &Broker,
        incoming: &mut Incoming<'_, '_>,
        results: Vec<TopicResult<String>>,
    ) -> Arc<Self> {
        let (version, correlation_id) = (incoming.header.api_version, incoming.header.correlation_id);
        let leaders = (version >= LEADERS_VERSION).then(|| Leaders::new(broker, incoming.context));
        let pending = Pending { results, version, correlation_id, leaders, reply: (incoming.reply)() };
        Arc::new(Self { pending: Mutex::new(Some(pending)) })
    }

    /// Begins to wait: for the partitions, and for the deadline.
    pub(crate) fn start(self: &Arc<Self>, timer: &Timer, deadline: Instant) {
        let partitions: Vec<_> = match &*self.pending.lock() {
            Some(pending) => pending.waiting().map(|wait| wait.partition.clone()).collect(),
            None => return,
        };
        for partition in partitions {
            partition.waiters().add(self.clone());
        }
        self.try_complete(Cause::Change);
        if self.is_over() {
            // The peer may have gone meanwhile. Partitions hold what waits and it holds partitions: left to the next
            // sweep of a list, which may never come, neither would ever be freed.
            drop(self.pending.lock().take());
        } else {
            timer.add(deadline, self.clone());
        }
    }
}

impl Pending {
    fn waiting(&self) -> impl Iterator<Item = &Wait> {
        self.results.iter().flat_map(|topic| &topic.partitions).filter_map(|it| it.waits_for.as_ref())
    }

    fn answer(self) {
        let tells = tells_leaders(&self.results, self.version);
        let hints = self.leaders.as_ref().filter(|_| tells).map(Leaders::hints);
        match encode(&self.results, self.version, self.correlation_id, hints) {
            Ok(response) => self.reply.send(response),
            Err(error) => self.reply.close(format!("a Produce response cannot be written: {error}")),
        }
    }
}

impl Delayed for DelayedProduce {
    fn try_complete(&self, cause: Cause) {
        let mut guard = self.pending.lock();
        let Some(pending) = guard.as_mut() else { return };
        for partition in pending.results.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.settle(cause);
        }
        if pending.waiting().next().is_none()
            && let Some(done) = guard.take()
        {
            drop(guard);
            done.answer();
        }
    }

    fn is_over(&self) -> bool {
        // asked under the lock of a list: whoever holds ours at this moment is not to be waited for
        let pending = self.pending.try_lock();
        pending.is_some_and(|it| it.as_ref().is_none_or(|pending| !pending.reply.is_open()))
    }
}
