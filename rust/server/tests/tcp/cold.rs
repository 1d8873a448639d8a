//! Readers of what is not in memory. On a file system in memory (tmpfs) nothing is ever cold, so the records are where Cargo builds,
//! and the tests fail where that is one too.

use crate::fetch::{at_once, values};
use crate::harness::*;
use fastlog_broker::{BrokerConfig, DiskThreads};
use fastlog_protocol::api_key;
use fastlog_protocol::messages::fetch::FetchRequest;
use fastlog_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use fastlog_server::ServerConfig;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Records of the topic, and bytes of each: more than the sockets' buffers take.
const RECORDS: u8 = 40;
const RECORD_BYTES: usize = 900_000;

fn empty_node() -> Node {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server_config = ServerConfig { io_threads: 1, ..test_server_config() };
    Node::start_in(directory, BrokerConfig::default(), server_config)
}

fn node() -> Node {
    let node = empty_node();
    let partition = node.topic("t");
    let mut client = node.client();
    for number in 0..RECORDS {
        client.produce("t", &batch(&[&vec![number; RECORD_BYTES]]));
    }
    partition.log().flush().unwrap();
    node
}

fn segment(node: &Node) -> (File, u64) {
    let segment = File::open(node.path().join("t-0").join("00000000000000000000.log")).unwrap();
    let length = segment.metadata().unwrap().len();
    (segment, length)
}

/// Has the page cache forget the topic, but for what sockets have of it. What is on its way to the disk goes a moment later.
fn forget(node: &Node) {
    let (segment, length) = segment(node);
    eventually("the page cache forgets; is CARGO_TARGET_DIR on a file system in memory? That it", || {
        fastlog_sys::page_cache::drop_from_memory(&segment, 0, length).unwrap();
        !fastlog_sys::page_cache::is_in_memory(&segment, 0, length)
    });
}

fn all() -> FetchRequest<'static> {
    let mut request = at_once("t", 0);
    request.topics[0].partitions[0].partition_max_bytes = 50 << 20;
    request
}

fn check(records: &[u8]) {
    let values = values(records);
    assert_eq!(values.len(), usize::from(RECORDS));
    for ((_, value), number) in values.iter().zip(0..) {
        assert!(value.len() == RECORD_BYTES && value.iter().all(|it| *it == number), "record {number}");
    }
}

/// Holds the threads of the disk that the broker's files are on, until what is answered is dropped.
fn hang(node: &Node) -> Vec<Sender<()>> {
    let device = std::fs::metadata(node.path()).unwrap().dev();
    let (began, running) = channel();
    let held = (0..DiskThreads::OF_A_DISK).map(|_| {
        let (go, wait) = channel::<()>();
        let began = began.clone();
        let job = move || {
            began.send(()).unwrap();
            let _gone = wait.recv();
        };
        node.broker.disks().ask(device, Box::new(job)).unwrap();
        running.recv_timeout(PATIENCE).unwrap();
        go
    });
    held.collect()
}

#[test]
fn what_is_no_longer_in_memory_arrives_whole() {
    let node = node();
    let mut client = node.client();
    for _ in 0..3 {
        forget(&node);
        check(&fetch_one(&mut client, 12, &all()).records);
    }
}

#[test]
fn what_a_reader_of_a_backlog_has_passed_does_not_stay_in_memory() {
    /// 64 MiB stay behind readers, the kernel reads up to 8 MiB ahead, and as much may be on its way in sockets.
    const KEPT_BYTES_MAX: u64 = 96 << 20;
    let (node, rounds) = (node(), 4);
    let mut client = node.client();
    for number in (0..rounds).flat_map(|_| 0..RECORDS) {
        client.produce("t", &batch(&[&vec![number; RECORD_BYTES]]));
    }
    node.broker.partitions().get("t", 0).unwrap().log().flush().unwrap();
    forget(&node);
    let (segment, length) = segment(&node);
    assert!(length > KEPT_BYTES_MAX * 3 / 2, "{length} bytes are no backlog");
    let (mut offset, end) = (0, i64::from(RECORDS) * (rounds + 1));
    while offset < end {
        let mut request = at_once("t", offset);
        request.topics[0].partitions[0].partition_max_bytes = 4 << 20;
        offset += i64::try_from(values(&fetch_one(&mut client, 12, &request).records).len()).unwrap();
    }
    let kept = fastlog_sys::page_cache::bytes_in_memory(&segment, 0, length);
    assert!(kept.is_none_or(|it| it <= KEPT_BYTES_MAX), "{kept:?} of {length} bytes are in memory");
}

