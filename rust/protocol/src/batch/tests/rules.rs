//! One test for each way in which a batch can be bad, uncompressed and compressed where it matters.

use super::*;
use crate::compression::compress;
use crate::error_code::ErrorCode;

fn code(batch: &[u8], rules: &Rules) -> ErrorCode {
    validate(batch, rules).map_or_else(|invalid| invalid.code, |_| ErrorCode::NONE)
}

/// The answer to the three records after `change` to their header.
fn changed(change: impl FnOnce(&mut BatchHeader)) -> ErrorCode {
    code(&with_header(&three_records().seal(Compression::None).unwrap(), change), &rules())
}

/// The answers to a records section, by codec: all the same, or the test says so.
fn section_code(count: i32, section: &[u8], rules: &Rules) -> ErrorCode {
    let answers: Vec<_> = ALL
        .iter()
        .map(|compression| {
            let mut packed = Vec::new();
            compress(*compression, None, section, &mut packed).unwrap();
            code(&with_section(*compression, count, &packed), rules)
        })
        .collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    answers[0]
}

/// A record with one-byte varints: length, attributes, time delta, offset delta, null key, value `x`, no headers.
fn record(offset_delta: u8) -> [u8; 8] {
    [14, 0, 0, offset_delta * 2, 1, 2, b'x', 0]
}

#[test]
fn good_batches_pass() {
    for compression in ALL {
        let batch = three_records().seal(compression).unwrap();
        let checked = validate(&batch, &rules()).unwrap();
        assert_eq!((checked.max_timestamp, checked.offset_delta_of_max_timestamp), (NOW + 5, 1));
    }
    let idempotent = three_records().producer(4000, 0, 0).seal(Compression::None).unwrap();
    assert_eq!(code(&idempotent, &rules()), ErrorCode::NONE);
    assert_eq!(section_code(2, &[record(0), record(1)].concat(), &rules()), ErrorCode::NONE);
}

#[test]
fn none_two_or_half_a_batch_is_refused() {
    let batch = three_records().seal(Compression::None).unwrap();
    assert_eq!(code(&[], &rules()), ErrorCode::INVALID_RECORD);
    assert_eq!(code(&[batch.clone(), batch.clone()].concat(), &rules()), ErrorCode::INVALID_RECORD);
    for cut in 1..batch.len() {
        assert_eq!(code(&batch[..cut], &rules()), ErrorCode::INVALID_RECORD);
    }
}

#[test]
fn garbage_after_the_batch_is_refused() {
    let mut batch = three_records().seal(Compression::None).unwrap();
    batch.extend_from_slice(&[0x5a; 30]);
    assert_eq!(code(&batch, &rules()), ErrorCode::INVALID_RECORD);
}

#[test]
fn a_wrong_crc_is_corrupt() {
    let mut batch = three_records().seal(Compression::None).unwrap();
    *batch.last_mut().unwrap() ^= 1;
    assert_eq!(code(&batch, &rules()), ErrorCode::CORRUPT_MESSAGE);
}

