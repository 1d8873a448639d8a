//! Produce: semantics rows 19-23, 26, 28, 37 and 38.

use crate::harness::*;
use fastlog_broker::Replication;
use fastlog_log::LogConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::batch::{Attributes, Builder};
use fastlog_protocol::compression::Compression;
use fastlog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use fastlog_protocol::primitives::Writer;

/// Error, base offset, number of record errors and message of the only partition.
fn partition_result(body: &[u8], version: i16) -> (i16, i64, usize, Option<String>) {
    decode(body, version, ProduceResponse::decode, |response| {
        let partition = &response.responses[0].partition_responses[0];
        let message = partition.error_message.map(str::to_owned);
        (partition.error_code, partition.base_offset, partition.record_errors.len(), message)
    })
}

fn produce(client: &mut Client, version: i16, topic: &str, records: Option<&[u8]>, acks: i16) -> (i16, i64) {
    let body = client.call(api_key::PRODUCE, version, |w| produce_body(w, version, topic, 0, records, acks));
    let (error, offset, ..) = partition_result(&body, version);
    (error, offset)
}

#[test]
fn every_version_appends_and_tells_the_offset() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    for (version, offset) in (3..=9).zip(0..) {
        for (acks, step) in [(1, 0), (-1, 1)] {
            let answer = produce(&mut client, version, "t", Some(&batch(&[b"v"])), acks);
            assert_eq!(answer, (0, 2 * offset + step));
        }
    }
    assert_eq!(partition.log().high_watermark(), 14);
}

#[test]
fn the_answer_tells_the_log_start_and_no_time_for_create_time() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"a", b"b"]));
    partition.delete_records(1).unwrap();
    let body = client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"c"])), 1));
    decode(&body, 9, ProduceResponse::decode, |response| {
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.log_start_offset, partition.log_append_time_ms), (1, -1));
    });
}

#[test]
fn log_append_time_is_answered() {
    let node = Node::start();
    let config = LogConfig {
        timestamp_type: fastlog_protocol::batch::TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    node.topic_with("t", 1, config);
    let mut client = node.client();
    let body = client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"c"])), 1));
    decode(&body, 9, ProduceResponse::decode, |response| {
        assert!(response.responses[0].partition_responses[0].log_append_time_ms > 1_600_000_000_000);
    });
}

#[test]
fn acks_other_than_minus_1_0_and_1_are_refused() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    for acks in [2, -2, 5, i16::MAX] {
        assert_eq!(produce(&mut client, 9, "t", Some(&batch(&[b"v"])), acks), (21, -1));
    }
    assert_eq!(partition.log().log_end_offset(), 0);
}

#[test]
fn acks_0_has_no_answer() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    for _ in 0..10 {
        client.send(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"v"])), 0));
    }
    client.ping();
    assert_eq!(partition.log().log_end_offset(), 10);
}

#[test]
fn an_error_with_acks_0_closes_the_connection() {
    let node = Node::start();
    let mut client = node.client();
    client.send(api_key::PRODUCE, 9, |w| produce_body(w, 9, "absent", 0, Some(&batch(&[b"v"])), 0));
    client.expect_close();
    node.expect_event("at absent-0");
}

#[test]
fn null_records_are_answered_with_an_error_at_once() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    for version in 3..=9 {
        assert_eq!(produce(&mut client, version, "t", None, -1), (87, -1));
    }
}

#[test]
fn a_partition_takes_exactly_one_batch() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    let one = batch(&[b"v"]);
    let two = [one.clone(), one.clone()].concat();
    assert_eq!(produce(&mut client, 9, "t", Some(&two), 1).0, 87);
    assert_eq!(produce(&mut client, 9, "t", Some(&[]), 1).0, 87);
    let garbage = [one, vec![0xab; 30]].concat();
    assert_ne!(produce(&mut client, 9, "t", Some(&garbage), 1).0, 0);
    assert_eq!(partition.log().log_end_offset(), 0);
}

#[test]
fn a_wrong_crc_is_corrupt_and_the_connection_lives() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let mut bad = batch(&[b"value"]);
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(client.produce("t", &bad), (2, -1));
    assert_eq!(client.produce("t", &batch(&[b"value"])), (0, 0));
}

#[test]
fn a_batch_above_max_message_bytes_is_too_large() {
    let node = Node::start();
    node.topic_with("t", 1, LogConfig { max_message_bytes: 200, ..LogConfig::default() });
    let mut client = node.client();
    assert_eq!(client.produce("t", &batch(&[&[7; 300]])), (10, -1));
    assert_eq!(client.produce("t", &batch(&[&[7; 100]])), (0, 0));
    node.broker.configure_topic("t", &LogConfig::default().into(), 1);
    assert_eq!(client.produce("t", &batch(&[&[7; 300]])), (0, 1));
}

