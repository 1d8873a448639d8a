//! Who asks the wrong broker is told the leader, and where it is (KIP-951).

use crate::node::*;
use fastlog_broker::{ImageBroker, ImagePartition, ImageTopic};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::read_response_header;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use fastlog_protocol::messages::produce::{
    PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData,
};
use fastlog_protocol::primitives::Reader;
use uuid::Uuid;

/// Error, leader and epoch, and the nodes told.
type Told = (ErrorCode, (i32, i32), Vec<(i32, String, i32, Option<String>)>);

/// What a client without a hint is told.
fn untold(error: ErrorCode) -> Told {
    (error, (-1, -1), Vec::new())
}

fn second_leads(error: ErrorCode, leader_epoch: i32) -> Told {
    (error, (2, leader_epoch), vec![(2, "host-2".to_owned(), 9002, Some("rack-2".to_owned()))])
}

/// Each broker knows where the others are, but for 3, which has another listener.
fn know_each_other(trio: &Trio) {
    for node in &trio.nodes {
        node.broker.image().update(|image| {
            let listeners = [(1, "BROKERS"), (2, "BROKERS"), (3, "OTHER")];
            let brokers = listeners.map(|(id, listener)| ImageBroker {
                id,
                rack: Some(rack(id)),
                endpoints: [(listener.to_owned(), (format!("host-{id}"), 9000 + id as u16))].into(),
                zmq_endpoint: None,
            });
            image.brokers = brokers.into();
        });
    }
}

fn describe(node: &Node, leader_id: i32, leader_epoch: i32) {
    let replicas: std::sync::Arc<[i32]> = [1, 2, 3].into();
    let partition = |index| ImagePartition {
        index,
        leader_id,
        leader_epoch,
        replicas: replicas.clone(),
        isr: replicas.clone(),
    };
    let partitions = vec![partition(0), partition(1)];
    node.broker.image().update(|image| {
        image.put_topic(ImageTopic { name: "t".into(), id: TOPIC_ID, is_internal: false, partitions });
    });
}

fn produce(node: &Node, version: i16, index: i32, acks: i16) -> Sent {
    let records = batch("x");
    let partition_data = vec![PartitionProduceData { index, records: Some(&records) }];
    let topic_data = vec![TopicProduceData { name: "t", topic_id: TOPIC_ID, partition_data }];
    let request = ProduceRequest { acks, timeout_ms: 60_000, topic_data, ..ProduceRequest::default() };
    node.send(api_key::PRODUCE, version, false, |writer| request.encode(writer, version).unwrap())
}

fn produced(sent: &Sent, version: i16) -> Told {
    let bytes = sent.bytes();
    let mut reader = Reader::new(&bytes);
    read_response_header(&mut reader, api_key::PRODUCE, version).unwrap();
    let response = ProduceResponse::decode(&mut reader, version).unwrap();
    let topic = &response.responses[0];
    assert_eq!((topic.name == "t", topic.topic_id == TOPIC_ID), (version < 13, version >= 13));
    let partition = &topic.partition_responses[0];
    let leader = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
    let nodes = response.node_endpoints.iter();
    let nodes = nodes.map(|it| (it.node_id, it.host.to_owned(), it.port, it.rack.map(str::to_owned)));
    (ErrorCode(partition.error_code), leader, nodes.collect())
}

fn fetch(node: &Node, version: i16, wanted: FetchPartition, max_wait_ms: i32) -> Sent {
    let topics = vec![FetchTopic { topic: "t", topic_id: TOPIC_ID, partitions: vec![wanted] }];
    let (min_bytes, max_bytes) = (1, 1 << 20);
    let request = FetchRequest { max_wait_ms, min_bytes, max_bytes, topics, ..FetchRequest::default() };
    node.send(api_key::FETCH, version, false, |writer| request.encode(writer, version).unwrap())
}

fn fetched(sent: &Sent, version: i16) -> Told {
    let bytes = sent.bytes();
    let mut reader = Reader::new(&bytes);
    read_response_header(&mut reader, api_key::FETCH, version).unwrap();
    let response = FetchResponse::decode(&mut reader, version).unwrap();
    let partition = &response.responses[0].partitions[0];
    let leader = (partition.current_leader.leader_id, partition.current_leader.leader_epoch);
    let nodes = response.node_endpoints.iter();
    let nodes = nodes.map(|it| (it.node_id, it.host.to_owned(), it.port, it.rack.map(str::to_owned)));
    (ErrorCode(partition.error_code), leader, nodes.collect())
}

