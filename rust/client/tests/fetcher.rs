//! The fetcher's threads against a scripted broker on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test; helpers count as production code"
)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fastlog_client::{BrokerAddress, Event, FetchOptions, Fetcher, Next, Target};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::{RequestHeader, write_response_header};
use fastlog_protocol::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use fastlog_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use fastlog_protocol::primitives::{Reader, Writer};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(10);
const API_VERSIONS: i16 = 18;

/// What the broker does with a fetch: the partition answers for (topic, partition, offset), or ends the connection.
type Script = dyn Fn(&FetchRequest<'_>) -> Option<FetchResponse<'static>> + Send + Sync;

struct Broker {
    port: u16,
    connections: Arc<AtomicUsize>,
    fetches: Arc<Mutex<Vec<(i32, i32, usize)>>>,
}

impl Broker {
    fn start(
        script: impl Fn(&FetchRequest<'_>) -> Option<FetchResponse<'static>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = Self { port, connections: Arc::default(), fetches: Arc::default() };
        let (connections, fetches) = (Arc::clone(&broker.connections), Arc::clone(&broker.fetches));
        let script: Arc<Script> = Arc::new(script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (script, fetches) = (Arc::clone(&script), Arc::clone(&fetches));
                thread::spawn(move || serve(stream.unwrap(), &*script, &fetches));
            }
        });
        broker
    }

    fn address(&self) -> BrokerAddress {
        BrokerAddress { broker_id: 1, host: String::from("127.0.0.1"), port: self.port }
    }
}

