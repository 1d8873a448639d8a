//! Good requests of every API that the data plane answers, to be spoilt.

use fastlog_protocol::api_key;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use fastlog_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use fastlog_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use fastlog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use fastlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use fastlog_protocol::primitives::Writer;
use uuid::Uuid;

/// The topic that they are about, of one partition.
pub(crate) const TOPIC: &str = "t";

/// A request of its header and body.
fn request(api_key: i16, api_version: i16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let header = RequestHeader { api_key, api_version, correlation_id: 77, client_id: Some("c") };
    let mut writer = Writer::new();
    header.encode(&mut writer).unwrap();
    body(&mut writer);
    writer.into_bytes()
}

fn produce(version: i16, acks: i16, compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new().producer(5, 0, 0);
    for number in 0..3u8 {
        builder.append(1000, Some(&[number]), Some(b"some value"));
    }
    let records = builder.seal(compression).unwrap();
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(&records) }];
    let topic_data = vec![TopicProduceData { name: TOPIC, partition_data, ..TopicProduceData::default() }];
    let it = ProduceRequest { acks, timeout_ms: 0, topic_data, ..ProduceRequest::default() };
    request(api_key::PRODUCE, version, |w| it.encode(w, version).unwrap())
}

/// `max_wait_ms`: how long it waits for more than there is.
fn fetch(version: i16, max_wait_ms: i32, fetch_offset: i64) -> Vec<u8> {
    let partition = FetchPartition { partition_max_bytes: 1000, fetch_offset, ..FetchPartition::default() };
    let partitions = vec![partition];
    let topics = vec![FetchTopic { topic: TOPIC, partitions, ..FetchTopic::default() }];
    let forgotten = ForgottenTopic { topic: TOPIC, partitions: vec![1], ..ForgottenTopic::default() };
    let it = FetchRequest {
        max_wait_ms,
        min_bytes: 500,
        max_bytes: 1000,
        topics,
        forgotten_topics_data: vec![forgotten],
        ..FetchRequest::default()
    };
    request(api_key::FETCH, version, |w| it.encode(w, version).unwrap())
}

fn list_offsets(version: i16, timestamp: i64) -> Vec<u8> {
    let partitions = vec![ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() }];
    let topics = vec![ListOffsetsTopic { name: TOPIC, partitions }];
    let it = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 };
    request(api_key::LIST_OFFSETS, version, |w| it.encode(w, version).unwrap())
}

fn metadata(version: i16) -> Vec<u8> {
    let topics = vec![MetadataRequestTopic { name: Some(TOPIC), topic_id: Uuid::nil() }];
    let it = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
    request(api_key::METADATA, version, |w| it.encode(w, version).unwrap())
}

fn leader_epoch(version: i16) -> Vec<u8> {
    let partition = OffsetForLeaderPartition { leader_epoch: 0, ..OffsetForLeaderPartition::default() };
    let topics = vec![OffsetForLeaderTopic { topic: TOPIC, partitions: vec![partition] }];
    let it = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    request(api_key::OFFSET_FOR_LEADER_EPOCH, version, |w| it.encode(w, version).unwrap())
}

/// What the control plane answers.
fn create_topics() -> Vec<u8> {
    request(api_key::CREATE_TOPICS, 7, |w| w.raw(&[1, 0, 0, 0, 0, 0, 0]))
}

/// One of every API and version.
pub(crate) fn all() -> Vec<Vec<u8>> {
    let mut all = vec![create_topics(), produce(9, 0, Compression::None), produce(9, 1, Compression::Zstd)];
    all.extend((3..=13).map(|version| produce(version, -1, Compression::None)));
    all.extend((4..=18).flat_map(|version| [0, i32::MAX].map(|max_wait_ms| fetch(version, max_wait_ms, 0))));
    all.extend([i64::MIN, i64::MAX].map(|offset| fetch(12, i32::MAX, offset)));
    all.extend((1..=7).map(|version| list_offsets(version, 1000)));
    all.extend([-1, -2, -3, i64::MIN, i64::MAX].map(|timestamp| list_offsets(7, timestamp)));
    all.extend((0..=12).map(metadata));
    all.extend((2..=4).map(leader_epoch));
    let client = [2, b'a', 2, b'1', 0];
    all.extend((0..=5).map(|version| request(api_key::API_VERSIONS, version, |w| w.raw(&client))));
    all
}