#[test]
fn readers_that_take_little_at_a_time_get_all_of_it_and_stop_nobody() {
    let node = node();
    forget(&node);
    let mut slow: Vec<_> = (0..3).map(|_| node.client()).collect();
    for client in &mut slow {
        client.send(api_key::FETCH, 12, |w| all().encode(w, 12).unwrap());
    }
    // their sockets fill up; another reader goes on meanwhile
    forget(&node);
    check(&fetch_one(&mut node.client(), 12, &all()).records);
    for client in &mut slow {
        let mut prefix = [0; 4];
        client.stream.read_exact(&mut prefix).unwrap();
        let mut left = usize::try_from(i32::from_be_bytes(prefix)).unwrap();
        assert!(left > usize::from(RECORDS) * RECORD_BYTES);
        let mut bytes = vec![0; 300_000];
        while left > 0 {
            let count = client.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "{left} bytes did not come");
            left -= count;
        }
    }
}

#[test]
fn a_disk_that_hangs_holds_up_those_alone_who_read_from_it() {
    let node = node();
    forget(&node);
    let hanging = hang(&node);
    let mut reader = node.client();
    reader.send(api_key::FETCH, 12, |w| all().encode(w, 12).unwrap());
    let mut other = node.client();
    node.topic("other");
    let start = Instant::now();
    for number in 0..20 {
        other.produce("other", &batch(&[&[number; 100]]));
        let fetched = fetch_one(&mut other, 12, &at_once("other", i64::from(number)));
        assert_eq!(values(&fetched.records).len(), 1);
    }
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    // the answer has begun, and none of its records has come
    reader.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut bytes = vec![0; RECORD_BYTES];
    assert!(reader.stream.read_exact(&mut bytes).is_err());
    drop(hanging);
    reader.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    eventually("the rest comes", || reader.stream.read(&mut bytes).unwrap() > 100_000);
}

#[test]
fn a_look_up_that_needs_the_disk_holds_up_nobody_else() {
    const BATCHES: u8 = 250; // more than those at the end whose places are kept in memory
    let node = empty_node();
    let partition = node.topic("t");
    let mut client = node.client();
    for number in 0..BATCHES {
        client.produce("t", &batch(&[&vec![number; 20_000]]));
    }
    partition.log().flush().unwrap();
    forget(&node);
    let hanging = hang(&node);
    let mut fetching = node.client();
    fetching.send(api_key::FETCH, 12, |w| at_once("t", 7).encode(w, 12).unwrap());
    let mut listing = node.client();
    listing.send(api_key::LIST_OFFSETS, 7, |w| first_at(1000).encode(w, 7).unwrap());
    // one whose connection ends meanwhile is nobody's
    let mut gone = node.client();
    gone.send(api_key::FETCH, 12, |w| at_once("t", 9).encode(w, 12).unwrap());
    drop(gone);
    node.topic("other");
    let mut other = node.client();
    for number in 0..20 {
        other.produce("other", &batch(&[&[number; 100]]));
        let fetched = fetch_one(&mut other, 12, &at_once("other", i64::from(number)));
        assert_eq!(values(&fetched.records).len(), 1);
    }
    // what a producer is told of does not wait for the disk either, nor does what is asked for behind it on its connection
    client.produce("t", &batch(&[b"another"]));
    assert_eq!(values(&fetch_one(&mut client, 12, &at_once("t", i64::from(BATCHES))).records).len(), 1);
    for waiting in [&mut fetching, &mut listing] {
        waiting.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(waiting.stream.read_exact(&mut [0]).is_err(), "the disk hangs");
        waiting.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    drop(hanging);
    let (_, body) = fetching.answer(api_key::FETCH, 12);
    let (_, _, partitions) = fetched(&body, 12);
    let (offset, value) = values(&partitions[0].records).remove(0);
    assert_eq!((offset, value), (7, vec![7; 20_000]));
    let (_, body) = listing.answer(api_key::LIST_OFFSETS, 7);
    let offset = decode(&body, 7, ListOffsetsResponse::decode, |it| it.topics[0].partitions[0].offset);
    assert_eq!(offset, 0);
}

/// Asks for the first record of the topic as young as that.
fn first_at(timestamp: i64) -> ListOffsetsRequest<'static> {
    let partitions = vec![ListOffsetsPartition { timestamp, ..ListOffsetsPartition::default() }];
    let topics = vec![ListOffsetsTopic { name: "t", partitions }];
    ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 }
}

