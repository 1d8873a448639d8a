//! A log that stands still, since the disk hangs that its replica is moved to: whoever has others to serve is told so at once.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use fastlog_broker::{
    AllowAll, Answer, Assignment, Broker, BrokerConfig, Clock, Fetched, Listener, ListenerProtocol,
    LogManager, MoveSettings, OpenPartition, Outcome, Partition, ReplicaChange, Reply, ReplySink,
    RequestContext, WantedReplica,
};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{AppendOptions, Identity, LogConfig, LogError, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key::PRODUCE;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::header::{RequestHeader, read_response_header};
use fastlog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use fastlog_protocol::primitives::{Reader, Writer};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const SECOND: &str = "/second";
const VERSION: i16 = 9;
const REFUSED: (ErrorCode, i64) = (ErrorCode::KAFKA_STORAGE_ERROR, -1);

/// No refusal gets too old to count, however slow the machine is, unless the test says so.
struct StoppedClock {
    now: Instant,
    monotonic_ns: AtomicI64,
}

impl Clock for StoppedClock {
    fn now_ms(&self) -> i64 {
        NOW_MS
    }

    fn monotonic_ns(&self) -> i64 {
        self.monotonic_ns.load(Ordering::SeqCst)
    }

    fn now(&self) -> Instant {
        self.now
    }
}

struct Nobody;

impl ReplySink for Nobody {
    fn answer(&mut self, _answer: Answer) {}

    fn is_open(&self) -> bool {
        true
    }
}

/// A broker with the partitions `t-0` in the first of two directories, and `other-0` in the second.
struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
    target: MemoryFileSystem,
    clock: Arc<StoppedClock>,
}

fn wanted(topic: &str) -> OpenPartition {
    OpenPartition {
        topic: topic.into(),
        topic_id: Uuid::from_u128(topic.len() as u128),
        index: 0,
        leader_epoch: 0,
        config: Arc::new(LogConfig::default()),
        min_insync_replicas: 1,
    }
}

impl Node {
    fn start() -> Self {
        let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
        let storages = disks.iter().zip(["/first", SECOND]);
        let storages =
            storages.map(|(disk, path)| Storage::new(Arc::new(disk.clone()), PathBuf::from(path), 100));
        let clock = Arc::new(StoppedClock { now: Instant::now(), monotonic_ns: 1.into() });
        let broker =
            Broker::without_threads(BrokerConfig::default(), Arc::new(AllowAll), clock.clone()).unwrap();
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let logs = LogManager::open(broker.clone(), storages.collect(), &identity).unwrap();
        for topic in ["t", "other"] {
            logs.open_partition(&wanted(topic), NOW_MS).unwrap();
        }
        logs.finish_opening().unwrap();
        let [_, target] = disks;
        Self { broker, logs, target, clock }
    }

    fn partition(&self, topic: &str) -> Arc<Partition> {
        self.broker.partitions().get(topic, 0).unwrap()
    }

