//! Frames: how they are cut, what is refused, in which order they are answered (semantics rows 37 and 79).

use crate::harness::*;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use fastlog_protocol::primitives::Writer;
use std::io::Write;

fn encode_client(w: &mut Writer, version: i16, name: &str) {
    let request = ApiVersionsRequest {
        client_software_name: name,
        client_software_version: "1.0",
        ..ApiVersionsRequest::default()
    };
    request.encode(w, version).unwrap();
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let node = Node::start();
    let mut client = node.client();
    let frame = client.frame(api_key::API_VERSIONS, 0, |_| {});
    for byte in &frame {
        client.stream.write_all(&[*byte]).unwrap();
    }
    let (correlation_id, _) = client.answer(api_key::API_VERSIONS, 0);
    assert_eq!(correlation_id, 1);
}

#[test]
fn many_frames_in_one_segment_are_answered_in_order() {
    let node = Node::start();
    let mut client = node.client();
    let mut bytes = Vec::new();
    for _ in 0..1000 {
        bytes.extend(client.frame(api_key::API_VERSIONS, 0, |_| {}));
    }
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for expected in 1..=1000 {
        assert_eq!(client.answer(api_key::API_VERSIONS, 0).0, expected);
    }
    sender.join().unwrap();
}

#[test]
fn an_answer_that_comes_later_holds_back_those_behind_it() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let poll = client.send(api_key::FETCH, 4, |w| fetch_request("t", 0).encode(w, 4).unwrap());
    let ping = client.send(api_key::API_VERSIONS, 0, |_| {});
    // handled although the fetch before it waits: its records are what ends the wait
    let produce = client.send(api_key::PRODUCE, 9, |w| {
        produce_body(w, 9, "t", 0, Some(&batch(&[b"x"])), 1);
    });
    assert_eq!(client.answer(api_key::FETCH, 4).0, poll);
    assert_eq!(client.answer(api_key::API_VERSIONS, 0).0, ping);
    assert_eq!(client.answer(api_key::PRODUCE, 9).0, produce);
}

#[test]
fn an_unknown_api_versions_version_gets_version_0_with_error_35_and_the_list() {
    let node = Node::start();
    let mut client = node.client();
    client.send(api_key::API_VERSIONS, 99, |w| encode_client(w, 4, "x"));
    let (_, body) = client.answer(api_key::API_VERSIONS, 0);
    decode(&body, 0, ApiVersionsResponse::decode, |response| {
        assert_eq!(response.error_code, 35);
        assert!(response.api_keys.iter().any(|it| it.api_key == api_key::API_VERSIONS));
    });
    client.ping();
}

#[test]
fn produce_is_advertised_from_version_0_and_every_served_api_is_listed_once() {
    let node = Node::start();
    node.broker.image().update(|image| {
        let range = |key, max_version| fastlog_broker::ApiRange { key, min_version: 0, max_version };
        image.control_apis = vec![range(api_key::CREATE_TOPICS, 7), range(api_key::METADATA, 12)];
    });
    let mut client = node.client();
    for version in 0..=4 {
        let body = client.call(api_key::API_VERSIONS, version, |w| encode_client(w, version, "librdkafka"));
        decode(&body, version, ApiVersionsResponse::decode, |response| {
            assert_eq!(response.error_code, 0);
            let keys: Vec<_> = response.api_keys.iter().map(|it| it.api_key).collect();
            assert_eq!(keys, [0, 1, 2, 3, 18, 19, 23]);
            let produce = response.api_keys.first().unwrap();
            assert_eq!((produce.min_version, produce.max_version), (0, 13));
        });
    }
}

#[test]
fn a_client_that_names_its_software_badly_is_refused() {
    let node = Node::start();
    let mut client = node.client();
    let body = client.call(api_key::API_VERSIONS, 3, |w| encode_client(w, 3, "not a name"));
    decode(&body, 3, ApiVersionsResponse::decode, |response| assert_eq!(response.error_code, 42));
    client.ping();
}

/// Sends bytes that must end the connection with one log line, and leave the broker alive.
fn expect_refused(node: &Node, bytes: &[u8], reason: &str) {
    let mut client = node.client();
    client.stream.write_all(bytes).unwrap();
    client.expect_close();
    node.expect_event(reason);
    assert!(node.broker.events().drain().0.is_empty(), "one line for {reason}");
    node.client().ping();
}

