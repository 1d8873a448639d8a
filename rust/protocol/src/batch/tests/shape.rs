use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn read_all(batch: &[u8]) -> Result<Vec<Owned>, BatchError> {
    let mut out = Vec::new();
    records(batch, |record| {
        let headers = record
            .headers
            .iter()
            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect();
        out.push((
            record.offset,
            record.timestamp,
            record.key.map(<[u8]>::to_vec),
            record.value.map(<[u8]>::to_vec),
            headers,
        ));
        ControlFlow::Continue(())
    })?;
    Ok(out)
}

#[test]
fn the_header_lies_where_kafka_has_it() {
    let header = BatchHeader {
        base_offset: 0x0102_0304_0506_0708,
        batch_length: 49,
        partition_leader_epoch: 0x1112_1314,
        magic: 2,
        crc: 0x2122_2324,
        attributes: Attributes(0x3132),
        last_offset_delta: 0x4142_4344,
        base_timestamp: 0x5152_5354_5556_5758,
        max_timestamp: 0x6162_6364_6566_6768,
        producer_id: 0x7172_7374_7576_7778,
        producer_epoch: 0x0102,
        base_sequence: 0x1112_1314,
        record_count: 0x2122_2324,
    };
    let bytes = header.encode();
    assert_eq!(bytes[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(bytes[8..12], [0, 0, 0, 49]);
    assert_eq!(bytes[16], 2);
    assert_eq!(bytes[17..21], [0x21, 0x22, 0x23, 0x24]);
    assert_eq!(bytes[21..23], [0x31, 0x32]);
    assert_eq!(bytes[57..], [0x21, 0x22, 0x23, 0x24]);
    assert_eq!(BatchHeader::parse(&bytes).unwrap(), header);
}

#[test]
fn sequences_wrap_to_zero() {
    let batch = three_records().producer(1, 0, i32::MAX - 1).seal(Compression::None).unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_sequence(), 0);
    let batch = three_records().seal(Compression::None).unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().last_sequence(), -1);
}

#[test]
fn null_and_empty_differ_and_headers_keep_their_order() {
    for compression in ALL {
        let batch = three_records().base_offset(100).seal(compression).unwrap();
        let expected: Vec<Owned> = vec![
            (100, NOW, Some(b"a".to_vec()), Some(b"one".to_vec()), vec![]),
            (101, NOW + 5, None, Some(vec![]), vec![]),
            (
                102,
                NOW - 7,
                Some(vec![]),
                None,
                vec![(b"h".to_vec(), Some(b"v".to_vec())), (b"h".to_vec(), None)],
            ),
        ];
        assert_eq!(read_all(&batch).unwrap(), expected, "{compression:?}");
        assert!(crc_is_valid(&batch));
        validate(&with_header(&batch, |header| header.base_offset = 0), &rules()).unwrap();
    }
}

#[test]
fn an_opened_batch_is_a_plain_batch() {
    for compression in ALL {
        let mut out = b"before".to_vec();
        let header = open(&three_records().seal(compression).unwrap(), &mut out).unwrap();
        assert_eq!(out.split_off(6), three_records().seal(Compression::None).unwrap(), "{compression:?}");
        assert_eq!(header.record_count, 3);
    }
}

#[test]
fn an_empty_batch_of_the_cleaner_has_no_records() {
    let empty = with_header(&Builder::new().base_offset(7).seal(Compression::None).unwrap(), |header| {
        header.last_offset_delta = 4;
    });
    assert_eq!(read_all(&empty).unwrap(), vec![]);
    assert_eq!(BatchHeader::parse(&empty).unwrap().next_offset(), 12);
    open(&empty, &mut Vec::new()).unwrap();
}

#[test]
fn a_partial_last_batch_ends_the_iteration() {
    let one = three_records().seal(Compression::None).unwrap();
    let two = [one.clone(), one.clone()].concat();
    for cut in 0..=two.len() {
        let whole: Result<Vec<_>, _> = batches(&two[..cut]).collect();
        assert_eq!(whole.unwrap().len(), cut / one.len());
    }
    let mut bad = two.clone();
    bad[one.len() + 16] = 9;
    let found: Vec<_> = batches(&bad).collect();
    assert_eq!(found, vec![Ok(one.as_slice()), Err(BatchError::Magic(9))]);
}

#[test]
fn log_append_time_is_every_records_time() {
    let batch = three_records().seal(Compression::None).unwrap();
    let checked = validate(&batch, &rules()).unwrap();
    let header = stamp(
        &batch,
        &checked,
        Stamp { base_offset: 50, leader_epoch: 3, log_append_time_ms: Some(NOW + 1000) },
    );
    let stamped = [header.as_slice(), &batch[HEADER_BYTES..]].concat();
    assert!(crc_is_valid(&stamped));
    let times: Vec<_> = read_all(&stamped).unwrap().iter().map(|record| (record.0, record.1)).collect();
    assert_eq!(times, [(50, NOW + 1000), (51, NOW + 1000), (52, NOW + 1000)]);
}

