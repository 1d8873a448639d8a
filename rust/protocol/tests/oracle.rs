//! Random messages of every API and version, byte for byte through the kafka-protocol crate, made by other people
//! from Kafka's schemas, and through the data plane's generated messages.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;
#[path = "common/data_plane.rs"]
mod data_plane;

use bytes::{Bytes, BytesMut};
use common::{DIRECTIONS, Direction, message};
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::primitives::{Reader, Writer};
use fastlog_protocol::schema::{APIS, Api, api};
use kafka_protocol::messages::{ApiKey, RequestKind, ResponseKind};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

/// The message after a pass through the kafka-protocol crate; none where the crate does not have the version.
fn through_oracle(api: &Api, direction: Direction, version: i16, body: &[u8]) -> Option<Vec<u8>> {
    let key = ApiKey::try_from(api.key).unwrap();
    let mut left = Bytes::copy_from_slice(body);
    let mut written = BytesMut::new();
    let done =
        match direction {
            Direction::Request => RequestKind::decode(key, &mut left, version)
                .and_then(|read| read.encode(&mut written, version)),
            Direction::Response => ResponseKind::decode(key, &mut left, version)
                .and_then(|read| read.encode(&mut written, version)),
        };
    if let Err(error) = done {
        let text = format!("{error:#}");
        assert!(text.contains("specified version not supported"), "{text}: {body:x?}");
        return None;
    }
    assert!(left.is_empty(), "the crate left {} bytes", left.len());
    Some(written.to_vec())
}

fn each_message(seed: u64, mut judge: impl FnMut(&'static Api, Direction, i16, Vec<u8>)) {
    for api in APIS {
        for direction in DIRECTIONS {
            for version in api.versions.low..=api.versions.high {
                judge(api, direction, version, message(api, direction, version, seed));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_tables_say_what_the_kafka_protocol_crate_says(seed: u64) {
        each_message(seed, |api, direction, version, body| {
            if let Some(written) = through_oracle(api, direction, version, &body) {
                assert_eq!(written, body, "{} {direction:?} version {version}", api.name);
            }
        });
    }

    #[test]
    fn the_data_plane_writes_again_what_it_read(seed: u64) {
        for key in data_plane::KEYS {
            let api = api(key).unwrap();
            for direction in DIRECTIONS {
                for version in api.versions.low..=api.versions.high {
                    let body = message(api, direction, version, seed);
                    let again = data_plane::again(key, direction, version, &body);
                    assert_eq!(again, Ok(body), "{} {direction:?} version {version}", api.name);
                }
            }
        }
    }
}

#[test]
fn the_crate_judges_all_but_a_few_new_versions() {
    let mut unknown = Vec::new();
    each_message(0, |api, direction, version, body| {
        if through_oracle(api, direction, version, &body).is_none() {
            unknown.push((api.name, direction, version));
        }
    });
    let both = |name, version| [(name, Direction::Request, version), (name, Direction::Response, version)];
    // kio judges the first four, bytes from Kafka's own classes the last three (tests/wire)
    let expected = [
        &both("ListOffsets", 11)[..],
        &[("OffsetCommit", Direction::Request, 10), ("OffsetFetch", Direction::Request, 10)],
        &both("DescribeLogDirs", 5),
        &both("ApiVersions", 5),
        &both("TxnOffsetCommit", 6),
        &both("DeleteGroups", 3),
    ];
    let (unknown, expected): (BTreeSet<_>, BTreeSet<_>) =
        (unknown.into_iter().collect(), expected.concat().into_iter().collect());
    assert_eq!(unknown, expected);
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn real_clients_requests_come_back() {
    // tests/wire/golden: recorded from confluent-kafka, aiokafka, kafka-python, kcat and Java
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire/golden");
    let mut judged = 0;
    for client in ["aiokafka", "confluent-kafka", "java", "kafka-python", "kcat"] {
        let text = std::fs::read_to_string(folder.join(format!("{client}.txt"))).unwrap();
        for line in text.lines() {
            let frame = bytes(line.rsplit(' ').next().unwrap());
            let mut r = Reader::new(&frame);
            let header = RequestHeader::decode(&mut r).unwrap();
            if !data_plane::KEYS.contains(&header.api_key) {
                continue;
            }
            let mut w = Writer::new();
            header.encode(&mut w).unwrap();
            let body = data_plane::again(header.api_key, Direction::Request, header.api_version, r.rest());
            w.raw(&body.unwrap());
            assert_eq!(w.as_bytes(), frame, "{client}: {line}");
            judged += 1;
        }
    }
    assert!(judged >= 25, "only {judged} requests");
}
