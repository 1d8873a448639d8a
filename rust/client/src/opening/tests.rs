use std::sync::Arc;

use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{self, BatchHeader, HEADER_BYTES};
use fastlog_protocol::compression::{self, Compression};
use fastlog_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use uuid::Uuid;

use super::land;
use crate::chunk::Chunk;
use crate::options::FetchOptions;
use crate::session::Session;
use crate::table::{Landed, LeaderHint, Target, Wanted};

/// A batch of `values` from `base_offset` on, its attributes as given besides the codec.
fn batch_of(
    base_offset: i64,
    values: &[&[u8]],
    kind: Compression,
    attributes: i16,
    producer_id: i64,
) -> Vec<u8> {
    let mut plain = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mut record = vec![0, 0, (index * 2) as u8, 1, (value.len() * 2) as u8];
        record.extend_from_slice(value);
        record.push(0);
        plain.push((record.len() * 2) as u8);
        plain.extend(record);
    }
    sealed(base_offset, values.len() as i32, &plain, kind, attributes, producer_id)
}

fn sealed(
    base_offset: i64,
    count: i32,
    plain: &[u8],
    kind: Compression,
    attributes: i16,
    producer_id: i64,
) -> Vec<u8> {
    let mut records = Vec::new();
    if kind == Compression::None {
        records.extend_from_slice(plain);
    } else {
        compression::compress(kind, None, plain, &mut records).unwrap();
    }
    let mut header = BatchHeader {
        base_offset,
        batch_length: (records.len() + HEADER_BYTES - 12) as i32,
        partition_leader_epoch: 0,
        magic: 2,
        crc: 0,
        attributes: batch::Attributes(attributes | kind as i16),
        last_offset_delta: (count - 1).max(0),
        base_timestamp: 0,
        max_timestamp: 0,
        producer_id,
        producer_epoch: 0,
        base_sequence: -1,
        record_count: count,
    };
    let mut out = header.encode_with_crc(&records).to_vec();
    out.extend(records);
    out
}

fn plain(base_offset: i64, values: &[&[u8]]) -> Vec<u8> {
    batch_of(base_offset, values, Compression::None, 0, -1)
}

const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// The marker that ends a transaction: 0 aborts, 1 commits.
fn marker(offset: i64, producer_id: i64, kind: u8) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 8, 0, 0, 0, kind, 12];
    record.extend_from_slice(&[0; 6]);
    record.push(0);
    let mut plain = vec![(record.len() * 2) as u8];
    plain.extend(record);
    sealed(offset, 1, &plain, Compression::None, TRANSACTIONAL | CONTROL, producer_id)
}

fn session(offset: i64) -> Session {
    let mut session = Session::default();
    let target = Target {
        slot: 5,
        generation: 3,
        topic: Arc::from("t"),
        topic_id: Uuid::nil(),
        partition: 0,
        broker_id: 1,
        leader_epoch: 0,
        offset,
    };
    session.plan(&[Wanted { target, ticket: 9, fetched_epoch: -1 }], false);
    session
}

fn land_one(partition: PartitionData<'_>, offset: i64, options: &FetchOptions, open_bytes: usize) -> Landed {
    let topic = FetchableTopicResponse {
        topic: "t",
        partitions: vec![partition],
        ..FetchableTopicResponse::default()
    };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    land(&response, &session(offset), options, open_bytes).pop().unwrap()
}

fn land_records(records: &[u8], offset: i64, options: &FetchOptions) -> Landed {
    let partition = PartitionData { records: Some(records), ..PartitionData::default() };
    land_one(partition, offset, options, 1 << 20)
}

fn chunk(records: &[u8], offset: i64) -> Chunk {
    data(land_records(records, offset, &FetchOptions::default()))
}

fn data(landed: Landed) -> Chunk {
    match landed {
        Landed::Data { ticket: 9, chunk } => chunk,
        other => panic!("{other:?}"),
    }
}

