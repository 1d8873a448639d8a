//! Whether batches that came in one answer can follow one another. No checksum covers a batch's base offset and leader
//! epoch, so a bit that turned there shows only beside the batches before and behind it.
//!
//! Offsets never overlap in a log and epochs never go down. Gaps are right where a cleaner was at work, and one at an
//! answer's end can be told from a wrong base offset by nobody: such a batch is asked for again, as the first of an answer.
//! Its sender found that one by its offset.

use super::BatchHeader;

/// What can be said of a batch by the place where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing is wrong with it.
    Follows,
    /// It, or the batch behind it, is not what was written.
    Contradicted,
    /// It may be wrong, and nothing behind it tells.
    Unsure,
}

/// Whether a batch can lie where the log goes on at `expected`. `behind`: the next one of the same answer. `is_first`: it
/// is the answer's first, which may begin before `expected` if it holds it.
#[must_use]
pub fn offset_order(
    header: &BatchHeader,
    expected: i64,
    behind: Option<&BatchHeader>,
    is_first: bool,
) -> Order {
    let holds_expected = is_first && header.last_offset() >= expected;
    if header.base_offset < expected && !holds_expected {
        return Order::Contradicted;
    }
    if header.base_offset <= expected {
        return Order::Follows;
    }
    match behind {
        Some(behind) if behind.base_offset < header.next_offset() => Order::Contradicted,
        None if !is_first => Order::Unsure,
        _ => Order::Follows,
    }
}

/// The same of its leader epoch, behind a batch of epoch `before`. Below 0 = there is none.
#[must_use]
pub fn epoch_order(header: &BatchHeader, before: i32, behind: Option<&BatchHeader>, is_first: bool) -> Order {
    let epoch = header.partition_leader_epoch;
    let behind = behind.map(|behind| behind.partition_leader_epoch).filter(|behind| *behind >= 0);
    if epoch == before {
        return Order::Follows;
    }
    if epoch < before {
        // the one before an answer's first is not at hand: it may be the wrong one
        let is_sure = !is_first || behind.is_some_and(|behind| behind >= before);
        return if is_sure { Order::Contradicted } else { Order::Follows };
    }
    match behind {
        Some(behind) if behind < epoch => Order::Contradicted,
        None if !is_first => Order::Unsure,
        _ => Order::Follows,
    }
}

#[cfg(test)]
mod tests {
    use super::Order::{Contradicted, Follows, Unsure};
    use super::*;

    /// The offsets `base..base + 10`.
    fn at(base_offset: i64, partition_leader_epoch: i32) -> BatchHeader {
        let mut builder = crate::batch::Builder::new();
        builder.append(0, None, Some(b"v"));
        let bytes = builder.seal(crate::compression::Compression::None).unwrap();
        let mut header = BatchHeader::parse(&bytes).unwrap();
        (header.base_offset, header.partition_leader_epoch) = (base_offset, partition_leader_epoch);
        header.last_offset_delta = 9;
        header
    }

    #[test]
    fn a_base_offset_that_turned_shows_beside_its_neighbours() {
        let order = |base, behind: Option<i64>, is_first| {
            let behind = behind.map(|base| at(base, 0));
            offset_order(&at(base, 0), 100, behind.as_ref(), is_first)
        };
        for (is_first, alone) in [(true, Follows), (false, Unsure)] {
            assert_eq!(order(100, Some(110), is_first), Follows);
            assert_eq!(order(100, None, is_first), Follows);
            assert_eq!(order(116, Some(110), is_first), Contradicted);
            assert_eq!(order(1 << 60, Some(110), is_first), Contradicted);
            assert_eq!(order(84, Some(110), is_first), Contradicted);
            assert_eq!(order(i64::MIN, Some(110), is_first), Contradicted);
            assert_eq!(order(116, Some(126), is_first), Follows, "a gap that a cleaner left");
            assert_eq!(order(116, None, is_first), alone);
        }
        assert_eq!(order(95, Some(105), true), Follows, "it holds the offset that was asked for");
        assert_eq!(order(95, Some(105), false), Contradicted);
    }

    #[test]
    fn a_leader_epoch_that_turned_shows_beside_its_neighbours() {
        let order = |epoch, behind: Option<i32>, is_first| {
            let behind = behind.map(|epoch| at(110, epoch));
            epoch_order(&at(100, epoch), 5, behind.as_ref(), is_first)
        };
        for (is_first, alone) in [(true, Follows), (false, Unsure)] {
            assert_eq!(order(5, Some(5), is_first), Follows);
            assert_eq!(order(5, None, is_first), Follows);
            assert_eq!(order(7, Some(5), is_first), Contradicted);
            assert_eq!(order(7, Some(7), is_first), Follows);
            assert_eq!(order(7, None, is_first), alone);
            assert_eq!(order(4, Some(5), is_first), Contradicted);
            assert_eq!(order(i32::MIN + 5, Some(5), is_first), Contradicted);
        }
        assert_eq!(order(4, None, false), Contradicted);
        assert_eq!(order(4, None, true), Follows, "nothing tells which of the two is wrong");
        assert_eq!(epoch_order(&at(0, 3), -1, None, false), Unsure);
    }
}
