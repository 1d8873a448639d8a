//! What was brought into the page cache for readers far behind, so that it goes again when they have passed: a scan of a log
//! larger than memory would push out what others wrote and read a moment ago.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Up to so much stays behind the readers: what a socket has not sent yet cannot be dropped, and who comes a little later
/// finds it.
const KEPT_BYTES: u64 = 64 << 20;

/// A reader no farther behind than this comes soon: what lies before it is not dropped.
const NEAR_BYTES: u64 = 64 << 20;

/// With readers that stay near each other, up to so much.
const KEPT_BYTES_MAX: u64 = 2 * KEPT_BYTES;

/// A reader that asked for nothing for so long does not count.
const READER_IDLE_MAX: Duration = Duration::from_secs(2);

/// Where there are so many, those that do not count any more are forgotten first.
const READERS_MANY: usize = 1024;

/// A part of a file that was not in memory before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Brought<F> {
    pub(super) file: F,
    pub(super) position: u64,
    pub(super) length: u64,
}

/// Parts in the order in which they came, and where readers are; `F` names a file.
#[derive(Debug)]
pub(super) struct Behind<F> {
    parts: VecDeque<Brought<F>>,
    bytes: u64,
    /// By the reader's number.
    readers: HashMap<u64, Reader<F>>,
    /// So many may there be before those that went away are looked for.
    readers_max: usize,
}

#[derive(Debug)]
struct Reader<F> {
    file: F,
    position: u64,
    seen: Instant,
}

impl<F: Clone + PartialEq> Behind<F> {
    pub(super) fn new() -> Self {
        Self { parts: VecDeque::new(), bytes: 0, readers: HashMap::new(), readers_max: READERS_MANY }
    }

    /// Notes what a reader reads next.
    pub(super) fn note_reader(&mut self, reader: u64, file: &F, position: u64, now: Instant) {
        self.readers.insert(reader, Reader { file: file.clone(), position, seen: now });
        if self.readers.len() > self.readers_max {
            self.forget_idle(now);
            // with ever more that are there each one is not to look through all
            self.readers_max = (2 * self.readers.len()).max(READERS_MANY);
        }
    }

    /// Notes a part that is coming into memory.
    pub(super) fn bring(&mut self, part: Brought<F>) {
        self.bytes += part.length;
        self.parts.push_back(part);
    }

    fn forget_idle(&mut self, now: Instant) {
        self.readers.retain(|_, reader| now.saturating_duration_since(reader.seen) <= READER_IDLE_MAX);
    }

    /// Takes out what is to be dropped now: the oldest parts that no reader is near, and of the others what is too much.
    pub(super) fn passed(&mut self, now: Instant) -> Vec<Brought<F>> {
        self.forget_idle(now);
        let mut passed = Vec::new();
        for _ in 0..self.parts.len() {
            if self.bytes <= KEPT_BYTES {
                break;
            }
            let Some(part) = self.parts.pop_front() else { break };
            if self.bytes <= KEPT_BYTES_MAX && self.is_awaited(&part) {
                // behind all others: its turn comes again
                self.parts.push_back(part);
            } else {
                self.bytes -= part.length;
                passed.push(part);
            }
        }
        passed
    }

    /// Whether a reader is in the part, or so far before it that it is soon.
    fn is_awaited(&self, part: &Brought<F>) -> bool {
        let end = part.position + part.length;
        self.readers.values().any(|reader| {
            let near = part.position.saturating_sub(NEAR_BYTES)..end;
            reader.file == part.file && near.contains(&reader.position)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    fn part(file: char, number: u64) -> Brought<char> {
        Brought { file, position: number * MEBIBYTE, length: MEBIBYTE }
    }

    /// A reader goes through a file, and what is dropped on its way.
    fn read(behind: &mut Behind<char>, reader: u64, file: char, parts: std::ops::Range<u64>) -> Vec<u64> {
        let now = Instant::now();
        let mut dropped = Vec::new();
        for number in parts {
            behind.note_reader(reader, &file, number * MEBIBYTE, now);
            behind.bring(part(file, number));
            dropped.extend(behind.passed(now).into_iter().map(|it| it.position / MEBIBYTE));
        }
        dropped
    }

    #[test]
    fn what_a_reader_has_passed_is_dropped_in_order_when_there_is_much_of_it() {
        let mut behind = Behind::new();
        let dropped = read(&mut behind, 1, 'a', 0..300);
        assert_eq!(dropped, (0..300 - KEPT_BYTES / MEBIBYTE).collect::<Vec<_>>());
        assert_eq!(behind.bytes, KEPT_BYTES);
    }

    #[test]
    fn what_another_reader_comes_to_is_kept_for_it() {
        let mut behind = Behind::new();
        let now = Instant::now();
        behind.note_reader(2, &'a', 10 * MEBIBYTE, now);
        let dropped = read(&mut behind, 1, 'a', 0..120);
        assert!(dropped.iter().all(|number| !(10..=74).contains(number)), "{dropped:?}");
        assert!(dropped.contains(&0) && dropped.contains(&9), "{dropped:?}");
        // it has passed: now its turn is up
        behind.note_reader(2, &'a', 119 * MEBIBYTE, now);
        let dropped = read(&mut behind, 1, 'a', 120..300);
        assert_eq!(dropped.get(..65), Some((10..75).collect::<Vec<_>>().as_slice()));
    }

    #[test]
    fn a_reader_of_another_file_or_one_that_went_away_keeps_nothing() {
        let mut behind = Behind::new();
        let now = Instant::now();
        behind.note_reader(2, &'b', 0, now);
        behind.note_reader(3, &'a', 0, now.checked_sub(READER_IDLE_MAX * 2).unwrap());
        let dropped = read(&mut behind, 1, 'a', 0..200);
        assert_eq!(dropped, (0..200 - KEPT_BYTES / MEBIBYTE).collect::<Vec<_>>());
        assert_eq!(behind.readers.len(), 2, "who went away is forgotten");
    }

    #[test]
    fn readers_that_come_and_go_for_ever_are_forgotten() {
        let mut behind = Behind::new();
        let start = Instant::now();
        for reader in 0..100_000_u64 {
            behind.note_reader(reader, &'a', 0, start + Duration::from_millis(10) * reader as u32);
            assert!(behind.readers.len() <= READERS_MANY, "after {reader}");
        }
    }

    #[test]
    fn many_readers_near_each_other_keep_no_more_than_the_bound() {
        let mut behind = Behind::new();
        let now = Instant::now();
        for reader in 0..100 {
            behind.note_reader(reader, &'a', reader * 10 * MEBIBYTE, now);
        }
        for number in 0..1000 {
            behind.bring(part('a', number));
            behind.passed(now);
            assert!(behind.bytes <= KEPT_BYTES_MAX, "{} bytes are kept", behind.bytes);
        }
    }
}
