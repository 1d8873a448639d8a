//! The quick way over records: most have short integers and look like their neighbours.
//!
//! A record begins with four integers (length, timestamp, offset, key length) of one to three bytes each as a rule.
//! The code is made once for each combination of their sizes, so that every field lies at a fixed distance from the
//! record's start; which combination it is, is a branch that the processor foresees. The offset is not decoded but
//! compared with the bytes that it must have, and so is the length of a value behind a null key. Whatever is unusual
//! (longer integers, the last bytes of the buffer, a timestamp out of bounds, any fault) ends the run and is left to
//! the careful way.

use std::ops::RangeInclusive;

/// The bytes looked at of a record's start: integers of 3 + 3 + 3 + 1 bytes, the attributes, and four for the
/// value's length behind a null key, rounded up.
const WINDOW_BYTES: usize = 16;

/// What a usual record keeps to, apart from its shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    earliest_delta: i32,
    /// How many milliseconds after the earliest is the latest.
    span: u32,
    /// Whether a null key is unusual.
    needs_key: bool,
}

impl Bounds {
    /// Timestamp deltas lie within `deltas`, as far as three bytes can tell.
    pub(super) fn new(deltas: RangeInclusive<i32>, needs_key: bool) -> Self {
        // where there is none, one that no record here has
        let (earliest_delta, latest_delta) =
            if deltas.is_empty() { (i32::MIN, i32::MIN) } else { deltas.into_inner() };
        Self { earliest_delta, span: latest_delta.wrapping_sub(earliest_delta) as u32, needs_key }
    }

    #[inline(always)]
    fn contain(self, delta: i32) -> bool {
        delta.wrapping_sub(self.earliest_delta) as u32 <= self.span
    }
}

/// Usual records one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The position after the last one.
    pub(super) at: usize,
    /// The index after the last one's.
    pub(super) index: i32,
    /// The greatest timestamp delta, and the index of the first record that has it.
    pub(super) newest: (i32, i32),
}

impl Run {
    /// No records yet; the next one is number `index` and starts at `at`.
    pub(super) fn from(at: usize, index: i32) -> Self {
        Self { at, index, newest: (i32::MIN, index) }
    }

    /// Goes over usual records of `records`, up to number `count` exclusive.
    pub(super) fn extend(mut self, records: &[u8], count: i32, bounds: Bounds) -> Self {
        // the number of bytes that an offset takes: 7 bits each, one of them the sign
        if self.index < 1 << 6 {
            self = self.extend_with::<1>(records, count.min(1 << 6), bounds);
        }
        if (1 << 6..1 << 13).contains(&self.index) {
            self = self.extend_with::<2>(records, count.min(1 << 13), bounds);
        }
        if (1 << 13..1 << 20).contains(&self.index) {
            self = self.extend_with::<3>(records, count.min(1 << 20), bounds);
        }
        self
    }

    fn extend_with<const OFFSET: usize>(self, records: &[u8], until: i32, bounds: Bounds) -> Self {
        let Self { mut at, mut index, newest: (mut newest, mut newest_index) } = self;
        let mut offset = Offset::<OFFSET>::of(index, bounds.needs_key);
        while index < until
            && let Some((delta, end)) = quick(records, at, offset, bounds)
        {
            if delta > newest {
                (newest, newest_index) = (delta, index);
            }
            (at, index, offset) = (end, index + 1, offset.next());
        }
        Self { at, index, newest: (newest, newest_index) }
    }
}

/// The timestamp delta of the record at `at` and the place after it; `None` where the careful way must look.
#[inline(always)]
fn quick<const OFFSET: usize>(
    records: &[u8],
    at: usize,
    offset: Offset<OFFSET>,
    bounds: Bounds,
) -> Option<(i32, usize)> {
    let window = records.get(at..)?.first_chunk()?;
    let record = Record { records, window, at, offset, bounds };
    match size(word(window, 0))? {
        1 => record.after_length::<1>(),
        2 => record.after_length::<2>(),
        _ => record.after_length::<3>(),
    }
}

struct Record<'a, const OFFSET: usize> {
    records: &'a [u8],
    window: &'a [u8; WINDOW_BYTES],
    at: usize,
    offset: Offset<OFFSET>,
    bounds: Bounds,
}

