//! Offset checkpoints: one offset for each partition of a data directory, in Kafka's text format.
//!
//! Version line `0`, count line, then `topic partition offset` lines. Replaced as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};

/// Which offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Checkpoint {
    /// Everything below is synced to disk.
    RecoveryPoint,
    /// The high watermarks.
    HighWatermark,
    /// Where logs start, after DeleteRecords or retention.
    LogStart,
    /// Everything below was compacted.
    Cleaner,
}

/// Offsets by topic and partition.
pub type Offsets = BTreeMap<(String, i32), i64>;

impl Checkpoint {
    /// Kafka's name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::HighWatermark => "replication-offset-checkpoint",
            Self::LogStart => "log-start-offset-checkpoint",
            Self::Cleaner => "cleaner-offset-checkpoint",
        }
    }

    /// The offsets in the file; none when there is no file. One that does not read is an error: it was replaced as a
    /// whole, so no crash explains it.
    pub(crate) fn read(self, file_system: &dyn FileSystem, directory: &Path) -> Result<Offsets, LogError> {
        let path = directory.join(self.file_name());
        let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
            return Ok(Offsets::new());
        };
        parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| LogError::BadFile {
            path,
            reason:
                "it is no offset checkpoint of version 0; restore it or move it away (then logs are scanned)"
                    .to_owned(),
        })
    }

    pub(crate) fn write(
        self,
        file_system: &dyn FileSystem,
        directory: &Path,
        text: &str,
    ) -> Result<(), LogError> {
        let path = directory.join(self.file_name());
        atomic_file::replace(file_system, &path, text.as_bytes()).during("write", path)
    }
}

/// What a file says that tells `offsets`.
pub(crate) fn text(offsets: &Offsets) -> String {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        text.push_str(&format!("{topic} {partition} {offset}\n"));
    }
    text
}

fn parse(text: &str) -> Option<Offsets> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut offsets = Offsets::new();
    for line in lines {
        let mut words = line.split_ascii_whitespace();
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() {
            return None;
        }
        offsets.insert((topic.to_owned(), partition.parse().ok()?), offset.parse().ok()?);
    }
    (offsets.len() == count).then_some(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    #[test]
    fn the_file_is_kafkas_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let offsets = Offsets::from([(("b".to_owned(), 0), 7), (("a-b".to_owned(), 12), i64::MAX)]);
        let checkpoint = Checkpoint::RecoveryPoint;
        assert_eq!(checkpoint.read(&RealFileSystem, directory.path()).unwrap(), Offsets::new());
        checkpoint.write(&RealFileSystem, directory.path(), &text(&offsets)).unwrap();
        let text =
            std::fs::read_to_string(directory.path().join("recovery-point-offset-checkpoint")).unwrap();
        assert_eq!(text, "0\n2\na-b 12 9223372036854775807\nb 0 7\n");
        assert_eq!(checkpoint.read(&RealFileSystem, directory.path()).unwrap(), offsets);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for text in
            ["", "1\n0\n", "0\n1\n", "0\n0\na 0 1\n", "0\n1\na 0\n", "0\n1\na 0 1 2\n", "0\n1\na x 1\n"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
