//! A rough look at what the server can do on this machine, client and broker in one process:
//! `cargo run --profile quick -p fastlog-server --example throughput [DIRECTORY] [ping|produce|fetch|poll]`.
//!
//! CPU seconds are those of the broker's threads alone. For claims use `fastlog bench`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failure should stop the measurement")]

use fastlog_broker::{
    AllowAll, Broker, BrokerConfig, Image, ImageBroker, ListenerProtocol, PartitionSettings, Replication,
    SystemClock,
};
use fastlog_log::{LastStop, Log, LogOptions, Storage};
use fastlog_protocol::api_key;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use fastlog_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use fastlog_protocol::primitives::Writer;
use fastlog_server::{ListenerConfig, Server, ServerConfig};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let directory = base.join(format!("fastlog-throughput-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let broker = Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock)).unwrap();
    let mut image = Image::default();
    image.brokers = vec![ImageBroker { id: 1, ..ImageBroker::default() }];
    broker.image().publish(image);
    let config = ServerConfig { io_threads: 1, ..ServerConfig::default() };
    let server = Server::start(broker.clone(), config).unwrap();
    let listener = ListenerConfig {
        name: "PLAINTEXT".to_owned(),
        protocol: ListenerProtocol::Plaintext,
        host: "127.0.0.1".to_owned(),
        port: 0,
        inter_broker: false,
    };
    let address = server.listen(&listener).unwrap();
    let storage = Storage::real(&directory);
    for topic in ["small", "large", "ping"] {
        let (log, _) = Log::open(&storage, LogOptions::new(topic, 0, LastStop::Clean), 0).unwrap();
        let settings = PartitionSettings {
            topic: topic.into(),
            topic_id: uuid::Uuid::nil(),
            index: 0,
            leader_epoch: 0,
            replication: Replication::single(1, 1),
        };
        broker.add_partition(settings, log).unwrap();
    }
    let only = std::env::args().nth(2);
    let wanted = |part: &str| only.as_deref().is_none_or(|it| it == part);
    if wanted("ping") {
        ping(address, 1);
        ping(address, 16);
    }
    if wanted("produce") || wanted("fetch") {
        produce(address, "small", 64 << 10, 10_000);
        produce(address, "large", 1 << 20, 600);
    }
    if wanted("fetch") {
        fetch(address, "small");
        fetch(address, "large");
    }
    if wanted("poll") {
        round_trips(address);
    }
    server.shutdown(Duration::from_secs(1));
    broker.shutdown();
    std::fs::remove_dir_all(directory).unwrap();
}

fn report(what: &str, count: u64, bytes: u64, begun: Instant, cpu_before: f64) {
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), server_cpu_seconds() - cpu_before);
    let rate = count as f64 / seconds;
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{what:<34} {rate:>10.0}/s {:>7.2} GB/s {:>7.3} CPU-s/GB {:>8.2} CPU-µs each",
        gigabytes / seconds,
        if bytes > 0 { cpu / gigabytes } else { 0.0 },
        cpu * 1e6 / count as f64
    );
}