#[test]
fn what_no_broker_serves_closes_the_connection() {
    let node = Node::start();
    let mut frames = node.client();
    for (key, version, reason) in [
        (999, 0, "API key 999 version 0 is not served"),
        (-1, 0, "API key -1 version 0 is not served"),
        (api_key::PRODUCE, 2, "Produce version 2 is not served"),
        (api_key::FETCH, 3, "Fetch version 3 is not served"),
        (api_key::FETCH, 19, "Fetch version 19 is not served"),
        (api_key::METADATA, -1, "Metadata version -1 is not served"),
        (api_key::CREATE_TOPICS, 2, "CreateTopics version 2 is not served"),
    ] {
        let frame = frames.frame(key, version, |_| {});
        expect_refused(&node, &frame, reason);
    }
}

#[test]
fn commands_between_brokers_are_refused_to_clients() {
    let node = Node::start();
    let mut client = node.client();
    let correlation_id = client.send(32_000, 0, |w| w.raw(b"whatever it says"));
    let answer = client.receive();
    let mut expected = correlation_id.to_be_bytes().to_vec();
    // CLUSTER_AUTHORIZATION_FAILED and an empty string
    expected.extend([0, 31, 0, 0]);
    assert_eq!(answer, expected);
    client.ping();
}

#[test]
fn bad_lengths_and_garbage_close_the_connection() {
    let node = Node::start();
    expect_refused(&node, &(-1i32).to_be_bytes(), "claims -1 bytes");
    expect_refused(&node, &i32::MIN.to_be_bytes(), "claims -2147483648 bytes");
    expect_refused(&node, &104_857_601i32.to_be_bytes(), "claims 104857601 bytes");
    expect_refused(&node, b"GET / HTTP/1.1\r\n\r\n", "claims 1195725856 bytes");
    expect_refused(&node, &prefixed(&[]), "header does not parse");
    expect_refused(&node, &prefixed(&[0, 3, 0]), "header does not parse");
}

#[test]
fn a_body_that_does_not_parse_closes_the_connection() {
    let node = Node::start();
    let mut frames = node.client();
    let truncated = frames.frame(api_key::METADATA, 9, |w| w.raw(&[5, 1, 2]));
    expect_refused(&node, &truncated, "a Metadata version 9 request does not parse");
    let negative = frames.frame(api_key::METADATA, 8, |w| w.i32(-7));
    expect_refused(&node, &negative, "a Metadata version 8 request does not parse");
    let huge = frames.frame(api_key::METADATA, 8, |w| w.i32(i32::MAX));
    expect_refused(&node, &huge, "claims 2147483647 elements");
    let tags = frames.frame(api_key::METADATA, 9, |w| {
        w.raw(&[0, 1, 0, 0]);
        w.uvarint(4_000_000_000);
    });
    expect_refused(&node, &tags, "tagged fields");
}

#[test]
fn what_was_asked_before_a_bad_frame_is_still_answered() {
    let node = Node::start();
    let mut client = node.client();
    let mut bytes = client.frame(api_key::API_VERSIONS, 0, |_| {});
    bytes.extend((-1i32).to_be_bytes());
    client.stream.write_all(&bytes).unwrap();
    assert_eq!(client.answer(api_key::API_VERSIONS, 0).0, 1);
    client.expect_close();
}

#[test]
fn a_client_that_ends_its_side_gets_what_is_ready_and_is_not_waited_for() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let mut bytes = client.frame(api_key::API_VERSIONS, 0, |_| {});
    bytes.extend(client.frame(api_key::FETCH, 4, |w| fetch_request("t", 0).encode(w, 4).unwrap()));
    client.stream.write_all(&bytes).unwrap();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer(api_key::API_VERSIONS, 0).0, 1);
    client.expect_close();
}

#[test]
fn an_empty_client_id_and_header_tags_are_accepted() {
    let node = Node::start();
    let mut client = node.client();
    // header version 2: null client id, two unknown tags
    let mut frame = Writer::new();
    frame.i16(api_key::METADATA);
    frame.i16(9);
    frame.i32(77);
    frame.i16(-1);
    frame.raw(&[2, 100, 1, b'x', 101, 0]);
    frame.raw(&[1, 0, 0, 0, 0]);
    client.stream.write_all(&prefixed(&frame.into_bytes())).unwrap();
    assert_eq!(client.answer(api_key::METADATA, 9).0, 77);
}