#[test]
fn a_stamp_with_create_time_leaves_the_crc() {
    let batch = three_records().seal(Compression::None).unwrap();
    let checked = validate(&batch, &rules()).unwrap();
    let stamped =
        stamp(&batch, &checked, Stamp { base_offset: 50, leader_epoch: 3, log_append_time_ms: None });
    assert_eq!(stamped[12..], [&3i32.to_be_bytes(), &batch[16..HEADER_BYTES]].concat());
    assert_eq!(stamped[..8], 50i64.to_be_bytes());
}

#[test]
fn a_stamp_corrects_a_claimed_max_timestamp() {
    let batch = with_header(&three_records().seal(Compression::None).unwrap(), |header| {
        header.max_timestamp = 99_999_999_999_999;
    });
    let checked = validate(&batch, &rules()).unwrap();
    assert_eq!((checked.max_timestamp, checked.offset_delta_of_max_timestamp), (NOW + 5, 1));
    let header = stamp(&batch, &checked, Stamp { base_offset: 0, leader_epoch: 0, log_append_time_ms: None });
    let stamped = [header.as_slice(), &batch[HEADER_BYTES..]].concat();
    assert!(crc_is_valid(&stamped));
    assert_eq!(BatchHeader::parse(&stamped).unwrap().max_timestamp, NOW + 5);
}

fn any_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300))
}

fn any_record() -> impl Strategy<Value = Owned> {
    let headers =
        proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), any_bytes()), 0..4);
    // wide deltas: the first record's time is the base
    (0..i64::MAX / 4, any_bytes(), any_bytes(), headers)
        .prop_map(|(time, key, value, headers)| (0, time, key, value, headers))
}

fn build(records: &[Owned]) -> Builder {
    let mut builder = Builder::new();
    for (_, time, key, value, headers) in records {
        let headers: Vec<_> = headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
        builder.append_with_headers(*time, key.as_deref(), value.as_deref(), &headers);
    }
    builder
}

fn lenient() -> Rules {
    Rules { after_max_ms: i64::MAX, ..rules() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_records_come_back(mut expected in proptest::collection::vec(any_record(), 1..40), codec in 0usize..5) {
        let batch = build(&expected).seal(ALL[codec]).unwrap();
        let checked = validate(&batch, &lenient()).unwrap();
        prop_assert_eq!(checked.max_timestamp, expected.iter().map(|record| record.1).max().unwrap());
        for (index, record) in expected.iter_mut().enumerate() {
            record.0 = index as i64;
        }
        prop_assert_eq!(read_all(&batch).unwrap(), expected);
    }

    #[test]
    fn every_prefix_is_refused(records in proptest::collection::vec(any_record(), 1..5), codec in 0usize..5, cut: prop::sample::Index) {
        let batch = build(&records).seal(ALL[codec]).unwrap();
        let cut = cut.index(batch.len());
        prop_assert!(validate(&batch[..cut], &lenient()).is_err());
        prop_assert!(read_all(&batch[..cut]).is_err());
        prop_assert!(open(&batch[..cut], &mut Vec::new()).is_err());
    }

    #[test]
    fn changed_bytes_behind_a_good_crc_never_panic(
        records in proptest::collection::vec(any_record(), 1..5),
        codec in 0usize..5,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = build(&records).seal(ALL[codec]).unwrap();
        for (at, byte) in changes {
            let at = LOG_OVERHEAD + at.index(batch.len() - LOG_OVERHEAD);
            batch[at] = byte;
        }
        batch[16] = 2;
        let batch = with_header(&batch, |_| ());
        let accepted = validate(&batch, &lenient()).is_ok();
        // what is accepted can be read
        prop_assert!(!accepted || read_all(&batch).is_ok());
        let _ = open(&batch, &mut Vec::new());
    }

    #[test]
    fn a_flipped_bit_under_the_crc_is_found(records in proptest::collection::vec(any_record(), 1..5), at: prop::sample::Index, bit in 0u8..8) {
        let mut batch = build(&records).seal(Compression::None).unwrap();
        let at = CRC_COVERS_FROM + at.index(batch.len() - CRC_COVERS_FROM);
        batch[at] ^= 1 << bit;
        prop_assert!(!crc_is_valid(&batch));
        prop_assert!(validate(&batch, &lenient()).is_err());
    }
}
