//! `fastlog.moves`: which partitions of a data directory are being given to another one ([`crate::HandOver`]).
//!
//! A partition that is moved is for a moment in two directories. Which one counts is written down, durably, in the directory
//! that it leaves, before the other one has it:
//!
//! ```text
//! version: 0
//! moving orders-3 9sKd… xF2q…
//! kept clicks-0 9sKd… b81a…
//! ```
//!
//! with the `directory.id` of the other data directory and the topic's id (a line without one is of any topic). It says
//! something only while both directories have the partition, of that topic: `moving`: the other one counts, and what is here
//! is to be deleted; `kept`: what the other one has of it is a copy that failed at the last moment, and this one went on. While
//! the other directory cannot be asked, nobody knows of a partition that is `moving`.
//!
//! Crash points: the file is replaced as a whole, synced, before and after. A line goes when the old directory was renamed,
//! durably, when the copy does not have the partition's name, when the replica was deleted, durably, and before a replica
//! comes here: what an older line says is never about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

pub mod wanted;

use super::{FailedDirectory, LogDir, partition_metadata};
use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};
use crate::partition_log::hand_over::name_is_taken;
use crate::{file_name, identity};

const FILE_NAME: &str = "fastlog.moves";
const VERSION: &str = "version: 0";

/// Which of two directories counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// The other one, once it has the partition.
    Moving,
    /// This one.
    Kept,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    which: Move,
    /// `None` = of any topic.
    topic_id: Option<Uuid>,
}

/// By the partition's directory and the `directory.id` of the other data directory.
pub(super) type Moves = BTreeMap<(String, String), Note>;

impl Note {
    /// Whether a partition's directory may be that of the topic: one that does not say is.
    pub(super) fn is_about(&self, file_system: &dyn FileSystem, directory: &Path) -> Result<bool, LogError> {
        let Some(meant) = self.topic_id else { return Ok(true) };
        match partition_metadata::read(file_system, directory) {
            // torn by a crash
            Err(LogError::BadFile { .. }) => Ok(true),
            found => Ok(found?.is_none_or(|found| found == meant)),
        }
    }
}

/// What a start found of moves that were cut short.
#[derive(Debug, Default)]
pub struct Settled {
    /// Directories of partitions that count for nothing, or of which nobody knows whether they do: not to be opened.
    pub passed_over: Vec<PathBuf>,
    /// What was decided, for a person.
    pub decided: Vec<String>,
}