fn values(chunk: &Chunk) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    for one in &chunk.batches {
        batch::records(&one.bytes, |record| {
            all.push((record.offset, record.value.unwrap().to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    }
    all
}

#[test]
fn batches_of_every_compression_come_out_plain() {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let mut records = Vec::new();
    for (index, kind) in [None, Gzip, Snappy, Lz4, Zstd].into_iter().enumerate() {
        records.extend(batch_of(index as i64 * 2, &[b"one", b"two"], kind, 0, -1));
    }
    let chunk = chunk(&records, 0);
    assert_eq!((chunk.batches.len(), chunk.next_offset, chunk.corrupt.is_none()), (5, 10, true));
    assert!(chunk.batches.iter().all(|one| one.open));
    let expected: Vec<(i64, Vec<u8>)> =
        (0..10).map(|n| (n, if n % 2 == 0 { b"one".to_vec() } else { b"two".to_vec() })).collect();
    assert_eq!(values(&chunk), expected);
}

#[test]
fn a_partial_last_batch_is_dropped_without_a_word() {
    let whole = plain(0, &[b"a"]);
    let next = plain(1, &[b"b"]);
    for cut in [1, 11, 12, 60, next.len() - 1] {
        let records = [whole.as_slice(), &next[..cut]].concat();
        let chunk = chunk(&records, 0);
        assert_eq!((chunk.batches.len(), chunk.next_offset, chunk.corrupt), (1, 1, None), "{cut}");
    }
    let alone = land_records(&next[..40], 1, &FetchOptions::default());
    assert!(matches!(alone, Landed::Nothing { .. }));
}

#[test]
fn control_and_empty_batches_only_move_the_position() {
    let empty = sealed(3, 0, &[], Compression::None, 0, -1);
    let records = [plain(0, &[b"a", b"b"]), marker(2, 9, 1), empty].concat();
    let chunk = chunk(&records, 0);
    assert_eq!((chunk.batches.len(), chunk.next_offset), (1, 4));
    // whoever has read the batch stands after what is never seen
    assert_eq!(chunk.batches[0].next_offset, 4);
}

#[test]
fn a_response_of_control_batches_alone_moves_the_position() {
    let chunk = chunk(&marker(7, 9, 1), 7);
    assert_eq!((chunk.batches.len(), chunk.next_offset), (0, 8));
}

#[test]
fn a_batch_that_begins_before_the_offset_is_given_whole_and_one_that_ends_before_it_is_not() {
    let records = [plain(0, &[b"a", b"b"]), plain(2, &[b"c", b"d"])].concat();
    let chunk = chunk(&records, 3);
    assert_eq!(chunk.batches.iter().map(|one| one.base_offset).collect::<Vec<_>>(), [2]);
    assert_eq!((chunk.fetch_offset, chunk.next_offset), (3, 4));
}

#[test]
fn a_flipped_byte_is_reported_with_its_offset_and_what_came_before_is_kept() {
    let mut records = [plain(0, &[b"a", b"b"]), plain(2, &[b"c"]), plain(3, &[b"d"])].concat();
    let second = plain(0, &[b"a", b"b"]).len();
    records[second + 65] ^= 1;
    let chunk = chunk(&records, 0);
    assert_eq!((values(&chunk).len(), chunk.next_offset), (2, 2));
    let corrupt = chunk.corrupt.unwrap();
    assert_eq!(corrupt.offset, 2);
    assert!(corrupt.reason.contains("CRC"), "{}", corrupt.reason);
}

#[test]
fn a_base_offset_that_turned_is_never_taken_for_another_one_and_hides_no_batch() {
    let batches =
        [plain(0, &[b"a", b"b"]), plain(2, &[b"c", b"d"]), plain(4, &[b"e", b"f"]), plain(6, &[b"g"])];
    for (number, bit) in (0..batches.len()).flat_map(|number| (0..64).map(move |bit| (number, bit))) {
        let mut turned = batches.clone();
        turned[number][bit / 8] ^= 1 << (bit % 8);
        let landed = land_records(&turned.concat(), 0, &FetchOptions::default());
        let Landed::Data { chunk, .. } = landed else { panic!("{landed:?}") };
        let good: Vec<(i64, Vec<u8>)> = (0..7).map(|it| (it, vec![b'a' + it as u8])).collect();
        let before = 2 * number;
        assert_eq!(values(&chunk), good[..before], "bit {bit} of batch {number}");
        assert_eq!(chunk.next_offset, before as i64);
        // nothing behind the last one tells: it is asked for again
        let is_last = number == batches.len() - 1;
        let is_up = turned[number][..8] > batches[number][..8] && turned[number][0] & 0x80 == 0;
        assert_eq!(chunk.corrupt.is_none(), is_last && is_up, "{:?}", chunk.corrupt);
    }
}

#[test]
fn a_gap_that_a_cleaner_left_is_no_damage() {
    let batches = [plain(0, &[b"a"]), plain(9, &[b"b"]), plain(20, &[b"c"]), plain(30, &[b"d"])];
    let first = chunk(&batches.concat(), 0);
    assert_eq!((values(&first).len(), first.next_offset, first.corrupt), (3, 21, None));
    // the last one is asked for by its offset then
    let last = chunk(&batches[3], 21);
    assert_eq!((values(&last).len(), last.next_offset, last.corrupt), (1, 31, None));
}

#[test]
fn without_crc_checks_a_flipped_byte_of_a_value_passes() {
    let mut records = plain(0, &[b"aaaa"]);
    let last = records.len() - 2;
    records[last] ^= 1;
    let options = FetchOptions { check_crcs: false, ..FetchOptions::default() };
    assert_eq!(data(land_records(&records, 0, &options)).corrupt, None);
}

#[test]
fn old_formats_and_garbage_are_corrupt_and_never_skipped() {
    let mut old = plain(0, &[b"a"]);
    old[16] = 1;
    for records in [old, vec![0xff; 100]] {
        let chunk = chunk(&records, 0);
        assert_eq!((chunk.batches.len(), chunk.next_offset), (0, 0));
        assert_eq!(chunk.corrupt.unwrap().offset, 0);
    }
}

#[test]
fn compressed_garbage_with_a_good_crc_is_corrupt() {
    for kind in [1_i16, 2, 3, 4, 7] {
        let records = sealed(4, 3, b"this is not compressed at all", Compression::None, kind, -1);
        assert_eq!(chunk(&records, 4).corrupt.unwrap().offset, 4, "{kind}");
    }
}

#[test]
fn a_negative_offset_delta_is_corrupt() {
    let mut header = BatchHeader::parse(&plain(10, &[b"a"])).unwrap();
    header.last_offset_delta = -5;
    let body = plain(10, &[b"a"])[HEADER_BYTES..].to_vec();
    let records = [header.encode_with_crc(&body).to_vec(), body].concat();
    assert_eq!(chunk(&records, 10).corrupt.unwrap().offset, 10);
}

#[test]
fn aborted_transactions_are_hidden_from_read_committed_only() {
    let records = [
        batch_of(0, &[b"aborted"], Compression::None, TRANSACTIONAL, 7),
        batch_of(1, &[b"kept"], Compression::None, TRANSACTIONAL, 8),
        batch_of(2, &[b"plain"], Compression::None, 0, -1),
        marker(3, 7, 0),
        batch_of(4, &[b"later"], Compression::None, TRANSACTIONAL, 7),
        marker(5, 8, 1),
        marker(6, 7, 1),
    ]
    .concat();
    let list = vec![AbortedTransaction { producer_id: 7, first_offset: 0 }];
    let seen = |read_committed: bool| {
        let options = FetchOptions { read_committed, ..FetchOptions::default() };
        let aborted = read_committed.then(|| list.clone());
        let partition = PartitionData {
            records: Some(&records),
            aborted_transactions: aborted,
            ..PartitionData::default()
        };
        let chunk = data(land_one(partition, 0, &options, 1 << 20));
        assert_eq!(chunk.next_offset, 7);
        values(&chunk).into_iter().map(|(offset, _)| offset).collect::<Vec<_>>()
    };
    assert_eq!(seen(true), [1, 2, 4]);
    assert_eq!(seen(false), [0, 1, 2, 4]);
}

#[test]
fn what_exceeds_the_memory_for_opened_batches_stays_as_it_came() {
    let records: Vec<u8> =
        (0..4).flat_map(|n| batch_of(n, &[&[b'x'; 60]], Compression::Zstd, 0, -1)).collect();
    let partition = PartitionData { records: Some(&records), ..PartitionData::default() };
    let chunk = data(land_one(partition, 0, &FetchOptions::default(), 100));
    assert_eq!(chunk.batches.iter().map(|one| one.open).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(chunk.batches.iter().map(|one| one.bytes.len()).sum::<usize>(), chunk.size_bytes);
}

#[test]
fn errors_and_pointers_elsewhere_are_told() {
    let options = FetchOptions::default();
    let failed = |partition| match land_one(partition, 0, &options, 1) {
        Landed::Failed { slot: 5, ticket: 9, failure } => failure,
        other => panic!("{other:?}"),
    };
    let error = failed(PartitionData { error_code: 1, ..PartitionData::default() });
    assert_eq!(error.code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let elsewhere = failed(PartitionData { preferred_read_replica: 4, ..PartitionData::default() });
    assert_eq!(elsewhere.preferred_replica, Some(4));
    let diverging_epoch = EpochEndOffset { epoch: 2, end_offset: 90 };
    let parted = failed(PartitionData { diverging_epoch, ..PartitionData::default() });
    assert_eq!(parted.diverging, Some((2, 90)));
}

#[test]
fn what_was_not_asked_for_is_not_looked_at() {
    let topic = FetchableTopicResponse {
        topic: "other",
        partitions: vec![PartitionData::default()],
        ..FetchableTopicResponse::default()
    };
    let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
    assert!(land(&response, &session(0), &FetchOptions::default(), 1).is_empty());
}

/// What the error of a partition says of its leader, in an answer that tells where broker 2 is.
fn told(code: i16, leader_id: i32, leader_epoch: i32) -> Option<LeaderHint> {
    let partition = PartitionData {
        error_code: code,
        current_leader: LeaderIdAndEpoch { leader_id, leader_epoch },
        ..PartitionData::default()
    };
    let topic = FetchableTopicResponse {
        topic: "t",
        partitions: vec![partition],
        ..FetchableTopicResponse::default()
    };
    let node = NodeEndpoint { node_id: 2, host: "there", port: 9092, rack: Some("r") };
    let response =
        FetchResponse { responses: vec![topic], node_endpoints: vec![node], ..FetchResponse::default() };
    match land(&response, &session(0), &FetchOptions::default(), 1).pop() {
        Some(Landed::Failed { failure, .. }) => failure.leader,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_error_names_the_leader_and_where_it_is() {
    let endpoint = Some(("there".to_owned(), 9092, Some("r".to_owned())));
    assert_eq!(told(6, 2, 7), Some(LeaderHint { broker_id: 2, leader_epoch: 7, endpoint }));
    assert_eq!(told(74, 3, 7), Some(LeaderHint { broker_id: 3, leader_epoch: 7, endpoint: None }));
    assert_eq!((told(6, -1, -1), told(6, 2, -1), told(6, -1, 4)), (None, None, None));
}

mod hostile {
    use proptest::prelude::*;

    use super::{Compression, FetchOptions, Landed, batch_of, land_records};

    /// Three batches, one of them compressed, with some bytes changed and the end cut off.
    fn bent() -> impl Strategy<Value = (Vec<u8>, bool)> {
        let changes = prop::collection::vec((0_usize..400, any::<u8>()), 0..4);
        (changes, 0_usize..400, 0_i16..8, any::<bool>()).prop_map(|(changes, cut, codec, check_crcs)| {
            let mut records = [
                batch_of(0, &[b"one", b"two"], Compression::None, 0, -1),
                batch_of(2, &[&[b'x'; 90]], Compression::from_id(codec % 5).unwrap(), 0x10, 7),
                batch_of(3, &[b"three"], Compression::None, 0, -1),
            ]
            .concat();
            for (at, byte) in changes {
                if let Some(target) = records.get_mut(at) {
                    *target = byte;
                }
            }
            records.truncate(records.len().saturating_sub(cut));
            (records, check_crcs)
        })
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_positions_only_go_forward((records, check_crcs) in bent(), offset in 0_i64..4) {
            let options = FetchOptions { check_crcs, ..FetchOptions::default() };
            if let Landed::Data { chunk, .. } = land_records(&records, offset, &options) {
                let mut position = offset;
                for one in &chunk.batches {
                    prop_assert!(one.next_offset > position);
                    position = one.next_offset;
                }
                prop_assert!(chunk.next_offset >= position);
                if let Some(corrupt) = &chunk.corrupt {
                    prop_assert_eq!(corrupt.offset, chunk.next_offset);
                }
            }
        }

        #[test]
        fn garbage_never_panics(records in prop::collection::vec(any::<u8>(), 0..300)) {
            let options = FetchOptions { check_crcs: false, ..FetchOptions::default() };
            land_records(&records, 0, &options);
        }
    }
}
