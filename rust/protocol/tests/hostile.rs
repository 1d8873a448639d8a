//! Bytes that are not what they should be: refused, without panic.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test")]

mod common;
#[path = "common/data_plane.rs"]
mod data_plane;

use common::{DIRECTIONS, Random, message};
use fastlog_protocol::header::RequestHeader;
use fastlog_protocol::primitives::Reader;
use fastlog_protocol::schema::api;
use proptest::prelude::*;

fn each_message(seed: u64, mut judge: impl FnMut(i16, common::Direction, i16, Vec<u8>)) {
    for key in data_plane::KEYS {
        let api = api(key).unwrap();
        for direction in DIRECTIONS {
            for version in api.versions.low..=api.versions.high {
                judge(key, direction, version, message(api, direction, version, seed));
            }
        }
    }
}

/// Values that lengths and counts are tempted with.
const CLAIMS: [u32; 8] = [0, 1, 0x7f, 10_000_000, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// Changes a few bytes of `body`, or writes a claim over some.
fn spoil(body: &mut [u8], random: &mut Random) {
    if body.is_empty() {
        return;
    }
    for _ in 0..=random.below(3) {
        let place = random.below(body.len());
        match random.below(3) {
            0 => body[place] ^= 1 << random.below(8),
            1 => body[place] = random.next() as u8,
            _ => {
                let claim = CLAIMS[random.below(CLAIMS.len())].to_be_bytes();
                body[place..].iter_mut().zip(claim).for_each(|(byte, with)| *byte = with);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_prefix_of_a_message_is_refused(seed: u64) {
        each_message(seed, |key, direction, version, body| {
            for end in 0..body.len() {
                let read = data_plane::again(key, direction, version, &body[..end]);
                assert!(read.is_err(), "key {key} {direction:?} version {version} cut at {end} of {body:x?}");
            }
        });
    }

    #[test]
    fn spoilt_messages_are_read_or_refused(seed: u64) {
        let mut random = Random(seed);
        each_message(seed, |key, direction, version, mut body| {
            for _ in 0..8 {
                spoil(&mut body, &mut random);
                let _ = data_plane::again(key, direction, version, &body);
            }
        });
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RequestHeader::decode(&mut Reader::new(&bytes));
        for key in data_plane::KEYS {
            for direction in DIRECTIONS {
                for version in -1..20 {
                    let _ = data_plane::again(key, direction, version, &bytes);
                }
            }
        }
    }
}
