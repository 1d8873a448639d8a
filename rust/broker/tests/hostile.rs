//! Bytes that no good client sends: whatever comes, the broker answers or closes, and its log stays whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests fail by panicking")]

use fastlog_broker::{
    AllowAll, ApiRange, Broker, BrokerConfig, Listener, ListenerProtocol, Outcome, PartitionSettings,
    Replication, Reply, ReplySink, RequestContext, SystemClock,
};
use fastlog_log::{LastStop, Log, LogOptions, Storage};
use fastlog_protocol::api_key;
use fastlog_protocol::batch::{Builder, batches, crc_is_valid};
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
use proptest::prelude::*;
use std::sync::Arc;
use tempfile::TempDir;

struct Nowhere;

impl ReplySink for Nowhere {
    fn answer(&mut self, _: fastlog_broker::Answer) {}
    fn is_open(&self) -> bool {
        true
    }
}

struct Node {
    broker: Arc<Broker>,
    _directory: TempDir,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock)).unwrap();
        broker.image().update(|image| {
            image.control_apis =
                vec![ApiRange { key: api_key::CREATE_TOPICS, min_version: 2, max_version: 7 }];
        });
        let (log, _) =
            Log::open(&Storage::real(directory.path()), LogOptions::new("t", 0, LastStop::Clean), 0).unwrap();
        let settings = PartitionSettings {
            topic: "t".into(),
            topic_id: uuid::Uuid::nil(),
            index: 0,
            leader_epoch: 0,
            replication: Replication::single(1, 1),
        };
        broker.add_partition(settings, log).unwrap();
        Self { broker, _directory: directory }
    }

    fn handle(&self, request: &[u8]) -> Outcome {
        let listener = Listener {
            name: "PLAINTEXT".to_owned(),
            protocol: ListenerProtocol::Plaintext,
            inter_broker: false,
            host: "127.0.0.1".to_owned(),
            port: 9092,
        };
        let context = RequestContext {
            listener: Arc::new(listener),
            principal: "User:ANONYMOUS".into(),
            client_address: None,
            local_address: None,
            connection_id: 1,
        };
        self.broker.handle(&context, request, &mut || Reply::new(Box::new(Nowhere)))
    }

    /// Every batch that got into the log is whole, and offsets have no gap.
    fn check_log(&self) {
        let partition = self.broker.partitions().get("t", 0).unwrap();
        let (log, mut offset) = (partition.log(), 0);
        while let Some(slice) = log.read(offset, 1 << 20, log.log_end_offset(), true).unwrap() {
            let mut bytes = vec![0; slice.length];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            for batch in batches(&bytes).map_while(Result::ok) {
                assert!(crc_is_valid(batch));
                let header = fastlog_protocol::batch::BatchHeader::parse(batch).unwrap();
                assert_eq!(header.base_offset, offset);
                offset = header.next_offset();
            }
        }
        assert_eq!(offset, log.log_end_offset());
    }
}

fn request(key: i16, version: i16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let header =
        RequestHeader { api_key: key, api_version: version, correlation_id: 77, client_id: Some("client") };
    let mut writer = Writer::new();
    header.encode(&mut writer).unwrap();
    body(&mut writer);
    writer.into_bytes()
}

fn produce(version: i16, compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new();
    for number in 0..5u8 {
        builder.append(1000, Some(&[number]), Some(b"some value"));
    }
    let records = builder.seal(compression).unwrap();
    request(api_key::PRODUCE, version, |w| {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&records) }];
        let topic_data = vec![TopicProduceData { name: "t", partition_data, ..TopicProduceData::default() }];
        let it = ProduceRequest { acks: -1, timeout_ms: 0, topic_data, ..ProduceRequest::default() };
        it.encode(w, version).unwrap();
    })
}

fn fetch(version: i16) -> Vec<u8> {
    let topics = vec![FetchTopic {
        topic: "t",
        partitions: vec![FetchPartition { partition_max_bytes: 1000, ..FetchPartition::default() }],
        ..FetchTopic::default()
    }];
    let forgotten = ForgottenTopic { topic: "t", partitions: vec![1], ..ForgottenTopic::default() };
    let it = FetchRequest { topics, forgotten_topics_data: vec![forgotten], ..FetchRequest::default() };
    request(api_key::FETCH, version, |w| it.encode(w, version).unwrap())
}

