//! Consumers read from a follower in their rack (KIP-392), up to its high watermark (semantics row 14).

use crate::node::*;
use fastlog_broker::ImageBroker;
use fastlog_protocol::ErrorCode;
use fastlog_protocol::api_key;
use fastlog_protocol::header::read_response_header;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use fastlog_protocol::primitives::Reader;

/// Three brokers in racks of their own; broker 3 has no listener for the client.
fn start() -> Trio {
    let trio = Trio::start();
    trio.nodes[0].broker.image().update(|image| {
        let listeners = [(1, "BROKERS"), (2, "BROKERS"), (3, "OTHER")];
        let brokers = listeners.map(|(id, listener)| ImageBroker {
            id,
            rack: Some(rack(id)),
            endpoints: [(listener.to_owned(), (format!("host-{id}"), 9000))].into(),
            zmq_endpoint: None,
        });
        image.brokers = brokers.into();
    });
    trio
}

/// Error, preferred replica and how many records, of a consumer in a rack.
fn consume(node: &Node, rack_id: &str, version: i16, fetch_offset: i64) -> (ErrorCode, i32, usize) {
    let wanted = FetchPartition { fetch_offset, partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = vec![FetchTopic { topic: "t", topic_id: TOPIC_ID, partitions: vec![wanted] }];
    // it would wait for more than there is, were it not told to go elsewhere
    let (max_wait_ms, min_bytes, max_bytes) = (500, 1 << 20, 1 << 20);
    let request =
        FetchRequest { max_wait_ms, min_bytes, max_bytes, topics, rack_id, ..FetchRequest::default() };
    let sent = node.send(api_key::FETCH, version, false, |it| request.encode(it, version).unwrap());
    let bytes = sent.bytes();
    let mut reader = Reader::new(&bytes);
    read_response_header(&mut reader, api_key::FETCH, version).unwrap();
    let response = FetchResponse::decode(&mut reader, version).unwrap();
    let partition = &response.responses[0].partitions[0];
    let records = values(partition.records.unwrap_or_default()).len();
    (ErrorCode(partition.error_code), partition.preferred_read_replica, records)
}

#[test]
fn the_leader_sends_a_consumer_to_the_replica_in_its_rack_without_records() {
    let trio = start();
    let [leader, second, third] = &trio.nodes;
    leader.write("a");
    second.catch_up(leader);
    third.catch_up(leader);
    second.follow(leader);
    for version in [11, 12, 18] {
        assert_eq!(consume(leader, "rack-2", version, 0), (ErrorCode::NONE, 2, 0), "version {version}");
    }
    assert_eq!(consume(second, "rack-2", 11, 0), (ErrorCode::NONE, -1, 1), "who serves it");
    assert_eq!(consume(leader, "rack-1", 11, 0), (ErrorCode::NONE, -1, 1), "the leader's own rack");
    assert_eq!(consume(leader, "rack-9", 11, 0), (ErrorCode::NONE, -1, 1), "nobody is there");
    assert_eq!(consume(leader, "", 11, 0), (ErrorCode::NONE, -1, 1), "it tells none");
    assert_eq!(
        consume(leader, "rack-3", 11, 0),
        (ErrorCode::NONE, -1, 1),
        "3 is not reached by its listener"
    );
}

#[test]
fn a_follower_that_lacks_what_is_asked_for_or_is_not_in_sync_is_not_preferred() {
    let trio = start();
    let [leader, second, _] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    second.catch_up(leader);
    leader.write("a");
    assert_eq!(consume(leader, "rack-2", 12, 1), (ErrorCode::NONE, -1, 0), "it has not got so far");
    second.catch_up(leader);
    assert_eq!(consume(leader, "rack-2", 12, 1), (ErrorCode::NONE, 2, 0));
    leader.partition().set_isr(0, vec![1, 3], vec![1, 2, 3], 2, false).unwrap();
    assert_eq!(consume(leader, "rack-2", 12, 0), (ErrorCode::NONE, -1, 1), "it is only proposed");
}

#[test]
fn a_follower_shows_what_is_below_its_high_watermark() {
    let trio = start();
    let [leader, second, third] = &trio.nodes;
    leader.write("a");
    second.catch_up(leader);
    third.catch_up(leader);
    second.follow(leader);
    leader.write("b");
    second.follow(leader);
    assert_eq!(second.offsets(), (0, 1, 2), "it has b, and does not know it committed");
    assert_eq!(consume(second, "rack-2", 12, 0), (ErrorCode::NONE, -1, 1));
    assert_eq!(consume(second, "rack-2", 12, 1), (ErrorCode::NONE, -1, 0));
    assert_eq!(consume(second, "rack-2", 12, 2).0, ErrorCode::OFFSET_NOT_AVAILABLE);
    assert_eq!(consume(second, "rack-2", 10, 0).0, ErrorCode::NOT_LEADER_OR_FOLLOWER, "before the KIP");
}
