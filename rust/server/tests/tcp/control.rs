//! The control queue: what the control plane gets, and how its answers go back.

use crate::harness::*;
use fastlog_broker::{ApiRange, BrokerConfig, ControlRequest};
use fastlog_protocol::api_key;
use fastlog_protocol::primitives::Reader;

const KEY: i16 = api_key::CREATE_TOPICS;

fn serving(config: BrokerConfig) -> Node {
    let node = Node::start_with(config, test_server_config());
    node.broker.image().update(|image| {
        image.control_apis = vec![ApiRange { key: KEY, min_version: 2, max_version: 7 }];
    });
    node
}

fn take(node: &Node) -> ControlRequest {
    eventually("a request is queued", || !node.broker.control().is_empty());
    node.broker.control().drain(1).remove(0)
}

#[test]
fn a_request_arrives_with_its_context_and_is_answered() {
    let node = serving(BrokerConfig::default());
    let mut client = node.client();
    client.send(KEY, 7, |w| w.raw(b"body"));
    let request = take(&node);
    assert_eq!((request.api_key, request.api_version, request.correlation_id), (KEY, 7, 1));
    assert_eq!(request.client_id.as_deref(), Some("test"));
    assert_eq!(&request.request[request.body_offset..], b"body");
    let context = &request.context;
    assert_eq!((&*context.principal, context.listener.name.as_str()), ("User:ANONYMOUS", "PLAINTEXT"));
    assert_eq!(context.client_address, Some(client.stream.local_addr().unwrap()));
    assert_eq!(context.local_address, Some(node.address));
    assert!(node.broker.budget().used_bytes() >= request.request.len());
    request.reply.send(b"\0\0\0\x01answer".to_vec().into());
    assert_eq!(client.receive(), b"\0\0\0\x01answer");
    drop(request.permit);
    eventually("the bytes are given back", || node.broker.budget().used_bytes() == 0);
}

#[test]
fn requests_of_groups_have_a_queue_of_their_own() {
    let node = serving(BrokerConfig { control_queue_max: 1, ..BrokerConfig::default() });
    let group_api = ApiRange { key: api_key::HEARTBEAT, min_version: 0, max_version: 4 };
    node.broker.image().update(|image| image.group_apis = vec![group_api]);
    let mut other = node.client();
    other.send(KEY, 7, |_| {});
    eventually("a request is queued", || !node.broker.control().is_empty());
    let mut client = node.client();
    client.send(api_key::HEARTBEAT, 3, |w| w.raw(b"body"));
    eventually("it is queued beside the full one", || !node.broker.groups().is_empty());
    let request = node.broker.groups().drain(1).remove(0);
    assert_eq!((request.api_key, request.api_version), (api_key::HEARTBEAT, 3));
    request.reply.send(b"\0\0\0\x01answer".to_vec().into());
    assert_eq!(client.receive(), b"\0\0\0\x01answer");
    assert_eq!(node.broker.control().len(), 1);
}

#[test]
fn the_wakeup_is_readable_while_something_waits() {
    let node = serving(BrokerConfig::default());
    let wakeup = node.broker.wakeup().clone();
    let readable = || {
        let mut polled = [rustix::event::PollFd::new(&*wakeup, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap()
            == 1
    };
    assert!(!readable());
    let mut client = node.client();
    client.send(KEY, 7, |_| {});
    eventually("the eventfd is readable", readable);
    wakeup.clear();
    take(&node).reply.send(vec![0; 4].into());
    assert!(!readable());
}

#[test]
fn nothing_behind_a_control_request_is_handled_before_its_answer() {
    let node = serving(BrokerConfig::default());
    let partition = node.topic("t");
    let mut client = node.client();
    client.send(KEY, 7, |_| {});
    client.send(api_key::PRODUCE, 9, |w| produce_body(w, 9, "t", 0, Some(&batch(&[b"v"])), 1));
    let request = take(&node);
    // another connection is not held back, and by then the produce would have been handled
    node.client().ping();
    assert_eq!(partition.log().log_end_offset(), 0);
    request.reply.send(vec![0, 0, 0, 1].into());
    assert_eq!(client.receive(), [0, 0, 0, 1]);
    assert_eq!(client.answer(api_key::PRODUCE, 9).0, 2);
    assert_eq!(partition.log().log_end_offset(), 1);
}

#[test]
fn a_request_given_up_closes_its_connection() {
    let node = serving(BrokerConfig::default());
    let mut client = node.client();
    client.send(KEY, 7, |_| {});
    drop(take(&node));
    client.expect_close();
    node.expect_event("given up without an answer");
    let mut client = node.client();
    client.send(KEY, 7, |_| {});
    take(&node).reply.close("the body does not parse".to_owned());
    client.expect_close();
    node.expect_event("the body does not parse");
}

#[test]
fn an_answer_for_a_connection_that_is_gone_goes_nowhere() {
    let node = serving(BrokerConfig::default());
    let mut client = node.client();
    client.send(KEY, 7, |_| {});
    let request = take(&node);
    assert!(request.reply.is_open());
    client.reset();
    eventually("the connection is noticed to be gone", || !request.reply.is_open());
    request.reply.send(vec![0; 4].into());
    node.client().ping();
}

#[test]
fn a_full_queue_closes_the_connection_with_a_log_line() {
    let node = serving(BrokerConfig { control_queue_max: 2, ..BrokerConfig::default() });
    let mut clients: Vec<_> = (0..2).map(|_| node.client()).collect();
    for client in &mut clients {
        client.send(KEY, 7, |_| {});
    }
    eventually("the queue is full", || node.broker.control().len() == 2);
    let mut third = node.client();
    third.send(KEY, 7, |_| {});
    third.expect_close();
    node.expect_event("the control queue is full");
    for request in node.broker.control().drain(10) {
        request.reply.send(vec![0; 4].into());
    }
    for client in &mut clients {
        assert_eq!(client.receive(), [0; 4]);
    }
}

#[test]
fn header_offsets_hold_for_flexible_and_plain_versions() {
    let node = serving(BrokerConfig::default());
    let mut client = node.client();
    for version in [2, 4, 5, 7] {
        client.send(KEY, version, |w| w.i32(0x0102_0304));
        let request = take(&node);
        let mut body = Reader::new(&request.request[request.body_offset..]);
        assert_eq!((body.i32(), body.remaining()), (Ok(0x0102_0304), 0));
        request.reply.send(vec![0; 4].into());
        client.receive();
    }
}