impl<const OFFSET: usize> Record<'_, OFFSET> {
    #[inline(always)]
    fn after_length<const LENGTH: usize>(self) -> Option<(i32, usize)> {
        match small_size(word(self.window, LENGTH + 1))? {
            1 => self.after_timestamp::<LENGTH, 1>(),
            2 => self.after_timestamp::<LENGTH, 2>(),
            _ => self.after_timestamp::<LENGTH, 3>(),
        }
    }

    #[inline(always)]
    fn after_timestamp<const LENGTH: usize, const TIMESTAMP: usize>(self) -> Option<(i32, usize)> {
        let (length, timestamp) = (word(self.window, 0), word(self.window, LENGTH + 1));
        let delta = half::<TIMESTAMP>(timestamp) as i32 ^ -((timestamp & 1) as i32);
        // a negative length, or a time that must be looked at
        if length & 1 != 0 || !self.bounds.contain(delta) {
            return None;
        }
        let offset_at = LENGTH + 1 + TIMESTAMP;
        let end = self.at + LENGTH + half::<LENGTH>(length) as usize;
        let value_at = offset_at + OFFSET + 1;
        let is_plain = self.offset.is_before_null(word(self.window, offset_at))
            && minus::<LENGTH>(length, value_at + 1) == word(self.window, value_at) & mask::<LENGTH>()
            && self.records.get(end - 1) == Some(&0);
        (is_plain || headers_fill(self.records, self.fields(offset_at)?, end)?).then_some((delta, end))
    }

    /// Where the value ends, if the offset at `offset_at` of the window is right and key and value are no longer than
    /// usual.
    #[inline(always)]
    fn fields(&self, offset_at: usize) -> Option<usize> {
        if !self.offset.is(word(self.window, offset_at)) {
            return None;
        }
        let key = word(self.window, offset_at + OFFSET);
        if self.bounds.needs_key && key & 1 != 0 {
            return None;
        }
        let value_at = self.at + offset_at + OFFSET + counted(key)?;
        Some(value_at + counted(load(self.records, value_at)?)?)
    }
}

/// Whether the headers that begin at `at` with their count end at `end`.
#[inline(always)]
fn headers_fill(records: &[u8], mut at: usize, end: usize) -> Option<bool> {
    let count = *records.get(at)?;
    at += 1;
    if count != 0 {
        if count & 0x81 != 0 {
            return None;
        }
        for _ in 0..count >> 1 {
            let key = load(records, at)?;
            at += counted(key).filter(|_| key & 1 == 0)?;
            at += counted(load(records, at)?)?;
        }
    }
    Some(at == end && end <= records.len())
}

/// The bytes of an offset delta that takes `SIZE` of them, the first one lowest, and a null key behind it.
#[derive(Clone, Copy)]
struct Offset<const SIZE: usize> {
    bytes: u32,
    /// The bytes that count of a word that is compared, none where a null key is unusual.
    counts: u32,
}

impl<const SIZE: usize> Offset<SIZE> {
    const NULL_KEY: u32 = 1 << (8 * SIZE);

    /// `index` must fit into `SIZE` bytes.
    fn of(index: i32, needs_key: bool) -> Self {
        let zigzag = (index as u32) << 1;
        let offset = zigzag & 0x7f | (zigzag & 0x3f80) << 1 | (zigzag & 0x1f_c000) << 2;
        Self {
            bytes: offset | continued::<SIZE>() | Self::NULL_KEY,
            counts: if needs_key { 0 } else { u32::MAX >> (24 - 8 * SIZE) },
        }
    }

    /// The one after it, of the same size.
    #[inline(always)]
    fn next(self) -> Self {
        // what is carried passes over the highest bit of a byte, which it clears
        Self { bytes: self.bytes.wrapping_add(2) | continued::<SIZE>(), ..self }
    }

    /// Whether `word` begins with it.
    #[inline(always)]
    fn is(self, word: u32) -> bool {
        (word ^ self.bytes) & mask::<SIZE>() == 0
    }

    /// Whether `word` begins with it and a null key, if that is usual.
    #[inline(always)]
    fn is_before_null(self, word: u32) -> bool {
        word & self.counts == self.bytes
    }
}

/// The low `SIZE` bytes.
const fn mask<const SIZE: usize>() -> u32 {
    u32::MAX >> (32 - 8 * SIZE)
}

/// The bits that tell that an integer of `SIZE` bytes goes on: the highest of every byte but the last.
const fn continued<const SIZE: usize>() -> u32 {
    0x80_8080 & mask::<SIZE>() >> 8
}

