//! Record batches: validation the quick way and the careful way are of one mind, and so are all other readers; memory
//! stays bounded however much a batch expands to; what is valid can be read, opened, stamped and built again.
//!
//! Input: how the bytes become a batch, the rules, bytes.

use crate::bounded::bounded;
use crate::input::Input;
use fastlog_protocol::batch::{
    Attributes, BatchError, BatchHeader, Builder, Checked, HEADER_BYTES, LOG_OVERHEAD, MAGIC, Rules, Stamp,
    TimestampType, batches, crc_is_valid, open, records, stamp, validate, validate_carefully,
};
use fastlog_protocol::compression::{Compression, Decompressor, cap_for, compress, decompress};
use std::ops::ControlFlow;

const NOW: i64 = 1_700_000_000_000;
const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
/// What a codec holds besides the bytes that come out of it: LZ4 has blocks of up to 4 MiB, and refused records are
/// told one by one, up to ten thousand.
const SLACK_BYTES: usize = 24 << 20;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let shape = input.u8();
    let rules = rules(input.u8());
    let codec = CODECS[usize::from(shape >> 2) % CODECS.len()];
    match shape & 3 {
        0 => check(input.rest(), &rules),
        1 => check(&repaired(input.rest()), &rules),
        2 => {
            let count = input.u16();
            let mut section = Vec::new();
            compress(codec, None, input.rest(), &mut section).unwrap();
            check(&batch_of(codec, count, &section), &rules);
        }
        _ => {
            let count = input.u16();
            let section = input.rest();
            check_codec(codec, section);
            check(&batch_of(codec, count, section), &rules);
        }
    }
}

fn rules(choices: u8) -> Rules {
    let bit = |number: u8| choices >> number & 1 == 1;
    Rules {
        max_batch_bytes: if bit(0) { 300 } else { usize::MAX },
        compacted: bit(1),
        timestamp_type: if bit(2) { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        before_max_ms: if bit(3) { 1000 } else { i64::MAX },
        after_max_ms: if bit(4) { 0 } else { 3_600_000 },
        now_ms: NOW,
        from_client: !bit(5),
        zstd_allowed: !bit(6),
    }
}

/// With the length and the CRC that fit the bytes, so that the fuzzer need not guess them.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut batch = bytes.to_vec();
    batch.resize(batch.len().max(HEADER_BYTES), 0);
    let length = i32::try_from(batch.len() - LOG_OVERHEAD).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = MAGIC as u8;
    let mut header = BatchHeader::parse(&batch).unwrap();
    let head = header.encode_with_crc(&batch[HEADER_BYTES..]);
    batch[..HEADER_BYTES].copy_from_slice(&head);
    batch
}

/// A batch of `count` records with these bytes as its records section.
fn batch_of(codec: Compression, count: u16, section: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.append(NOW, None, None);
    let mut header = BatchHeader::parse(&builder.seal(Compression::None).unwrap()).unwrap();
    header.attributes = Attributes::of(codec);
    header.record_count = count.into();
    header.last_offset_delta = i32::from(count) - 1;
    repaired(&[&header.encode(), section].concat())
}

fn check(batch: &[u8], rules: &Rules) {
    check_split(batch);
    let quick = bounded("validation", SLACK_BYTES + 64 * batch.len(), || validate(batch, rules));
    for rules in [
        rules.clone(),
        Rules { compacted: true, ..rules.clone() },
        Rules { after_max_ms: 0, ..rules.clone() },
    ] {
        let quick = validate(batch, &rules);
        assert_eq!(quick, validate_carefully(batch, &rules), "the quick and the careful way, {rules:?}");
    }
    let going_over = || drop(records(batch, |_| ControlFlow::Continue(())));
    bounded("reading", SLACK_BYTES + 3 * cap_for(batch.len()), going_over);
    let read = read(batch);
    check_opened(batch, &read);
    if let Ok(checked) = quick {
        check_valid(batch, &checked, &read.unwrap(), rules);
    }
}

/// Batches and what is left over are the bytes that came, unless they are no batches.
fn check_split(bytes: &[u8]) {
    let mut all = batches(bytes);
    let mut length = 0;
    for batch in all.by_ref() {
        match batch {
            Ok(batch) => length += batch.len(),
            Err(_) => return,
        }
    }
    assert_eq!(length + all.rest().len(), bytes.len());
}

/// Offset, timestamp, key, value, number of headers, headers.
type Owned = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize, Vec<u8>);

