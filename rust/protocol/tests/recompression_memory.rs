//! A batch that expands hundreds of times goes into another codec without being held. One test, alone in its process: it
//! measures.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use fastlog_protocol::compression::{Compression, CompressionError, compress, transcode};

const MIB: usize = 1 << 20;
const EXPANDED_BYTES: usize = 32 * MIB;
/// Pieces and tables of both codecs (17 MiB of zstd at level 19), what is held at first, the output.
const GROWTH_BYTES_MAX: usize = 24 * MIB;
const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The most memory that this process has had since the last `forget_peak`.
fn peak_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Sets the peak to what there is now (proc(5), clear_refs).
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// 32 MiB, of which all but the start are zeros: no codec gets more than a thousandfold out of it, which is refused.
fn bomb(kind: Compression) -> Vec<u8> {
    let mut state = 1u64;
    let mut plain: Vec<u8> = (0..40 << 10)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .collect();
    plain.resize(EXPANDED_BYTES, 0);
    let mut out = Vec::new();
    compress(kind, Some(1), &plain, &mut out).unwrap();
    out.shrink_to_fit();
    out
}

/// How a bomb in one codec went into another, and how much memory that took.
fn measured(
    from: Compression,
    to: Compression,
    level: Option<i32>,
    max_bytes: usize,
) -> (Result<(), CompressionError>, usize) {
    let input = bomb(from);
    let mut out = Vec::new();
    forget_peak();
    let before = peak_bytes();
    let done = transcode(from, &input, to, level, &mut out, max_bytes);
    (done, peak_bytes() - before)
}

#[test]
#[ignore = "long: the codecs are not optimised here; fault/test_decompression_bombs asks a broker in the short form"]
fn a_bomb_is_not_held_while_it_is_compressed_anew() {
    // each codec on either side; level 19 takes most
    let into_each = CODECS.map(|to| (Compression::Lz4, to, Some(1)));
    let from_each = CODECS.map(|from| (from, Compression::Zstd, Some(19)));
    for (from, to, level) in into_each.into_iter().chain(from_each) {
        let (done, grown) = measured(from, to, level, 4 * MIB);
        assert_eq!(done, Ok(()));
        assert!(grown < GROWTH_BYTES_MAX, "{from:?} to {to:?} {level:?}: {} MiB", grown / MIB);
    }
    // and where the topic's codec is none, no more than the topic takes
    let (done, grown) = measured(Compression::Snappy, Compression::None, None, 2 * MIB);
    assert_eq!(done, Err(CompressionError::Output { codec: "none", max_bytes: 2 * MIB }));
    assert!(grown < GROWTH_BYTES_MAX, "{} MiB", grown / MIB);
}
