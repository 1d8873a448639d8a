//! A broker on a file system in memory, and its requests without sockets.

use fastlog_broker::{
    AllowAll, Answer, Broker, BrokerConfig, Listener, ListenerProtocol, Outcome, Partition,
    PartitionSettings, Replication, Reply, ReplySink, RequestContext, Response, SystemClock,
};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{Durability, LastStop, Log, LogConfig, LogError, LogOptions, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::batch::{Builder, batches, records};
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::{RequestHeader, read_response_header};
use fastlog_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ReplicaState,
};
use fastlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use fastlog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use fastlog_protocol::primitives::{Reader, Writer};
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const CONSUMER: i32 = -1;
pub(crate) const FOLLOWER: i32 = 2;
const LONG_MS: i32 = 60_000;
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 17;
const FOLLOWERS_EPOCH: i64 = 70;
const LIST_OFFSETS_VERSION: i16 = 5;

pub(crate) fn fsync() -> LogConfig {
    LogConfig { durability: Durability::Fsync, segment_bytes: 1500, ..LogConfig::default() }
}

pub(crate) fn os() -> LogConfig {
    LogConfig { durability: Durability::Os, ..fsync() }
}

/// An id that no other name here has.
fn topic_id(topic: &str) -> uuid::Uuid {
    uuid::Uuid::from_u128(topic.bytes().fold(1, |id, byte| id * 257 + u128::from(byte)))
}

pub(crate) fn value(value: &str) -> Vec<u8> {
    seal(Builder::new(), value)
}

pub(crate) fn idempotent(producer_id: i64, sequence: i32, value: &str) -> Vec<u8> {
    seal(Builder::new().producer(producer_id, 0, sequence), value)
}

fn seal(mut builder: Builder, value: &str) -> Vec<u8> {
    builder.append(NOW_MS, None, Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come true");
        std::thread::yield_now();
    }
}

struct ToChannel(Sender<Answer>);

impl ReplySink for ToChannel {
    fn answer(&mut self, answer: Answer) {
        let _nobody_waits_any_more = self.0.send(answer);
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// A produce request on its way.
pub(crate) struct Sent(Receiver<Answer>);

/// Error and base offset.
pub(crate) type Produced = (ErrorCode, i64);

impl Sent {
    pub(crate) fn is_waiting(&self) -> bool {
        // an answer that is there is put back by nobody: tests ask this of those that have none
        matches!(self.0.try_recv(), Err(TryRecvError::Empty))
    }

    /// The answer for the only partition.
    pub(crate) fn answer(&self) -> Produced {
        produced(self.0.recv_timeout(PATIENCE).unwrap())
    }

    /// The answer, if there is one by now.
    pub(crate) fn try_answer(&self) -> Option<Produced> {
        self.0.try_recv().ok().map(produced)
    }
}

fn produced(answer: Answer) -> Produced {
    let Answer::Response(response) = answer else { panic!("no answer: {answer:?}") };
    read(response, api_key::PRODUCE, PRODUCE_VERSION, |reader| {
        let response = ProduceResponse::decode(reader, PRODUCE_VERSION).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        (ErrorCode(partition.error_code), partition.base_offset)
    })
    .unwrap()
}

/// None when the files that it is made of do not read: then the client gets nothing.
fn read<T>(response: Response, key: i16, version: i16, look: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
    let bytes = response.into_bytes().ok()?;
    let mut reader = Reader::new(&bytes);
    read_response_header(&mut reader, key, version).unwrap();
    Some(look(&mut reader))
}

/// What a fetch showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: i64,
    pub(crate) values: Vec<(i64, String)>,
}

pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) files: MemoryFileSystem,
    storage: Arc<Storage>,
}

impl Node {
    pub(crate) fn start(files: &MemoryFileSystem) -> Self {
        Self::start_with(files, BrokerConfig::default())
    }

