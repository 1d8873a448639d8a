//! Offset checkpoints: one offset for each partition of a data directory, in Kafka's text format.
//!
//! Version line `0`, count line, then `topic partition offset` lines. Replaced as a whole.
//!
//! A bit that turns in an offset may leave one that is possible, and a log's start that is too high hides records for good.
//! So each line is written twice, the second time with two blanks between its words: Kafka takes the later of two lines and
//! any number of blanks. Files of Kafka have no second lines, and are believed as they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

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
    /// All of them.
    pub const ALL: [Self; 4] = [Self::RecoveryPoint, Self::LogStart, Self::HighWatermark, Self::Cleaner];

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
        parse(&String::from_utf8_lossy(&bytes)).map_err(|why| LogError::BadFile {
            path,
            reason: format!("{why}; restore it or move it away (then logs are scanned)"),
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
    let mut text = format!("0\n{}\n", 2 * offsets.len());
    for blanks in [" ", AGAIN] {
        for ((topic, partition), offset) in offsets {
            text.push_str(&format!("{topic}{blanks}{partition}{blanks}{offset}\n"));
        }
    }
    text
}

/// Between the words of a line that says something for the second time.
const AGAIN: &str = "  ";

fn parse(text: &str) -> Result<Offsets, String> {
    const NONE: &str = "it is no offset checkpoint of version 0";
    let mut lines = text.lines();
    let version = lines.next().map(str::trim);
    let count = lines.next().and_then(|line| line.trim().parse().ok());
    let (Some("0"), Some(count)) = (version, count) else { return Err(NONE.to_owned()) };
    let (mut offsets, mut again) = (Offsets::new(), Offsets::new());
    for line in lines {
        let (key, offset) = parse_line(line).ok_or(NONE)?;
        if line.contains(AGAIN) { &mut again } else { &mut offsets }.insert(key, offset);
    }
    if offsets.len() + again.len() != count {
        return Err(NONE.to_owned());
    }
    let told_twice = again.is_empty() || offsets == again;
    if told_twice { Ok(offsets) } else { Err(difference(&offsets, &again)) }
}

fn parse_line(line: &str) -> Option<((String, i32), i64)> {
    let mut words = line.split_ascii_whitespace();
    let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
    let is_whole = words.next().is_none();
    is_whole.then_some(((topic.to_owned(), number(partition)?), number(offset)?))
}

/// A number as it is written here: `00` is a blank that turned into a digit.
fn number<T: FromStr + ToString>(word: &str) -> Option<T> {
    word.parse().ok().filter(|number: &T| number.to_string() == word)
}

fn difference(offsets: &Offsets, again: &Offsets) -> String {
    let told = |offset: Option<&i64>| offset.map_or("nothing".to_owned(), i64::to_string);
    let mut keys = offsets.keys().chain(again.keys());
    let differs = keys.find(|key| offsets.get(*key) != again.get(*key));
    differs.map_or_else(String::new, |key| {
        let (first, second) = (told(offsets.get(key)), told(again.get(key)));
        format!(
            "it says everything twice, but of {}-{} {first} and {second}: bytes of it turned",
            key.0, key.1
        )
    })
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
        let lines = ["a-b 12 9223372036854775807", "b 0 7", "a-b  12  9223372036854775807", "b  0  7"];
        assert_eq!(text, format!("0\n4\n{}\n", lines.join("\n")));
        assert_eq!(checkpoint.read(&RealFileSystem, directory.path()).unwrap(), offsets);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for text in [
            "",
            "1\n0\n",
            "0\n1\n",
            "0\n0\na 0 1\n",
            "0\n1\na 0\n",
            "0\n1\na 0 1 2\n",
            "0\n1\na x 1\n",
            "0\n1\na 00 1\n",
        ] {
            assert_eq!(parse(text).unwrap_err(), "it is no offset checkpoint of version 0", "{text:?}");
        }
    }

    #[test]
    fn files_of_kafka_say_everything_once() {
        let offsets = Offsets::from([(("b".to_owned(), 0), 7), (("b".to_owned(), 1), 8)]);
        assert_eq!(parse("0\n2\nb 0 7\nb 1 8\n").unwrap(), offsets);
    }

    #[test]
    fn whatever_bit_turns_no_other_offset_is_believed() {
        let all = [(("b".to_owned(), 0), 7), (("b".to_owned(), 1), 120), (("orders".to_owned(), 10), 3_000)];
        for count in 1..=all.len() {
            let offsets = Offsets::from_iter(all.iter().take(count).cloned());
            let sound = text(&offsets).into_bytes();
            for (at, bit) in (0..sound.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut turned = sound.clone();
                turned[at] ^= 1 << bit;
                let found = parse(&String::from_utf8_lossy(&turned));
                assert!(found.is_err() || found.as_ref() == Ok(&offsets), "byte {at}, bit {bit}: {found:?}");
            }
        }
        let why = parse("0\n2\nb 0 7\nb  0  5\n").unwrap_err();
        assert_eq!(why, "it says everything twice, but of b-0 7 and 5: bytes of it turned");
    }
}
