//! Records that somebody was sent and doubts: they are looked at soon, whatever the scrub is at, and at its rate.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use fastlog_broker::{
    AllowAll, Answer, Broker, BrokerConfig, Listener, ListenerProtocol, LogManager, OpenPartition, Partition,
    Reply, ReplySink, RequestContext, ScrubSettings, SystemClock,
};
use fastlog_log::file_system::FileSystem;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{AppendOptions, Identity, LogConfig, Storage};
use fastlog_protocol::api_key::FETCH;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use fastlog_protocol::primitives::Writer;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// There are no passes.
const OFF: ScrubSettings = ScrubSettings { interval_ms: None, bytes_per_second: None };
/// A segment takes minutes, longer than anything is waited for here.
const SLOW: Option<f64> = Some(1e4);
/// For what comes within a second or two on a machine that has time.
const PATIENCE: Duration = Duration::from_secs(60);
const VALUE_BYTES: usize = 100_000;
const RECORDS: usize = 30;
/// A byte in the middle of the first batch, and a page.
const POSITION: usize = 50_000;

struct Nobody;

impl ReplySink for Nobody {
    fn answer(&mut self, _answer: Answer) {}

    fn is_open(&self) -> bool {
        true
    }
}

/// Stops the scrub when it is dropped.
struct Stops<'a>(&'a LogManager);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.stop_scrub();
    }
}

/// A broker with partitions of one segment of three megabytes, a batch a record.
struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
    disk: MemoryFileSystem,
}

impl Node {
    fn start(topics: &[&str]) -> Self {
        let disk = MemoryFileSystem::new(1);
        let broker =
            Broker::without_threads(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock))
                .expect("a broker");
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let storage = Storage::new(Arc::new(disk.clone()), PathBuf::from("/data"), 100);
        let logs = LogManager::open(broker.clone(), vec![storage], &identity).expect("a data directory");
        let node = Self { broker, logs, disk };
        for topic in topics {
            let wanted = OpenPartition {
                topic: (*topic).into(),
                topic_id: id_of(topic),
                index: 0,
                leader_epoch: 0,
                config: Arc::new(LogConfig::default()),
                min_insync_replicas: 1,
            };
            node.logs.open_partition(&wanted, NOW_MS).expect("open");
            for _ in 0..RECORDS {
                let mut builder = Builder::new();
                builder.append(NOW_MS, None, Some(&[b'v'; VALUE_BYTES]));
                let batch = builder.seal(Compression::None).expect("a batch");
                node.partition(topic).append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
            }
        }
        node
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.broker.partitions().get(topic, 0).expect("open")
    }

    /// A client fetches from the beginning, as often as makes the broker doubt it.
    fn fetch_again_and_again(&self, topic: &str) {
        let partition =
            FetchPartition { fetch_offset: 0, partition_max_bytes: 1, ..FetchPartition::default() };
        let topics = vec![FetchTopic { topic, partitions: vec![partition], ..FetchTopic::default() }];
        let request =
            FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics, ..FetchRequest::default() };
        let mut writer = Writer::new();
        let header = RequestHeader { api_key: FETCH, api_version: 12, correlation_id: 1, client_id: None };
        header.encode(&mut writer).unwrap();
        request.encode(&mut writer, 12).unwrap();
        let frame = writer.into_bytes();
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
        for _ in 0..3 {
            self.broker.handle(&context, &frame, &mut || Reply::new(Box::new(Nobody)));
        }
    }

    /// A follower says that it could not take what is at the beginning.
    fn report(&self, topic: &str) -> bool {
        self.logs.verify(topic, id_of(topic), 0, 0).expect("noted")
    }

    /// All that there is to do for the scrub now.
    fn run(&self, settings: &ScrubSettings) {
        while self.logs.scrub_next(settings, NOW_MS).expect("no error of a doubt ends it") {}
    }

    fn is_served(&self, topic: &str) -> bool {
        self.partition(topic).log().read(0, 1, i64::MAX, true).is_ok()
    }

    fn damaged(&self) -> Vec<String> {
        self.logs.damaged().iter().map(|(it, range)| format!("{} {}", it.topic(), range.offset)).collect()
    }

    fn messages(&self) -> Vec<String> {
        let (events, _) = self.broker.events().drain();
        events.iter().map(|it| format!("{} {:?}", it.message, it.fields)).collect()
    }

    /// Does `work` while the scrub is at what it is to do, which does not end by itself.
    fn while_it_scrubs<T>(&self, settings: &ScrubSettings, now_ms: i64, work: impl FnOnce() -> T) -> T {
        std::thread::scope(|scope| {
            // also where the work fails: what waits for it ends
            let stops = Stops(&self.logs);
            let before = self.disk.calls();
            let scrub = scope.spawn(|| while self.logs.scrub_next(settings, now_ms).expect("a step") {});
            wait_until("it reads", || self.disk.calls() > before);
            let done = work();
            assert!(!scrub.is_finished(), "it keeps to no rate");
            let began = Instant::now();
            drop(stops);
            scrub.join().expect("ended");
            assert!(began.elapsed() < PATIENCE, "a stop ends it");
            done
        })
    }
}

fn id_of(topic: &str) -> Uuid {
    Uuid::from_u128(u128::from(topic.as_bytes().first().copied().unwrap_or_default()))
}

