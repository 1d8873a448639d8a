//! Brokers with data directories, and what a follower does against its leader.

use fastlog_broker::{
    AllowAll, Answer, Assignment, Broker, BrokerConfig, Clock, FetchAnswer, FetchResult, Listener,
    ListenerProtocol, LogManager, OpenPartition, Outcome, Partition, ReplicaChange, Reply, ReplySink,
    RequestContext, Response,
};
use fastlog_log::{Identity, LogConfig, Storage};
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
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use uuid::Uuid;

pub(crate) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);
pub(crate) const ALL: i16 = -1;
const FETCH_VERSION: i16 = 18;
const SECOND_NS: i64 = 1_000_000_000;

/// A clock that the test moves.
#[derive(Default)]
pub(crate) struct TestClock(AtomicI64);

impl TestClock {
    pub(crate) fn pass_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * SECOND_NS, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn monotonic_ns(&self) -> i64 {
        1_000 * SECOND_NS + self.0.load(Ordering::SeqCst)
    }

    fn now(&self) -> Instant {
        Instant::now()
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

/// A request on its way.
pub(crate) struct Sent(Receiver<Answer>, i16);

impl Sent {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.0.recv_timeout(PATIENCE).unwrap() {
            Answer::Response(response) => response.into_bytes().unwrap().to_vec(),
            other => panic!("{other:?}"),
        }
    }

    /// Error and base offset of the only partition.
    pub(crate) fn produced(&self) -> (ErrorCode, i64) {
        let bytes = self.bytes();
        let mut reader = Reader::new(&bytes);
        read_response_header(&mut reader, api_key::PRODUCE, self.1).unwrap();
        let response = ProduceResponse::decode(&mut reader, self.1).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        (ErrorCode(partition.error_code), partition.base_offset)
    }

    pub(crate) fn is_waiting(&self) -> bool {
        self.0.try_recv().is_err()
    }
}

/// Error, high watermark, records, and where the logs part.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: i64,
    pub(crate) values: Vec<(i64, String)>,
    pub(crate) diverging: Option<(i32, i64)>,
}

pub(crate) fn shown(bytes: &[u8]) -> Shown {
    let mut reader = Reader::new(bytes);
    read_response_header(&mut reader, api_key::FETCH, FETCH_VERSION).unwrap();
    let response = FetchResponse::decode(&mut reader, FETCH_VERSION).unwrap();
    if response.error_code != 0 {
        let error = ErrorCode(response.error_code);
        return Shown { error, high_watermark: -1, values: Vec::new(), diverging: None };
    }
    let partition = &response.responses[0].partitions[0];
    let diverging = &partition.diverging_epoch;
    Shown {
        error: ErrorCode(partition.error_code),
        high_watermark: partition.high_watermark,
        values: values(partition.records.unwrap_or_default()),
        diverging: (diverging.end_offset >= 0).then_some((diverging.epoch, diverging.end_offset)),
    }
}

pub(crate) fn values(bytes: &[u8]) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    for batch in batches(bytes).map_while(Result::ok) {
        records(batch, |record| {
            found.push((
                record.offset,
                String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned(),
            ));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    found
}

pub(crate) fn batch(value: &str) -> Vec<u8> {
    batch_of_epoch(value, -1)
}

fn batch_of_epoch(value: &str, leader_epoch: i32) -> Vec<u8> {
    let mut builder = Builder::new().leader_epoch(leader_epoch);
    builder.append(NOW_MS, None, Some(value.as_bytes()));
    builder.seal(Compression::None).unwrap()
}

/// A broker.
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) broker: Arc<Broker>,
    pub(crate) logs: LogManager,
    pub(crate) clock: Arc<TestClock>,
}

