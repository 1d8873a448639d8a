//! `aborted-transactions-checkpoint`: what the transaction indexes of a partition hold, by number and checksum.
//!
//! Nothing in a transaction index tells which segment it belongs to, or that it lost its end, and what it lacks, or has too
//! much, changes what read-committed consumers see. So it is noted here when a segment becomes full or the log is closed, if
//! that run knew it to be right, and an index that differs is compared with the batches before it is used. Kafka's programs
//! pass over the file.
//!
//! Crash points: the file is a hint, written without a sync. Where it is missing, torn, or older than the indexes, they are
//! compared with the batches.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};

/// Its name in the partition's directory. Without "index": whoever deletes `*index*` to have all indexes built anew leaves it.
const FILE_NAME: &str = "aborted-transactions-checkpoint";

/// What one index holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) count: usize,
    /// CRC-32C of the entries; 0 of none.
    pub(crate) crc: u32,
}

impl Summary {
    /// Of an index that was not compared with anything. No index holds that, so it is compared with the batches.
    pub(crate) const UNSURE: Self = Self { count: 0, crc: u32::MAX };
}

/// The file's contents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TxnIndexCheckpoint {
    by_base_offset: BTreeMap<i64, Summary>,
}

impl TxnIndexCheckpoint {
    /// Nothing where there is no file, or it does not read.
    pub(crate) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Self, LogError> {
        let path = directory.join(FILE_NAME);
        let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
            return Ok(Self::default());
        };
        let by_base_offset = parse(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|| {
            tracing::warn!(file = %path.display(), "what transaction indexes hold does not read, and is not used");
            BTreeMap::new()
        });
        Ok(Self { by_base_offset })
    }

    /// What the index of the segment at `base_offset` is to hold; nothing where nothing is noted.
    pub(crate) fn of(&self, base_offset: i64) -> Summary {
        self.by_base_offset.get(&base_offset).copied().unwrap_or_default()
    }

    /// Notes an index, and forgets those of segments that are not `there`; false = all of it was noted before.
    pub(crate) fn note(&mut self, base_offset: i64, summary: Summary, there: impl Fn(i64) -> bool) -> bool {
        let before = self.by_base_offset.clone();
        self.by_base_offset.retain(|base, _| there(*base));
        if summary == Summary::default() {
            self.by_base_offset.remove(&base_offset);
        } else {
            self.by_base_offset.insert(base_offset, summary);
        }
        self.by_base_offset != before
    }

    /// Writes the file.
    pub(crate) fn write(&self, file_system: &dyn FileSystem, directory: &Path) -> Result<(), LogError> {
        let mut text = format!("0\n{}\n", self.by_base_offset.len());
        for (base_offset, Summary { count, crc }) in &self.by_base_offset {
            text.push_str(&format!("{base_offset} {count} {crc}\n"));
        }
        let path = directory.join(FILE_NAME);
        atomic_file::replace_unsynced(file_system, &path, text.as_bytes()).during("write", &path)
    }
}

fn parse(text: &str) -> Option<BTreeMap<i64, Summary>> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let (base_offset, count, crc) = (words.next()?, words.next()?, words.next()?);
        let summary = Summary { count: count.parse().ok()?, crc: crc.parse().ok()? };
        words.next().is_none().then_some((base_offset.parse().ok()?, summary))
    };
    let entries: BTreeMap<_, _> = lines.map(entry).collect::<Option<_>>()?;
    (entries.len() == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    #[test]
    fn what_is_noted_reads_back_as_long_as_its_segment_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let read = || TxnIndexCheckpoint::read(&RealFileSystem, directory.path()).unwrap();
        let mut noted = read();
        let (one, two) = (Summary { count: 1, crc: 7 }, Summary { count: 2, crc: u32::MAX });
        assert!(noted.note(0, one, |_| true) && noted.note(40, two, |_| true));
        assert!(!noted.note(40, two, |_| true));
        noted.write(&RealFileSystem, directory.path()).unwrap();
        assert_eq!((read().of(0), read().of(40), read().of(41)), (one, two, Summary::default()));
        assert!(noted.note(40, Summary::default(), |base| base == 40));
        noted.write(&RealFileSystem, directory.path()).unwrap();
        assert_eq!(read(), TxnIndexCheckpoint::default());
    }

    #[test]
    fn what_does_not_read_counts_as_nothing() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "1\n0\n", "0\n2\n0 1 1\n", "0\n1\n0 1\n", "0\n1\n0 1 x\n", "0\n1\n0 1 1 1\n"] {
            std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
            let found = TxnIndexCheckpoint::read(&RealFileSystem, directory.path()).unwrap();
            assert_eq!(found, TxnIndexCheckpoint::default(), "{text:?}");
        }
    }
}