#[test]
fn zstd_needs_version_7() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let zstd = compressed(&[b"v"], Compression::Zstd);
    assert_eq!(produce(&mut client, 6, "t", Some(&zstd), 1), (76, -1));
    assert_eq!(produce(&mut client, 7, "t", Some(&zstd), 1), (0, 0));
    for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let other = compressed(&[b"v"], compression);
        assert_eq!(produce(&mut client, 3, "t", Some(&other), 1).0, 0);
    }
}

#[test]
fn an_unknown_topic_or_partition_is_3_and_is_not_created() {
    let node = Node::start();
    node.topic("t");
    node.broker.image().update(|image| image.auto_create_topics = true);
    let mut client = node.client();
    assert_eq!(client.produce("absent", &batch(&[b"v"])), (3, -1));
    assert_eq!(client.produce("../x", &batch(&[b"v"])), (3, -1));
    let body = client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 7, Some(&batch(&[b"v"])), 1));
    assert_eq!(partition_result(&body, 9).0, 3);
    assert!(node.broker.control().is_empty());
}

#[test]
fn a_client_does_not_write_to_kafkas_own_topics() {
    let node = Node::start();
    node.topic("__consumer_offsets");
    let mut client = node.client();
    assert_eq!(client.produce("__consumer_offsets", &batch(&[b"v"])), (17, -1));
    assert_eq!(client.produce("__transaction_state", &batch(&[b"v"])), (17, -1));
    assert_eq!(node.broker.partitions().get("__consumer_offsets", 0).unwrap().log().log_end_offset(), 0);
}

#[test]
fn a_partition_led_elsewhere_is_6() {
    let node = Node::start();
    node.broker.image().update(|image| {
        image.put_topic(fastlog_broker::ImageTopic {
            name: "far".into(),
            id: uuid::Uuid::from_u128(9),
            is_internal: false,
            partitions: vec![fastlog_broker::ImagePartition { leader_id: 2, ..Default::default() }],
        });
    });
    assert_eq!(node.client().produce("far", &batch(&[b"v"])), (6, -1));
}

#[test]
fn records_without_keys_are_named_one_by_one_on_a_compacted_topic() {
    let node = Node::start();
    node.topic_with("t", 1, LogConfig { cleanup_compact: true, ..LogConfig::default() });
    let mut client = node.client();
    let body = client.call(api_key::PRODUCE, 8, |w| produce_body(w, 8, "t", 0, Some(&batch(&[b"v"])), 1));
    let (error, offset, record_errors, message) = partition_result(&body, 8);
    assert_eq!((error, offset, record_errors), (87, -1, 1));
    assert!(message.is_some());
}

#[test]
fn transactional_batches_are_refused_while_there_are_no_transactions() {
    let node = Node::start();
    node.topic("t");
    let mut builder = Builder::new().producer(5, 0, 0).attributes(Attributes(0x10));
    builder.append(1000, None, Some(b"v"));
    let transactional = builder.seal(Compression::None).unwrap();
    assert_eq!(node.client().produce("t", &transactional), (48, -1));
}

#[test]
fn a_batch_sent_again_by_its_producer_keeps_its_offset() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    client.produce("t", &batch(&[b"before"]));
    let sequenced = |sequence| {
        let mut builder = Builder::new().producer(5, 0, sequence);
        builder.append(1000, None, Some(b"v"));
        builder.seal(Compression::None).unwrap()
    };
    assert_eq!(client.produce("t", &sequenced(0)), (0, 1));
    assert_eq!(client.produce("t", &sequenced(0)), (0, 1));
    assert_eq!(client.produce("t", &sequenced(5)).0, 45);
    assert_eq!(client.produce("t", &sequenced(1)), (0, 2));
    assert_eq!(partition.log().log_end_offset(), 3);
}

#[test]
fn a_data_directory_that_failed_refuses_appends_with_56() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    assert_eq!(client.produce("t", &batch(&[b"v"])), (0, 0));
    node.storage.poison(&"a write failed");
    assert_eq!(client.produce("t", &batch(&[b"v"])), (56, -1));
    client.ping();
}

#[test]
fn min_insync_replicas_above_the_replica_count_still_writes() {
    let node = Node::start();
    node.topic("t");
    node.broker.configure_topic("t", &LogConfig::default().into(), 2);
    assert_eq!(node.client().produce("t", &batch(&[b"v"])), (0, 0));
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_before_the_append() {
    let node = Node::start();
    let partition = node.topic("t");
    partition.update_replication(|it| *it = Replication::new(1, vec![1, 2, 3], vec![1], 2));
    let mut client = node.client();
    assert_eq!(produce(&mut client, 9, "t", Some(&batch(&[b"v"])), -1), (19, -1));
    assert_eq!(partition.log().log_end_offset(), 0);
    assert_eq!(produce(&mut client, 9, "t", Some(&batch(&[b"v"])), 1), (0, 0));
    assert_eq!(partition.log().high_watermark(), 0, "invisible until enough replicas are in sync");
}

/// Sends acks=all to a partition with another replica in sync; the request waits.
fn send_and_wait(node: &Node, client: &mut Client, timeout_ms: i32) {
    let partition = node.topic("t");
    partition.update_replication(|it| *it = Replication::new(1, vec![1, 2, 3], vec![1, 2], 2));
    let records = batch(&[b"v"]);
    client.send(api_key::PRODUCE, 9, |w: &mut Writer| {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&records) }];
        let topic_data = vec![TopicProduceData { name: "t", partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks: -1, timeout_ms, topic_data, ..ProduceRequest::default() };
        request.encode(w, 9).unwrap();
    });
    eventually("the append", || partition.log().log_end_offset() == 1);
}