    /// Error and offset of a batch of a producer, by way of a request.
    fn produce(&self, topic: &str, producer_id: i64, sequence: i32) -> (ErrorCode, i64) {
        let mut builder = Builder::new().producer(producer_id, 0, sequence);
        builder.append(NOW_MS, None, Some(b"value"));
        let batch = builder.seal(Compression::None).unwrap();
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&batch) }];
        let topic_data =
            vec![TopicProduceData { name: topic, partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks: 1, timeout_ms: 1000, topic_data, ..ProduceRequest::default() };
        let mut writer = Writer::new();
        let header =
            RequestHeader { api_key: PRODUCE, api_version: VERSION, correlation_id: 1, client_id: None };
        header.encode(&mut writer).unwrap();
        request.encode(&mut writer, VERSION).unwrap();
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
        let mut reply = || Reply::new(Box::new(Nobody));
        let outcome = self.broker.handle(&context, &writer.into_bytes(), &mut reply);
        let Outcome::Now(response) = outcome else { panic!("{outcome:?}") };
        let bytes = response.into_bytes().unwrap();
        let mut reader = Reader::new(&bytes);
        read_response_header(&mut reader, PRODUCE, VERSION).unwrap();
        let response = ProduceResponse::decode(&mut reader, VERSION).unwrap();
        let partition = &response.responses[0].partition_responses[0];
        (ErrorCode(partition.error_code), partition.base_offset)
    }

    /// Makes a partition one that the broker leads in that epoch, where it is number 1, or follows.
    fn change(&self, topic: &str, leader: i32, leader_epoch: i32) -> Result<(), ErrorCode> {
        let to = Assignment {
            leader,
            leader_epoch,
            partition_epoch: leader_epoch,
            replicas: vec![1, 2],
            isr: vec![1, 2],
            held: None,
        };
        let change = ReplicaChange { partition: OpenPartition { leader_epoch, ..wanted(topic) }, to };
        self.logs.change_replicas(&[change], NOW_MS).remove(0).map_err(|error| error.code)
    }

    /// What one thread is told that does `work` while `t-0` stands still, which ends only after it, or after half a minute.
    fn while_it_stands_still<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.target.set_faults(Faults { hold_directory_renames: true, ..Faults::default() });
        let (topic, topic_id) = ("t".to_owned(), wanted("t").topic_id);
        let asked = WantedReplica { topic, topic_id, index: 0, directory: PathBuf::from(SECOND) };
        self.logs.move_replicas(&[asked]).remove(0).expect("asked");
        std::thread::scope(|scope| {
            let mover = scope
                .spawn(|| while self.logs.move_next(&MoveSettings::default(), NOW_MS).expect("a step") {});
            let began = Instant::now();
            while self.target.held() == 0 {
                assert!(began.elapsed() < Duration::from_secs(30), "the rename did not begin");
                std::thread::yield_now();
            }
            let (sender, receiver) = channel();
            scope.spawn(move || sender.send(work()));
            let told = receiver.recv_timeout(Duration::from_secs(30));
            self.target.stop_holding();
            mover.join().expect("moved");
            told.expect("it waited for the disk")
        })
    }
}

#[test]
fn batches_of_idempotent_producers_do_not_wait_for_it_and_keep_their_order() {
    let node = Node::start();
    assert_eq!(node.produce("t", 7, 0), (ErrorCode::NONE, 0));
    let (answers, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        let mut answers = Vec::new();
        for sequence in 0..100 {
            // one that the log knows, and one that it does not: of that one it would take any batch as the first
            answers.extend([(7, 1), (7, 2), (8, 0), (8, 1)].map(|(id, at)| node.produce("t", id, at)));
            assert_eq!(node.produce("other", 9, sequence).0, ErrorCode::NONE, "others are served");
        }
        (answers, began.elapsed())
    });
    assert!(answers.iter().all(|it| *it == REFUSED), "to be tried again: {answers:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // what was sent behind a refused one, and comes when the log goes on, waits for that one
    assert_eq!((node.produce("t", 7, 2), node.produce("t", 8, 1)), (REFUSED, REFUSED));
    let sent = [(7, 1), (8, 0), (7, 2), (8, 1)].map(|(id, at)| node.produce("t", id, at));
    assert_eq!(sent, [1, 2, 3, 4].map(|offset| (ErrorCode::NONE, offset)));
    assert_eq!(node.produce("t", 7, 1), (ErrorCode::NONE, 1), "it is there once");
    assert_eq!(node.partition("t").log().log_end_offset(), 5);
}

