//! Replicas that are behind and throttled wait for their turn; those in sync never do (KIP-73).

use crate::node::*;
use fastlog_protocol::api_key;
use fastlog_protocol::header::read_response_header;
use fastlog_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchTopic, ReplicaState};
use fastlog_protocol::primitives::Reader;

const FETCH_VERSION: i16 = 18;
const UNLIMITED: u64 = i64::MAX as u64;

/// 3 is out of sync, and the leader has something for both followers.
fn one_behind() -> Trio {
    let trio = Trio::start();
    let [leader, _, _] = &trio.nodes;
    leader.partition().set_isr(0, vec![1, 2], vec![1, 2], 1, false).unwrap();
    leader.write("a");
    trio
}

#[test]
fn a_leader_keeps_records_from_whom_is_behind_and_from_nobody_else() {
    let trio = one_behind();
    let [leader, second, third] = &trio.nodes;
    leader.broker.throttle_topic("t", &["0:1"], &[]);
    leader.broker.set_replication_rates(1, UNLIMITED);
    third.follow(leader);
    assert_eq!(third.records(), [], "nothing may pass yet");
    second.follow(leader);
    assert_eq!(second.records().len(), 1, "it is in sync");
    // what it was sent is a debt of the throttle all the same, as in Kafka
    leader.clock.pass_seconds(1);
    third.follow(leader);
    assert_eq!(third.records(), []);
    leader.clock.pass_seconds(1_000);
    third.follow(leader);
    assert_eq!(third.records().len(), 1);
}

#[test]
fn a_fetch_that_is_kept_waiting_by_the_throttle_waits_its_time() {
    let trio = one_behind();
    let [leader, _, third] = &trio.nodes;
    leader.broker.throttle_topic("t", &["*"], &[]);
    leader.broker.set_replication_rates(0, UNLIMITED);
    let sent = leader.fetch(3, third.asks(), 300, true);
    leader.write("b");
    assert!(sent.is_waiting(), "new records do not end its wait");
    assert_eq!(shown(&sent.bytes()).values, []);
}

#[test]
fn another_brokers_entry_and_a_rate_alone_hold_nobody_back() {
    let trio = one_behind();
    let [leader, _, third] = &trio.nodes;
    leader.broker.set_replication_rates(0, 0);
    leader.broker.throttle_topic("t", &["0:2", "1:1"], &[]);
    third.follow(leader);
    assert_eq!(third.records().len(), 1);
}

#[test]
fn a_follower_that_is_behind_does_not_ask_while_its_rate_is_exceeded() {
    let trio = one_behind();
    let [leader, _, third] = &trio.nodes;
    third.broker.throttle_topic("t", &[], &["0:3"]);
    assert_eq!(third.broker.held_back(), [], "without a rate");
    third.broker.set_replication_rates(UNLIMITED, 1);
    assert_eq!(third.broker.held_back(), [(TOPIC_ID, 0)]);
    third.clock.pass_seconds(1);
    assert_eq!(third.broker.held_back(), []);
    third.catch_up(leader);
    assert_eq!(third.records().len(), 1);
    assert_eq!(third.broker.held_back(), [], "it is in debt, but has all that is committed");
    leader.write("b");
    trio.nodes[1].catch_up(leader);
    leader.clock.pass_seconds(31);
    trio.nodes[1].catch_up(leader);
    // it hears of the high watermark with the next answer, which brings no more than it is allowed
    leader.broker.throttle_topic("t", &["*"], &[]);
    leader.broker.set_replication_rates(0, UNLIMITED);
    third.follow(leader);
    assert_eq!(third.broker.held_back(), [(TOPIC_ID, 0)]);
    third.broker.throttle_topic::<&str>("t", &[], &[]);
    assert_eq!(third.broker.held_back(), [], "it is listed no more");
}

#[test]
fn a_rate_that_is_lifted_lets_all_through() {
    let trio = one_behind();
    let [leader, _, third] = &trio.nodes;
    leader.broker.throttle_topic("t", &["*"], &["*"]);
    leader.broker.set_replication_rates(0, 0);
    let waiting = leader.fetch(3, third.asks(), 60_000, true);
    leader.broker.set_replication_rates(UNLIMITED, UNLIMITED);
    leader.write("b");
    assert_eq!(shown(&waiting.bytes()).values.len(), 2);
}

/// A fetch in a session; its id, and the number of records that came.
fn fetch(
    leader: &Node,
    (session_id, session_epoch): (i32, i32),
    topics: Vec<FetchTopic<'_>>,
) -> (i32, usize) {
    let replica_state = ReplicaState { replica_id: 3, replica_epoch: broker_epoch(3) };
    let request = FetchRequest {
        replica_state,
        max_bytes: 1 << 20,
        session_id,
        session_epoch,
        topics,
        ..FetchRequest::default()
    };
    let sent =
        leader.send(api_key::FETCH, FETCH_VERSION, true, |it| request.encode(it, FETCH_VERSION).unwrap());
    let bytes = sent.bytes();
    let mut reader = Reader::new(&bytes);
    read_response_header(&mut reader, api_key::FETCH, FETCH_VERSION).unwrap();
    let response = FetchResponse::decode(&mut reader, FETCH_VERSION).unwrap();
    let partitions = response.responses.iter().flat_map(|it| &it.partitions);
    let came = partitions.map(|it| values(it.records.unwrap_or_default()).len()).sum();
    (response.session_id, came)
}

#[test]
fn a_session_brings_what_was_kept_back_without_being_asked_for_it_again() {
    let trio = one_behind();
    let [leader, _, third] = &trio.nodes;
    leader.broker.throttle_topic("t", &["*"], &[]);
    leader.broker.set_replication_rates(1, UNLIMITED);
    let topics = vec![FetchTopic { topic: "", topic_id: TOPIC_ID, partitions: vec![third.asks()] }];
    let (session, came) = fetch(leader, (0, 0), topics);
    assert_eq!(came, 0);
    assert_eq!(fetch(leader, (session, 1), Vec::new()), (session, 0));
    leader.clock.pass_seconds(1);
    // nothing was written meanwhile that would have had it looked at
    assert_eq!(fetch(leader, (session, 2), Vec::new()), (session, 1));
}
