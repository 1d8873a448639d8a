//! `damaged-segments`: in which segments of a partition damage was found.
//!
//! A clean stop moves the recovery point to the log's end, below which batches are believed by their headers. A damaged
//! header then hides good batches behind it. So a segment with known damage is checked in full at each start, until it is
//! mended or deleted. Kafka's programs pass over the file.
//!
//! Crash points: the file is written as soon as recovery is done, or damage is found, and synced: of a log that was moved it may
//! be all that tells of pages that the disk before could not read ([`crate::FutureLog`]). Nothing waits for it otherwise:
//! without it recovery looks at all that was not synced anyhow, and at the rest as if the damage had come since.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};

/// Its name in the partition's directory.
pub(crate) const FILE_NAME: &str = "damaged-segments";

/// The base offsets of the segments; none where there is no file among `names`, those in the directory, or it does not
/// read.
pub(super) fn read_listed(
    file_system: &dyn FileSystem,
    directory: &Path,
    names: &[String],
) -> Result<BTreeSet<i64>, LogError> {
    let is_there = names.iter().any(|name| name == FILE_NAME);
    if is_there { read(file_system, directory) } else { Ok(BTreeSet::new()) }
}

/// The base offsets of the segments; none where there is no file, or it does not read.
pub(crate) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<BTreeSet<i64>, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
        return Ok(BTreeSet::new());
    };
    Ok(parse(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|| {
        tracing::warn!(file = %path.display(), "a list of damaged segments does not read, and is not used");
        BTreeSet::new()
    }))
}

/// Replaces the list `known`, as [`read`] gave it, synced; an empty one has no file.
pub(crate) fn replace(
    file_system: &dyn FileSystem,
    directory: &Path,
    known: &BTreeSet<i64>,
    found: &BTreeSet<i64>,
) -> Result<(), LogError> {
    let path = directory.join(FILE_NAME);
    if known == found {
        return Ok(());
    }
    if found.is_empty() {
        return file_system.remove_file(&path).during("remove", &path);
    }
    atomic_file::replace(file_system, &path, &bytes_of(found)).during("write", &path)
}

/// What the file says then.
pub(crate) fn bytes_of(found: &BTreeSet<i64>) -> Vec<u8> {
    let mut text = format!("0\n{}\n", found.len());
    for base_offset in found {
        text.push_str(&format!("{base_offset}\n"));
    }
    text.into_bytes()
}

fn parse(text: &str) -> Option<BTreeSet<i64>> {
    let mut lines = text.lines();
    if lines.next()? != "0" {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let bases: BTreeSet<i64> = lines.map(|line| line.parse().ok()).collect::<Option<_>>()?;
    (bases.len() == count).then_some(bases)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    #[test]
    fn the_list_reads_back_and_goes_when_it_is_empty() {
        let directory = tempfile::tempdir().unwrap();
        let none = BTreeSet::new();
        let some = BTreeSet::from([0, 42]);
        let names = [FILE_NAME.to_owned()];
        replace(&RealFileSystem, directory.path(), &none, &some).unwrap();
        assert_eq!(read_listed(&RealFileSystem, directory.path(), &names).unwrap(), some);
        replace(&RealFileSystem, directory.path(), &some, &none).unwrap();
        assert!(!directory.path().join(FILE_NAME).exists());
    }

    #[test]
    fn a_list_that_does_not_read_counts_as_empty() {
        let directory = tempfile::tempdir().unwrap();
        for text in ["", "1\n0\n", "0\n2\n7\n", "0\n1\nx\n", "0\n"] {
            std::fs::write(directory.path().join(FILE_NAME), text).unwrap();
            let found = read(&RealFileSystem, directory.path()).unwrap();
            assert_eq!(found, BTreeSet::new(), "{text:?}");
        }
    }
}
