//! Many connections, many threads.

use crate::harness::*;
use fastlog_log::LogConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::batch::batches;
use fastlog_protocol::messages::fetch::{FetchRequest, FetchTopic};
use fastlog_protocol::messages::produce::ProduceResponse;

#[test]
fn thousands_of_connections_come_and_go() {
    let node = Node::start();
    node.topic("t");
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    node.client().ping();
    let before = descriptors();
    for round in 0..30 {
        let mut clients: Vec<_> = (0..100).map(|_| node.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            match number % 3 {
                0 => client.ping(),
                // in the middle of a long poll, or of a frame
                1 => drop(client.send(api_key::FETCH, 12, |w| fetch_request("t", 0).encode(w, 12).unwrap())),
                _ => client.ping_half(),
            }
        }
        drop(clients);
        if round % 10 == 9 {
            eventually("the connections end", || node.server.connection_count() == 0);
        }
    }
    node.client().ping();
    eventually("their descriptors are closed", || descriptors() <= before + 8);
}

#[test]
fn producers_and_consumers_on_many_threads_lose_nothing_and_keep_order() {
    const PRODUCERS: u8 = 4;
    const BATCHES: u32 = 500;
    let node = Node::start();
    node.topic_with("t", 2, LogConfig::default());
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let mut client = node.client();
            scope.spawn(move || {
                let mut reader = client.twin();
                scope.spawn(move || {
                    for _ in 0..BATCHES {
                        let (_, body) = reader.answer(api_key::PRODUCE, 8);
                        decode(&body, 8, ProduceResponse::decode, |response| {
                            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
                        });
                    }
                });
                for number in 0..BATCHES {
                    let value = [&[producer][..], &number.to_be_bytes()].concat();
                    let index = i32::from(producer % 2);
                    client.send(api_key::PRODUCE, 8, |w| {
                        produce_body(w, 8, "t", index, Some(&batch(&[&value])), -1);
                    });
                }
            });
        }
        for index in 0..2 {
            let mut client = node.client();
            scope.spawn(move || {
                consume_all(&mut client, index, i64::from(PRODUCERS / 2) * i64::from(BATCHES))
            });
        }
    });
}

#[test]
fn topics_come_and_go_under_load_without_a_deadlock() {
    const ROUNDS: u32 = 60;
    let node = Node::start();
    node.topic("stays");
    let done = std::sync::atomic::AtomicBool::new(false);
    let is_done = || done.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut client = node.client();
            scope.spawn(move || {
                while !is_done() {
                    let records = batch(&[b"v"]);
                    for topic in ["goes", "stays"] {
                        let (error, _) = client.produce(topic, &records);
                        // 6: the epoch changed between the append and its answer
                        assert!([0, 3, 6, 7].contains(&error), "{error}");
                    }
                }
            });
            let mut client = node.client();
            scope.spawn(move || poll_both(&mut client, is_done));
        }
        for round in 0..ROUNDS {
            let partition = node.topic("goes");
            let stays = node.broker.partitions().get("stays", 0).unwrap();
            stays.set_leader_epoch(i32::try_from(round).unwrap() + 1).unwrap();
            stays.update_replication(|it| it.set_min_insync_replicas(1));
            eventually("somebody writes", || partition.log().log_end_offset() > 0);
            node.broker.image().update(|image| assert!(image.remove_topic("goes")));
            assert!(node.broker.delete_partition("goes", 0).unwrap());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Long polls of both topics by a session, from wherever the logs are.
fn poll_both(client: &mut Client, is_done: impl Fn() -> bool) {
    let (mut id, mut epoch, mut offset) = (0, 0, 0);
    while !is_done() {
        let topic = |topic, offset| FetchTopic {
            topic,
            partitions: vec![fetch_partition(0, offset)],
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            session_id: id,
            session_epoch: epoch,
            max_wait_ms: 20,
            min_bytes: 1000,
            topics: vec![topic("goes", 0), topic("stays", offset)],
            ..fetch_request("stays", offset)
        };
        let body = client.call(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
        let (error, session_id, partitions) = fetched(&body, 12);
        assert_eq!(error, 0);
        (id, epoch) = (session_id, epoch + 1);
        if let Some(stays) = partitions.iter().find(|it| it.topic == "stays") {
            assert_eq!(stays.error, 0);
            offset = stays.high_watermark;
        }
    }
}

fn consume_all(client: &mut Client, index: i32, end: i64) {
    let mut offset = 0;
    let mut next = [0u32; 256];
    while offset < end {
        let mut request = FetchRequest { max_wait_ms: 500, ..fetch_request("t", offset) };
        request.topics[0].partitions[0].partition = index;
        request.topics[0].partitions[0].partition_max_bytes = 10_000;
        let fetched = fetch_one(client, 12, &request);
        for batch in batches(&fetched.records) {
            let Ok(batch) = batch else { break };
            fastlog_protocol::batch::records(batch, |record| {
                assert_eq!(record.offset, offset);
                let (producer, number) = record.value.unwrap().split_at(1);
                let number = u32::from_be_bytes(number.try_into().unwrap());
                assert_eq!(number, next[usize::from(producer[0])], "order within a producer");
                next[usize::from(producer[0])] += 1;
                offset += 1;
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
        }
    }
}