/// More than are remembered one by one.
#[test]
fn however_many_producers_were_refused_their_batches_keep_their_order() {
    let node = Node::start();
    let producers = 0..300;
    node.while_it_stands_still(|| {
        for id in producers.clone() {
            assert_eq!([0, 1].map(|at| node.produce("t", id, at)), [REFUSED; 2]);
        }
    });
    // the log knows none of them, and would take any batch as the first
    for id in producers.clone() {
        assert_eq!(node.produce("t", id, 1), REFUSED, "{id}");
    }
    for (id, at) in producers.clone().map(|id| (id, 0)).chain(producers.map(|id| (id, 1))) {
        // one that is not remembered is after the first try
        let is_taken = (0..2).any(|_| node.produce("t", id, at).0 == ErrorCode::NONE);
        assert!(is_taken, "{id} {at}");
    }
    assert_eq!(node.partition("t").log().log_end_offset(), 600, "each is there once");
    node.clock.monotonic_ns.fetch_add(1_500_000_000, Ordering::SeqCst);
    for id in 1000..1300 {
        assert_eq!(node.produce("t", id, 0), REFUSED, "one that may have been refused");
    }
    node.clock.monotonic_ns.fetch_add(500_000_000, Ordering::SeqCst);
    assert_eq!(node.produce("t", 2000, 0), (ErrorCode::NONE, 600), "that was long ago, and is not drawn out");
}

#[test]
fn a_follower_takes_its_leaders_start_over_when_the_log_goes_on_and_others_do_at_once() {
    let node = Node::start();
    (0..3).for_each(|at| assert_eq!(node.produce("t", 7, at).0, ErrorCode::NONE));
    (0..3).for_each(|at| assert_eq!(node.produce("other", 7, at).0, ErrorCode::NONE));
    for topic in ["t", "other"] {
        node.change(topic, 2, 1).expect("a follower");
    }
    let take = |topic: &str, log_start_offset| {
        let fetched =
            Fetched { leader_epoch: 1, fetch_offset: 3, high_watermark: 3, log_start_offset, records: &[] };
        node.partition(topic).append_fetched(fetched, NOW_MS).map_err(|error| error.code)
    };
    let (answers, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        let mut answers = Vec::new();
        for start in [1, 2] {
            answers.push(take("t", start));
            assert_eq!(take("other", start), Ok(3));
            assert_eq!(node.partition("other").log().log_start_offset(), start);
        }
        (answers, began.elapsed())
    });
    assert_eq!(answers, [Err(ErrorCode::KAFKA_STORAGE_ERROR); 2], "it is asked for again");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(take("t", 2), Ok(3));
    assert_eq!(node.partition("t").log().log_start_offset(), 2);
}

const NOT_NOW: Result<(), ErrorCode> = Err(ErrorCode::KAFKA_STORAGE_ERROR);

#[test]
fn a_follower_is_cut_when_the_log_goes_on_and_others_are_at_once() {
    let node = Node::start();
    for topic in ["t", "other"] {
        (0..5).for_each(|at| assert_eq!(node.produce(topic, 7, at).0, ErrorCode::NONE));
        node.change(topic, 2, 1).expect("a follower");
    }
    let cut = |topic, offset| node.logs.truncate(topic, 0, 1, offset, NOW_MS).map_err(|error| error.code());
    let restart =
        |topic, offset| node.logs.restart_at(topic, 0, 1, offset, NOW_MS).map_err(|error| error.code());
    let (answers, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        let answers = [cut("t", 3).map(drop), restart("t", 9)];
        assert_eq!((cut("other", 3), restart("other", 9)), (Ok(true), Ok(())));
        (answers, began.elapsed())
    });
    assert_eq!(answers, [NOT_NOW; 2], "it is asked for again");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let log = |topic| {
        let partition = node.partition(topic);
        (partition.log().log_start_offset(), partition.log().log_end_offset())
    };
    assert_eq!((log("t"), log("other")), ((0, 5), (9, 9)), "nothing was changed of the one");
    assert_eq!((cut("t", 3), log("t")), (Ok(true), (0, 3)));
    assert_eq!((restart("t", 9), log("t")), (Ok(()), (9, 9)));
}

