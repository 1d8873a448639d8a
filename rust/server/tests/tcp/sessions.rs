//! Fetch sessions (KIP-227): semantics rows 12, 13 and 18.

use crate::harness::*;
use fastlog_broker::BrokerConfig;
use fastlog_log::LogConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};

fn request(session_id: i32, session_epoch: i32, partitions: Vec<FetchPartition>) -> FetchRequest<'static> {
    let named = !partitions.is_empty();
    let topic = FetchTopic { topic: "t", partitions, ..FetchTopic::default() };
    FetchRequest {
        session_id,
        session_epoch,
        max_wait_ms: 0,
        topics: if named { vec![topic] } else { Vec::new() },
        ..fetch_request("t", 0)
    }
}

fn fetch(client: &mut Client, request: &FetchRequest<'_>) -> (i16, i32, Vec<Fetched>) {
    let body = client.call(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    fetched(&body, 12)
}

fn indexes(partitions: &[Fetched]) -> Vec<i32> {
    partitions.iter().map(|it| it.index).collect()
}

fn produce(client: &mut Client, index: i32) {
    client.call(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", index, Some(&batch(&[b"v"])), 1));
}

/// A node with three partitions, and a session of all of them.
fn begun() -> (Node, Client, i32) {
    let node = Node::start();
    node.topic_with("t", 3, LogConfig::default());
    let mut client = node.client();
    let partitions = (0..3).map(|index| fetch_partition(index, 0)).collect();
    let (error, id, named) = fetch(&mut client, &request(0, 0, partitions));
    assert_eq!((error, indexes(&named)), (0, vec![0, 1, 2]));
    assert!(id > 0);
    (node, client, id)
}

#[test]
fn an_incremental_answer_names_only_what_changed() {
    let (_node, mut client, id) = begun();
    assert_eq!(fetch(&mut client, &request(id, 1, vec![])), (0, id, vec![]));
    produce(&mut client, 1);
    let (_, _, named) = fetch(&mut client, &request(id, 2, vec![]));
    assert_eq!(indexes(&named), [1]);
    assert!(!named[0].records.is_empty());
    // the client moves on, and is told nothing until something happens
    let moved = vec![fetch_partition(1, 1)];
    assert_eq!(fetch(&mut client, &request(id, 3, moved)).2, vec![]);
    assert_eq!(fetch(&mut client, &request(id, 4, vec![])).2, vec![]);
}

#[test]
fn a_high_watermark_that_moves_is_told_without_records() {
    let (_node, mut client, id) = begun();
    let ahead = vec![fetch_partition(2, 1)];
    produce(&mut client, 2);
    let (_, _, named) = fetch(&mut client, &request(id, 1, ahead));
    assert_eq!((indexes(&named), named[0].high_watermark, named[0].records.len()), (vec![2], 1, 0));
}

#[test]
fn a_partition_that_brought_records_comes_last_the_next_time() {
    let (_node, mut client, id) = begun();
    for index in 0..3 {
        produce(&mut client, index);
    }
    let limited = |epoch| FetchRequest { max_bytes: 1, ..request(id, epoch, vec![]) };
    // there is room for one batch each time: each partition gets its turn
    let mut turns = Vec::new();
    for epoch in 1..=3 {
        let (_, _, named) = fetch(&mut client, &limited(epoch));
        turns.extend(named.iter().filter(|it| !it.records.is_empty()).map(|it| it.index));
    }
    assert_eq!(turns, [0, 1, 2]);
}

#[test]
fn an_error_is_told_every_time() {
    let (node, mut client, id) = begun();
    node.broker.delete_partition("t", 0).unwrap();
    node.broker.image().update(|image| assert!(image.remove_topic("t")));
    for epoch in 1..=2 {
        let (_, _, named) = fetch(&mut client, &request(id, epoch, vec![]));
        assert_eq!(named.iter().map(|it| (it.index, it.error)).collect::<Vec<_>>(), [(0, 3)]);
    }
}

#[test]
fn a_session_is_known_by_its_id_and_in_step_by_its_epoch() {
    let (_node, mut client, id) = begun();
    assert_eq!(fetch(&mut client, &request(id ^ 1, 1, vec![])), (70, 0, vec![]));
    assert_eq!(fetch(&mut client, &request(id, 2, vec![])), (71, 0, vec![]));
    assert_eq!(fetch(&mut client, &request(id, 1, vec![])), (0, id, vec![]));
    assert_eq!(fetch(&mut client, &request(id, 1, vec![])), (71, 0, vec![]));
}

#[test]
fn a_forgotten_partition_is_told_no_more_and_the_last_one_ends_the_session() {
    let (_node, mut client, id) = begun();
    let forget = |epoch, partitions| FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic { topic: "t", partitions, ..ForgottenTopic::default() }],
        ..request(id, epoch, vec![])
    };
    fetch(&mut client, &forget(1, vec![0, 1]));
    for index in 0..3 {
        produce(&mut client, index);
    }
    assert_eq!(indexes(&fetch(&mut client, &request(id, 2, vec![])).2), [2]);
    assert_eq!(fetch(&mut client, &forget(3, vec![2])), (0, 0, vec![]));
    assert_eq!(fetch(&mut client, &request(id, 4, vec![])).0, 70);
}

