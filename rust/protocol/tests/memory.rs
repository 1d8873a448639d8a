//! Memory follows the bytes that came, never the counts they claim. One test, alone in its process: it measures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use fastlog_protocol::messages::{metadata::MetadataRequest, produce::ProduceRequest};
use fastlog_protocol::primitives::{ProtocolError, Reader, Writer};

const MIB: u64 = 1 << 20;

/// The largest virtual size that this process has had; memory asked for but never touched counts.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn bytes(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    write(&mut w);
    w.into_bytes()
}

#[test]
fn claims_cost_nothing() {
    let mut hostile: Vec<(&str, Vec<u8>, i16)> = vec![
        ("a count without bytes", bytes(|w| w.i32(10_000_000)), 4),
        ("the largest count", bytes(|w| w.i32(i32::MAX)), 4),
        ("a compact count without bytes", bytes(|w| w.uvarint(u32::MAX)), 9),
        ("tags without bytes", bytes(|w| [0, 0].iter().for_each(|_| w.uvarint(1 << 31))), 9),
        ("a tag's size without bytes", bytes(|w| [0, 1, 7, 1 << 31].iter().for_each(|v| w.uvarint(*v))), 9),
    ];
    // 20 MB: ten million empty names, as were sent to Kafka
    hostile.push((
        "more names than the budget",
        bytes(|w| {
            w.i32(10_000_000);
            w.raw(&vec![0; 20_000_000]);
        }),
        4,
    ));
    // 24 MB of tagged fields without content
    hostile.push((
        "more tags than the limit",
        bytes(|w| {
            w.uvarint(1);
            w.bool(true);
            w.uvarint(12_000_000);
            w.raw(&vec![0; 24_000_000]);
        }),
        11,
    ));
    let before = peak_bytes();
    for (what, body, version) in &hostile {
        let read = MetadataRequest::decode(&mut Reader::new(body), *version);
        assert!(read.is_err(), "{what}");
    }
    let read = MetadataRequest::decode(&mut Reader::new(&hostile.last().unwrap().1), 9);
    assert!(
        matches!(read, Err(ProtocolError::TooManyTags { .. } | ProtocolError::Truncated { .. })),
        "{read:?}"
    );
    assert!(peak_bytes() - before < 8 * MIB, "{} MiB more", (peak_bytes() - before) / MIB);

    // what is within the budget costs a bounded multiple of the bytes that came
    let names = bytes(|w| {
        w.i32(1_000_000);
        w.raw(&vec![0; 2_000_000]);
    });
    assert_eq!(
        MetadataRequest::decode(&mut Reader::new(&names), 1).map(|m| m.topics.map(|t| t.len())),
        Ok(Some(1_000_000))
    );
    assert!(peak_bytes() - before < 160 * MIB, "{} MiB more", (peak_bytes() - before) / MIB);
    let partitions = bytes(|w| {
        w.i16(-1);
        w.i16(1);
        w.i32(0);
        w.i32(1);
        w.i16(0);
        w.i32(5_000_000);
        w.raw(&vec![0; 40_000_000]);
    });
    let before = peak_bytes();
    assert!(matches!(
        ProduceRequest::decode(&mut Reader::new(&partitions), 3),
        Err(ProtocolError::TooManyElements { count: 5_000_000, .. })
    ));
    assert!(peak_bytes() - before < 8 * MIB);
}
