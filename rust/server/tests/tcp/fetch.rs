//! Fetch: semantics rows 1, 6-11, 15, 16, 18, 28 and 46.

use crate::harness::*;
use fastlog_broker::Replication;
use fastlog_log::LogConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::batch::{batches, records};
use fastlog_protocol::compression::Compression;
use fastlog_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchTopic, ReplicaState};
use std::ops::ControlFlow;
use std::time::Instant;

pub(crate) fn values(bytes: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut found = Vec::new();
    for batch in batches(bytes) {
        let each = records(batch.unwrap(), |record| {
            found.push((record.offset, record.value.unwrap_or_default().to_vec()));
            ControlFlow::Continue(())
        });
        each.unwrap();
    }
    found
}

fn offsets(bytes: &[u8]) -> Vec<i64> {
    values(bytes).into_iter().map(|(offset, _)| offset).collect()
}

pub(crate) fn at_once<'a>(topic: &'a str, offset: i64) -> FetchRequest<'a> {
    FetchRequest { max_wait_ms: 0, ..fetch_request(topic, offset) }
}

#[test]
fn every_version_gives_back_what_was_produced() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a", b"b"]));
    client.produce("t", &batch(&[b"c"]));
    for version in 4..=12 {
        let fetched = fetch_one(&mut client, version, &fetch_request("t", 0));
        assert_eq!((fetched.error, fetched.high_watermark), (0, 3));
        assert_eq!(fetched.topic, "t");
        let expected = [(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())];
        assert_eq!(values(&fetched.records), expected);
    }
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a", b"b", b"c"]));
    let fetched = fetch_one(&mut client, 12, &fetch_request("t", 1));
    assert_eq!(offsets(&fetched.records), [0, 1, 2]);
}

#[test]
fn offsets_outside_of_the_log_are_errors_and_its_end_is_empty() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    for _ in 0..4 {
        client.produce("t", &batch(&[b"a"]));
    }
    partition.delete_records(2).unwrap();
    for (offset, error) in [(-5, 1), (1, 1), (5, 1), (4, 0)] {
        let fetched = fetch_one(&mut client, 12, &at_once("t", offset));
        assert_eq!((fetched.error, fetched.records.len()), (error, 0), "offset {offset}");
    }
    assert_eq!(fetch_one(&mut client, 12, &at_once("t", 2)).log_start_offset, 2);
}

#[test]
fn records_above_the_high_watermark_are_invisible_but_no_error() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a"]));
    partition.update_replication(|it| *it = Replication::new(1, vec![1, 2], vec![1, 2], 1));
    client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"b"])), 1));
    let fetched = fetch_one(&mut client, 12, &at_once("t", 0));
    assert_eq!((offsets(&fetched.records), fetched.high_watermark), (vec![0], 1));
    for offset in [1, 2] {
        let fetched = fetch_one(&mut client, 12, &at_once("t", offset));
        assert_eq!((fetched.error, fetched.records.len()), (0, 0));
    }
    let committed = FetchRequest { isolation_level: 1, ..at_once("t", 0) };
    assert_eq!(offsets(&fetch_one(&mut client, 12, &committed).records), [0]);
}

#[test]
fn a_large_first_batch_is_given_whole_and_limits_hold_after_it() {
    let node = Node::start();
    node.topic_with("t", 3, LogConfig::default());
    let mut client = node.client();
    let large = batch(&[&[7; 5000]]);
    for index in 0..3 {
        for _ in 0..2 {
            client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", index, Some(&large), 1));
        }
    }
    let mut partitions: Vec<_> = (0..3).map(|index| fetch_partition(index, 0)).collect();
    for partition in &mut partitions {
        partition.partition_max_bytes = 100;
    }
    let topics = vec![FetchTopic { topic: "t", partitions, ..FetchTopic::default() }];
    let request = FetchRequest { topics, ..at_once("t", 0) };
    let body = client.call(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    let (.., parts) = fetched(&body, 12);
    let sizes: Vec<_> = parts.iter().map(|it| it.records.len()).collect();
    assert_eq!(sizes, [large.len(), 0, 0], "only the first may break the limit");
    let small = FetchRequest { max_bytes: 1, ..at_once("t", 0) };
    assert_eq!(fetch_one(&mut client, 12, &small).records.len(), large.len());
    let mut two = at_once("t", 0);
    two.topics[0].partitions[0].partition_max_bytes = i32::try_from(2 * large.len()).unwrap();
    assert_eq!(fetch_one(&mut client, 12, &two).records.len(), 2 * large.len());
}

#[test]
fn leader_epochs_are_compared() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    for (epoch, error) in [(-1, 0), (0, 0), (1, 75)] {
        let mut request = at_once("t", 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetch_one(&mut client, 12, &request).error, error, "epoch {epoch}");
    }
    node.broker.partitions().get("t", 0).unwrap().set_leader_epoch(5).unwrap();
    let mut request = at_once("t", 0);
    request.topics[0].partitions[0].current_leader_epoch = 4;
    assert_eq!(fetch_one(&mut client, 12, &request).error, 74);
}