fn segment(topic: &str) -> PathBuf {
    Path::new("/data").join(format!("{topic}-0/00000000000000000000.log"))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_client_or_a_follower_doubts_is_looked_at_without_any_pass_and_told() {
    let node = Node::start(&["client", "follower", "good"]);
    assert!(
        node.disk.corrupt(&segment("client"), POSITION) && node.disk.corrupt(&segment("follower"), POSITION)
    );
    node.fetch_again_and_again("client");
    node.fetch_again_and_again("good");
    assert!(node.report("follower"));
    assert!(node.is_served("client"), "nobody knows yet");
    node.run(&OFF);
    assert_eq!(
        [node.is_served("client"), node.is_served("follower"), node.is_served("good")],
        [false, false, true]
    );
    assert_eq!(node.damaged(), ["client 0", "follower 0"]);
    let told = node.messages();
    let again: Vec<_> = told.iter().filter(|it| it.starts_with("a client fetched records again")).collect();
    assert!(again.len() == 1 && again.iter().all(|it| it.contains("\"client\"")), "{told:?}");
    assert_eq!(told.iter().filter(|it| it.starts_with("the scrub found records")).count(), 2, "{told:?}");
    node.run(&OFF);
    assert_eq!(node.messages(), Vec::<String>::new(), "they were judged");
}

#[test]
fn what_the_disk_cannot_read_is_located() {
    let node = Node::start(&["client", "follower"]);
    for topic in ["client", "follower"] {
        assert!(node.disk.make_unreadable(&segment(topic), POSITION));
    }
    node.fetch_again_and_again("client");
    node.report("follower");
    node.run(&OFF);
    let told = node.messages();
    let found = told.iter().filter(|it| it.contains("the disk could not read its byte 49152")).count();
    assert_eq!(found, 2, "as the scrub tells it: {told:?}");
    assert_eq!(node.damaged(), ["client 0", "follower 0"]);
    assert!(node.partition("client").log().read(1, 1, i64::MAX, true).is_ok(), "what is behind it is served");
}

#[test]
fn one_that_cannot_be_judged_holds_up_no_other_and_is_tried_again_and_not_for_ever() {
    let node = Node::start(&["broken", "other"]);
    let away = Path::new("/data/away");
    for topic in ["broken", "other"] {
        assert!(node.disk.corrupt(&segment(topic), POSITION));
        node.fetch_again_and_again(topic);
    }
    // neither the disk's fault nor one of the records
    node.disk.rename(&segment("broken"), away).expect("renamed");
    node.run(&OFF);
    assert_eq!([node.is_served("broken"), node.is_served("other")], [true, false]);
    let not_read = |told: &[String]| told.iter().filter(|it| it.starts_with("records that somebody")).count();
    let told = node.messages();
    assert!(told.iter().any(|it| it.contains("\"broken\"") && it.contains("could not")), "{told:?}");
    node.disk.rename(away, &segment("broken")).expect("renamed");
    wait_until("it was not tried again", || {
        node.run(&OFF);
        !node.is_served("broken")
    });
    assert_eq!(node.damaged(), ["broken 0", "other 0"]);

    let node = Node::start(&["broken"]);
    assert!(node.disk.corrupt(&segment("broken"), POSITION));
    node.fetch_again_and_again("broken");
    node.disk.rename(&segment("broken"), away).expect("renamed");
    let tries = Cell::new(0);
    let run = || {
        node.run(&OFF);
        tries.set(tries.get() + not_read(&node.messages()));
        tries.get()
    };
    wait_until("it is tried three times", || run() >= 3);
    // a fourth would come a second later
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert_eq!(run(), 3, "then it waits for whoever doubts it again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn one_is_looked_at_in_the_middle_of_a_pass_and_the_pass_goes_on() {
    let node = Node::start(&["long", "mine"]);
    let daily = ScrubSettings { interval_ms: Some(DAY_MS), bytes_per_second: SLOW };
    assert!(!node.logs.scrub_next(&daily, NOW_MS).expect("nothing is due"));
    assert!(node.disk.corrupt(&segment("mine"), POSITION));
    node.while_it_scrubs(&daily, NOW_MS + DAY_MS, || {
        node.fetch_again_and_again("mine");
        wait_until("it waits for the segment of another", || !node.is_served("mine"));
    });
}

#[test]
fn a_doubted_segment_is_checked_at_the_rate_of_the_scrub_and_others_are_looked_at_meanwhile() {
    let node = Node::start(&["long", "mine"]);
    assert!(node.disk.corrupt(&segment("long"), POSITION) && node.disk.corrupt(&segment("mine"), POSITION));
    node.report("long");
    let slow = ScrubSettings { bytes_per_second: SLOW, ..OFF };
    node.while_it_scrubs(&slow, NOW_MS, || {
        wait_until("what is known to be bad waits for no rate", || !node.is_served("long"));
        node.report("mine");
        wait_until("it waits for the segment of another", || !node.is_served("mine"));
    });
}

#[test]
fn too_many_doubts_are_refused_and_one_is_not_noted_twice() {
    let node = Node::start(&["t"]);
    let verify = |offset| node.logs.verify("t", id_of("t"), 0, offset).expect("noted");
    assert!((0..64).all(verify));
    assert!(!verify(64), "it is reported again");
    assert!(verify(63), "it waits already");
}