impl Node {
    pub(crate) fn start(id: i32, path: &Path) -> Self {
        let clock = Arc::new(TestClock::default());
        let rack = Some(rack(id));
        let config = BrokerConfig { node_id: id, rack, rack_aware: true, ..BrokerConfig::default() };
        let broker = Broker::new(config, Arc::new(AllowAll), clock.clone()).unwrap();
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: id };
        let logs = LogManager::open(broker.clone(), vec![Storage::real(path)], &identity).unwrap();
        broker.set_broker_epochs((1..=3).map(|id| (id, broker_epoch(id))).collect());
        Self { id, broker, logs, clock }
    }

    /// As a kill -9 leaves it.
    pub(crate) fn kill(self) {
        self.broker.shutdown();
    }

    pub(crate) fn change(&self, leader: i32, leader_epoch: i32, isr: &[i32]) -> Result<(), ErrorCode> {
        self.change_held(leader, leader_epoch, isr, None)
    }

    pub(crate) fn change_held(
        &self,
        leader: i32,
        leader_epoch: i32,
        isr: &[i32],
        held: Option<bool>,
    ) -> Result<(), ErrorCode> {
        let partition = OpenPartition {
            topic: "t".into(),
            topic_id: TOPIC_ID,
            index: 0,
            leader_epoch,
            config: Arc::new(LogConfig::default()),
            min_insync_replicas: 2,
        };
        let to = Assignment {
            leader,
            leader_epoch,
            partition_epoch: leader_epoch,
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            held,
        };
        let change = ReplicaChange { partition, to };
        self.logs.change_replicas(&[change], NOW_MS).remove(0).map_err(|error| error.code)
    }

    pub(crate) fn partition(&self) -> Arc<Partition> {
        self.broker.partitions().get("t", 0).unwrap()
    }

    /// Log start, high watermark, log end.
    pub(crate) fn offsets(&self) -> (i64, i64, i64) {
        let partition = self.partition();
        let log = partition.log();
        (log.log_start_offset(), log.high_watermark(), log.log_end_offset())
    }

    /// All that the log holds.
    pub(crate) fn records(&self) -> Vec<(i64, String)> {
        let partition = self.partition();
        let (log, mut found) = (partition.log(), Vec::new());
        let mut offset = log.log_start_offset();
        while let Some(slice) = log.read(offset, 1 << 20, i64::MAX, true).unwrap() {
            let mut bytes = vec![0; slice.length];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            found.extend(values(&bytes));
            offset = found.last().map_or(offset, |it: &(i64, String)| it.0 + 1);
        }
        found
    }

    pub(crate) fn produce(&self, acks: i16, value: &str) -> Sent {
        self.produce_batch(acks, &batch(value), true)
    }

    /// A batch that names a leader epoch, as the broker's own do.
    pub(crate) fn produce_in(&self, leader_epoch: i32, value: &str, inter_broker: bool) -> Sent {
        self.produce_batch(1, &batch_of_epoch(value, leader_epoch), inter_broker)
    }

    /// A batch of an idempotent producer.
    pub(crate) fn produce_sequence(&self, acks: i16, base_sequence: i32) -> Sent {
        let mut builder = Builder::new().producer(7, 0, base_sequence);
        builder.append(NOW_MS, None, Some(b"value"));
        self.produce_batch(acks, &builder.seal(Compression::None).unwrap(), false)
    }

    fn produce_batch(&self, acks: i16, records: &[u8], inter_broker: bool) -> Sent {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
        let topic_data = vec![TopicProduceData { name: "t", partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks, timeout_ms: 60_000, topic_data, ..ProduceRequest::default() };
        self.send(api_key::PRODUCE, 9, inter_broker, |writer| request.encode(writer, 9).unwrap())
    }

    /// Appends as acks=1 does.
    pub(crate) fn write(&self, value: &str) -> i64 {
        let (error, offset) = self.produce(1, value).produced();
        assert_eq!(error, ErrorCode::NONE);
        offset
    }

    pub(crate) fn latest(&self) -> (ErrorCode, i64) {
        let asked = ListOffsetsPartition {
            timestamp: -1,
            current_leader_epoch: -1,
            ..ListOffsetsPartition::default()
        };
        let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![asked] }];
        let request = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 };
        let sent = self.send(api_key::LIST_OFFSETS, 5, true, |writer| request.encode(writer, 5).unwrap());
        let bytes = sent.bytes();
        let mut reader = Reader::new(&bytes);
        read_response_header(&mut reader, api_key::LIST_OFFSETS, 5).unwrap();
        let response = ListOffsetsResponse::decode(&mut reader, 5).unwrap();
        let partition = &response.topics[0].partitions[0];
        (ErrorCode(partition.error_code), partition.offset)
    }

    /// A fetch; replica -1 is a consumer.
    pub(crate) fn fetch(
        &self,
        replica_id: i32,
        wanted: FetchPartition,
        max_wait_ms: i32,
        inter_broker: bool,
    ) -> Sent {
        let topics = vec![FetchTopic { topic: "", topic_id: TOPIC_ID, partitions: vec![wanted] }];
        let replica_epoch = if replica_id < 0 { -1 } else { broker_epoch(replica_id) };
        let request = FetchRequest {
            replica_state: ReplicaState { replica_id, replica_epoch },
            max_wait_ms,
            min_bytes: 1,
            max_bytes: 1 << 20,
            session_epoch: -1,
            topics,
            ..FetchRequest::default()
        };
        self.send(api_key::FETCH, FETCH_VERSION, inter_broker, |writer| {
            request.encode(writer, FETCH_VERSION).unwrap();
        })
    }

    pub(crate) fn consume(&self, fetch_offset: i64) -> Shown {
        let wanted =
            FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        shown(&self.fetch(-1, wanted, 0, false).bytes())
    }

    /// What this follower asks its leader for.
    pub(crate) fn asks(&self) -> FetchPartition {
        let partition = self.partition();
        let position = partition.follower_position();
        FetchPartition {
            partition: 0,
            current_leader_epoch: partition.leader_epoch(),
            fetch_offset: position.log_end_offset,
            last_fetched_epoch: position.last_epoch,
            log_start_offset: partition.log().log_start_offset(),
            partition_max_bytes: 1 << 20,
            high_watermark: partition.log().high_watermark(),
            ..FetchPartition::default()
        }
    }

    /// One round of following: fetch, and do what the answer says.
    pub(crate) fn follow(&self, leader: &Node) -> FetchResult {
        let asked = self.asks();
        let (epoch, offset) = (asked.current_leader_epoch, asked.fetch_offset);
        let answer = leader.fetch(self.id, asked, 0, true).bytes();
        let result = self.take(&answer, epoch, offset);
        match &result {
            FetchResult::Diverging(leaders_epoch, leaders_end) => {
                let (known, end) = self.partition().end_offset_for(*leaders_epoch).unwrap();
                let to = if known == *leaders_epoch { end.min(*leaders_end) } else { end.max(0) };
                self.logs.truncate("t", 0, epoch, to, NOW_MS).unwrap();
            }
            FetchResult::Failed(ErrorCode::OFFSET_OUT_OF_RANGE, _) => {
                let (start, _, end) = leader.offsets();
                if offset < start {
                    self.logs.restart_at("t", 0, epoch, start, NOW_MS).unwrap();
                } else {
                    self.logs.truncate("t", 0, epoch, end, NOW_MS).unwrap();
                }
            }
            _ => {}
        }
        result
    }

    pub(crate) fn take(&self, answer: &[u8], leader_epoch: i32, fetch_offset: i64) -> FetchResult {
        let asked = [((TOPIC_ID, 0), (leader_epoch, fetch_offset))].into();
        let answer = FetchAnswer::parse(answer, FETCH_VERSION).unwrap();
        self.logs.append_fetched(&answer, &asked, NOW_MS).remove(0).2
    }

    /// Follows until there is nothing new.
    pub(crate) fn catch_up(&self, leader: &Node) {
        for _ in 0..100 {
            let before = (self.offsets(), self.asks().last_fetched_epoch);
            let result = self.follow(leader);
            let is_quiet = before == (self.offsets(), self.asks().last_fetched_epoch);
            if is_quiet && matches!(result, FetchResult::Appended(_)) {
                return;
            }
        }
        panic!("no end of following: {:?}", self.offsets());
    }

    pub(crate) fn send(
        &self,
        api_key: i16,
        api_version: i16,
        inter_broker: bool,
        body: impl FnOnce(&mut Writer),
    ) -> Sent {
        let header = RequestHeader { api_key, api_version, correlation_id: 1, client_id: Some("test") };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        body(&mut writer);
        let listener = Listener {
            name: "BROKERS".to_owned(),
            protocol: ListenerProtocol::Plaintext,
            inter_broker,
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
        let (answers, receiver) = channel();
        let mut reply = || Reply::new(Box::new(ToChannel(answers.clone())));
        match self.broker.handle(&context, &writer.into_bytes(), &mut reply) {
            Outcome::Now(response) => answers.send(Answer::Response(response)).unwrap(),
            Outcome::Later { .. } => {}
            Outcome::NoResponse => answers.send(Answer::Response(Response::default())).unwrap(),
            Outcome::Close(reason) => panic!("{reason}"),
        }
        Sent(receiver, api_version)
    }
}

/// Broker 1 is in rack 1, and so on.
pub(crate) fn rack(id: i32) -> String {
    format!("rack-{id}")
}

pub(crate) fn broker_epoch(id: i32) -> i64 {
    i64::from(id) * 10
}

/// Three brokers; 1 leads in epoch 0, all are in sync.
pub(crate) struct Trio {
    pub(crate) nodes: [Node; 3],
    pub(crate) directories: [tempfile::TempDir; 3],
}

impl Trio {
    pub(crate) fn start() -> Self {
        let directories = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let nodes = [1, 2, 3].map(|id: i32| Node::start(id, directories[id as usize - 1].path()));
        let trio = Self { nodes, directories };
        trio.elect(1, 0, &[1, 2, 3]);
        trio
    }

    pub(crate) fn elect(&self, leader: i32, leader_epoch: i32, isr: &[i32]) {
        for node in &self.nodes {
            node.change(leader, leader_epoch, isr).unwrap();
        }
    }
}
