//! A broker on a temporary directory, and a client that is nothing but a socket.

use fastlog_broker::{
    AllowAll, Broker, BrokerConfig, Event, Image, ImageBroker, ImagePartition, ImageTopic, ListenerProtocol,
    Partition, PartitionSettings, Replication, SystemClock,
};
use fastlog_log::{LastStop, Log, LogConfig, LogOptions, Storage};
use fastlog_protocol::api_key;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::{RequestHeader, read_response_header};
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use fastlog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use fastlog_protocol::primitives::{ProtocolError, Reader, Writer};
use fastlog_server::{ListenerConfig, Server, ServerConfig};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A wait that a test expects to be cut short.
pub(crate) const LONG_MS: i32 = 60_000;

pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    pub(crate) server: Server,
    pub(crate) address: SocketAddr,
    pub(crate) storage: Arc<Storage>,
    directory: TempDir,
}

impl Node {
    pub(crate) fn start() -> Self {
        Self::start_with(BrokerConfig::default(), test_server_config())
    }

    pub(crate) fn start_with(config: BrokerConfig, server_config: ServerConfig) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config, server_config)
    }

    pub(crate) fn start_in(directory: TempDir, config: BrokerConfig, server_config: ServerConfig) -> Self {
        let broker = Broker::new(config, Arc::new(AllowAll), Arc::new(SystemClock)).unwrap();
        let mut image = Image::default();
        image.cluster_id = "test-cluster".to_owned();
        image.controller_id = 1;
        image.brokers = vec![ImageBroker { id: 1, ..ImageBroker::default() }];
        broker.image().publish(image);
        let server = Server::start(broker.clone(), server_config).unwrap();
        let address = server.listen(&listener("PLAINTEXT", false)).unwrap();
        let storage = Storage::real(directory.path());
        Self { broker, server, address, storage, directory }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Creates a topic of one partition with the default settings.
    pub(crate) fn topic(&self, name: &str) -> Arc<Partition> {
        self.topic_with(name, 1, LogConfig::default()).remove(0)
    }

    pub(crate) fn topic_with(&self, name: &str, partitions: i32, config: LogConfig) -> Vec<Arc<Partition>> {
        let config = Arc::new(config);
        let id = Uuid::from_u128(u128::from(name.bytes().map(u64::from).sum::<u64>()) + 1);
        let opened = (0..partitions).map(|index| {
            let options = LogOptions {
                topic_id: Some(id),
                config: config.clone(),
                ..LogOptions::new(name, index, LastStop::Clean)
            };
            let (log, _) = Log::open(&self.storage, options, 0).unwrap();
            let settings = PartitionSettings {
                topic: name.into(),
                topic_id: id,
                index,
                leader_epoch: 0,
                replication: Replication::single(1, 1),
            };
            self.broker.add_partition(settings, log).unwrap()
        });
        let opened = opened.collect();
        let described = (0..partitions).map(|index| ImagePartition {
            index,
            leader_id: 1,
            leader_epoch: 0,
            replicas: [1].into(),
            isr: [1].into(),
        });
        let partitions = described.collect();
        self.broker.image().update(|image| {
            image.put_topic(ImageTopic { name: name.into(), id, is_internal: false, partitions });
        });
        opened
    }

    /// Waits for a log line with the text in one of its fields.
    pub(crate) fn expect_event(&self, text: &str) -> Event {
        let mut seen = Vec::new();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let (events, _) = self.broker.events().drain();
            for event in events {
                if event.message.contains(text) || event.fields.iter().any(|(_, value)| value.contains(text))
                {
                    return event;
                }
                seen.push(event);
            }
            std::thread::yield_now();
        }
        panic!("no event says {text:?}, only {seen:?}");
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.directory.path()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.broker.finish_waiting();
        self.server.shutdown(Duration::ZERO);
        self.broker.shutdown();
    }
}

pub(crate) fn test_server_config() -> ServerConfig {
    ServerConfig { io_threads: 2, ..ServerConfig::default() }
}

