//! Requests as the dispatcher gets them, from a TCP frame or a ZeroMQ message, one after the other: each is answered,
//! queued or refused, in bounded memory; an answer is one of that API and version, whole, to that request; and the log
//! stays whole.
//!
//! Input: messages, each with its length before it.

use crate::bounded::bounded;
use crate::common::Direction;
use crate::data_plane;
use crate::input::{Input, counted};
use crate::log_files::{NOW_MS, contents};
use crate::requests;
use fastlog_broker::{
    AllowAll, Answer, ApiRange, Broker, BrokerConfig, Clock, ImagePartition, ImageTopic, Listener,
    ListenerProtocol, Outcome, PartitionSettings, Replication, Reply, ReplySink, RequestContext, Response,
};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{LastStop, Log, LogConfig, LogOptions, Storage};
use fastlog_protocol::api_key;
use fastlog_protocol::header::{RequestHeader, read_response_header};
use fastlog_protocol::primitives::Reader;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Instant;

const MESSAGES_MAX: usize = 20;
/// A request may take so many times its bytes, and what the codecs of its batches take.
const RATIO_MAX: usize = 300;
const SLACK_BYTES: usize = 24 << 20;
/// What the newest version of ApiVersions is answered with is version 0 where the asked one is not known.
const API_VERSIONS_MAX: i16 = 4;
/// The key of commands between brokers, which this listener refuses with an error (31) and an empty text.
const PEER_COMMAND: i16 = 32_000;
const REFUSED: [u8; 4] = [0, 31, 0, 0];

struct Still;

impl Clock for Still {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn monotonic_ns(&self) -> i64 {
        1
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The answers of one request.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<Answer>>>);

impl ReplySink for Answers {
    fn answer(&mut self, answer: Answer) {
        self.0.lock().unwrap().push(answer);
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// A broker lives as long as the process, since making one makes threads; its partition as long as an input.
static BROKER: LazyLock<Arc<Broker>> = LazyLock::new(|| {
    let broker = Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(Still)).unwrap();
    broker.image().update(|image| {
        image.control_apis = vec![ApiRange { key: api_key::CREATE_TOPICS, min_version: 2, max_version: 7 }];
        image.put_topic(ImageTopic {
            name: requests::TOPIC.into(),
            id: uuid::Uuid::from_u128(7),
            is_internal: false,
            partitions: vec![ImagePartition { leader_id: 1, ..ImagePartition::default() }],
        });
    });
    broker
});

static CONTEXT: LazyLock<RequestContext> = LazyLock::new(|| {
    let listener = Listener {
        name: "ZMQ".to_owned(),
        protocol: ListenerProtocol::Zmq,
        inter_broker: false,
        host: "127.0.0.1".to_owned(),
        port: 9192,
    };
    RequestContext {
        listener: Arc::new(listener),
        principal: "User:ANONYMOUS".into(),
        client_address: None,
        local_address: None,
        connection_id: 1,
    }
});

fn add_partition() {
    let storage = Storage::new(Arc::new(MemoryFileSystem::new(1)), PathBuf::from("/data"), 64);
    let config = LogConfig { segment_bytes: 4000, index_interval_bytes: 100, ..LogConfig::default() };
    let options =
        LogOptions { config: Arc::new(config), ..LogOptions::new(requests::TOPIC, 0, LastStop::Clean) };
    let (log, _) = Log::open(&storage, options, NOW_MS).unwrap();
    let settings = PartitionSettings {
        topic: requests::TOPIC.into(),
        topic_id: uuid::Uuid::from_u128(7),
        index: 0,
        leader_epoch: 0,
        replication: Replication::single(1, 1),
    };
    BROKER.add_partition(settings, log).unwrap();
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    add_partition();
    for _ in 0..MESSAGES_MAX {
        if input.is_empty() {
            break;
        }
        handle(input.counted());
    }
    contents(BROKER.partitions().get(requests::TOPIC, 0).unwrap().log());
    // answers what still waits, too
    assert!(BROKER.delete_partition(requests::TOPIC, 0).unwrap());
    BROKER.events().drain();
}

fn handle(request: &[u8]) {
    let answers = Answers::default();
    let mut replies = 0;
    let mut reply = || {
        replies += 1;
        Reply::new(Box::new(answers.clone()))
    };
    let outcome = bounded("a request", SLACK_BYTES + RATIO_MAX * request.len(), || {
        BROKER.handle(&CONTEXT, request, &mut reply)
    });
    let is_later = matches!(outcome, Outcome::Later { .. });
    assert_eq!(replies, usize::from(is_later), "a way back is made for a late answer only, and once");
    match outcome {
        Outcome::Now(response) => check_answer(request, response),
        Outcome::NoResponse => {
            assert_eq!(header(request).api_key, api_key::PRODUCE, "acks=0 alone is unanswered")
        }
        Outcome::Later { .. } | Outcome::Close(_) => {}
    }
    if let Some(control) = BROKER.control().drain(1).pop() {
        assert_eq!(control.request, request, "the control plane gets the request as it came");
        control.reply.send(Response::from(request.to_vec()));
        assert_eq!(answers.0.lock().unwrap().len(), 1);
        return;
    }
    for answer in answers.0.lock().unwrap().drain(..) {
        if let Answer::Response(response) = answer {
            check_answer(request, response);
        }
    }
}

fn header(request: &[u8]) -> RequestHeader<'_> {
    RequestHeader::decode(&mut Reader::new(request)).unwrap()
}

/// The answer decodes to its last byte as one of the request's API and version, and names the request.
fn check_answer(request: &[u8], response: Response) {
    let RequestHeader { api_key, api_version, correlation_id, .. } = header(request);
    let unknown = api_key == api_key::API_VERSIONS && !(0..=API_VERSIONS_MAX).contains(&api_version);
    let version = if unknown { 0 } else { api_version };
    let bytes = response.into_bytes().unwrap();
    if api_key == PEER_COMMAND {
        assert_eq!(bytes, [&correlation_id.to_be_bytes()[..], &REFUSED].concat());
        return;
    }
    let mut reader = Reader::new(&bytes);
    assert_eq!(read_response_header(&mut reader, api_key, version), Ok(correlation_id));
    let body = data_plane::again(api_key, Direction::Response, version, reader.rest());
    assert!(body.is_ok(), "the answer to API {api_key} version {api_version}: {body:?}");
}

/// Each good request alone, and sequences of them: produced, then fetched and asked about.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let all = requests::all();
    let mut seeds: Vec<_> = all.iter().map(|request| counted(request)).collect();
    let produced = counted(&all[1]);
    for request in &all[3..] {
        seeds.push([produced.clone(), counted(request), produced.clone()].concat());
    }
    seeds.push(all.iter().take(MESSAGES_MAX).flat_map(|request| counted(request)).collect());
    seeds
}
