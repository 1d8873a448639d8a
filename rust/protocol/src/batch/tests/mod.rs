//! Tests of batches: filter.rs (dropping records), shape.rs (header, round trips, prefixes, mutations), rules.rs (one
//! test a row of bad input).

mod filter;
mod rules;
mod shape;

use super::*;
use crate::compression::Compression;

const NOW: i64 = 1_700_000_000_000;

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn rules() -> Rules {
    Rules {
        max_batch_bytes: 1_048_588,
        compacted: false,
        timestamp_type: TimestampType::CreateTime,
        before_max_ms: i64::MAX,
        after_max_ms: 3_600_000,
        now_ms: NOW,
        from_client: true,
        zstd_allowed: true,
    }
}

fn three_records() -> Builder {
    let mut builder = Builder::new();
    builder.append(NOW, Some(b"a"), Some(b"one"));
    builder.append(NOW + 5, None, Some(b""));
    builder.append_with_headers(NOW - 7, Some(b""), None, &[(b"h", Some(b"v")), (b"h", None)]);
    builder
}

/// Lets `change` rewrite the header of a batch, then makes the CRC fit again.
fn with_header(batch: &[u8], change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut header = BatchHeader::parse(batch).unwrap();
    change(&mut header);
    let records = &batch[HEADER_BYTES..];
    let mut out = header.encode_with_crc(records).to_vec();
    out.extend_from_slice(records);
    out
}

/// A batch with these bytes as its records section; codec, count and CRC fit.
fn with_section(compression: Compression, count: i32, section: &[u8]) -> Vec<u8> {
    let mut batch = three_records().seal(Compression::None).unwrap();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(section);
    with_header(&batch, |header| {
        header.batch_length = (batch.len() - LOG_OVERHEAD) as i32;
        header.attributes = Attributes::of(compression);
        header.record_count = count;
        header.last_offset_delta = count - 1;
    })
}
