//! What happens to the logs of the test of lazily opened segments.

use crate::lazy_model::BATCH_RECORDS_MAX;
use proptest::prelude::*;
use proptest::sample::Index;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    Process,
    Machine,
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Append {
        records: usize,
        bytes: usize,
    },
    /// An append so much later that it begins a segment.
    Roll,
    Flush,
    /// Reads from a place in the log to its end, so many bytes at once.
    Read {
        from: Index,
        bytes: usize,
    },
    /// Looks for the record of a time.
    Seek {
        to: Index,
    },
    /// Takes a slice as a fetch does whose answer is not sent yet.
    Hold {
        from: Index,
    },
    /// All slices that are held are read and let go.
    Release,
    DeleteRecords {
        to: Index,
    },
    /// Retention by size to about half; `purge`: the files go at once.
    Retain {
        purge: bool,
    },
    /// Cuts the log's end as a follower does.
    Truncate {
        to: Index,
    },
    /// A pass of the cleaner.
    Clean,
    /// Turns a byte of a batch over, finds that and mends it.
    Mend {
        from: Index,
    },
    /// Closes files that were not used since the last time.
    CloseIdle,
    /// Closes the log; the next step on it opens it again.
    Close,
    /// Deletes the whole partition and makes it again.
    Recreate,
    /// Dies in the so-manyth call from here on.
    Die {
        death: Death,
        after: u64,
    },
}

pub(crate) fn a_step() -> impl Strategy<Value = Step> {
    let death = prop_oneof![Just(Death::Process), Just(Death::Machine)];
    prop_oneof![
        10 => (1..=BATCH_RECORDS_MAX, 0usize..300).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        3 => Just(Step::Roll),
        2 => Just(Step::Flush),
        6 => (any::<Index>(), 1usize..1_000).prop_map(|(from, bytes)| Step::Read { from, bytes }),
        3 => any::<Index>().prop_map(|to| Step::Seek { to }),
        3 => any::<Index>().prop_map(|from| Step::Hold { from }),
        1 => Just(Step::Release),
        1 => any::<Index>().prop_map(|to| Step::DeleteRecords { to }),
        2 => any::<bool>().prop_map(|purge| Step::Retain { purge }),
        2 => any::<Index>().prop_map(|to| Step::Truncate { to }),
        2 => Just(Step::Clean),
        2 => any::<Index>().prop_map(|from| Step::Mend { from }),
        4 => Just(Step::CloseIdle),
        2 => Just(Step::Close),
        1 => Just(Step::Recreate),
        2 => (death, 0u64..60).prop_map(|(death, after)| Step::Die { death, after }),
    ]
}
