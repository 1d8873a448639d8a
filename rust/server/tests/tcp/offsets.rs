//! ListOffsets and OffsetForLeaderEpoch: semantics rows 16, 39, 40, 41 and 56.

use crate::harness::*;
use fastlog_broker::Replication;
use fastlog_protocol::api_key;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use fastlog_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

fn asked(timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() }
}

/// Error, offset, timestamp, leader epoch of each partition asked for.
fn list(
    client: &mut Client,
    version: i16,
    topic: &str,
    isolation_level: i8,
    partitions: Vec<ListOffsetsPartition>,
) -> Vec<(i16, i64, i64, i32)> {
    let topics = vec![ListOffsetsTopic { name: topic, partitions }];
    let request = ListOffsetsRequest { replica_id: -1, isolation_level, topics, timeout_ms: 0 };
    let body = client.call(api_key::LIST_OFFSETS, version, |w| request.encode(w, version).unwrap());
    decode(&body, version, ListOffsetsResponse::decode, |response| {
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|it| (it.error_code, it.offset, it.timestamp, it.leader_epoch)).collect()
    })
}

fn list_one(client: &mut Client, timestamp: i64) -> (i16, i64, i64, i32) {
    list(client, 7, "t", 0, vec![asked(timestamp)]).remove(0)
}

fn batch_at(timestamps: &[i64], compression: Compression) -> Vec<u8> {
    let mut builder = Builder::new();
    for timestamp in timestamps {
        builder.append(*timestamp, None, Some(b"v"));
    }
    builder.seal(compression).unwrap()
}

#[test]
fn the_ends_of_a_log_have_no_timestamp() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    assert_eq!(list_one(&mut client, -1), (0, 0, -1, 0));
    for _ in 0..3 {
        client.produce("t", &batch(&[b"v"]));
    }
    partition.delete_records(1).unwrap();
    for version in 1..=7 {
        let found = list(&mut client, version, "t", 0, vec![asked(-1)]).remove(0);
        assert_eq!((found.0, found.1, found.2), (0, 3, -1));
        let found = list(&mut client, version, "t", 0, vec![asked(-2)]).remove(0);
        assert_eq!((found.0, found.1, found.2), (0, 1, -1));
    }
    assert_eq!(list_one(&mut client, -2).3, 0, "the epoch of the first record");
}

#[test]
fn latest_is_what_the_client_may_see() {
    let node = Node::start();
    let partition = node.topic("t");
    partition.update_replication(|it| *it = Replication::new(1, vec![1, 2], vec![1, 2], 1));
    let mut client = node.client();
    client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"v"])), 1));
    for isolation_level in [0, 1] {
        assert_eq!(list(&mut client, 7, "t", isolation_level, vec![asked(-1)])[0].1, 0);
    }
    partition.update_replication(|it| it.note_position(2, 1));
    for isolation_level in [0, 1] {
        assert_eq!(list(&mut client, 7, "t", isolation_level, vec![asked(-1)])[0].1, 1);
    }
}

#[test]
fn a_timestamp_finds_the_first_record_that_is_not_older_inside_a_batch() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        client.produce("t", &batch_at(&[1000, 2000, 3000], compression));
    }
    client.produce("t", &batch_at(&[9000, 4000], Compression::Lz4));
    assert_eq!(list_one(&mut client, 0), (0, 0, 1000, 0));
    assert_eq!(list_one(&mut client, 1500), (0, 1, 2000, 0));
    assert_eq!(list_one(&mut client, 3001), (0, 9, 9000, 0));
    assert_eq!(list_one(&mut client, 9001), (0, -1, -1, -1), "none is no error");
}

#[test]
fn the_record_with_the_largest_timestamp_is_minus_3_from_version_7_on() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    assert_eq!(list_one(&mut client, -3), (0, -1, -1, -1));
    client.produce("t", &batch_at(&[1000, 9000, 3000], Compression::Gzip));
    client.produce("t", &batch_at(&[2000], Compression::None));
    assert_eq!(list_one(&mut client, -3), (0, 1, 9000, 0));
    assert_eq!(list(&mut client, 6, "t", 0, vec![asked(-3)])[0].0, 35);
    assert_eq!(list_one(&mut client, -4).0, 35);
    assert_eq!(list_one(&mut client, -99).0, 35);
}

#[test]
fn unknown_partitions_duplicates_and_epochs_are_errors() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    assert_eq!(list(&mut client, 7, "absent", 0, vec![asked(-1)])[0], (3, -1, -1, -1));
    let twice = list(&mut client, 7, "t", 0, vec![asked(-1), asked(-2)]);
    assert_eq!(twice, [(42, -1, -1, -1)], "one answer, as in Kafka");
    partition.set_leader_epoch(2).unwrap();
    for (current_leader_epoch, error) in [(1, 74), (2, 0), (3, 75)] {
        let it = ListOffsetsPartition { current_leader_epoch, ..asked(-1) };
        assert_eq!(list(&mut client, 7, "t", 0, vec![it])[0].0, error);
    }
}

/// Error, epoch and end offset.
fn end_of_epoch(client: &mut Client, version: i16, topic: &str, current: i32, epoch: i32) -> (i16, i32, i64) {
    let partitions =
        vec![OffsetForLeaderPartition { partition: 0, current_leader_epoch: current, leader_epoch: epoch }];
    let topics = vec![OffsetForLeaderTopic { topic, partitions }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    let key = api_key::OFFSET_FOR_LEADER_EPOCH;
    let body = client.call(key, version, |w| request.encode(w, version).unwrap());
    decode(&body, version, OffsetForLeaderEpochResponse::decode, |response| {
        let it = &response.topics[0].partitions[0];
        (it.error_code, it.leader_epoch, it.end_offset)
    })
}

#[test]
fn an_epoch_ends_where_the_next_begins() {
    let node = Node::start();
    let partition = node.topic("t");
    let mut client = node.client();
    partition.set_leader_epoch(2).unwrap();
    client.produce("t", &batch(&[b"a", b"b"]));
    partition.set_leader_epoch(5).unwrap();
    client.produce("t", &batch(&[b"c"]));
    for version in 2..=4 {
        assert_eq!(end_of_epoch(&mut client, version, "t", -1, 5), (0, 5, 3), "current: the end");
        assert_eq!(end_of_epoch(&mut client, version, "t", -1, 2), (0, 2, 2), "known, older");
        assert_eq!(end_of_epoch(&mut client, version, "t", -1, 4), (0, 2, 2), "between: the one below");
        assert_eq!(end_of_epoch(&mut client, version, "t", -1, 6), (0, -1, -1), "newer than known");
        assert_eq!(end_of_epoch(&mut client, version, "t", 4, 5).0, 74);
        assert_eq!(end_of_epoch(&mut client, version, "t", 6, 5).0, 75);
        assert_eq!(end_of_epoch(&mut client, version, "absent", -1, 5), (3, -1, -1));
    }
}