#[test]
fn acks_all_is_answered_when_every_in_sync_replica_has_the_batch() {
    let node = Node::start();
    let mut client = node.client();
    send_and_wait(&node, &mut client, LONG_MS);
    let partition = node.broker.partitions().get("t", 0).unwrap();
    assert_eq!(partition.log().high_watermark(), 0);
    partition.update_replication(|it| it.note_position(2, 1));
    let (_, body) = client.answer(api_key::PRODUCE, 9);
    assert_eq!(partition_result(&body, 9).0, 0);
    assert_eq!(partition.log().high_watermark(), 1);
}

#[test]
fn replicas_that_stay_behind_time_out_with_7_but_the_batch_may_commit_later() {
    let node = Node::start();
    let mut client = node.client();
    send_and_wait(&node, &mut client, 10);
    let (_, body) = client.answer(api_key::PRODUCE, 9);
    assert_eq!(partition_result(&body, 9).0, 7);
    let partition = node.broker.partitions().get("t", 0).unwrap();
    partition.update_replication(|it| it.note_position(2, 1));
    assert_eq!(partition.log().high_watermark(), 1);
}

#[test]
fn an_isr_that_shrinks_below_the_minimum_after_the_append_is_20() {
    let node = Node::start();
    let mut client = node.client();
    send_and_wait(&node, &mut client, LONG_MS);
    let partition = node.broker.partitions().get("t", 0).unwrap();
    // the follower gets the batch, and both changes are seen at once by the waiter
    partition.update_replication(|it| it.set_min_insync_replicas(3));
    assert_eq!(partition.log().high_watermark(), 0, "frozen below the minimum");
    partition.log().advance_high_watermark(1);
    partition.notify();
    let (_, body) = client.answer(api_key::PRODUCE, 9);
    assert_eq!(partition_result(&body, 9).0, 20);
    assert_eq!(partition.log().log_end_offset(), 1, "the record is in the log");
}

#[test]
fn deleting_the_topic_ends_a_wait_with_3() {
    let node = Node::start();
    let mut client = node.client();
    send_and_wait(&node, &mut client, LONG_MS);
    assert!(node.broker.delete_partition("t", 0).unwrap());
    let (_, body) = client.answer(api_key::PRODUCE, 9);
    assert_eq!(partition_result(&body, 9).0, 3);
}

#[test]
fn many_partitions_are_answered_one_by_one() {
    let node = Node::start();
    node.topic_with("t", 2, LogConfig::default());
    let mut client = node.client();
    let good = batch(&[b"v"]);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    let body = client.call(api_key::PRODUCE, 9, |w| {
        let data = |index, records| PartitionProduceData { index, records: Some(records) };
        let partition_data = vec![data(0, &good[..]), data(1, &bad[..]), data(2, &good[..])];
        let topic_data = vec![TopicProduceData { name: "t", partition_data, ..TopicProduceData::default() }];
        let request = ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..ProduceRequest::default() };
        request.encode(w, 9).unwrap();
    });
    decode(&body, 9, ProduceResponse::decode, |response| {
        let partitions = &response.responses[0].partition_responses;
        let results: Vec<_> = partitions.iter().map(|it| (it.index, it.error_code)).collect();
        assert_eq!(results, [(0, 0), (1, 2), (2, 3)]);
    });
}

#[test]
fn answers_that_wait_for_the_disk_keep_their_place_among_those_that_do_not() {
    let node = Node::start();
    let synced = LogConfig { durability: fastlog_log::Durability::Fsync, ..LogConfig::default() };
    let partition = node.topic_with("synced", 1, synced).remove(0);
    node.topic("os");
    let (mut client, mut sent) = (node.client(), Vec::new());
    for number in 0..60 {
        let (topic, acks) = match number % 3 {
            0 => ("os", -1),
            1 => ("synced", -1),
            _ => ("synced", 1),
        };
        let records = batch(&[b"v"]);
        sent.push(client.send(api_key::PRODUCE, 9, |w| produce_body(w, 9, topic, 0, Some(&records), acks)));
    }
    for (number, expected) in sent.into_iter().enumerate() {
        let (correlation_id, body) = client.answer(api_key::PRODUCE, 9);
        assert_eq!((correlation_id, partition_result(&body, 9).0), (expected, 0), "request {number}");
    }
    assert_eq!(partition.log().recovery_point(), 40, "all of it is on the disk");
}
