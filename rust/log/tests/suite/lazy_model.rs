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

/// All records since offset 0, and what is known of how many a log must still hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    /// Timestamp and value.
    records: Vec<(i64, String)>,
    /// The log may start anywhere in this range.
    pub(crate) start: (i64, i64),
    /// The log may end anywhere from here to the end of `records`.
    end_min: i64,
    /// What the checkpoints on disk say.
    pub(crate) recovery_point: i64,
    pub(crate) start_checkpoint: i64,
    /// Records on disk for certain.
    synced: i64,
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
        self.end_min = self.end();
        let mut builder = Builder::new();
        for timestamp in now_ms + 1 - records as i64..=now_ms {
            let value = format!("log-{log}-{}-{}", self.end(), "x".repeat(bytes));
            builder.append(timestamp, Some(b"k"), Some(value.as_bytes()));
            self.records.push((timestamp, value));
        }
        builder.seal(Compression::None).unwrap()
    }

    /// An offset from the log's start to its end, inclusive.
    pub(crate) fn place(&self, index: Index) -> i64 {
        self.start.0 + index.index((self.end() - self.start.0) as usize + 1) as i64
    }

    /// A record's timestamp, or one just beside it.
    pub(crate) fn time(&self, index: Index) -> i64 {
        let beside = index.index(3) as i64 - 1;
        let place = self.place(index).min(self.end() - 1).max(0) as usize;
        self.records.get(place).map_or(0, |(timestamp, _)| timestamp + beside)
    }

    /// Offset and timestamp of the first record that is at least that young.
    pub(crate) fn first_since(&self, time: i64) -> Option<(i64, i64)> {
        let records = (0..).zip(&self.records).skip(self.start.0 as usize);
        records.map(|(offset, (timestamp, _))| (offset, *timestamp)).find(|(_, timestamp)| *timestamp >= time)
    }

    /// Offset and value of the records of `[from, to)`.
    pub(crate) fn values(&self, from: i64, to: i64) -> Vec<(i64, String)> {
        (from..to).map(|offset| (offset, self.records[offset as usize].1.clone())).collect()
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
