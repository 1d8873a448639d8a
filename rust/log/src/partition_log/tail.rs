//! Where the last batches of the log lie, so that readers at the tail need neither index nor disk.

use std::collections::VecDeque;

use crate::segment::Segment;

/// Batches whose places are kept: more than are in flight between a leader and its consumers and followers.
const MARKS_MAX: usize = 128;

/// An offset where a batch starts (or will), and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPosition {
    pub(crate) offset: i64,
    pub(crate) segment_base: i64,
    pub(crate) position: u64,
}

impl LogPosition {
    /// Whether the position is one in `segment`, and not in what the cleaner copied it from.
    pub(crate) fn is_in(&self, segment: &Segment) -> bool {
        self.segment_base == segment.base_offset && !segment.is_rewritten
    }
}

/// The end of the log and the starts of the batches before it. One lock's worth: the end's offset and position are
/// always of the same moment, which two atomics could not promise.
#[derive(Debug)]
pub(crate) struct Tail {
    marks: VecDeque<LogPosition>,
    end: LogPosition,
}

impl Tail {
    pub(crate) fn new(end: LogPosition) -> Self {
        // most logs of a broker with ten thousand are not read or written for now
        Self { marks: VecDeque::new(), end }
    }

    pub(crate) fn end(&self) -> LogPosition {
        self.end
    }

    /// A batch was appended from the old end up to `end`.
    pub(crate) fn advance(&mut self, end: LogPosition) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(self.end);
        self.end = end;
    }

    /// The end moved without a batch: a roll, a truncation.
    pub(crate) fn reset(&mut self, end: LogPosition) {
        self.marks.retain(|mark| mark.offset < end.offset);
        self.end = end;
    }

    /// The last place known that starts at or before `offset`; `None` when that lies before all that are known.
    pub(crate) fn at_or_before(&self, offset: i64) -> Option<LogPosition> {
        if offset >= self.end.offset {
            return Some(self.end);
        }
        let after = self.marks.partition_point(|mark| mark.offset <= offset);
        self.marks.get(after.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> LogPosition {
        LogPosition { offset, segment_base: 0, position: offset as u64 * 100 }
    }

    #[test]
    fn the_last_batches_are_found() {
        let mut tail = Tail::new(at(0));
        for offset in (10..=2000).step_by(10) {
            tail.advance(at(offset));
        }
        assert_eq!(tail.end(), at(2000));
        assert_eq!(tail.at_or_before(1995), Some(at(1990)));
        assert_eq!(tail.at_or_before(1990), Some(at(1990)));
        assert_eq!(tail.at_or_before(9999), Some(at(2000)));
        assert_eq!(tail.at_or_before(5), None);
        tail.reset(at(1900));
        assert_eq!(tail.at_or_before(1950), Some(at(1900)));
        assert_eq!(tail.at_or_before(1899), Some(at(1890)));
    }
}