pub(crate) fn listener(name: &str, inter_broker: bool) -> ListenerConfig {
    ListenerConfig {
        name: name.to_owned(),
        protocol: ListenerProtocol::Plaintext,
        host: "127.0.0.1".to_owned(),
        port: 0,
        inter_broker,
    }
}

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, correlation_id: 0 }
    }

    /// A whole frame with its prefix; the correlation id is the next one.
    pub(crate) fn frame(&mut self, key: i16, version: i16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some("test"),
        };
        let mut writer = Writer::new();
        header.encode(&mut writer).unwrap();
        body(&mut writer);
        prefixed(&writer.into_bytes())
    }

    pub(crate) fn send(&mut self, key: i16, version: i16, body: impl FnOnce(&mut Writer)) -> i32 {
        let frame = self.frame(key, version, body);
        self.stream.write_all(&frame).unwrap();
        self.correlation_id
    }

    /// One frame without its prefix.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).unwrap();
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(prefix)).unwrap()];
        self.stream.read_exact(&mut frame).unwrap();
        frame
    }

    /// The body of the answer, after its header, whose correlation id is returned.
    pub(crate) fn answer(&mut self, key: i16, version: i16) -> (i32, Vec<u8>) {
        let frame = self.receive();
        let mut reader = Reader::new(&frame);
        let correlation_id = read_response_header(&mut reader, key, version).unwrap();
        (correlation_id, reader.rest().to_vec())
    }

    pub(crate) fn call(&mut self, key: i16, version: i16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let sent = self.send(key, version, body);
        let (correlation_id, body) = self.answer(key, version);
        assert_eq!(correlation_id, sent);
        body
    }

    /// Fails unless the broker closes the connection without sending anything more.
    pub(crate) fn expect_close(&mut self) {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => {}
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
            other => panic!("the connection is open: {other:?}"),
        }
    }

    /// Another client on the same connection.
    pub(crate) fn twin(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), correlation_id: self.correlation_id }
    }

    /// Ends the connection so that the broker hears of it at once.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// A request whose answer is not read.
    pub(crate) fn ping_later(&mut self) {
        self.send(api_key::API_VERSIONS, 0, |_| {});
    }

    /// Half a request.
    pub(crate) fn ping_half(&mut self) {
        let frame = self.frame(api_key::API_VERSIONS, 0, |_| {});
        self.stream.write_all(&frame[..frame.len() / 2]).unwrap();
    }

    /// A small request that any living connection answers.
    pub(crate) fn ping(&mut self) {
        assert_eq!(self.call(api_key::API_VERSIONS, 0, |_| {}).get(..2), Some(&[0, 0][..]));
    }

    /// Produces one batch to partition 0; the error and the base offset.
    pub(crate) fn produce(&mut self, topic: &str, batch: &[u8]) -> (i16, i64) {
        let body = self.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, topic, 0, Some(batch), -1));
        decode(&body, 9, ProduceResponse::decode, |response| {
            let partition = &response.responses[0].partition_responses[0];
            (partition.error_code, partition.base_offset)
        })
    }
}

pub(crate) fn prefixed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(frame.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(frame);
    bytes
}

/// Decodes a whole body and looks at the message.
pub(crate) fn decode<'a, M, T>(
    body: &'a [u8],
    version: i16,
    read: impl FnOnce(&mut Reader<'a>, i16) -> Result<M, ProtocolError>,
    look: impl FnOnce(M) -> T,
) -> T {
    let mut reader = Reader::new(body);
    let message = read(&mut reader, version).unwrap();
    reader.expect_end().unwrap();
    look(message)
}

pub(crate) fn produce_body(
    w: &mut Writer,
    version: i16,
    topic: &str,
    index: i32,
    records: Option<&[u8]>,
    acks: i16,
) {
    let partition_data = vec![PartitionProduceData { index, records }];
    let topic_data = vec![TopicProduceData { name: topic, partition_data, ..TopicProduceData::default() }];
    let request = ProduceRequest { acks, timeout_ms: 30_000, topic_data, ..ProduceRequest::default() };
    request.encode(w, version).unwrap();
}

/// A fetch of one partition from an offset, which waits for one byte for very long.
pub(crate) fn fetch_request(topic: &str, offset: i64) -> FetchRequest<'_> {
    FetchRequest {
        max_wait_ms: LONG_MS,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic,
            partitions: vec![fetch_partition(0, offset)],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

pub(crate) fn fetch_partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() }
}

/// What a fetch answered for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) topic: String,
    pub(crate) index: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
    pub(crate) diverging: (i32, i64),
    pub(crate) records: Vec<u8>,
}

/// The error and the session id of the whole answer, and its partitions.
pub(crate) fn fetched(body: &[u8], version: i16) -> (i16, i32, Vec<Fetched>) {
    decode(body, version, FetchResponse::decode, |response| {
        let partitions = response.responses.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Fetched {
                topic: topic.topic.to_owned(),
                index: partition.partition_index,
                error: partition.error_code,
                high_watermark: partition.high_watermark,
                log_start_offset: partition.log_start_offset,
                diverging: (partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset),
                records: partition.records.unwrap_or_default().to_vec(),
            })
        });
        (response.error_code, response.session_id, partitions.collect())
    })
}

/// Fetches and expects one partition without an error for the whole request.
pub(crate) fn fetch_one(client: &mut Client, version: i16, request: &FetchRequest<'_>) -> Fetched {
    let body = client.call(api_key::FETCH, version, |w| request.encode(w, version).unwrap());
    let (error, _, mut partitions) = fetched(&body, version);
    assert_eq!((error, partitions.len()), (0, 1));
    partitions.remove(0)
}

/// A batch of records with the values, each with time 1000.
pub(crate) fn batch(values: &[&[u8]]) -> Vec<u8> {
    compressed(values, Compression::None)
}

pub(crate) fn compressed(values: &[&[u8]], compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new();
    for value in values {
        builder.append(1000, None, Some(value));
    }
    builder.seal(compression).unwrap()
}