fn read(batch: &[u8]) -> Result<Vec<Owned>, BatchError> {
    let mut found = Vec::new();
    records(batch, |record| {
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        let headers = record.headers;
        found.push((record.offset, record.timestamp, key, value, headers.len(), headers.raw().to_vec()));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// A batch and the same decompressed hold the same records, or neither reads.
fn check_opened(batch: &[u8], records: &Result<Vec<Owned>, BatchError>) {
    let mut plain = Vec::new();
    match open(batch, &mut plain) {
        Ok(header) => {
            assert!(crc_is_valid(&plain));
            assert_eq!(
                header.record_count == 0 || records.is_ok(),
                read(&plain).is_ok(),
                "opened and as it came"
            );
            if let Ok(records) = records {
                assert_eq!(*records, read(&plain).unwrap());
            }
        }
        // of no records nobody decompresses anything
        Err(_) => {
            assert!(plain.is_empty() && records.as_ref().map_or(true, Vec::is_empty), "not opened, but read")
        }
    }
}

fn check_valid(batch: &[u8], checked: &Checked, records: &[Owned], rules: &Rules) {
    let header = &checked.header;
    assert_eq!(records.len(), header.record_count as usize);
    for (record, offset) in records.iter().zip(header.base_offset..) {
        assert_eq!(record.0, offset);
    }
    if rules.timestamp_type == TimestampType::CreateTime
        && header.attributes.timestamp_type() == TimestampType::CreateTime
    {
        let newest = records.iter().map(|record| record.1).fold(-1, i64::max);
        let first = records.iter().position(|record| newest >= 0 && record.1 == newest).unwrap_or(0);
        assert_eq!((checked.max_timestamp, checked.offset_delta_of_max_timestamp), (newest, first as i32));
    }
    check_stamp(batch, checked, records);
    check_rebuilt(batch, records, CODECS[records.len() % CODECS.len()]);
}

fn check_stamp(batch: &[u8], checked: &Checked, records: &[Owned]) {
    for log_append_time_ms in [None, Some(NOW)] {
        let place = Stamp { base_offset: 77, leader_epoch: 3, log_append_time_ms };
        let stamped = [&stamp(batch, checked, place), &batch[HEADER_BYTES..]].concat();
        assert!(crc_is_valid(&stamped));
        let read = read(&stamped).unwrap();
        let keys = |records: &[Owned]| Vec::from_iter(records.iter().map(|record| record.2.clone()));
        assert_eq!(keys(&read), keys(records));
        assert!(read.iter().zip(77..).all(|(record, offset)| record.0 == offset));
        assert!(log_append_time_ms.is_none_or(|time| read.iter().all(|record| record.1 == time)));
    }
}

/// The same records, built anew, read the same.
fn check_rebuilt(batch: &[u8], expected: &[Owned], codec: Compression) {
    let mut builder = Builder::new().base_offset(BatchHeader::parse(batch).unwrap().base_offset);
    records(batch, |record| {
        let headers: Vec<_> = record.headers.iter().map(|header| (header.key, header.value)).collect();
        builder.append_with_headers(record.timestamp, record.key, record.value, &headers);
        ControlFlow::Continue(())
    })
    .unwrap();
    let without_headers = |records: &[Owned]| {
        Vec::from_iter(records.iter().map(|it| (it.0, it.1, it.2.clone(), it.3.clone(), it.4)))
    };
    let built = builder.seal(codec).unwrap();
    // how a length is coded is the producer's choice, so headers may differ in their bytes
    assert_eq!(without_headers(&read(&built).unwrap()), without_headers(expected), "{codec:?}");
}

/// Whole and by pieces the same comes out, and never more than is allowed.
fn check_codec(codec: Compression, bytes: &[u8]) {
    const CAP: usize = 100_000;
    let mut whole = Vec::new();
    let outcome = bounded("decompression", SLACK_BYTES, || decompress(codec, bytes, &mut whole, CAP));
    assert!(whole.len() <= CAP);
    let mut pieces = Vec::new();
    let mut stream = Decompressor::with_cap(codec, bytes, CAP);
    let by_pieces = loop {
        match stream.fill() {
            Ok([]) => break Ok(()),
            Ok(ready) => {
                let count = ready.len().min(777);
                pieces.extend_from_slice(&ready[..count]);
                stream.advance(count);
            }
            Err(error) => break Err(error),
        }
    };
    assert_eq!(outcome.is_ok(), by_pieces.is_ok(), "{outcome:?} and {by_pieces:?}");
    assert!(outcome.is_err() || whole == pieces);
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut builder = Builder::new();
    builder.append(NOW, Some(b"key"), Some(b"value")).append(NOW + 5, None, Some(b""));
    builder.append_with_headers(NOW - 7, Some(b""), None, &[(b"h", Some(b"v")), (b"h", None)]);
    let plain = builder.seal(Compression::None).unwrap();
    let section = &plain[HEADER_BYTES..];
    let count = (builder.count() as u16).to_be_bytes();
    let mut seeds = vec![[&[0, 0], plain.as_slice()].concat(), [&[1, 0x20], plain.as_slice()].concat()];
    // so many that an offset takes two bytes
    let mut many = builder.clone();
    for number in 0..70 {
        many.append(NOW + number, None, Some(b"some value"));
    }
    for codec in [Compression::None, Compression::Lz4] {
        seeds.push([&[1, 0], many.seal(codec).unwrap().as_slice()].concat());
    }
    for (place, codec) in (0..).zip(CODECS) {
        let sealed = builder.clone().producer(7, 0, 0).seal(codec).unwrap();
        seeds.push([&[0, 0], sealed.as_slice()].concat());
        seeds.push([&[1, 0x24], sealed.as_slice()].concat());
        seeds.push([&[2 | place << 2, 0], count.as_slice(), section].concat());
        let mut compressed = Vec::new();
        compress(codec, None, section, &mut compressed).unwrap();
        seeds.push([&[3 | place << 2, 0], count.as_slice(), &compressed].concat());
        let mut bomb = Vec::new();
        compress(codec, None, &[0; 1 << 12].repeat(8), &mut bomb).unwrap();
        seeds.push([&[3 | place << 2, 0], count.as_slice(), &bomb].concat());
    }
    seeds
}