#[test]
fn a_client_whose_last_epoch_diverges_is_told_where() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a", b"b"]));
    partition.set_leader_epoch(3).unwrap();
    client.produce("t", &batch(&[b"c"]));
    let mut request = fetch_request("t", 3);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let fetched = fetch_one(&mut client, 12, &request);
    assert_eq!((fetched.error, fetched.diverging, fetched.records.len()), (0, (0, 2), 0));
    request.topics[0].partitions[0].fetch_offset = 2;
    let fetched = fetch_one(&mut client, 12, &request);
    assert_eq!((fetched.diverging, offsets(&fetched.records)), ((-1, -1), vec![2]));
}

#[test]
fn a_client_that_says_it_is_a_replica_is_refused_unless_the_listener_is_for_brokers() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a"]));
    let request = FetchRequest { replica_id: 2, ..at_once("t", 0) };
    for (version, whole) in [(4, false), (12, true)] {
        let body = client.call(api_key::FETCH, version, |w| request.encode(w, version).unwrap());
        let (error, _, partitions) = fetched(&body, version);
        let of_partition = partitions.first().map_or(0, |it| it.error);
        assert_eq!((error, of_partition), if whole { (31, 0) } else { (0, 31) });
    }
    partition.update_replication(|it| *it = Replication::new(1, vec![1, 2], vec![1, 2], 1));
    client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"b"])), 1));
    let brokers = node.server.listen(&listener("BROKERS", true)).unwrap();
    node.broker.set_broker_epochs([(2, 70)].into());
    let follow = |replica_epoch, current_leader_epoch| {
        let mut request = at_once("t", 0);
        request.replica_state = ReplicaState { replica_id: 2, replica_epoch };
        request.topics[0].topic_id = partition.topic_id();
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        let fetched = fetch_one(&mut Client::connect(brokers), 17, &request);
        (fetched.error, offsets(&fetched.records))
    };
    assert_eq!(follow(70, 0), (0, vec![0, 1]), "followers read to the end");
    assert_eq!(follow(69, 0), (77, vec![]), "an incarnation that is gone");
    assert_eq!(follow(70, -1), (74, vec![]), "its position would count for any epoch");
    assert_eq!(follow(70, 1), (75, vec![]));
}

#[test]
fn zstd_needs_version_10() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a"]));
    client.produce("t", &compressed(&[b"b"], Compression::Zstd));
    assert_eq!(offsets(&fetch_one(&mut client, 9, &at_once("t", 0)).records), [0]);
    assert_eq!(fetch_one(&mut client, 9, &at_once("t", 1)).error, 76);
    assert_eq!(offsets(&fetch_one(&mut client, 10, &at_once("t", 0)).records), [0, 1]);
}

#[test]
fn an_unknown_partition_is_answered_at_once() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let begun = Instant::now();
    assert_eq!(fetch_one(&mut client, 12, &fetch_request("absent", 0)).error, 3);
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_long_poll_ends_with_a_produce_from_another_connection() {
    let node = Node::start();
    node.topic("t");
    let mut consumer = node.client();
    let mut producer = node.client();
    for offset in 0..200 {
        consumer.send(api_key::FETCH, 12, |w| fetch_request("t", offset).encode(w, 12).unwrap());
        assert_eq!(producer.produce("t", &batch(&[b"x"])), (0, offset));
        let (_, body) = consumer.answer(api_key::FETCH, 12);
        let (.., parts) = fetched(&body, 12);
        assert_eq!(offsets(&parts[0].records), [offset]);
    }
}