/// The bytes of the length that is `less` smaller than that at the low end of `word`, coded in `SIZE` bytes too; no
/// such bytes if it would be negative. `less` is below 64.
#[inline(always)]
fn minus<const SIZE: usize>(word: u32, less: usize) -> u32 {
    let mut bytes = (word & mask::<SIZE>()).wrapping_sub(2 * less as u32);
    // a byte that borrowed took its own highest bit, which stands for half of what the next one is about to lose
    for borrow in [0x80, 0x8000] {
        if continued::<SIZE>() & borrow != 0 {
            bytes = bytes.wrapping_sub(!bytes & borrow);
        }
    }
    bytes
}

/// Four bytes at `at` of the window, the first one lowest. `at` is known when this is compiled.
#[inline(always)]
fn word(window: &[u8; WINDOW_BYTES], at: usize) -> u32 {
    load(window, at).unwrap_or(u32::MAX)
}

#[inline(always)]
fn load(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline(always)]
fn small_size(word: u32) -> Option<usize> {
    if word & 0x80 == 0 { Some(1) } else { size(word) }
}

/// Bytes of the integer at the low end of `word`, unless it has more than three.
#[inline(always)]
fn size(word: u32) -> Option<usize> {
    if word & 0x8080 == 0x80 {
        Some(2)
    } else if word & 0x80 == 0 {
        Some(1)
    } else if word & 0x80_0000 == 0 {
        Some(3)
    } else {
        None
    }
}

/// The integer of `SIZE` bytes at the low end of `word` without its sign, which is the lowest bit of `word`.
#[inline(always)]
fn half<const SIZE: usize>(word: u32) -> u32 {
    let (first, second, third) = (word >> 1 & 0x3f, word >> 2 & 0x1fc0, word >> 3 & 0xf_e000);
    match SIZE {
        1 => first,
        2 => first | second,
        _ => first | second | third,
    }
}

