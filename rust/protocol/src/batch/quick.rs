//! The quick way over a record: most have short integers and no headers.
//!
//! Integers are taken from eight bytes at a time, by branches that the processor foresees since neighbours look
//! alike. Whatever is unusual (integers of more than three bytes, headers, the last bytes of the buffer, any
//! fault) is left to the careful way.

use super::walk::Shape;

/// Eight bytes at `at`, the first one lowest.
#[inline(always)]
fn load(bytes: &[u8], at: usize) -> Option<u64> {
    let (word, _) = bytes.get(at..)?.split_first_chunk::<8>()?;
    Some(u64::from_le_bytes(*word))
}

/// Takes an integer of one to three bytes, still zigzag-coded, off the low end of `word`; adds its size to `at`.
#[inline(always)]
fn short(word: &mut u64, at: &mut usize) -> Option<u32> {
    let low = *word as u32;
    let (value, size) = if low & 0x80 == 0 {
        (low & 0x7f, 1)
    } else if low & 0x8000 == 0 {
        (low & 0x7f | (low & 0x7f00) >> 1, 2)
    } else if low & 0x80_0000 == 0 {
        (low & 0x7f | (low & 0x7f00) >> 1 | (low & 0x7f_0000) >> 2, 3)
    } else {
        return None;
    };
    *word >>= 8 * size;
    *at += size;
    Some(value)
}

#[inline(always)]
fn signed(zigzag: u32) -> i32 {
    (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)
}

/// The bytes that a zigzag-coded length stands for, none for null; other negative lengths are a fault.
#[inline(always)]
fn counted(zigzag: u32) -> Option<usize> {
    match zigzag {
        1 => Some(0),
        odd if odd & 1 != 0 => None,
        even => Some((even >> 1) as usize),
    }
}

/// The record at `at` of `records` and the place after it; `None` where the careful way must look.
#[inline(always)]
pub(super) fn quick(records: &[u8], mut at: usize) -> Option<(Shape, usize)> {
    let length = short(&mut load(records, at)?, &mut at)?;
    let end = at + (length >> 1) as usize;
    let body = at;
    // attributes, then three integers, all from the same eight bytes
    let mut word = load(records, at)? >> 8;
    at += 1;
    let timestamp_delta = short(&mut word, &mut at)?;
    let offset_delta = short(&mut word, &mut at)?;
    let key = short(&mut word, &mut at)?;
    let in_one_word = at - body <= 8;
    at += counted(key)?;
    let value = short(&mut load(records, at)?, &mut at)?;
    at += counted(value)?;
    // what is left must be a header count of 0
    if length & 1 != 0 || !in_one_word || at + 1 != end || *records.get(at)? != 0 {
        return None;
    }
    let timestamp_delta = i64::from(signed(timestamp_delta));
    Some((Shape { timestamp_delta, offset_delta: signed(offset_delta), has_key: key != 1 }, end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::quick;
    use crate::batch::cursor::{SliceSource, Source};
    use crate::batch::walk::next_in_slice;

    proptest! {
        #[test]
        fn the_quick_way_finds_what_the_careful_one_does(bytes in proptest::collection::vec(
            prop_oneof![4 => 0u8..6, 2 => 0u8..40, 1 => any::<u8>()], 0..40,
        )) {
            if let Some((shape, end)) = quick(&bytes, 0) {
                let mut source = SliceSource::new(&bytes);
                prop_assert_eq!(next_in_slice(&mut source).unwrap(), shape);
                prop_assert_eq!(bytes.len() - source.left(), end);
            }
        }

        #[test]
        fn usual_records_go_the_quick_way(
            time in -500_000i64..500_000, offset in 0i32..8000, key in 0usize..300, value in 0usize..300,
        ) {
            let mut builder = crate::batch::Builder::new();
            builder.append(0, Some(&vec![1; key]), Some(&vec![2; value]));
            for _ in 0..offset {
                builder.append(time, None, None);
            }
            builder.append(time, Some(&vec![1; key]), Some(&vec![2; value]));
            builder.append(time, Some(b"last"), Some(b"last"));
            let batch = builder.seal(crate::compression::Compression::None).unwrap();
            let (mut at, mut count) = (61, 0);
            while let Some((shape, next)) = quick(&batch, at) {
                prop_assert_eq!(shape.offset_delta, count);
                (at, count) = (next, count + 1);
            }
            prop_assert!(count >= offset + 2, "{count}");
        }
    }
}