#[test]
fn a_producer_is_told_at_once_and_when_it_waited() {
    let trio = Trio::start();
    let first = &trio.nodes[0];
    know_each_other(&trio);
    let waits = produce(first, 10, 0, ALL);
    assert!(waits.is_waiting());
    trio.elect(2, 1, &[2, 3]);
    let moved = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    assert_eq!(produced(&waits, 10), second_leads(moved, 1));
    for version in 10..=13 {
        assert_eq!(produced(&produce(first, version, 0, 1), version), second_leads(moved, 1), "{version}");
    }
    assert_eq!(produced(&produce(first, 9, 0, 1), 9), untold(moved), "it has no field for that");
}

#[test]
fn a_consumer_is_told_at_once_and_when_it_waited() {
    let trio = Trio::start();
    let first = &trio.nodes[0];
    know_each_other(&trio);
    let wanted = |current_leader_epoch| FetchPartition {
        current_leader_epoch,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let waits = fetch(first, 16, wanted(0), 60_000);
    assert!(waits.is_waiting());
    trio.elect(2, 1, &[2, 3]);
    let fenced = ErrorCode::FENCED_LEADER_EPOCH;
    assert_eq!(fetched(&waits, 16), second_leads(fenced, 1));
    assert_eq!(fetched(&fetch(first, 18, wanted(0), 0), 18), second_leads(fenced, 1));
    assert_eq!(fetched(&fetch(first, 15, wanted(0), 0), 15), untold(fenced), "as Kafka, from 16 on");
    let early = fetched(&fetch(first, 16, wanted(9), 0), 16);
    assert_eq!(early, untold(ErrorCode::UNKNOWN_LEADER_EPOCH), "the client knows better");
}

#[test]
fn a_partition_without_a_replica_here_is_told_as_the_image_has_it() {
    let trio = Trio::start();
    let first = &trio.nodes[0];
    know_each_other(&trio);
    describe(first, 2, 7);
    let moved = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    assert_eq!(produced(&produce(first, 10, 1, 1), 10), second_leads(moved, 7));
    assert_eq!(produced(&produce(first, 13, 1, 1), 13), second_leads(moved, 7));
    describe(first, 3, 8);
    let unreached = produced(&produce(first, 10, 1, 1), 10);
    assert_eq!(unreached, (moved, (3, 8), Vec::new()), "the client cannot reach its listener");
    describe(first, -1, 9);
    assert_eq!(produced(&produce(first, 10, 1, 1), 10), (moved, (-1, 9), Vec::new()));
}

#[test]
fn the_later_of_the_two_is_told_while_an_election_spreads() {
    let trio = Trio::start();
    let first = &trio.nodes[0];
    know_each_other(&trio);
    describe(first, 3, 4);
    first.change(2, 5, &[2, 3]).unwrap();
    let moved = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    assert_eq!(produced(&produce(first, 10, 0, 1), 10), second_leads(moved, 5), "the image is behind");
    describe(first, 2, 6);
    assert_eq!(produced(&produce(first, 10, 0, 1), 10), second_leads(moved, 6), "the replica is behind");
}

#[test]
fn topics_are_named_by_ids_from_version_13_on() {
    let trio = Trio::start();
    let first = &trio.nodes[0];
    first.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    assert_eq!(produced(&produce(first, 13, 0, 1), 13).0, ErrorCode::NONE);
    assert_eq!(first.offsets().2, 1);
    let records = batch("x");
    for topic_id in [Uuid::from_u128(99), Uuid::nil()] {
        let partition_data = vec![PartitionProduceData { index: 0, records: Some(&records) }];
        let topic_data = vec![TopicProduceData { name: "t", topic_id, partition_data }];
        let request = ProduceRequest { acks: 1, topic_data, ..ProduceRequest::default() };
        let sent = first.send(api_key::PRODUCE, 13, false, |it| request.encode(it, 13).unwrap());
        let bytes = sent.bytes();
        let mut reader = Reader::new(&bytes);
        read_response_header(&mut reader, api_key::PRODUCE, 13).unwrap();
        let response = ProduceResponse::decode(&mut reader, 13).unwrap();
        let error = ErrorCode(response.responses[0].partition_responses[0].error_code);
        assert_eq!(error, ErrorCode::UNKNOWN_TOPIC_ID, "{topic_id}");
    }
}