/// What the file says; nothing where there is none.
pub(super) fn read(file_system: &dyn FileSystem, directory: &Path) -> Result<Moves, LogError> {
    let path = directory.join(FILE_NAME);
    let Some(bytes) = atomic_file::read(file_system, &path).during("read", &path)? else {
        return Ok(Moves::new());
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let is_known = lines.next() == Some(VERSION);
    let moves: Option<Moves> = lines.map(parse).collect();
    moves.filter(|_| is_known).ok_or_else(|| LogError::BadFile {
        path,
        reason: format!(
            "it is not {VERSION:?} and then lines of \"moving\" or \"kept\", a partition, the id of a directory and that of \
             a topic; use the release that wrote it"
        ),
    })
}

fn parse(line: &str) -> Option<((String, String), Note)> {
    let mut words = line.split(' ');
    let which = match words.next()? {
        "moving" => Move::Moving,
        "kept" => Move::Kept,
        _ => return None,
    };
    let (name, other) = (words.next()?, words.next()?);
    let topic_id = match words.next() {
        Some(word) => Some(identity::from_base64(word)?),
        None => None,
    };
    (words.next().is_none()).then(|| ((name.to_owned(), other.to_owned()), Note { which, topic_id }))
}

fn text(moves: &Moves) -> String {
    let lines = moves.iter().map(|((name, other), note)| {
        let word = if note.which == Move::Moving { "moving" } else { "kept" };
        let topic_id = note.topic_id.map_or(String::new(), |id| format!(" {}", identity::to_base64(id)));
        format!("{word} {name} {other}{topic_id}\n")
    });
    format!("{VERSION}\n{}", lines.collect::<String>())
}

impl LogDir {
    /// Writes down, synced, which of two directories counts of a partition that moves from here to `other`.
    pub fn note_move(
        &self,
        partition: &str,
        topic_id: Option<Uuid>,
        other: &Self,
        which: Move,
    ) -> Result<(), LogError> {
        let id = other.id().ok_or_else(|| LogError::Policy {
            reason: format!("{} has no directory.id, nothing can be moved there", other.path().display()),
        })?;
        self.change_moves(|moves| {
            moves.insert((partition.to_owned(), id.to_owned()), Note { which, topic_id });
        })
    }

    /// Writes down, synced, that nothing is open between the two directories any more.
    pub fn forget_move(&self, partition: &str, other: &Self) -> Result<(), LogError> {
        let id = other.id().unwrap_or_default();
        self.change_moves(|moves| {
            moves.remove(&(partition.to_owned(), id.to_owned()));
        })
    }

    /// Writes down, synced, that what was here of partitions (their directories' names) is here no more, or is not here yet:
    /// no line is about them. Without one it costs nothing.
    pub fn forget_moves(&self, partitions: &[String]) -> Result<(), LogError> {
        self.change_moves(|moves| moves.retain(|(partition, _), _| !partitions.contains(partition)))
    }

    /// Whether something here has the partition's name, which then cannot come here.
    ///
    /// # Errors
    /// `BadFile` where it has; `Io` where the disk does not tell.
    pub fn check_name_is_free(&self, partition: &str) -> Result<(), LogError> {
        if self.has(partition)? { Err(name_is_taken(&self.path().join(partition))) } else { Ok(()) }
    }

    fn change_moves(&self, change: impl FnOnce(&mut Moves)) -> Result<(), LogError> {
        let mut moves = self.moves.lock();
        let mut changed = moves.clone();
        change(&mut changed);
        if changed == *moves {
            return Ok(());
        }
        self.storage().check()?;
        let path = self.path().join(FILE_NAME);
        atomic_file::replace(&*self.storage().file_system, &path, text(&changed).as_bytes())
            .during("write", path)?;
        *moves = changed;
        Ok(())
    }

    fn has(&self, partition: &str) -> Result<bool, LogError> {
        let path = self.path().join(partition);
        self.storage().file_system.exists(&path).during("look for", &path)
    }

    /// Renames the directory of a partition that counts for nothing, durably.
    fn put_away(&self, partition: &str) -> Result<(), LogError> {
        let Some((topic, index)) = file_name::parse_partition(partition) else { return Ok(()) };
        let files = &self.storage().file_system;
        let from = self.path().join(partition);
        let to = self.path().join(file_name::of_deleted_partition(topic, index, files.random_uuid()));
        // before: the next start would find nothing to put away, nor to sync
        let directory = files.open_directory(self.path()).during("open", self.path())?;
        files.rename(&from, &to).during("rename", &from)?;
        directory.sync().during("sync", self.path())
    }
}

/// Decides on the moves that were under way when the last run ended. A directory whose disk fails at that is taken offline.
/// An error for want of a descriptor only: the next start goes on with it.
pub(super) fn settle(directories: &[LogDir], failed: &[FailedDirectory]) -> Result<Settled, LogError> {
    let mut settled = Settled::default();
    for directory in directories {
        let moves = directory.moves.lock().clone();
        for ((partition, id), note) in moves {
            let other = directories.iter().find(|it| it.id() == Some(&*id));
            let one = One { directory, other, partition: &partition, note };
            let is_over = match one.settle(!failed.is_empty(), &mut settled) {
                Ok(is_over) => is_over,
                Err((_, error)) if error.is_out_of_descriptors() => return Err(error),
                Err((failing, error)) => {
                    // nobody knows what its disk has now
                    failing.storage().poison(&error);
                    settled.passed_over.push(failing.path().join(&partition));
                    settled.pass_over_loser(&one, failing);
                    false
                }
            };
            let forgotten = |moves: &mut Moves| {
                moves.remove(&(partition.clone(), id.clone()));
            };
            if is_over && let Err(error) = directory.change_moves(forgotten) {
                if error.is_out_of_descriptors() {
                    return Err(error);
                }
                directory.storage().poison(&error);
            }
        }
    }
    Ok(settled)
}

impl Settled {
    /// The disk of the directory that counts, if it has the partition, failed: what the other one has may be older, and would be
    /// deleted, with all that came to it meanwhile, once both can be asked again.
    fn pass_over_loser(&mut self, one: &One<'_>, failing: &LogDir) {
        let (counts, loser) = match (one.note.which, one.other) {
            (Move::Moving, Some(other)) => (other, one.directory),
            (Move::Kept, Some(other)) => (one.directory, other),
            (_, None) => return,
        };
        if failing.path() == counts.path() {
            self.passed_over.push(loser.path().join(one.partition));
            self.decided.push(format!(
                "{} is not opened in {}: it was being moved, and {}, which may have what counts, failed",
                one.partition,
                loser.path().display(),
                counts.path().display()
            ));
        }
    }
}

/// A move that was cut short.
struct One<'a> {
    directory: &'a LogDir,
    other: Option<&'a LogDir>,
    partition: &'a str,
    note: Note,
}

impl<'a> One<'a> {
    /// True = nothing is open any more. An error comes with the directory whose disk failed.
    fn settle(&self, has_failed: bool, settled: &mut Settled) -> Result<bool, (&'a LogDir, LogError)> {
        let Self { directory, other, partition, note } = *self;
        let which = note.which;
        let has = |it: &'a LogDir| it.has(partition).map_err(|error| (it, error));
        let from = directory.path().display();
        let Some(other) = other else {
            if has_failed && which == Move::Moving && has(directory)? {
                settled.passed_over.push(directory.path().join(partition));
                settled.decided.push(format!(
                    "{partition} is not opened in {from}: it was being moved to a directory that failed, which may have \
                     more of it"
                ));
            }
            // one that no disk can have any more was given up by a person
            return Ok(!has_failed);
        };
        let to = other.path().display();
        // one that has nothing of it was deleted, or moved elsewhere, or has only a copy under another name
        if !has(directory)? || !has(other)? {
            return Ok(true);
        }
        for it in [directory, other] {
            match note.is_about(&*it.storage().file_system, &it.path().join(partition)) {
                Ok(true) => {}
                // a topic of the same name that was made later
                Ok(false) => return Ok(true),
                Err(error) if error.is_out_of_descriptors() => return Err((it, error)),
                // nothing is deleted unseen
                Err(error) => {
                    settled.passed_over.extend([directory, other].map(|it| it.path().join(partition)));
                    settled.decided.push(format!(
                        "{partition} is opened neither in {from} nor in {to}: it was being moved, and which topic it is of does \
                         not read: {error}"
                    ));
                    return Ok(false);
                }
            }
        }
        let (loser, winner) = match which {
            Move::Moving => (directory, &to),
            Move::Kept => (other, &from),
        };
        loser.put_away(partition).map_err(|error| (loser, error))?;
        settled.decided.push(format!(
            "{partition} counts in {winner}, what {} has of it is deleted",
            loser.path().display()
        ));
        Ok(true)
    }
}
