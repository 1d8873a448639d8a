//! Produce requests after the append: what became of each partition, the answer, and the wait for the replicas.

use crate::partition::Partition;
use crate::request::response::{Reply, Response};
use crate::waiters::{Delayed, Timer};
use fastlog_log::{AppendError, Appended};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::write_response_header;
use fastlog_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use fastlog_protocol::primitives::{ProtocolError, Writer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// What became of one topic's partitions.
pub(crate) struct TopicResult<Name> {
    pub(crate) name: Name,
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
    /// The partition, as long as its high watermark has not passed the batch.
    waits_for: Option<(Arc<Partition>, i64)>,
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

    /// The batch is in the log; with `all` it is not done before all in-sync replicas have it.
    pub(crate) fn appended(partition: &Arc<Partition>, appended: &Appended, all: bool) -> Self {
        let required = appended.last_offset + 1;
        let waits = all && partition.log().high_watermark() < required;
        Self {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start_offset: appended.log_start_offset,
            waits_for: waits.then(|| (partition.clone(), required)),
            ..Self::refused(partition.index(), ErrorCode::NONE, None)
        }
    }

    /// Looks whether the replicas have the batch, and with which result the wait ends.
    fn settle(&mut self, force: bool) {
        let Some((partition, required)) = &self.waits_for else { return };
        let error = if partition.is_deleted() {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        } else if partition.log().high_watermark() >= *required {
            // the record is in the log, but the promise was made of more replicas than are left
            let kept = partition.has_enough_in_sync();
            if kept { ErrorCode::NONE } else { ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND }
        } else if force {
            ErrorCode::REQUEST_TIMED_OUT
        } else {
            return;
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
    /// Whether a partition waits for its replicas.
    pub(crate) fn is_waiting(&self) -> bool {
        self.partitions.iter().any(|it| it.waits_for.is_some())
    }

    pub(crate) fn into_owned(self) -> TopicResult<String> {
        TopicResult { name: self.name.as_ref().to_owned(), partitions: self.partitions }
    }
}

/// The whole response.
pub(crate) fn encode<Name: AsRef<str>>(
    results: &[TopicResult<Name>],
    version: i16,
    correlation_id: i32,
) -> Result<Response, ProtocolError> {
    let responses = results.iter().map(|topic| TopicProduceResponse {
        name: topic.name.as_ref(),
        partition_responses: topic.partitions.iter().map(PartitionResult::response).collect(),
        ..TopicProduceResponse::default()
    });
    let response = ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() };
    let mut writer = Writer::with_capacity(128);
    write_response_header(&mut writer, api_key::PRODUCE, version, correlation_id);
    response.encode(&mut writer, version)?;
    Ok(writer.into_bytes().into())
}

/// A produce request with acks=-1 whose batches are not on all in-sync replicas yet.
pub(crate) struct DelayedProduce {
    pending: Mutex<Option<Pending>>,
}

struct Pending {
    results: Vec<TopicResult<String>>,
    version: i16,
    correlation_id: i32,
    reply: Reply,
}

impl DelayedProduce {
    pub(crate) fn new(
        results: Vec<TopicResult<String>>,
        version: i16,
        correlation_id: i32,
        reply: Reply,
    ) -> Arc<Self> {
        let pending = Pending { results, version, correlation_id, reply };
        Arc::new(Self { pending: Mutex::new(Some(pending)) })
    }

    /// Begins to wait: for the partitions, and for the deadline.
    pub(crate) fn start(self: &Arc<Self>, timer: &Timer, deadline: Instant) {
        let partitions: Vec<_> = match &*self.pending.lock() {
            Some(pending) => pending.waiting().map(|(partition, _)| partition.clone()).collect(),
            None => return,
        };
        for partition in partitions {
            partition.waiters().add(self.clone());
        }
        self.try_complete(false);
        if !self.is_over() {
            timer.add(deadline, self.clone());
        }
    }
}

impl Pending {
    fn waiting(&self) -> impl Iterator<Item = &(Arc<Partition>, i64)> {
        self.results.iter().flat_map(|topic| &topic.partitions).filter_map(|it| it.waits_for.as_ref())
    }

    fn answer(self) {
        match encode(&self.results, self.version, self.correlation_id) {
            Ok(response) => self.reply.send(response),
            Err(error) => self.reply.close(format!("a Produce response cannot be written: {error}")),
        }
    }
}

impl Delayed for DelayedProduce {
    fn try_complete(&self, force: bool) {
        let mut guard = self.pending.lock();
        let Some(pending) = guard.as_mut() else { return };
        for partition in pending.results.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.settle(force);
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
