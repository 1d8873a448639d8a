//! Requests as bytes: ApiVersions to learn a broker's Fetch versions, and Fetch.

use fastlog_protocol::api_key;
use fastlog_protocol::header::{RequestHeader, read_response_header};
use fastlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use fastlog_protocol::primitives::{ProtocolError, Reader, Writer};

use crate::options::FetchOptions;
use crate::session::Plan;
use crate::table::{Round, Target, Wanted};

/// The oldest Fetch that Kafka 4 serves, and the first with transactions.
pub(crate) const FETCH_LOWEST: i16 = 4;
/// The newest that brings a consumer anything; 18 is for followers.
pub(crate) const FETCH_HIGHEST: i16 = 17;
/// From here on topics have ids instead of names.
pub(crate) const FETCH_TOPIC_IDS_FROM: i16 = 13;

fn header(api_key: i16, api_version: i16, correlation_id: i32, client_id: &str) -> RequestHeader<'_> {
    RequestHeader { api_key, api_version, correlation_id, client_id: Some(client_id) }
}

/// An ApiVersions request of version 0, which every broker answers.
pub(crate) fn api_versions_frame(correlation_id: i32, client_id: &str) -> Result<Vec<u8>, ProtocolError> {
    let mut w = Writer::with_capacity(64);
    header(api_key::API_VERSIONS, 0, correlation_id, client_id).encode(&mut w)?;
    ApiVersionsRequest::default().encode(&mut w, 0)?;
    Ok(w.into_bytes())
}

/// From the answer to [`api_versions_frame`]: its error code, and the broker's lowest and highest Fetch version.
pub(crate) fn fetch_versions(frame: &[u8]) -> Result<(i16, Option<(i16, i16)>), ProtocolError> {
    let mut r = Reader::new(frame);
    read_response_header(&mut r, api_key::API_VERSIONS, 0)?;
    let response = ApiVersionsResponse::decode(&mut r, 0)?;
    let fetch = response.api_keys.iter().find(|one| one.api_key == api_key::FETCH);
    Ok((response.error_code, fetch.map(|one| (one.min_version, one.max_version))))
}

/// A Fetch request.
pub(crate) fn fetch_frame(
    round: &Round,
    plan: &Plan,
    options: &FetchOptions,
    version: i16,
    correlation_id: i32,
) -> Result<Vec<u8>, ProtocolError> {
    let request = FetchRequest {
        max_wait_ms: i32::try_from(round.wait_max.as_millis()).unwrap_or(i32::MAX),
        min_bytes: options.fetch_bytes_min,
        max_bytes: i32::try_from(round.bytes_max).unwrap_or(i32::MAX),
        isolation_level: i8::from(options.read_committed),
        session_id: plan.session_id,
        session_epoch: plan.session_epoch,
        topics: topics(round, plan, options.partition_bytes_max),
        forgotten_topics_data: forgotten(plan),
        rack_id: &options.rack,
        ..FetchRequest::default()
    };
    let mut w = Writer::with_capacity(128 + 64 * plan.send.len());
    header(api_key::FETCH, version, correlation_id, &options.client_id).encode(&mut w)?;
    request.encode(&mut w, version)?;
    Ok(w.into_bytes())
}

/// The partitions to send, those of one topic together where they stand together.
fn topics<'a>(round: &'a Round, plan: &Plan, partition_max_bytes: i32) -> Vec<FetchTopic<'a>> {
    let mut topics: Vec<FetchTopic<'a>> = Vec::new();
    for Wanted { target: one, fetched_epoch, .. } in
        plan.send.iter().filter_map(|index| round.wanted.get(*index))
    {
        let partition = fetch_partition(one, *fetched_epoch, partition_max_bytes);
        match topics.last_mut() {
            Some(last) if *last.topic == *one.topic && last.topic_id == one.topic_id => {
                last.partitions.push(partition);
            }
            _ => topics.push(FetchTopic {
                topic: &one.topic,
                topic_id: one.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

fn fetch_partition(one: &Target, fetched_epoch: i32, partition_max_bytes: i32) -> FetchPartition {
    FetchPartition {
        partition: one.partition,
        current_leader_epoch: one.leader_epoch,
        fetch_offset: one.offset,
        last_fetched_epoch: fetched_epoch,
        partition_max_bytes,
        ..FetchPartition::default()
    }
}

fn forgotten(plan: &Plan) -> Vec<ForgottenTopic<'_>> {
    plan.forgotten
        .iter()
        .map(|(topic, topic_id, partition)| ForgottenTopic {
            topic,
            topic_id: *topic_id,
            partitions: vec![*partition],
        })
        .collect()
}