/// The bytes of a length and of what it counts, none for null; other negative lengths are left to the careful way.
#[inline(always)]
fn counted(word: u32) -> Option<usize> {
    if word & 1 != 0 {
        return (word & 0xff == 1).then_some(1);
    }
    Some(match size(word)? {
        1 => 1 + half::<1>(word) as usize,
        2 => 2 + half::<2>(word) as usize,
        _ => 3 + half::<3>(word) as usize,
    })
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::{Bounds, Run};
    use crate::batch::cursor::{SliceSource, Source};
    use crate::batch::walk::next_in_slice;

    /// Where the records from `from` on, each looked at carefully, end and begin to be unusual.
    fn careful(records: &[u8], from: Run, until: i32, deltas: RangeInclusive<i64>, needs_key: bool) -> Run {
        let mut run = from;
        while run.index < until {
            let mut source = SliceSource::new(&records[run.at..]);
            let Ok(shape) = next_in_slice(&mut source) else { break };
            let delta = shape.timestamp_delta;
            if shape.offset_delta != run.index || !deltas.contains(&delta) || (needs_key && !shape.has_key) {
                break;
            }
            if i32::try_from(delta).is_ok_and(|delta| delta > run.newest.0) {
                run.newest = (delta as i32, run.index);
            }
            (run.at, run.index) = (records.len() - source.left(), run.index + 1);
        }
        run
    }

    fn put(out: &mut Vec<u8>, value: i64) {
        let mut rest = (value << 1 ^ value >> 63) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }

    fn put_bytes(out: &mut Vec<u8>, length: Option<usize>) {
        put(out, length.map_or(-1, |length| length as i64));
        out.resize(out.len() + length.unwrap_or(0), b'x');
    }

    /// Timestamp delta, lengths of key and value, headers.
    type Sizes = (i64, Option<usize>, Option<usize>, Vec<(usize, Option<usize>)>);

    fn put_record(out: &mut Vec<u8>, offset: i32, (delta, key, value, headers): &Sizes) {
        let mut body = vec![0];
        put(&mut body, *delta);
        put(&mut body, offset.into());
        put_bytes(&mut body, *key);
        put_bytes(&mut body, *value);
        put(&mut body, headers.len() as i64);
        for (key, value) in headers {
            put_bytes(&mut body, Some(*key));
            put_bytes(&mut body, *value);
        }
        put(out, body.len() as i64);
        out.extend(body);
    }

    /// Lengths beside which a length of another size stands.
    fn length() -> impl Strategy<Value = usize> {
        prop_oneof![12 => 0usize..140, 2 => 8180usize..8200, 1 => Just(70_000)]
    }

    fn nullable() -> impl Strategy<Value = Option<usize>> {
        prop_oneof![1 => Just(None), 2 => length().prop_map(Some)]
    }

    fn sizes() -> impl Strategy<Value = Sizes> {
        let delta = prop_oneof![-70i64..70, -8200i64..8200, -1_100_000i64..1_100_000, any::<i64>()];
        let header = (0usize..70, prop_oneof![Just(None), (0usize..70).prop_map(Some)]);
        let headers = prop_oneof![4 => Just(Vec::new()), 1 => proptest::collection::vec(header, 0..5)];
        (delta, nullable(), nullable(), headers)
    }

    /// Where offsets grow by a byte.
    fn first_index() -> impl Strategy<Value = i32> {
        prop_oneof![Just(0), 50i32..70, 8180i32..8200, (1i32 << 20) - 10..(1 << 20) + 10]
    }

    fn deltas() -> impl Strategy<Value = RangeInclusive<i32>> {
        let bound = || prop_oneof![Just(i32::MIN), Just(i32::MAX), -100..100, -10_000..10_000];
        (bound(), bound()).prop_map(|(first, last)| first..=last)
    }

    /// What the quick way passed over, the careful way would have passed over too.
    fn check(
        records: &[u8],
        first: i32,
        deltas: RangeInclusive<i32>,
        needs_key: bool,
    ) -> Result<Run, TestCaseError> {
        let start = Run::from(0, first);
        let run = start.extend(records, first + 100, Bounds::new(deltas.clone(), needs_key));
        let wide = i64::from(*deltas.start())..=i64::from(*deltas.end());
        prop_assert_eq!(run, careful(records, start, run.index, wide, needs_key));
        Ok(run)
    }

    /// Every value of every byte of a record, but for those inside key and value.
    #[test]
    fn each_byte_changed() {
        let headers = || vec![(1, Some(2)), (0, None)];
        for (first, delta) in [(0, 0), (62, -1), (63, 100), (64, 7), (8190, -9000), (8191, 3), (8192, 100)] {
            for (key, value) in
                [(None, Some(5)), (None, Some(60)), (None, Some(64)), (Some(3), Some(80)), (Some(1), None)]
            {
                for sizes in [(delta, key, value, Vec::new()), (delta, key, value, headers())] {
                    let mut records = Vec::new();
                    put_record(&mut records, first, &sizes);
                    put_record(&mut records, first + 1, &sizes);
                    for at in 0..records.len() / 2 {
                        let was = records[at];
                        for byte in 0..=u8::MAX {
                            records[at] = byte;
                            if was != b'x' {
                                check(&records, first, i32::MIN..=i32::MAX, byte % 2 == 0).unwrap();
                            }
                        }
                        records[at] = was;
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        #[test]
        fn random_bytes(
            bytes in proptest::collection::vec(prop_oneof![4 => 0u8..6, 2 => 0u8..40, 1 => any::<u8>()], 0..60),
            deltas in deltas(), needs_key: bool,
        ) {
            check(&bytes, 0, deltas, needs_key)?;
        }

        #[test]
        fn records_of_all_sizes_and_changed_ones(
            all in proptest::collection::vec(sizes(), 1..20), first in first_index(), deltas in deltas(),
            needs_key: bool, changes in proptest::collection::vec((any::<Index>(), 0usize..12, any::<u8>()), 0..3),
        ) {
            let (mut records, mut starts) = (Vec::new(), Vec::new());
            for (index, sizes) in (first..).zip(&all) {
                starts.push(records.len());
                put_record(&mut records, index, sizes);
            }
            // most changes hit the integers that a record begins with
            for (which, at, byte) in changes {
                if let Some(here) = records.get_mut(starts[which.index(starts.len())] + at) {
                    *here = byte;
                }
            }
            check(&records, first, deltas, needs_key)?;
        }

        #[test]
        fn usual_records_go_the_quick_way(
            delta in -1_000_000i64..1_000_000, key in nullable(), value in nullable(), first in first_index(),
            header in proptest::option::of((0usize..60, Just(Some(7)))),
        ) {
            let mut records = Vec::new();
            let sizes = (delta, key, value, Vec::from_iter(header));
            for index in first..first + 20 {
                put_record(&mut records, index, &sizes);
            }
            let end = records.len();
            put_record(&mut records, first + 20, &(0, Some(9), Some(9), Vec::new()));
            let run = check(&records, first, i32::MIN..=i32::MAX, false)?;
            let last = (first + 20).min(1 << 20);
            prop_assert!(run.index >= last, "{} of {last}", run.index);
            prop_assert!(first + 20 > 1 << 20 || run.at >= end);
        }
    }
}