/// One good request of every API and version.
fn good_requests() -> Vec<Vec<u8>> {
    let compressions =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let mut all: Vec<_> = compressions.into_iter().map(|compression| produce(9, compression)).collect();
    all.extend((3..=13).map(|version| produce(version, Compression::None)));
    all.extend((4..=18).map(fetch));
    all.extend((1..=11).map(|version| {
        let partitions = vec![ListOffsetsPartition { timestamp: 1000, ..ListOffsetsPartition::default() }];
        let topics = vec![ListOffsetsTopic { name: "t", partitions }];
        let it = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 };
        request(api_key::LIST_OFFSETS, version, |w| it.encode(w, version).unwrap())
    }));
    all.extend((0..=13).map(|version| {
        let topics = vec![MetadataRequestTopic { name: Some("t"), topic_id: uuid::Uuid::nil() }];
        let it = MetadataRequest { topics: Some(topics), ..MetadataRequest::default() };
        request(api_key::METADATA, version, |w| it.encode(w, version).unwrap())
    }));
    all.extend((2..=4).map(|version| {
        let partition = OffsetForLeaderPartition { leader_epoch: 0, ..OffsetForLeaderPartition::default() };
        let topics = vec![OffsetForLeaderTopic { topic: "t", partitions: vec![partition] }];
        let it = OffsetForLeaderEpochRequest { replica_id: -1, topics };
        request(api_key::OFFSET_FOR_LEADER_EPOCH, version, |w| it.encode(w, version).unwrap())
    }));
    all.extend(
        (0..=5).map(|version| request(api_key::API_VERSIONS, version, |w| w.raw(&[2, b'a', 2, b'1', 0]))),
    );
    all.push(request(api_key::CREATE_TOPICS, 7, |w| w.raw(&[1, 0, 0, 0, 0, 0, 0])));
    all
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Insert(usize, Vec<u8>),
    /// A length, count or number that somebody may have hoped for.
    Number(usize, i32),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![Just(-1), Just(i32::MIN), Just(i32::MAX), Just(0), Just(0x00ff_ffff), -3..3];
    prop_oneof![
        4 => (any::<usize>(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, it)| Damage::Insert(at, it)),
        2 => (any::<usize>(), number).prop_map(|(at, it)| Damage::Number(at, it)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let length = bytes.len();
    match damage {
        Damage::Flip(at, bits) => bytes[at % length] ^= bits,
        Damage::Cut(at) => bytes.truncate(at % length),
        Damage::Insert(at, new) => drop(bytes.splice(at % length..at % length, new.iter().copied())),
        Damage::Number(at, number) => {
            for (place, byte) in bytes.iter_mut().skip(at % length).zip(number.to_be_bytes()) {
                *place = byte;
            }
        }
    }
}

/// Handles the request; an answer must begin with the correlation id of what the header says.
fn survive(node: &Node, bytes: &[u8]) {
    if let Outcome::Now(response) = node.handle(bytes) {
        let answer = response.into_bytes().unwrap();
        assert_eq!(answer.get(..4), bytes.get(4..8));
    }
    drop(node.broker.control().drain(10));
}

#[test]
fn every_good_request_is_answered() {
    let node = Node::start();
    for bytes in good_requests() {
        match node.handle(&bytes) {
            Outcome::Now(response) => {
                assert_eq!(response.into_bytes().unwrap().get(..4), Some(&77i32.to_be_bytes()[..]));
            }
            Outcome::Later { exclusive } => assert!(exclusive),
            other => assert!(matches!(other, Outcome::NoResponse), "{other:?}"),
        }
    }
    node.check_log();
}

#[test]
fn every_prefix_of_a_good_request_is_survived() {
    let node = Node::start();
    for bytes in good_requests() {
        for end in 0..bytes.len() {
            survive(&node, &bytes[..end]);
        }
    }
    node.check_log();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_requests_are_survived(
        damages in prop::collection::vec((any::<prop::sample::Index>(), prop::collection::vec(damage(), 1..4)), 200)
    ) {
        let node = Node::start();
        let good = good_requests();
        for (which, damages) in damages {
            let mut bytes = which.get(&good).clone();
            damages.iter().for_each(|it| apply(&mut bytes, it));
            survive(&node, &bytes);
        }
        survive(&node, &produce(9, Compression::None));
        node.check_log();
        node.broker.shutdown();
    }

    #[test]
    fn garbage_is_survived(
        key in -1i16..80,
        version in -1i16..15,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let node = Node::start();
        survive(&node, &garbage);
        survive(&node, &request(key, version, |w| w.raw(&garbage)));
        node.check_log();
    }
}
