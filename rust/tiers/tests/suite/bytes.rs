//! What is written down reads back, and nothing else does.

use fastlog_log::{ClosedSegment, EpochStart};
use fastlog_tiers::chunks::{CHUNK_BYTES, scan, verify};
use fastlog_tiers::{Entry, Manifest};
use proptest::prelude::*;
use uuid::Uuid;

use crate::common::{place, segment};

fn manifest(sizes: &[(u16, u64)]) -> Manifest {
    let mut offset = 5;
    let entries = sizes.iter().enumerate().map(|(number, (count, bytes))| {
        let base_offset = offset;
        offset += i64::from(*count) + 1;
        Entry {
            id: Uuid::from_u128(number as u128),
            base_offset,
            next_offset: offset,
            object_next_offset: offset + number as i64 % 2,
            max_timestamp: offset * 3,
            log_bytes: *bytes + 1,
            lookup_bytes: 4,
            lookup_crc: 5,
            indexes_bytes: 6,
            indexes_crc: 7,
            aborted_count: 8,
            epochs: vec![EpochStart { epoch: number as i32, start_offset: base_offset }],
        }
    });
    let segments = entries.collect();
    Manifest { version: 9, node_id: 1, leader_epoch: 2, segments, ..Manifest::empty(place()) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_manifest_reads_back_and_a_changed_or_shorter_one_is_refused(
        sizes in proptest::collection::vec(any::<(u16, u64)>().prop_map(|(a, b)| (a, b / 2)), 0..6),
        place in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let manifest = manifest(&sizes);
        let bytes = manifest.encode();
        prop_assert_eq!(&Manifest::decode("m", &bytes).unwrap(), &manifest);
        let at = place.index(bytes.len());
        let mut changed = bytes.clone();
        changed[at] ^= 1 << bit;
        prop_assert!(Manifest::decode("m", &changed).is_err());
        prop_assert!(Manifest::decode("m", &bytes[..at]).is_err());
    }

    #[test]
    fn hostile_bytes_are_no_manifest_and_take_no_memory(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::decode("m", &bytes).is_err());
    }

    #[test]
    fn chunks_make_up_a_segment_and_each_is_verified(
        // few of them large: checksums are slow without optimisation
        batches in proptest::collection::vec(prop_oneof![9 => (1..40i64, 0..200usize), 1 => (1..3i64, 0..900_000usize)], 1..8),
        place in any::<prop::sample::Index>(),
    ) {
        let closed = segment(100, &batches);
        let source = closed.source();
        let chunks = scan(&source).unwrap();
        let mut end = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            prop_assert_eq!(chunk.position, end);
            end = chunk.range().end;
            let next = chunks.get(number + 1).map_or(closed.next_offset, |next| next.base_offset);
            let bytes = &closed.bytes[chunk.position as usize..end as usize];
            let places = verify(chunk, next, bytes).unwrap();
            prop_assert!(chunk.length as usize <= CHUNK_BYTES || places.len() == 1);
            let mut changed = bytes.to_vec();
            changed[place.index(bytes.len())] ^= 1;
            prop_assert!(verify(chunk, next, &changed).is_err());
            prop_assert!(verify(chunk, next, &bytes[1..]).is_err());
        }
        prop_assert_eq!(end, source.size_bytes);
    }
}

#[test]
fn a_manifest_of_a_newer_format_says_so() {
    let mut bytes = manifest(&[]).encode();
    bytes.truncate(bytes.len() - 4);
    bytes[5] = 3;
    let crc = fastlog_protocol::crc::crc32c(&bytes);
    bytes.extend(crc.to_be_bytes());
    let error = Manifest::decode("m", &bytes).unwrap_err().to_string();
    assert!(error.contains("format is 3, known is 2"), "{error}");
}

#[test]
fn a_damaged_or_short_segment_is_not_uploaded() {
    let closed = segment(0, &[(5, 100), (5, 100)]);
    let mut damaged = closed.clone();
    let middle = damaged.bytes.len() / 2 + 70;
    damaged.bytes[middle] ^= 1;
    let source = damaged.source();
    let error = scan(&source).unwrap_err().to_string();
    assert!(error.contains("the local segment 0"), "{error}");
    let source = closed.source();
    for (bytes, next_offset) in [(1, 0), (0, -1), (-1, 0)] {
        let size_bytes = source.size_bytes.saturating_add_signed(bytes);
        let next_offset = source.next_offset + next_offset;
        assert!(scan(&ClosedSegment { size_bytes, next_offset, ..source.clone() }).is_err());
    }
}

#[test]
fn a_manifest_of_the_first_format_reads() {
    let whole = manifest(&[(3, 5), (4, 5)]);
    let mut segments = whole.segments.clone();
    segments.iter_mut().for_each(|it| it.object_next_offset = it.next_offset);
    let whole = Manifest { segments, ..whole };
    let mut bytes = whole.encode();
    bytes.truncate(bytes.len() - 4);
    bytes[5] = 1;
    // each entry has the offset at which its object ends behind its id, its base and its next offset
    let first = bytes.windows(16).position(|it| *it == *whole.segments[0].id.as_bytes()).unwrap();
    let second = first
        + bytes[first + 1..].windows(16).position(|it| *it == *whole.segments[1].id.as_bytes()).unwrap()
        + 1;
    for entry in [second, first] {
        bytes.drain(entry + 32..entry + 40);
    }
    let crc = fastlog_protocol::crc::crc32c(&bytes);
    bytes.extend(crc.to_be_bytes());
    assert_eq!(Manifest::decode("m", &bytes).unwrap(), whole);
}
