//! Whether two copies of a log have the same history, by their leader epochs: one leader writes in one epoch, so what has
//! the same epoch at the same offset is the same record (KIP-101). What an object store has is compared so with the log
//! of whoever leads (KIP-405: `isRemoteSegmentWithinLeaderEpochs`).

use crate::epoch_cache::EpochStart;

/// The offset in `[from, until)` from which on two histories differ; `until` where they do not. Epochs ascend. What lies
/// below the first epoch that one of them knows is not compared.
pub fn common_end(one: &[EpochStart], other: &[EpochStart], from: i64, until: i64) -> i64 {
    let mut offset = from;
    while offset < until {
        let (first, second) = (at(one, offset), at(other, offset));
        if let (Some(first), Some(second)) = (first.epoch, second.epoch)
            && first != second
        {
            return offset;
        }
        offset = first.end_offset.min(second.end_offset);
    }
    until
}

/// What holds an offset, and where it ends.
struct Held {
    epoch: Option<i32>,
    end_offset: i64,
}

fn at(epochs: &[EpochStart], offset: i64) -> Held {
    let next = epochs.partition_point(|it| it.start_offset <= offset);
    let epoch = next.checked_sub(1).and_then(|holds| epochs.get(holds)).map(|it| it.epoch);
    Held { epoch, end_offset: epochs.get(next).map_or(i64::MAX, |it| it.start_offset) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(all: &[(i32, i64)]) -> Vec<EpochStart> {
        all.iter()
            .map(|(epoch, start_offset)| EpochStart { epoch: *epoch, start_offset: *start_offset })
            .collect()
    }

    fn end(one: &[(i32, i64)], other: &[(i32, i64)], from: i64, until: i64) -> i64 {
        let (one, other) = (epochs(one), epochs(other));
        let found = common_end(&one, &other, from, until);
        assert_eq!(found, common_end(&other, &one, from, until), "whoever is asked first");
        found
    }

    #[test]
    fn histories_part_where_an_offset_has_another_epoch() {
        assert_eq!(end(&[(1, 0), (3, 20)], &[(1, 0), (3, 20)], 0, 50), 50);
        assert_eq!(end(&[(1, 0), (3, 20)], &[(1, 0), (2, 20)], 0, 50), 20);
        assert_eq!(end(&[(1, 0), (3, 20)], &[(1, 0), (3, 25)], 0, 50), 20);
        assert_eq!(end(&[(1, 0), (3, 20)], &[(1, 0), (2, 15), (3, 20)], 0, 50), 15);
        assert_eq!(end(&[(1, 0), (3, 20)], &[(1, 0)], 0, 20), 20, "what comes later is not compared");
        assert_eq!(end(&[(1, 0)], &[(2, 0)], 7, 50), 7);
        assert_eq!(end(&[(2, 0), (3, 20)], &[(1, 0), (3, 20)], 20, 50), 50, "nor what comes before");
    }

    #[test]
    fn what_is_not_known_is_not_compared() {
        assert_eq!(end(&[(3, 20)], &[(1, 0), (3, 20)], 0, 50), 50);
        assert_eq!(end(&[(3, 20)], &[(1, 0), (4, 20)], 0, 50), 20);
        assert_eq!(end(&[], &[(1, 0)], 0, 50), 50);
        assert_eq!(end(&[(1, 0)], &[(1, 0)], 9, 9), 9);
        assert_eq!(end(&[(1, 0)], &[(1, 0)], 9, 5), 5);
    }
}