fn serve(mut stream: TcpStream, script: &Script, fetches: &Mutex<Vec<(i32, i32, usize)>>) {
    loop {
        let mut prefix = [0; 4];
        if stream.read_exact(&mut prefix).is_err() {
            return;
        }
        let mut frame = vec![0; i32::from_be_bytes(prefix) as usize];
        stream.read_exact(&mut frame).unwrap();
        let mut r = Reader::new(&frame);
        let header = RequestHeader::decode(&mut r).unwrap();
        let mut w = Writer::default();
        write_response_header(&mut w, header.api_key, header.api_version, header.correlation_id);
        if header.api_key == API_VERSIONS {
            let fetch = ApiVersion { api_key: 1, min_version: 4, max_version: 12 };
            let response = ApiVersionsResponse { api_keys: vec![fetch], ..ApiVersionsResponse::default() };
            response.encode(&mut w, 0).unwrap();
        } else {
            let request = FetchRequest::decode(&mut r, header.api_version).unwrap();
            let partitions = request.topics.iter().map(|topic| topic.partitions.len()).sum();
            fetches.lock().unwrap().push((request.session_id, request.session_epoch, partitions));
            let Some(response) = script(&request) else { return };
            response.encode(&mut w, header.api_version).unwrap();
        }
        let body = w.into_bytes();
        stream.write_all(&(body.len() as i32).to_be_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
}

/// A batch of one record at `offset`.
fn batch(offset: i64) -> &'static [u8] {
    let mut builder = Builder::new().base_offset(offset);
    builder.append(offset, None, Some(b"value"));
    let bytes = builder.seal(Compression::None).unwrap();
    Vec::leak(bytes)
}

fn answer(session_id: i32, partitions: Vec<PartitionData<'static>>) -> FetchResponse<'static> {
    let topic = FetchableTopicResponse { topic: "t", partitions, ..FetchableTopicResponse::default() };
    FetchResponse { session_id, responses: vec![topic], ..FetchResponse::default() }
}

/// Answers each partition asked for with the one record at its offset, up to `end`; nothing else after a while.
fn records_up_to(end: i64, session_id: i32, request: &FetchRequest<'_>) -> FetchResponse<'static> {
    let asked = request.topics.iter().flat_map(|topic| &topic.partitions);
    let partitions: Vec<_> = asked
        .filter(|one| one.fetch_offset < end)
        .map(|one| PartitionData {
            partition_index: one.partition,
            high_watermark: end,
            records: Some(batch(one.fetch_offset)),
            ..PartitionData::default()
        })
        .collect();
    if partitions.is_empty() {
        thread::sleep(Duration::from_millis(20));
    }
    answer(session_id, partitions)
}

fn options() -> FetchOptions {
    FetchOptions {
        wait_max: Duration::from_millis(50),
        backoff: Duration::from_millis(10),
        ..FetchOptions::default()
    }
}

fn target(slot: u64, offset: i64) -> Target {
    Target {
        slot,
        generation: 1,
        topic: Arc::from("t"),
        topic_id: Uuid::nil(),
        partition: slot as i32,
        broker_id: 1,
        leader_epoch: 0,
        offset,
    }
}

fn take(fetcher: &Fetcher) -> (u64, u64, i64) {
    match fetcher.next(SOON) {
        Next::Chunk(chunk) => (chunk.slot, chunk.generation, chunk.next_offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn partitions_are_fetched_in_order_and_sessions_carry_changes_only() {
    let broker = Broker::start(|request| Some(records_up_to(5, 77, request)));
    let fetcher = Fetcher::new(options());
    fetcher.set_brokers(&[broker.address()]);
    fetcher.set(vec![target(0, 0), target(1, 3)]);
    let mut ends = [Vec::new(), Vec::new()];
    for _ in 0..7 {
        let (slot, _, next) = take(&fetcher);
        ends[slot as usize].push(next);
    }
    assert_eq!(ends, [vec![1, 2, 3, 4, 5], vec![4, 5]]);
    assert_eq!(fetcher.next(Duration::from_millis(120)), Next::TimedOut);
    let fetches = broker.fetches.lock().unwrap().clone();
    assert_eq!(fetches[0], (0, 0, 2));
    assert_eq!(fetches[1], (77, 1, 2));
    // both at the end: nothing to tell
    assert_eq!(fetches.last().map(|last| (last.0, last.2)), Some((77, 0)));
    assert_eq!(broker.connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_seek_is_never_followed_by_what_was_fetched_before_it() {
    let broker = Broker::start(|request| Some(records_up_to(1_000, 0, request)));
    let fetcher = Fetcher::new(options());
    fetcher.set_brokers(&[broker.address()]);
    fetcher.set(vec![target(0, 0)]);
    take(&fetcher);
    for generation in 2..30 {
        let offset = generation as i64 * 10;
        fetcher.set(vec![Target { generation, ..target(0, offset) }]);
        assert_eq!(take(&fetcher), (0, generation, offset + 1));
    }
    fetcher.remove(&[0]);
    assert_eq!(fetcher.next(Duration::from_millis(50)), Next::TimedOut);
}

#[test]
fn a_connection_that_ends_is_made_again_and_nothing_is_lost() {
    let count = AtomicUsize::new(0);
    let broker = Broker::start(move |request| {
        let dropped = count.fetch_add(1, Ordering::SeqCst) % 3 == 2;
        (!dropped).then(|| records_up_to(20, 5, request))
    });
    let fetcher = Fetcher::new(options());
    fetcher.set_brokers(&[broker.address()]);
    fetcher.set(vec![target(0, 0)]);
    assert_eq!((0..20).map(|_| take(&fetcher).2).collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert!(broker.connections.load(Ordering::SeqCst) > 3);
}

#[test]
fn a_broker_that_is_not_there_is_told_and_found_when_it_comes() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let fetcher = Fetcher::new(options());
    let absent = BrokerAddress { broker_id: 1, host: String::from("127.0.0.1"), port: nobody };
    fetcher.set_brokers(&[absent]);
    fetcher.set(vec![target(0, 0)]);
    let event = fetcher.next_event(SOON).unwrap();
    assert!(matches!(event, Event::Broker { broker_id: 1, .. }), "{event:?}");
    let broker = Broker::start(|request| Some(records_up_to(1, 0, request)));
    fetcher.set_brokers(&[broker.address()]);
    assert_eq!(take(&fetcher).2, 1);
}

#[test]
fn an_error_of_a_partition_is_told_and_it_rests_until_moved() {
    let broker = Broker::start(|request| {
        let asked = &request.topics.first()?.partitions.first()?;
        if asked.current_leader_epoch == 0 {
            let failed = PartitionData { error_code: 74, ..PartitionData::default() };
            return Some(answer(0, vec![failed]));
        }
        Some(records_up_to(1, 0, request))
    });
    let fetcher = Fetcher::new(options());
    fetcher.set_brokers(&[broker.address()]);
    fetcher.set(vec![target(0, 0)]);
    let event = fetcher.next_event(SOON).unwrap();
    assert!(matches!(event, Event::Partition { slot: 0, generation: 1, offset: 0, .. }), "{event:?}");
    assert_eq!(fetcher.next(Duration::from_millis(80)), Next::TimedOut);
    assert!(fetcher.move_to(0, 1, 1, 9));
    assert_eq!(take(&fetcher).2, 1);
}

#[test]
fn close_ends_a_wait_and_a_held_request_at_once() {
    let broker = Broker::start(|_| {
        thread::sleep(Duration::from_secs(20));
        None
    });
    let fetcher = Arc::new(Fetcher::new(options()));
    fetcher.set_brokers(&[broker.address()]);
    fetcher.set(vec![target(0, 0)]);
    let waiting = Arc::clone(&fetcher);
    let waiter = thread::spawn(move || waiting.next(Duration::from_secs(60)));
    thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    assert!(fetcher.close(Duration::from_secs(5)));
    assert_eq!(waiter.join().unwrap(), Next::Closed);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_wake_ends_a_wait() {
    let fetcher = Fetcher::new(options());
    fetcher.wake();
    assert_eq!(fetcher.next(SOON), Next::Woken);
    fetcher.wake_events();
    assert_eq!(fetcher.next_event(SOON), None);
}