#[test]
fn a_server_that_stops_does_not_wait_for_a_disk_that_hangs_and_nor_do_its_clients() {
    let node = node();
    forget(&node);
    let hanging = hang(&node);
    let mut reader = node.client();
    reader.send(api_key::FETCH, 12, |w| all().encode(w, 12).unwrap());
    reader.send(api_key::FETCH, 12, |w| at_once("t", i64::from(RECORDS)).encode(w, 12).unwrap());
    let mut byte = [0];
    reader.stream.read_exact(&mut byte).unwrap();
    node.server.shutdown(Duration::ZERO);
    let mut rest = Vec::new();
    let ended = reader.stream.read_to_end(&mut rest);
    assert!(ended.is_ok() || ended.is_err_and(|it| it.kind() == std::io::ErrorKind::ConnectionReset));
    assert!(rest.len() < 1000);
    drop(hanging);
}

#[test]
fn what_leaves_memory_while_a_socket_is_full_is_not_read_by_the_thread_that_serves_all() {
    let node = node();
    let mut slow = node.client();
    // all of it is in memory
    slow.send(api_key::FETCH, 12, |w| all().encode(w, 12).unwrap());
    let mut bytes = vec![0; 100_000];
    slow.stream.read_exact(&mut bytes).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    forget(&node);
    let (segment, length) = segment(&node);
    let in_memory = || fastlog_sys::page_cache::bytes_in_memory(&segment, 0, length);
    // what the socket has of it stays
    let kept = in_memory();
    let hanging = hang(&node);
    slow.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut taken = bytes.len();
    while let Ok(count) = slow.stream.read(&mut bytes) {
        taken += count;
    }
    assert!(taken < usize::from(RECORDS) * RECORD_BYTES, "its socket was never full");
    assert!(
        in_memory() <= kept,
        "{:?} and {kept:?} bytes are in memory though the disk's threads hang",
        in_memory()
    );
    drop(hanging);
    slow.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while taken < usize::from(RECORDS) * RECORD_BYTES {
        taken += slow.stream.read(&mut bytes).unwrap();
    }
}

/// How many sockets this process has open of connections that the node's listener accepted, whichever end closed.
fn accepted(node: &Node) -> usize {
    const LISTENS: &str = "0A";
    let port = format!(":{:04X}", node.address.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let is_open = |line: &&str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // one that nobody has open any more has no inode
        fields[1].ends_with(&port) && fields[3] != LISTENS && fields[9] != "0"
    };
    table.lines().skip(1).filter(is_open).count()
}

#[test]
fn a_disk_that_hangs_keeps_nothing_open_for_clients_that_have_gone() {
    const CLIENTS: usize = 50;
    let node = node();
    forget(&node);
    let hanging = hang(&node);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = node.client();
            client.send(api_key::FETCH, 12, |w| all().encode(w, 12).unwrap());
            // its answer has begun
            client.stream.read_exact(&mut [0]).unwrap();
            client
        })
        .collect();
    assert!(accepted(&node) >= CLIENTS, "{} are open", accepted(&node));
    drop(clients);
    eventually("their sockets are closed", || accepted(&node) == 0);
    drop(hanging);
    check(&fetch_one(&mut node.client(), 12, &all()).records);
}