/// CPU time of the I/O threads, by their names.
fn server_cpu_seconds() -> f64 {
    let mut nanoseconds = 0u64;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        // another thread may end between the listing and the look at it
        if read("comm").starts_with("fastlog-io") {
            nanoseconds += read("schedstat").split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    nanoseconds as f64 / 1e9
}

fn frame(key: i16, version: i16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i32(0);
    let header =
        RequestHeader { api_key: key, api_version: version, correlation_id: 1, client_id: Some("bench") };
    header.encode(&mut writer).unwrap();
    body(&mut writer);
    let mut bytes = writer.into_bytes();
    let length = i32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// Reads one answer away; its length.
fn skip_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> usize {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).unwrap();
    let length = usize::try_from(i32::from_be_bytes(prefix)).unwrap();
    let mut left = length;
    while left > 0 {
        let limit = left.min(buffer.len());
        left -= stream.read(&mut buffer[..limit]).unwrap();
    }
    length
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn ping(address: SocketAddr, depth: usize) {
    let mut stream = connect(address);
    let mut buffer = vec![0; 64 << 10];
    let frames = frame(api_key::API_VERSIONS, 0, |_| {}).repeat(depth);
    let rounds = 200_000 / depth;
    let (begun, cpu) = (Instant::now(), server_cpu_seconds());
    for _ in 0..rounds {
        stream.write_all(&frames).unwrap();
        for _ in 0..depth {
            skip_answer(&mut stream, &mut buffer);
        }
    }
    report(&format!("ping, depth {depth}"), (rounds * depth) as u64, 0, begun, cpu);
}

fn produce_frame(topic: &str, size: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    let mut records = 0;
    while records + 200 < size {
        builder.append(1000, None, Some(&[b'x'; 100]));
        records += 112;
    }
    let batch = builder.seal(Compression::None).unwrap();
    frame(api_key::PRODUCE, 9, |w| {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&batch) }];
        let topic_data =
            vec![TopicProduceData { name: topic, partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..ProduceRequest::default() };
        request.encode(w, 9).unwrap();
    })
}

fn produce(address: SocketAddr, topic: &str, size: usize, count: u64) {
    let bytes = produce_frame(topic, size);
    let mut stream = connect(address);
    let mut reader = stream.try_clone().unwrap();
    let (begun, cpu) = (Instant::now(), server_cpu_seconds());
    std::thread::scope(|scope| {
        let (permits, taken) = std::sync::mpsc::sync_channel::<()>(5);
        scope.spawn(move || {
            let mut buffer = vec![0; 4096];
            for _ in 0..count {
                skip_answer(&mut reader, &mut buffer);
                taken.recv().unwrap();
            }
        });
        for _ in 0..count {
            permits.send(()).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    });
    let what = format!("produce {} KiB, 5 in flight", size >> 10);
    report(&what, count, count * bytes.len() as u64, begun, cpu);
}

fn fetch_frame(topic: &str, fetch_offset: i64, max_wait_ms: i32) -> Vec<u8> {
    frame(api_key::FETCH, 12, |w| {
        let partition =
            FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
        let topics = vec![FetchTopic { topic, partitions: vec![partition], ..FetchTopic::default() }];
        let request = FetchRequest { max_wait_ms, min_bytes: 1, topics, ..FetchRequest::default() };
        request.encode(w, 12).unwrap();
    })
}

/// Fetches the first MiB again and again.
fn fetch(address: SocketAddr, topic: &str) {
    let frame = fetch_frame(topic, 0, 0);
    let mut stream = connect(address);
    let mut buffer = vec![0; 1 << 20];
    let (begun, cpu) = (Instant::now(), server_cpu_seconds());
    let mut bytes = 0;
    let count = 4000;
    stream.write_all(&frame).unwrap();
    for _ in 0..count {
        stream.write_all(&frame).unwrap();
        bytes += skip_answer(&mut stream, &mut buffer) as u64;
    }
    report(&format!("fetch 1 MiB of {topic} batches"), count, bytes, begun, cpu);
}

/// One record in, one record out by a long poll.
fn round_trips(address: SocketAddr) {
    let (mut producer, mut consumer) = (connect(address), connect(address));
    let bytes = produce_frame("ping", 300);
    let mut buffer = vec![0; 64 << 10];
    let count = 20_000;
    let cpu = server_cpu_seconds();
    let begun = Instant::now();
    let mut times: Vec<_> = (0..count)
        .map(|offset| {
            consumer.write_all(&fetch_frame("ping", offset, 10_000)).unwrap();
            let begun = Instant::now();
            producer.write_all(&bytes).unwrap();
            skip_answer(&mut consumer, &mut buffer);
            skip_answer(&mut producer, &mut buffer);
            begun.elapsed()
        })
        .collect();
    report("produce → long poll, depth 1", u64::try_from(count).unwrap(), 0, begun, cpu);
    times.sort();
    println!("{:<34} p50 {:?} p99 {:?}", "", times[times.len() / 2], times[times.len() * 99 / 100]);
}