#[test]
fn leaderships_end_at_once_and_none_begins_before_the_log_goes_on() {
    let node = Node::start();
    for topic in ["t", "other"] {
        assert_eq!(node.produce(topic, 7, 0), (ErrorCode::NONE, 0));
    }
    let lead = |topic, epoch| node.change(topic, 1, epoch);
    let (anew, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        let anew = lead("t", 1);
        assert_eq!(lead("other", 1), Ok(()), "others are led");
        assert_eq!(node.produce("other", 7, 1), (ErrorCode::NONE, 1));
        (anew, began.elapsed())
    });
    assert_eq!(anew, NOT_NOW, "it is tried again");
    assert!(took < Duration::from_secs(10), "{took:?}");
    // the log goes on before the controller's word is carried out
    assert_eq!(node.produce("t", 7, 1).0, ErrorCode::NOT_LEADER_OR_FOLLOWER, "an epoch that is over");
    assert_eq!(node.partition("t").log().log_end_offset(), 1);
    assert_eq!(lead("t", 1), Ok(()));
    assert_eq!(node.produce("t", 7, 1), (ErrorCode::NONE, 1));

    // where another broker leads, this one stops at once
    let node = Node::start();
    let (ended, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        (node.change("t", 2, 1), began.elapsed())
    });
    assert_eq!(ended, Ok(()));
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(node.produce("t", 7, 0).0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(node.partition("t").log().log_end_offset(), 0);
}

#[test]
fn who_deletes_records_or_asks_for_producers_is_told_to_come_again() {
    let node = Node::start();
    for topic in ["t", "other"] {
        assert_eq!(node.produce(topic, 7, 0), (ErrorCode::NONE, 0));
    }
    let (answers, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        let producers = node.partition("t").log().producers().map(|it| it.len());
        let deleted = node.logs.delete_records("t", 0, 1);
        assert_eq!(node.logs.delete_records("other", 0, 1).unwrap(), 1, "others are served");
        ((producers, deleted), began.elapsed())
    });
    assert!(
        matches!(answers, (Err(LogError::StandsStill { .. }), Err(LogError::StandsStill { .. }))),
        "{answers:?}"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(node.partition("t").log().producers().unwrap().len(), 1);
    assert_eq!(node.logs.delete_records("t", 0, 1).unwrap(), 1);
}

#[test]
fn whoever_resigns_leads_nothing_at_once() {
    let node = Node::start();
    let (count, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        (node.broker.resign(), began.elapsed())
    });
    assert_eq!(count, 2);
    assert!(took < Duration::from_secs(10), "{took:?}");
    for topic in ["t", "other"] {
        assert_eq!(node.produce(topic, 7, 0).0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(node.partition(topic).log().log_end_offset(), 0);
    }
}

#[test]
fn an_append_that_waits_for_a_log_whose_leadership_ends_is_refused() {
    let node = Node::start();
    let partition = node.partition("t");
    let batch = || {
        let mut builder = Builder::new();
        builder.append(NOW_MS, None, Some(b"value"));
        builder.seal(Compression::None).unwrap()
    };
    let appended = node.while_it_stands_still(|| {
        // it looked at its epoch before that was over
        let epoch = partition.leader_epoch();
        assert_eq!(node.change("t", 2, 1), Ok(()));
        let waiting = std::thread::spawn({
            let (partition, batch) = (partition.clone(), batch());
            move || loop {
                let appended = partition.log().append(&batch, epoch, NOW_MS, AppendOptions::default());
                match appended {
                    Err(error) if error.code == ErrorCode::KAFKA_STORAGE_ERROR => {}
                    done => return done.map(|it| it.base_offset).map_err(|error| error.code),
                }
            }
        });
        std::thread::sleep(Duration::from_millis(200));
        waiting
    });
    assert_eq!(appended.join().unwrap(), Err(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert_eq!(partition.log().log_end_offset(), 0);
}

#[test]
fn a_replica_that_is_elsewhere_now_is_put_away_when_its_log_goes_on() {
    let node = Node::start();
    let put_away = || {
        let id = wanted("t").topic_id;
        node.logs.delete_replicas("t", id, &[(0, 0)], false, NOW_MS).map_err(|error| error.code())
    };
    let (answer, took) = node.while_it_stands_still(|| {
        let began = Instant::now();
        (put_away(), began.elapsed())
    });
    assert_eq!(answer, Err(ErrorCode::KAFKA_STORAGE_ERROR), "the thread has others to put away");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert_eq!(put_away(), Ok(1));
    assert!(node.broker.partitions().get("t", 0).is_none());
}
