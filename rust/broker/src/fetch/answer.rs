//! The answer of a fetch: header bytes, file ranges, trailing bytes.

use super::read::{FetchPlan, Isolation, PartitionRead};
use super::session::{FINAL_EPOCH, Found, TOPIC_IDS_VERSION};
use super::session_cache::{FetchContext, SessionCache};
use crate::leaders::LeaderHints;
use crate::request::response::{Response, Segment};
use fastlog_log::AbortedTxn;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::write_response_header;
use fastlog_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use fastlog_protocol::primitives::{ProtocolError, Writer};
use uuid::Uuid;

/// The first version whose answers tell the leader beside an error of leadership (KIP-951).
pub(crate) const LEADERS_VERSION: i16 = 16;

/// By which of both the request names it, the other is empty.
type TopicName<'a> = (&'a str, Uuid);

/// An answer that has nothing but an error for the whole request.
pub(crate) fn encode_error(
    error: ErrorCode,
    version: i16,
    correlation_id: i32,
) -> Result<Response, ProtocolError> {
    let mut writer = Writer::with_capacity(32);
    write_response_header(&mut writer, api_key::FETCH, version, correlation_id);
    let response = FetchResponse { error_code: error.0, ..FetchResponse::default() };
    response.encode(&mut writer, version)?;
    Ok(writer.into_bytes().into())
}

/// Whether the answer tells who leads partitions instead of this broker, or in another epoch.
pub(crate) fn tells_leaders(reads: &[PartitionRead], version: i16) -> bool {
    version >= LEADERS_VERSION && reads.iter().any(|read| is_moved(read.error))
}

fn is_moved(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH)
}

/// The answer with what was read, and `hints` where it tells leaders; makes or updates the session.
pub(crate) fn encode(
    plan: FetchPlan,
    reads: Vec<PartitionRead>,
    sessions: &SessionCache,
    hints: Option<LeaderHints<'_>>,
) -> Result<Response, ProtocolError> {
    plan.note_sent(&reads);
    let (session_id, named) = match &plan.context {
        FetchContext::Sessionless => (0, vec![true; reads.len()]),
        FetchContext::New => {
            let found: Vec<Found> = reads.iter().map(PartitionRead::found).collect();
            let has_ids = plan.version >= TOPIC_IDS_VERSION;
            let id = sessions.make(&plan.wanted, &found, has_ids, plan.replica.is_some(), plan.began);
            (id, vec![true; reads.len()])
        }
        FetchContext::Incremental { id, epoch, session } => {
            let mut session = session.lock();
            if session.epoch != *epoch && *epoch != FINAL_EPOCH {
                let error = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
                return encode_error(error, plan.version, plan.correlation_id);
            }
            (*id, session.note(&plan.wanted, reads.iter().map(PartitionRead::found)))
        }
    };
    let mut parts = Vec::with_capacity(reads.len());
    for ((wanted, read), named) in plan.wanted.iter().zip(reads).zip(named) {
        if named {
            parts.push(((&*wanted.topic, wanted.topic_id), wanted.index, read));
        }
    }
    Encoder::new(&plan, parts.len(), hints).encode(session_id, parts)
}

/// Collects segments: bytes up to a range, the range, and so on.
struct Encoder<'a> {
    version: i16,
    isolation: Isolation,
    hints: Option<LeaderHints<'a>>,
    writer: Writer,
    segments: Vec<Segment>,
}

impl<'h> Encoder<'h> {
    fn new(plan: &FetchPlan, partition_count: usize, hints: Option<LeaderHints<'h>>) -> Self {
        let mut writer = Writer::with_capacity(64 + 64 * partition_count);
        write_response_header(&mut writer, api_key::FETCH, plan.version, plan.correlation_id);
        let segments = Vec::with_capacity(1 + 2 * partition_count);
        Self { version: plan.version, isolation: plan.isolation, hints, writer, segments }
    }

    fn encode(
        mut self,
        session_id: i32,
        parts: Vec<(TopicName<'_>, i32, PartitionRead)>,
    ) -> Result<Response, ProtocolError> {
        let response = FetchResponse { session_id, ..FetchResponse::default() };
        // partitions of one topic that follow each other share its entry, as in Kafka
        let runs: Vec<usize> = parts.chunk_by(|a, b| a.0 == b.0).map(<[_]>::len).collect();
        response.encode_head(&mut self.writer, self.version, runs.len())?;
        let mut parts = parts.into_iter();
        for run in runs {
            self.topic(parts.by_ref().take(run), run)?;
        }
        let nodes = self.hints.as_ref().map(LeaderHints::nodes).unwrap_or_default();
        let node_endpoints = nodes.iter().map(|it| NodeEndpoint {
            node_id: it.id,
            host: &it.host,
            port: it.port.into(),
            rack: it.rack.as_deref(),
        });
        let response = FetchResponse { node_endpoints: node_endpoints.collect(), ..response };
        response.encode_tail(&mut self.writer, self.version)?;
        self.flush();
        Ok(Response::new(self.segments))
    }

    fn topic<'a>(
        &mut self,
        parts: impl Iterator<Item = (TopicName<'a>, i32, PartitionRead)>,
        count: usize,
    ) -> Result<(), ProtocolError> {
        let mut parts = parts.peekable();
        let (topic, topic_id) = parts.peek().map_or(("", Uuid::nil()), |(topic, ..)| *topic);
        let response = FetchableTopicResponse { topic, topic_id, partitions: Vec::new() };
        response.encode_head(&mut self.writer, self.version, count)?;
        for (_, index, read) in parts {
            self.partition((topic, topic_id), index, read)?;
        }
        response.encode_tail(&mut self.writer, self.version)
    }

    fn partition(
        &mut self,
        (topic, topic_id): TopicName<'_>,
        index: i32,
        read: PartitionRead,
    ) -> Result<(), ProtocolError> {
        let leader = self.hints.as_mut().filter(|_| is_moved(read.error)).map(|hints| {
            let (leader_id, leader_epoch) = hints.leader(topic, topic_id, index);
            LeaderIdAndEpoch { leader_id, leader_epoch }
        });
        let diverging_epoch = read
            .diverging
            .map_or_else(EpochEndOffset::default, |(epoch, end_offset)| EpochEndOffset { epoch, end_offset });
        let data = PartitionData {
            partition_index: index,
            error_code: read.error.0,
            high_watermark: read.told.high_watermark,
            last_stable_offset: read.told.last_stable_offset,
            log_start_offset: read.told.log_start_offset,
            diverging_epoch,
            // null where nobody asked (but, as in Kafka, not beside an unknown topic or partition)
            aborted_transactions: (self.isolation == Isolation::ReadCommitted
                || matches!(read.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID))
            .then(|| read.aborted.iter().map(aborted_transaction).collect()),
            current_leader: leader.unwrap_or_default(),
            preferred_read_replica: read.preferred.unwrap_or(-1),
            ..PartitionData::default()
        };
        data.encode_head(&mut self.writer, self.version, Some(read.size_bytes()))?;
        if let Some(range) = read.records {
            self.flush();
            self.segments.push(Segment::File(range));
        }
        data.encode_tail(&mut self.writer, self.version)
    }

    fn flush(&mut self) {
        let bytes = std::mem::replace(&mut self.writer, Writer::with_capacity(64)).into_bytes();
        if !bytes.is_empty() {
            self.segments.push(Segment::Bytes(bytes.into()));
        }
    }
}

fn aborted_transaction(txn: &AbortedTxn) -> AbortedTransaction {
    AbortedTransaction { producer_id: txn.producer_id, first_offset: txn.first_offset }
}
