//! `fastlog.wanted`: in which data directory replicas are to be, as somebody asked for, until they are there.
//!
//! ```text
//! version: 0
//! orders-3 4vPJ… 9sKd…
//! crc32c: 9ae0b1f2
//! ```
//!
//! with the topic's id and the `directory.id` of the data directory. A line is about a replica that is to be moved, or about one
//! that is to be made there. It is in the first data directory, beside what a broker knows of its others: one file for all, so
//! that a line stays the same wherever its replica is meanwhile, whichever other disk fails.
//!
//! Crash points: the file is replaced as a whole, synced, before anybody is told that a move is accepted or given up. A line
//! that is there for longer than need be does no harm: the replica is there already, or the topic's id is another one.

use std::collections::BTreeMap;

use fastlog_protocol::crc::crc32c;
use uuid::Uuid;

use super::super::LogDir;
use crate::error::{During, LogError};
use crate::file_system::atomic_file;
use crate::{file_name, identity};

const FILE_NAME: &str = "fastlog.wanted";
const VERSION: &str = "version: 0";
/// Begins the last line, with the checksum of all before it.
const CHECKSUM: &str = "crc32c: ";
/// As much of a file that does not read is told: some twenty lines.
const TOLD_BYTES_MAX: usize = 2000;

/// Where a replica is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPlace {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The `directory.id` of the data directory.
    pub directory_id: String,
}

/// The places by topic and partition.
pub type WantedPlaces = BTreeMap<(String, i32), WantedPlace>;

impl LogDir {
    /// Where replicas are to be; `None` where there is no such file.
    ///
    /// # Errors
    /// `BadFile` where it does not read, with what is in it; `Io` where the disk does not give it.
    pub fn read_wanted(&self) -> Result<Option<WantedPlaces>, LogError> {
        let path = self.path().join(FILE_NAME);
        let Some(bytes) = atomic_file::read(&*self.storage().file_system, &path).during("read", &path)?
        else {
            return Ok(None);
        };
        parse(&bytes).map(Some).ok_or_else(|| {
            let told = bytes.get(..TOLD_BYTES_MAX.min(bytes.len())).unwrap_or_default();
            let told = String::from_utf8_lossy(told);
            let reason = format!(
                "it is not {VERSION:?}, lines of a partition, its topic's id and the id of a directory, and their checksum; it \
                 says {told:?}"
            );
            LogError::BadFile { path, reason }
        })
    }

    /// Replaces what is written of it, synced. A disk that fails at that takes the directory offline, one that is full does not.
    pub fn write_wanted(&self, places: &WantedPlaces) -> Result<(), LogError> {
        self.storage().check()?;
        let path = self.path().join(FILE_NAME);
        let written = atomic_file::replace(&*self.storage().file_system, &path, text(places).as_bytes());
        written.during("write", path).map_err(|error| self.storage().write_failed(error))
    }
}

fn text(places: &WantedPlaces) -> String {
    let mut text = format!("{VERSION}\n");
    for ((topic, partition), place) in places {
        let name = file_name::of_partition(topic, *partition);
        text.push_str(&format!("{name} {} {}\n", identity::to_base64(place.topic_id), place.directory_id));
    }
    let checksum = crc32c(text.as_bytes());
    text.push_str(&format!("{CHECKSUM}{checksum:08x}\n"));
    text
}

fn parse(bytes: &[u8]) -> Option<WantedPlaces> {
    let text = std::str::from_utf8(bytes).ok()?;
    let at = text.rfind(CHECKSUM)?;
    let (lines, checksum) = text.split_at_checked(at)?;
    (checksum == format!("{CHECKSUM}{:08x}\n", crc32c(lines.as_bytes()))).then_some(())?;
    lines.strip_prefix(VERSION)?.strip_prefix('\n')?.lines().map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<((String, i32), WantedPlace)> {
    let mut words = line.splitn(3, ' ');
    let (topic, partition) = file_name::parse_partition(words.next()?)?;
    let topic_id = identity::from_base64(words.next()?)?;
    let directory_id = words.next()?.to_owned();
    Some(((topic.to_owned(), partition), WantedPlace { topic_id, directory_id }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::Storage;
    use crate::log_dir::Identity;

    fn places() -> WantedPlaces {
        let place = |id, directory_id: &str| WantedPlace {
            topic_id: Uuid::from_u128(id),
            directory_id: directory_id.to_owned(),
        };
        WantedPlaces::from([
            (("orders".to_owned(), 12), place(1, "9sKdAAAAAAAAAAAAAAAAAA")),
            (("a-b.c".to_owned(), 0), place(u128::MAX, "b81aAAAAAAAAAAAAAAAAAA")),
        ])
    }

    #[test]
    fn what_is_written_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { cluster_id: "c".to_owned(), node_id: 1 };
        let directory = LogDir::open(Storage::real(folder.path()), &identity).unwrap();
        assert_eq!(directory.read_wanted().unwrap(), None);
        for places in [places(), WantedPlaces::new()] {
            directory.write_wanted(&places).unwrap();
            assert_eq!(directory.read_wanted().unwrap(), Some(places));
        }
    }

    #[test]
    fn whatever_bit_turns_and_wherever_it_ends_nothing_is_believed_but_all_of_it() {
        for places in [places(), WantedPlaces::new()] {
            let sound = text(&places).into_bytes();
            assert_eq!(parse(&sound), Some(places));
            for length in 0..sound.len() {
                assert_eq!(parse(&sound[..length]), None, "{length} bytes");
            }
            for (at, bit) in (0..sound.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut turned = sound.clone();
                turned[at] ^= 1 << bit;
                assert_eq!(parse(&turned), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_file_that_does_not_read_is_told_with_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { cluster_id: "c".to_owned(), node_id: 1 };
        let directory = LogDir::open(Storage::real(folder.path()), &identity).unwrap();
        let torn = text(&places()).replace("orders", "ordess");
        std::fs::write(folder.path().join(FILE_NAME), torn).unwrap();
        let told = directory.read_wanted().unwrap_err().to_string();
        assert!(told.contains("ordess-12") && told.contains(FILE_NAME), "{told}");
    }
}