#[test]
fn impossible_lengths_and_other_formats_are_refused() {
    let mut batch = three_records().seal(Compression::None).unwrap();
    batch[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(code(&batch, &rules()), ErrorCode::CORRUPT_MESSAGE);
    batch[8..12].copy_from_slice(&(-1i32).to_be_bytes());
    assert_eq!(code(&batch, &rules()), ErrorCode::CORRUPT_MESSAGE);
    for (magic, answer) in [
        (0, ErrorCode::INVALID_RECORD),
        (1, ErrorCode::INVALID_RECORD),
        (3, ErrorCode::CORRUPT_MESSAGE),
        (255, ErrorCode::CORRUPT_MESSAGE),
    ] {
        batch[16] = magic;
        assert_eq!(code(&batch, &rules()), answer);
    }
}

#[test]
fn counts_and_offsets_must_agree() {
    let refused = ErrorCode::INVALID_RECORD;
    assert_eq!(changed(|header| header.record_count = 0), refused);
    assert_eq!(changed(|header| header.record_count = -1), refused);
    assert_eq!(changed(|header| header.last_offset_delta = 3), refused);
    assert_eq!(changed(|header| header.last_offset_delta = i32::MAX), refused);
    assert_eq!(changed(|header| header.base_offset = 1), refused);
    for count in [2, 4, 1_000_000, i32::MAX] {
        let lying = |header: &mut BatchHeader| {
            header.record_count = count;
            header.last_offset_delta = count - 1;
        };
        assert_eq!(changed(lying), refused, "{count}");
    }
}

#[test]
fn more_or_fewer_records_than_declared_are_refused() {
    let two = [record(0), record(1)].concat();
    assert_eq!(section_code(1, &two, &rules()), ErrorCode::INVALID_RECORD);
    assert_eq!(section_code(3, &two, &rules()), ErrorCode::INVALID_RECORD);
    assert_eq!(section_code(2, &[two.as_slice(), &[0; 30]].concat(), &rules()), ErrorCode::INVALID_RECORD);
}

#[test]
fn offset_deltas_count_up_from_zero() {
    for deltas in [[0, 0, 2], [1, 2, 3], [0, 2, 1], [0, 1, 3]] {
        let section = deltas.map(record).concat();
        assert_eq!(section_code(3, &section, &rules()), ErrorCode::INVALID_RECORD, "{deltas:?}");
    }
    let batch = with_section(Compression::None, 3, &[0, 0, 2].map(record).concat());
    let invalid = validate(&batch, &rules()).unwrap_err();
    assert_eq!(invalid.record_errors.iter().map(|error| error.0).collect::<Vec<_>>(), [1]);
}

#[test]
fn malformed_records_are_refused() {
    let refused: [&[u8]; 12] = [
        // lengths: negative, beyond the end, of more than 32 bits, never ending
        &[1, 0, 0, 0, 1, 1, 0],
        &[40, 0, 0, 0, 1, 1, 0],
        &[0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 1, 1, 0],
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        // key and value: -2, beyond the record
        &[12, 0, 0, 0, 3, 1, 0],
        &[12, 0, 0, 0, 1, 3, 0],
        &[12, 0, 0, 0, 20, 1, 0],
        // headers: a negative count, too many, a null key
        &[12, 0, 0, 0, 1, 1, 1],
        &[12, 0, 0, 0, 1, 1, 40],
        &[16, 0, 0, 0, 1, 1, 2, 1, 1],
        // a byte too many in the record, a time delta of more than 64 bits
        &[14, 0, 0, 0, 1, 1, 0, 0],
        &[32, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 1, 1, 0],
    ];
    for section in refused {
        assert_eq!(section_code(1, section, &rules()), ErrorCode::INVALID_RECORD, "{section:?}");
    }
}

#[test]
fn a_record_longer_than_a_piece_is_streamed() {
    for bytes in [40 << 10, 64 << 10, 150 << 10] {
        for compression in ALL {
            let mut builder = Builder::new();
            builder.append(NOW, Some(&vec![b'k'; bytes]), Some(&vec![b'v'; bytes]));
            builder.append_with_headers(NOW, None, None, &[(&vec![b'h'; bytes], Some(&vec![b'w'; bytes]))]);
            builder.append(NOW, None, Some(b"last"));
            let batch = builder.seal(compression).unwrap();
            assert_eq!(code(&batch, &Rules { max_batch_bytes: 1 << 30, ..rules() }), ErrorCode::NONE);
        }
    }
}

#[test]
fn clients_write_no_control_batches() {
    assert_eq!(
        changed(|header| header.attributes = header.attributes.with_control(true)),
        ErrorCode::INVALID_RECORD
    );
    assert_eq!(changed(|header| header.attributes.0 |= 0x40), ErrorCode::INVALID_RECORD);
    let control = three_records().attributes(Attributes::default().with_control(true)).base_offset(9);
    let broker = Rules { from_client: false, ..rules() };
    assert_eq!(code(&control.seal(Compression::None).unwrap(), &broker), ErrorCode::NONE);
}

#[test]
fn a_producer_id_needs_epoch_and_sequence() {
    let producer = |id, epoch, sequence| {
        move |header: &mut BatchHeader| {
            (header.producer_id, header.producer_epoch, header.base_sequence) = (id, epoch, sequence);
        }
    };
    assert_eq!(changed(producer(5, 0, 0)), ErrorCode::NONE);
    assert_eq!(changed(producer(5, -1, 0)), ErrorCode::INVALID_RECORD);
    assert_eq!(changed(producer(5, 0, -1)), ErrorCode::INVALID_RECORD);
    let transactional =
        |header: &mut BatchHeader| header.attributes = header.attributes.with_transactional(true);
    assert_eq!(changed(transactional), ErrorCode::INVALID_RECORD);
}

#[test]
fn unknown_codecs_are_refused() {
    for codec in [5, 6, 7] {
        assert_eq!(changed(|header| header.attributes.0 |= codec), ErrorCode::INVALID_RECORD);
    }
}

#[test]
fn garbage_instead_of_compressed_records_is_refused() {
    for compression in &ALL[1..] {
        for garbage in [b"".as_slice(), b"garbage payload, no codec wrote it", &[0xff; 40], &[0; 40]] {
            let batch = with_section(*compression, 3, garbage);
            assert_eq!(code(&batch, &rules()), ErrorCode::INVALID_RECORD, "{compression:?} {garbage:?}");
        }
    }
}

#[test]
fn a_cut_compressed_section_is_refused() {
    for compression in &ALL[1..] {
        let mut packed = Vec::new();
        compress(*compression, None, &[0, 1, 2].map(record).concat(), &mut packed).unwrap();
        for cut in 0..packed.len() {
            let batch = with_section(*compression, 3, &packed[..cut]);
            assert_eq!(code(&batch, &rules()), ErrorCode::INVALID_RECORD, "{compression:?} {cut}");
        }
    }
}

#[test]
fn zstd_needs_a_new_request() {
    let old = Rules { zstd_allowed: false, ..rules() };
    let batch = three_records().seal(Compression::Zstd).unwrap();
    assert_eq!(code(&batch, &old), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(&three_records().seal(Compression::Lz4).unwrap(), &old), ErrorCode::NONE);
}

#[test]
fn the_size_limit_is_of_the_batch_as_it_came() {
    let batch = three_records().seal(Compression::None).unwrap();
    let exact = Rules { max_batch_bytes: batch.len(), ..rules() };
    assert_eq!(code(&batch, &exact), ErrorCode::NONE);
    let below = Rules { max_batch_bytes: batch.len() - 1, ..rules() };
    assert_eq!(code(&batch, &below), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn a_compression_bomb_is_too_large() {
    let mut builder = Builder::new();
    builder.append(NOW, None, Some(&vec![0; 8 << 20]));
    let batch = builder.seal(Compression::Zstd).unwrap();
    assert!(batch.len() < 2000);
    assert_eq!(code(&batch, &rules()), ErrorCode::MESSAGE_TOO_LARGE);
}

#[test]
fn a_megabyte_of_zeros_is_no_bomb() {
    let mut builder = Builder::new();
    builder.append(NOW, None, Some(&vec![0; 1_000_000]));
    for compression in ALL {
        assert_eq!(code(&builder.seal(compression).unwrap(), &rules()), ErrorCode::NONE);
    }
}

#[test]
fn a_compacted_topic_needs_keys() {
    let compacted = Rules { compacted: true, ..rules() };
    for compression in ALL {
        let mut builder = Builder::new();
        builder.append(NOW, Some(b"k"), Some(b"v"));
        builder.append(NOW, None, Some(b"v"));
        builder.append(NOW, Some(b""), None);
        builder.append(NOW, None, None);
        let batch = builder.seal(compression).unwrap();
        assert_eq!(code(&batch, &rules()), ErrorCode::NONE);
        let invalid = validate(&batch, &compacted).unwrap_err();
        assert_eq!(invalid.code, ErrorCode::INVALID_RECORD);
        let at: Vec<_> = invalid.record_errors.iter().map(|error| error.0).collect();
        assert_eq!(at, [1, 3]);
        assert!(invalid.record_errors[0].1.contains("no key"));
    }
}

#[test]
fn timestamps_lie_within_bounds() {
    let narrow = Rules { before_max_ms: 1000, after_max_ms: 1000, ..rules() };
    for (time, answer) in [
        (NOW, ErrorCode::NONE),
        (NOW - 1000, ErrorCode::NONE),
        (NOW + 1000, ErrorCode::NONE),
        (NOW - 1001, ErrorCode::INVALID_TIMESTAMP),
        (NOW + 1001, ErrorCode::INVALID_TIMESTAMP),
        (i64::MAX, ErrorCode::INVALID_TIMESTAMP),
        // "no timestamp" is none to be checked
        (NO_TIMESTAMP, ErrorCode::NONE),
    ] {
        let mut builder = Builder::new();
        builder.append(time, None, Some(b"v"));
        let batch = builder.seal(Compression::None).unwrap();
        assert_eq!(code(&batch, &narrow), answer, "{time}");
        let broker_time = Rules { timestamp_type: TimestampType::LogAppendTime, ..narrow.clone() };
        assert_eq!(validate(&batch, &broker_time).unwrap().max_timestamp, NOW, "{time}");
    }
    let mut builder = Builder::new();
    builder.append(NOW, None, None).append(NOW + 5_000_000, None, None);
    let invalid = validate(&builder.seal(Compression::Lz4).unwrap(), &rules()).unwrap_err();
    assert_eq!((invalid.code, invalid.record_errors[0].0), (ErrorCode::INVALID_TIMESTAMP, 1));
    assert!(invalid.record_errors[0].1.contains("more than 3600000 ms after the broker's time"));
    assert_eq!(changed(|header| header.base_timestamp = i64::MAX), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn producers_do_not_set_log_append_time() {
    let answer = changed(|header| {
        header.attributes = header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
    });
    assert_eq!(answer, ErrorCode::INVALID_TIMESTAMP);
}
