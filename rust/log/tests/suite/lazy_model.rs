//! The plain list that a log is compared with, and what a death may leave of it.

use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use proptest::sample::Index;

/// Where a log starts and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) start: i64,
    pub(crate) end: i64,
}

/// So many keys there are: a cleaner finds some that came again, and some that did not.
const KEYS: usize = 8;
/// A batch has no more records, so a cut before one of them reaches no further back.
pub(crate) const BATCH_RECORDS_MAX: usize = 3;

#[derive(Clone, Debug)]
struct Record {
    timestamp: i64,
    key: usize,
    value: String,
    /// A cleaner was at it that may have taken it away: a later one has its key.
    is_optional: bool,
}

/// All records since offset 0, and what is known of how many a log must still hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    records: Vec<Record>,
    /// How many batches there ever were, those included that were cut: no two have the same values.
    batches: usize,
    /// The log may start anywhere in this range.
    pub(crate) start: (i64, i64),
    /// The log may end anywhere from here to the end of `records`.
    end_min: i64,
    /// What the checkpoints on disk say.
    pub(crate) recovery_point: i64,
    pub(crate) start_checkpoint: i64,
    /// Records on disk for certain.
    synced: i64,
    /// Where the log ended when a cleaner was last at it.
    cleaned: i64,
    /// Which of those that had the name one after the other.
    pub(crate) incarnation: u128,
    /// Its deletion was under way.
    pub(crate) may_be_gone: bool,
}

impl Model {
    pub(crate) fn end(&self) -> i64 {
        self.records.len() as i64
    }

    /// Adds records, the last one at `now_ms` and each 1 ms before the next, and gives the batch that brings them.
    pub(crate) fn next_batch(&mut self, log: usize, records: usize, bytes: usize, now_ms: i64) -> Vec<u8> {
        assert!(records <= BATCH_RECORDS_MAX);
        self.end_min = self.end();
        self.batches += 1;
        let mut builder = Builder::new();
        for timestamp in now_ms + 1 - records as i64..=now_ms {
            let value = format!("log-{log}-{}-{}-{}", self.end(), self.batches, "x".repeat(bytes));
            let key = (self.records.len() + self.batches) % KEYS;
            builder.append(timestamp, Some(&[key as u8]), Some(value.as_bytes()));
            self.records.push(Record { timestamp, key, value, is_optional: false });
        }
        builder.seal(Compression::None).unwrap()
    }

    /// A place to cut the log at: behind what a cleaner saw, which was committed.
    pub(crate) fn cut(&self, index: Index) -> i64 {
        self.place(index).max(self.cleaned).min(self.end())
    }

    /// A cut to `offset` begins, of which a death may do nothing, a part, or all.
    pub(crate) fn begins_cut(&mut self, offset: i64) {
        // the whole batch goes
        self.end_min = (offset + 1 - BATCH_RECORDS_MAX as i64).max(self.start.0);
        self.synced = self.synced.min(self.end_min);
    }

    /// The checkpoints vouch for nothing from `offset` on.
    pub(crate) fn lower_checkpoints(&mut self, offset: i64) {
        self.recovery_point = self.recovery_point.min(offset);
        self.start_checkpoint = self.start_checkpoint.min(offset);
    }

    /// The cut was done, and the log ends at `end`.
    pub(crate) fn is_cut(&mut self, end: i64) {
        assert!((self.end_min..=self.end()).contains(&end), "cut at {end}, not {}..", self.end_min);
        self.records.truncate(end as usize);
        self.recovery_point = self.recovery_point.min(end);
        self.synced = self.synced.min(end);
    }

    /// A cleaner begins: what has a later record of its key may go.
    pub(crate) fn begins_cleaning(&mut self) {
        self.cleaned = self.end();
        let mut later = [false; KEYS];
        for record in self.records.iter_mut().rev() {
            record.is_optional |= later[record.key];
            later[record.key] = true;
        }
    }

    /// Panics unless `found` is what there is of `[from, to)`.
    pub(crate) fn check(&self, found: &[(i64, String)], from: i64, to: i64) {
        let mut found = found.iter().peekable();
        for (offset, record) in (0..).zip(&self.records).take(to as usize).skip(from as usize) {
            match found.next_if(|(it, _)| *it == offset) {
                Some((_, value)) => assert!(*value == record.value, "{offset} is {value:?}, not {record:?}"),
                None => assert!(record.is_optional, "{offset} of {from}..{to} is missing: {record:?}"),
            }
        }
        assert_eq!(found.next(), None, "more than there is of {from}..{to}");
    }

    /// An offset from the log's start to its end, inclusive.
    pub(crate) fn place(&self, index: Index) -> i64 {
        self.start.0 + index.index((self.end() - self.start.0) as usize + 1) as i64
    }

    /// A record's timestamp, or one just beside it.
    pub(crate) fn time(&self, index: Index) -> i64 {
        let beside = index.index(3) as i64 - 1;
        let place = self.place(index).min(self.end() - 1).max(0) as usize;
        self.records.get(place).map_or(0, |record| record.timestamp + beside)
    }

    /// Panics unless `found`, offset and timestamp, is the first record that is at least that young.
    pub(crate) fn check_first_since(&self, time: i64, found: Option<(i64, i64)>) {
        let records = (0..).zip(&self.records).skip(self.start.0 as usize);
        let young = records.filter(|(_, record)| record.timestamp >= time);
        for (offset, record) in young {
            if found == Some((offset, record.timestamp)) {
                return;
            }
            assert!(record.is_optional, "{found:?} was found for {time}, not {offset}: {record:?}");
        }
        assert_eq!(found, None, "for {time}");
    }

    /// All is on disk, and the checkpoint says so.
    pub(crate) fn flushed(&mut self) {
        (self.recovery_point, self.synced) = (self.end(), self.end());
    }

    /// The log starts there, and the checkpoint says so.
    pub(crate) fn starts_at(&mut self, offset: i64) {
        assert!((self.start.0..=self.start.1).contains(&offset), "starts at {offset}: {:?}", self.start);
        self.start = (offset, offset);
        self.start_checkpoint = offset;
    }

    /// Another log of that name, without records.
    pub(crate) fn recreated(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, ..Self::default() };
    }

    /// A step was done whole.
    pub(crate) fn settle(&mut self) {
        self.end_min = self.end();
    }

    /// Only what was synced is certain; and segments whose deletion a dead process began may be back.
    pub(crate) fn lost_power(&mut self) {
        self.start.0 = self.start_checkpoint;
        self.end_min = self.synced.max(self.start_checkpoint);
    }

    /// What was found after a death is what there is from now on. Panics where that cannot be.
    pub(crate) fn recovered(&mut self, found: Bounds) {
        let Bounds { start, end } = found;
        if self.may_be_gone && end == 0 {
            return;
        }
        assert!((self.start.0..=self.start.1).contains(&start), "starts at {start}: {:?}", self.start);
        assert!(
            (self.end_min..=self.end()).contains(&end),
            "ends at {end}, not {}..={}",
            self.end_min,
            self.end()
        );
        self.records.truncate(end as usize);
        self.start = (start, start);
        self.recovery_point = self.recovery_point.min(end);
        self.synced = self.synced.min(end);
        self.settle();
    }
}