#[test]
fn a_long_poll_waits_for_min_bytes() {
    let node = Node::start();
    node.topic("t");
    let mut consumer = node.client();
    let mut producer = node.client();
    let one = batch(&[&[1; 100]]);
    let min_bytes = i32::try_from(3 * one.len()).unwrap();
    let request = FetchRequest { min_bytes, ..fetch_request("t", 0) };
    consumer.send(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    for _ in 0..3 {
        producer.produce("t", &one);
    }
    let (_, body) = consumer.answer(api_key::FETCH, 12);
    let (.., parts) = fetched(&body, 12);
    assert_eq!(offsets(&parts[0].records), [0, 1, 2]);
}

#[test]
fn a_long_poll_ends_empty_after_max_wait() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let begun = Instant::now();
    let fetched = fetch_one(&mut client, 12, &FetchRequest { max_wait_ms: 50, ..fetch_request("t", 0) });
    assert_eq!((fetched.error, fetched.records.len()), (0, 0));
    assert!(begun.elapsed().as_millis() >= 50);
}

#[test]
fn a_long_poll_ends_when_what_it_waits_for_cannot_come() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut consumer = node.client();
    let mut producer = node.client();
    producer.produce("t", &batch(&[b"a"]));
    let mut poll = |offset, epoch: i32, what: &dyn Fn()| {
        let mut request = FetchRequest { min_bytes: 1 << 20, ..fetch_request("t", offset) };
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        consumer.send(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
        what();
        let (_, body) = consumer.answer(api_key::FETCH, 12);
        fetched(&body, 12).2[0].error
    };
    assert_eq!(poll(0, -1, &|| assert!(partition.delete_records(1).is_ok())), 1);
    assert_eq!(poll(1, 0, &|| partition.set_leader_epoch(1).unwrap()), 74);
    node.broker.image().update(|image| assert!(image.remove_topic("t")));
    assert_eq!(poll(1, 1, &|| assert!(node.broker.delete_partition("t", 0).unwrap())), 3);
}

#[test]
fn the_partitions_of_a_topic_share_its_entry_and_keep_their_order() {
    let node = Node::start();
    node.topic_with("a", 2, LogConfig::default());
    node.topic("b");
    let mut client = node.client();
    let topic = |topic, indexes: &[i32]| FetchTopic {
        topic,
        partitions: indexes.iter().map(|index| fetch_partition(*index, 0)).collect(),
        ..FetchTopic::default()
    };
    let topics = vec![topic("a", &[1, 0]), topic("b", &[0])];
    let request = FetchRequest { topics, ..at_once("a", 0) };
    let body = client.call(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    let (.., parts) = fetched(&body, 12);
    let named: Vec<_> = parts.iter().map(|it| (it.topic.as_str(), it.index)).collect();
    assert_eq!(named, [("a", 1), ("a", 0), ("b", 0)]);
}

#[test]
fn only_read_committed_gets_a_list_of_aborted_transactions() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    for (isolation_level, expected) in [(0, None), (1, Some(0))] {
        let request = FetchRequest { isolation_level, ..at_once("t", 0) };
        let body = client.call(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
        decode(&body, 12, FetchResponse::decode, |response| {
            let aborted = &response.responses[0].partitions[0].aborted_transactions;
            assert_eq!(aborted.as_ref().map(Vec::len), expected);
        });
    }
}

#[test]
fn a_file_that_shrinks_under_a_reader_closes_the_connection() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[&[1; 1000]]));
    let segment = node.path().join("t-0").join("00000000000000000000.log");
    std::fs::OpenOptions::new().write(true).open(segment).unwrap().set_len(500).unwrap();
    client.send(api_key::FETCH, 12, |w| at_once("t", 0).encode(w, 12).unwrap());
    node.expect_event("the log file ends at");
    node.client().ping();
}

#[test]
fn polls_of_a_closed_connection_are_forgotten() {
    let node = Node::start();
    let partition = node.topic("t");
    for _ in 0..100 {
        let mut client = node.client();
        client.send(api_key::FETCH, 12, |w| fetch_request("t", 0).encode(w, 12).unwrap());
        client.ping_later();
    }
    eventually("the connections end", || node.server.connection_count() == 0);
    let mut client = node.client();
    for _ in 0..2 {
        client.send(api_key::FETCH, 12, |w| fetch_request("t", 0).encode(w, 12).unwrap());
    }
    eventually("dead polls are swept", || partition.waiting_count() < 40);
}
