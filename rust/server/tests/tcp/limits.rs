//! Limits: memory, connections, time, and peers that read slowly or not at all.

use crate::harness::*;
use fastlog_broker::BrokerConfig;
use fastlog_protocol::api_key;
use fastlog_protocol::messages::fetch::FetchRequest;
use fastlog_server::ServerConfig;
use std::io::Write;
use std::time::Duration;

#[test]
fn the_largest_frame_is_taken_and_one_byte_more_is_not() {
    let config = ServerConfig { request_bytes_max: 100_000, ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    let mut client = node.client();
    let body = 100_000 - client.frame(api_key::API_VERSIONS, 0, |_| {}).len() + 4;
    let frame = client.frame(api_key::API_VERSIONS, 0, |w| w.raw(&vec![0; body]));
    assert_eq!(frame.len(), 100_004);
    client.stream.write_all(&frame).unwrap();
    assert_eq!(client.answer(api_key::API_VERSIONS, 0).0, 2);
    client.stream.write_all(&100_001i32.to_be_bytes()).unwrap();
    client.expect_close();
}

#[test]
fn claimed_frames_cost_no_memory() {
    let node = Node::start();
    let mut clients: Vec<_> = (0..40).map(|_| node.client()).collect();
    for client in &mut clients {
        client.stream.write_all(&100_000_000i32.to_be_bytes()).unwrap();
        client.stream.write_all(&[0; 1000]).unwrap();
    }
    node.client().ping();
    let held = node.broker.budget().used_bytes();
    assert!(held <= 40 * (128 << 10), "{held} bytes for 40 × 1000");
    drop(clients);
    eventually("all is given back", || node.broker.budget().used_bytes() == 0);
}

#[test]
fn arrays_with_millions_of_elements_are_refused_and_cost_nothing() {
    let node = Node::start();
    let mut frames = node.client();
    let names = frames.frame(api_key::METADATA, 8, |w| {
        w.i32(10_000_000);
        w.raw(&vec![0; 20_000_000]);
    });
    let partitions = frames.frame(api_key::PRODUCE, 8, |w| {
        w.raw(&[0xff, 0xff, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, b't']);
        w.i32(5_000_000);
        w.raw(&vec![0; 40_000_000]);
    });
    let tags = frames.frame(api_key::METADATA, 9, |w| {
        w.raw(&[0, 1, 0, 0]);
        w.uvarint(12_000_000);
        w.raw(&vec![1; 24_000_000]);
    });
    for frame in [names, partitions, tags] {
        let mut client = node.client();
        client.stream.write_all(&frame).unwrap();
        client.expect_close();
        node.expect_event("does not parse");
    }
    node.client().ping();
    eventually("all is given back", || node.broker.budget().used_bytes() == 0);
}

#[test]
fn large_answers_that_nobody_reads_give_way_when_memory_is_short() {
    let config = ServerConfig { frame_deadline: Duration::from_millis(50), ..test_server_config() };
    let broker = BrokerConfig { request_bytes_max: 12 << 20, ..BrokerConfig::default() };
    let node = Node::start_with(broker, config);
    let mut greedy = node.client();
    greedy.send(api_key::METADATA, 8, |w| {
        w.i32(190_000);
        // all of them different: what is named twice is answered once
        (0..190_000).for_each(|number| w.raw(format!("\0\u{3c}{number:060}").as_bytes()));
        w.raw(&[0, 0, 0]);
    });
    node.expect_event("large answers were not read while memory is short");
    eventually("all is given back", || node.broker.budget().used_bytes() == 0);
    node.client().ping();
}

#[test]
fn above_the_budget_reading_stops_until_there_is_room() {
    let config = BrokerConfig { request_bytes_max: 1 << 20, ..BrokerConfig::default() };
    let node = Node::start_with(config, test_server_config());
    let mut hog = node.client();
    hog.stream.write_all(&50_000_000i32.to_be_bytes()).unwrap();
    hog.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while hog.stream.write(&[0; 65536]).is_ok() {}
    assert!(node.broker.budget().used_bytes() < 4 << 20);
    let mut other = node.client();
    let sent = other.send(api_key::API_VERSIONS, 0, |_| {});
    hog.reset();
    assert_eq!(other.answer(api_key::API_VERSIONS, 0).0, sent);
    eventually("all is given back", || node.broker.budget().used_bytes() == 0);
}

#[test]
fn above_the_budget_requests_that_lie_whole_in_the_socket_are_answered() {
    let config = BrokerConfig { request_bytes_max: 1 << 20, ..BrokerConfig::default() };
    let node = Node::start_with(config, test_server_config());
    node.topic("t");
    let mut hog = node.client();
    hog.stream.write_all(&50_000_000i32.to_be_bytes()).unwrap();
    hog.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while hog.stream.write(&[0; 65536]).is_ok() {}
    let mut other = node.client();
    other.ping();
    other.produce("t", &batch(&[&[7; 50_000]]));
    // several at once, and one that is not whole: that waits, what is before it does not
    let mut bytes: Vec<u8> = (0..3).flat_map(|_| other.frame(api_key::API_VERSIONS, 0, |_| {})).collect();
    let half = other.frame(api_key::API_VERSIONS, 0, |_| {});
    bytes.extend(&half[..half.len() / 2]);
    other.stream.write_all(&bytes).unwrap();
    let numbers: Vec<_> = (0..3).map(|_| other.answer(api_key::API_VERSIONS, 0).0).collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(node.broker.budget().used_bytes() < 4 << 20);
    hog.reset();
    eventually("its part is given back", || node.broker.budget().used_bytes() < 1 << 20);
    other.stream.write_all(&half[half.len() / 2..]).unwrap();
    assert_eq!(other.answer(api_key::API_VERSIONS, 0).0, numbers[2] + 1);
}

#[test]
fn connections_above_the_limit_are_refused() {
    let config = ServerConfig { connections_per_ip_max: 3, ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    let mut clients: Vec<_> = (0..3).map(|_| node.client()).collect();
    clients.iter_mut().for_each(Client::ping);
    node.client().expect_close();
    node.expect_event("max.connections.per.ip");
    drop(clients.pop());
    eventually("the place is free", || node.server.connection_count() == 2);
    node.client().ping();
}

#[test]
fn a_frame_that_does_not_end_is_given_up() {
    let config = ServerConfig { frame_deadline: Duration::from_millis(50), ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    let mut quiet = node.client();
    let mut slow = node.client();
    slow.stream.write_all(&[0, 0, 0, 10, 0]).unwrap();
    slow.expect_close();
    node.expect_event("a frame was not whole after");
    quiet.ping();
}

#[test]
fn an_idle_connection_is_closed_but_not_one_that_waits_for_us() {
    let config = ServerConfig { idle: Duration::from_millis(100), ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    node.topic("t");
    let mut waiting = node.client();
    let request = FetchRequest { max_wait_ms: 600, ..fetch_request("t", 0) };
    waiting.send(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    node.client().expect_close();
    node.expect_event("connections.max.idle.ms");
    assert_eq!(waiting.answer(api_key::FETCH, 12).0, 1);
}

#[test]
fn a_peer_that_does_not_read_holds_a_bounded_number_of_answers() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    for _ in 0..8 {
        client.produce("t", &batch(&[&[7; 900_000]]));
    }
    // 200 × 7 MB of answers are asked for; the broker must not hold them, nor block others
    let mut greedy = node.client();
    for _ in 0..200 {
        greedy.send(api_key::FETCH, 4, |w| {
            let mut request = FetchRequest { max_wait_ms: 0, ..fetch_request("t", 0) };
            request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
            request.encode(w, 4).unwrap();
        });
    }
    for _ in 0..100 {
        client.ping();
    }
    // read late, all of it comes
    for _ in 0..200 {
        let (_, body) = greedy.answer(api_key::FETCH, 4);
        assert!(body.len() > 7_000_000);
    }
}

/// Bytes that the kernel holds for a client who has not taken them yet.
fn queued_bytes(node: &Node, client: &Client) -> usize {
    let ports = [node.address.port(), client.stream.local_addr().unwrap().port()];
    let [ours, theirs] = ports.map(|port| format!("0100007F:{port:04X}"));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.into_iter().find(|row| row[1] == ours && row[2] == theirs).unwrap();
    usize::from_str_radix(row[4].split_once(':').unwrap().0, 16).unwrap()
}

/// A client that was sent 7 MB and does not read them.
fn client_with_unread_answer(send_buffer_bytes: Option<usize>) -> (Node, Client) {
    let config = ServerConfig { send_buffer_bytes, ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    node.topic("t");
    let mut client = node.client();
    for _ in 0..8 {
        client.produce("t", &batch(&[&[7; 900_000]]));
    }
    let mut request = fetch_request("t", 0);
    request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    client.send(api_key::FETCH, 4, |w| request.encode(w, 4).unwrap());
    (node, client)
}

#[test]
fn the_send_buffer_is_as_large_as_the_settings_say() {
    let (node, client) = client_with_unread_answer(Some(50_000));
    let (mut queued, mut same) = (0, 0);
    eventually("the socket takes no more", || {
        let before = std::mem::replace(&mut queued, queued_bytes(&node, &client));
        same = if queued == before { same + 1 } else { 0 };
        queued > 0 && same == 20
    });
    assert!(queued <= 2 * 50_000 + (64 << 10), "{queued}");
    let (node, client) = client_with_unread_answer(None);
    eventually("the kernel's buffer takes more", || queued_bytes(&node, &client) > 1 << 20);
}

#[test]
fn pipelining_beyond_the_limit_only_pauses_reading() {
    let config = ServerConfig { in_flight_max: 4, ..test_server_config() };
    let node = Node::start_with(BrokerConfig::default(), config);
    node.topic("t");
    let mut client = node.client();
    for _ in 0..50 {
        let request = FetchRequest { max_wait_ms: 1, ..fetch_request("t", 0) };
        client.send(api_key::FETCH, 12, |w| request.encode(w, 12).unwrap());
    }
    for expected in 1..=50 {
        assert_eq!(client.answer(api_key::FETCH, 12).0, expected);
    }
}

#[test]
fn a_shutdown_answers_what_is_in_flight() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    let mut idle = node.client();
    idle.ping();
    client.send(api_key::FETCH, 12, |w| fetch_request("t", 0).encode(w, 12).unwrap());
    let partition = node.broker.partitions().get("t", 0).unwrap();
    eventually("the poll waits", || partition.waiting_count() == 1);
    node.broker.finish_waiting();
    node.server.shutdown(PATIENCE);
    assert_eq!(client.answer(api_key::FETCH, 12).0, 1);
    client.expect_close();
    idle.expect_close();
    assert!(std::net::TcpStream::connect(node.address).is_err());
    assert_eq!(node.server.connection_count(), 0);
}

#[test]
fn a_shutdown_does_not_wait_longer_than_its_grace() {
    let node = Node::start();
    node.topic("t");
    let mut client = node.client();
    client.send(api_key::FETCH, 12, |w| fetch_request("t", 0).encode(w, 12).unwrap());
    let partition = node.broker.partitions().get("t", 0).unwrap();
    eventually("the poll waits", || partition.waiting_count() == 1);
    node.server.shutdown(Duration::from_millis(10));
    client.expect_close();
    node.expect_event("the answer did not come");
}

#[test]
fn a_port_in_use_is_said_so() {
    let node = Node::start();
    let mut config = listener("OTHER", false);
    config.port = node.address.port();
    let error = node.server.listen(&config).unwrap_err().to_string();
    assert!(error.contains(&format!("OTHER://127.0.0.1:{}", config.port)), "{error}");
}