#[test]
fn the_final_epoch_closes_a_session() {
    let (_node, mut client, id) = begun();
    let (error, session_id, named) = fetch(&mut client, &request(id, -1, vec![fetch_partition(1, 0)]));
    assert_eq!((error, session_id, indexes(&named)), (0, 0, vec![1]));
    assert_eq!(fetch(&mut client, &request(id, 1, vec![])).0, 70);
}

#[test]
fn without_room_for_a_session_the_fetch_is_answered_in_full() {
    let config = BrokerConfig { fetch_sessions_max: 1, ..BrokerConfig::default() };
    let node = Node::start_with(config, test_server_config());
    node.topic("t");
    let mut client = node.client();
    let full = request(0, 0, vec![fetch_partition(0, 0)]);
    assert!(fetch(&mut client, &full).1 > 0);
    let (error, id, named) = fetch(&mut client, &full);
    assert_eq!((error, id, indexes(&named)), (0, 0, vec![0]));
}

#[test]
fn a_long_poll_of_a_session_is_woken_and_names_what_came() {
    let (node, mut client, id) = begun();
    let poll = FetchRequest { max_wait_ms: LONG_MS, ..request(id, 1, vec![]) };
    client.send(api_key::FETCH, 12, |w| poll.encode(w, 12).unwrap());
    produce(&mut node.client(), 2);
    let (_, body) = client.answer(api_key::FETCH, 12);
    assert_eq!(indexes(&fetched(&body, 12).2), [2]);
}

/// A session of three partitions whose next fetch looks at none of them.
fn settled() -> (Node, Client, i32) {
    let (node, mut client, id) = begun();
    assert_eq!(fetch(&mut client, &request(id, 1, vec![])).2, vec![]);
    (node, client, id)
}

#[test]
fn a_long_poll_counts_what_comes_to_all_partitions() {
    let (node, mut client, id) = settled();
    let bytes_one = i32::try_from(batch(&[b"v"]).len()).unwrap();
    let poll = FetchRequest { max_wait_ms: LONG_MS, min_bytes: 3 * bytes_one, ..request(id, 2, vec![]) };
    client.send(api_key::FETCH, 12, |w| poll.encode(w, 12).unwrap());
    for index in [2, 0, 2] {
        produce(&mut node.client(), index);
    }
    let (_, body) = client.answer(api_key::FETCH, 12);
    let mut named = indexes(&fetched(&body, 12).2);
    named.sort_unstable();
    assert_eq!(named, [0, 2]);
}

#[test]
fn what_did_not_go_into_an_answer_goes_into_the_next() {
    let (_node, mut client, id) = settled();
    produce(&mut client, 0);
    produce(&mut client, 1);
    let limited = FetchRequest { max_bytes: 1, ..request(id, 2, vec![]) };
    let records = |named: &[Fetched]| -> Vec<i32> {
        named.iter().filter(|it| !it.records.is_empty()).map(|it| it.index).collect()
    };
    assert_eq!(records(&fetch(&mut client, &limited).2), [0]);
    let moved = request(id, 3, vec![fetch_partition(0, 1)]);
    assert_eq!(records(&fetch(&mut client, &moved).2), [1]);
    // a client that does not move on gets it once more
    assert_eq!(records(&fetch(&mut client, &request(id, 4, vec![])).2), [1]);
}

#[test]
fn a_log_start_that_moves_is_told() {
    let (node, mut client, id) = settled();
    produce(&mut client, 1);
    fetch(&mut client, &request(id, 2, vec![fetch_partition(1, 1)]));
    assert_eq!(fetch(&mut client, &request(id, 3, vec![])).2, vec![]);
    node.broker.partitions().get("t", 1).unwrap().delete_records(1).unwrap();
    assert_eq!(indexes(&fetch(&mut client, &request(id, 4, vec![])).2), [1]);
}

#[test]
fn a_partition_that_goes_and_comes_again_is_read_anew() {
    let (node, mut client, id) = settled();
    let poll = FetchRequest { max_wait_ms: LONG_MS, ..request(id, 2, vec![]) };
    client.send(api_key::FETCH, 12, |w| poll.encode(w, 12).unwrap());
    node.broker.image().update(|image| assert!(image.remove_topic("t")));
    for index in 0..3 {
        node.broker.delete_partition("t", index).unwrap();
    }
    let (_, body) = client.answer(api_key::FETCH, 12);
    assert_eq!(fetched(&body, 12).2[0].error, 3);
    node.topic_with("t", 3, LogConfig::default());
    produce(&mut client, 2);
    let (_, _, named) = fetch(&mut client, &request(id, 3, vec![]));
    assert!(named.iter().all(|it| it.error == 0), "{named:?}");
    assert!(named.iter().any(|it| it.index == 2 && !it.records.is_empty()));
    produce(&mut client, 0);
    let moved = vec![fetch_partition(2, 1)];
    assert_eq!(indexes(&fetch(&mut client, &request(id, 4, moved)).2), [0]);
}