    pub(crate) fn start_with(files: &MemoryFileSystem, config: BrokerConfig) -> Self {
        let broker = Broker::new(config, Arc::new(AllowAll), Arc::new(SystemClock)).unwrap();
        let storage = Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), 64);
        Self { broker, files: files.clone(), storage }
    }

    /// Opens partition 0 of a topic as after `last_stop`, with nothing but what the files say.
    pub(crate) fn open(
        &self,
        topic: &str,
        config: LogConfig,
        last_stop: LastStop,
    ) -> Result<Arc<Partition>, LogError> {
        let options = LogOptions { config: Arc::new(config), ..LogOptions::new(topic, 0, last_stop) };
        let (log, report) = Log::open(&self.storage, options, NOW_MS)?;
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        let settings = PartitionSettings {
            topic: topic.into(),
            topic_id: topic_id(topic),
            index: 0,
            leader_epoch: 0,
            replication: Replication::new(1, vec![1, FOLLOWER], vec![1], 1),
        };
        self.broker.add_partition(settings, log)
    }

    pub(crate) fn topic(&self, topic: &str, config: LogConfig) -> Arc<Partition> {
        self.open(topic, config, LastStop::Clean).unwrap()
    }

    pub(crate) fn produce(&self, topic: &str, acks: i16, batch: &[u8]) -> Sent {
        self.produce_within(topic, acks, batch, LONG_MS)
    }

    /// Never waits, whatever the disk does.
    pub(crate) fn produce_within(&self, topic: &str, acks: i16, batch: &[u8], timeout_ms: i32) -> Sent {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(batch) }];
        let topic_data =
            vec![TopicProduceData { name: topic, partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks, timeout_ms, topic_data, ..ProduceRequest::default() };
        let (sender, receiver) = channel();
        let outcome = self.handle(api_key::PRODUCE, PRODUCE_VERSION, sender.clone(), |writer| {
            request.encode(writer, PRODUCE_VERSION).unwrap();
        });
        match outcome {
            Outcome::Now(response) => sender.send(Answer::Response(response)).unwrap(),
            Outcome::Close(reason) => sender.send(Answer::Close(reason)).unwrap(),
            Outcome::NoResponse => sender.send(Answer::Nothing).unwrap(),
            Outcome::Later { .. } => {}
        }
        Sent(receiver)
    }

    /// What a consumer is shown from an offset on.
    pub(crate) fn consume(&self, topic: &str, offset: i64) -> Shown {
        self.fetch(topic, offset, CONSUMER).unwrap()
    }

    /// What another broker is shown from an offset on.
    pub(crate) fn follow(&self, topic: &str, offset: i64) -> Shown {
        self.fetch(topic, offset, FOLLOWER).unwrap()
    }

    /// What is shown from an offset on; None when the files do not read.
    pub(crate) fn fetch(&self, topic: &str, fetch_offset: i64, replica_id: i32) -> Option<Shown> {
        let partition = FetchPartition {
            fetch_offset,
            partition_max_bytes: 1 << 20,
            current_leader_epoch: 0,
            ..FetchPartition::default()
        };
        let topics = vec![FetchTopic { topic, topic_id: topic_id(topic), partitions: vec![partition] }];
        let request = FetchRequest {
            replica_state: ReplicaState { replica_id, replica_epoch: FOLLOWERS_EPOCH },
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics,
            ..FetchRequest::default()
        };
        self.broker.set_broker_epochs([(FOLLOWER, FOLLOWERS_EPOCH)].into());
        let outcome = self.handle(api_key::FETCH, FETCH_VERSION, channel().0, |writer| {
            request.encode(writer, FETCH_VERSION).unwrap();
        });
        // it is not about to join, so nothing waits for it
        self.broker.set_broker_epochs(HashMap::new());
        let Outcome::Now(response) = outcome else { panic!("{outcome:?}") };
        read(response, api_key::FETCH, FETCH_VERSION, |reader| {
            let response = FetchResponse::decode(reader, FETCH_VERSION).unwrap();
            let partition = &response.responses[0].partitions[0];
            Shown {
                error: ErrorCode(partition.error_code),
                high_watermark: partition.high_watermark,
                values: values(partition.records.unwrap_or_default(), fetch_offset),
            }
        })
    }

    /// The end of a topic, as clients ask for it.
    pub(crate) fn latest(&self, topic: &str) -> i64 {
        let asked = ListOffsetsPartition {
            timestamp: -1,
            current_leader_epoch: -1,
            ..ListOffsetsPartition::default()
        };
        let topics = vec![ListOffsetsTopic { name: topic, partitions: vec![asked] }];
        let request = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 };
        let outcome = self.handle(api_key::LIST_OFFSETS, LIST_OFFSETS_VERSION, channel().0, |writer| {
            request.encode(writer, LIST_OFFSETS_VERSION).unwrap();
        });
        let Outcome::Now(response) = outcome else { panic!("{outcome:?}") };
        read(response, api_key::LIST_OFFSETS, LIST_OFFSETS_VERSION, |reader| {
            ListOffsetsResponse::decode(reader, LIST_OFFSETS_VERSION).unwrap().topics[0].partitions[0].offset
        })
        .unwrap()
    }

    fn handle(
        &self,
        api_key: i16,
        api_version: i16,
        answers: Sender<Answer>,
        body: impl FnOnce(&mut Writer),
    ) -> Outcome {
        let header = RequestHeader { api_key, api_version, correlation_id: 1, client_id: Some("test") };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        body(&mut writer);
        let listener = Listener {
            name: "PLAINTEXT".to_owned(),
            protocol: ListenerProtocol::Plaintext,
            inter_broker: true,
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
        let mut reply = || Reply::new(Box::new(ToChannel(answers.clone())));
        self.broker.handle(&context, &writer.into_bytes(), &mut reply)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // a test that failed in between must not wait for what it held up
        self.files.stop_holding();
    }
}

/// Offsets and values of whole batches, from an offset on.
fn values(bytes: &[u8], from: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in batches(bytes).map_while(Result::ok) {
        records(batch, |record| {
            if record.offset >= from {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                found.push((record.offset, value));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}
