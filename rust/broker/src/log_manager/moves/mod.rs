//! Moving replicas from one data directory to another (`AlterReplicaLogDirs`, KIP-113).
//!
//! One thread copies one partition after the other, while they are led, followed, written to and read. What is copied is not
//! cleaned meanwhile. [`fastlog_log::FutureLog`] has the copy, [`fastlog_log::HandOver`] what a crash leaves.
//!
//! Crash points. A move that was not done when a run ended is begun anew by the next one: what is wanted is written down
//! ([`wanted`]) until it is over. The order: the copy; when it is near for the first time the note in the directory that is left, and the
//! target's checkpoints, in which the partition is from then on; the log stands still; the rename; the old directory's rename;
//! the log goes on; the note goes; it is not wanted any more. What the checkpoints say may be too low by then, but where that would be wrong the log goes on
//! and they are written anew.

mod hand_over;
mod wanted;

use super::{LogManager, directories};
use crate::events::Level;
use crate::pace::{Brake, Throttle};
use crate::partition::{ChangeError, Partition};
use fastlog_log::{Checkpoint, FutureLog, HandedOver, LogDir, LogError, Pace, file_name};
use fastlog_protocol::ErrorCode;
use hand_over::Arriving;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;
pub(super) use wanted::List;
use wanted::Wanted;
pub use wanted::{DescribedFuture, WantedReplica};

/// As much is copied before the settings are read again.
const STEP_BYTES: u64 = 16 << 20;

/// So long later it is looked again whether a partition may be handed over with which tiered storage is about to begin or end.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// So long later a step is tried again for which there was no descriptor, and which cannot be put off.
const DESCRIPTORS_WAIT: Duration = Duration::from_millis(100);

/// After so many tries at which too much was appended meanwhile it is told; each time twice as much may be.
const TRIES_TOLD: u32 = 4;

/// The settings of moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct MoveSettings {
    /// `replica.alter.log.dirs.io.max.bytes.per.second`; `None` = no limit.
    pub bytes_per_second: Option<f64>,
}

pub(super) type Key = (String, i32);

/// What is to be moved.
#[derive(Default)]
pub(super) struct Moves {
    brake: Brake,
    wanted: List,
    /// What is under way.
    current: Mutex<Option<Current>>,
    /// What the checkpoints of the target say of the replica that is about to be there.
    arriving: Mutex<Option<Arriving>>,
    /// Partitions of which an object store is given something, or that are handed over.
    busy: Mutex<BTreeSet<Key>>,
    /// That moves wait for want of descriptors was told.
    lacks_descriptors: AtomicBool,
}

/// The only work with a partition of its kind, see [`Moves::claim`]; until it is dropped.
pub(super) struct Claimed<'a> {
    busy: &'a Mutex<BTreeSet<Key>>,
    key: Key,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.busy.lock().remove(&self.key);
    }
}

struct Current {
    partition: Arc<Partition>,
    wanted: Wanted,
    /// The data directory.
    to: PathBuf,
    future: FutureLog,
    began: Instant,
    /// The directory that is left says that it is moved.
    is_noted: bool,
    /// How often too much was appended for it to be handed over.
    tries: u32,
}

/// How a step ended.
enum Went {
    On,
    Done(HandedOver),
    /// It is not wanted any more.
    Cancelled,
    Stopped,
}

impl Moves {
    /// What is to be moved, and what an earlier run was to move.
    pub(super) fn of(wanted: List) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Claims a partition for giving an object store something of it, or for handing it over: one of the two at a time. `None` =
    /// somebody is at it. Nobody waits: an upload may take minutes.
    pub(super) fn claim(&self, partition: &Partition) -> Option<Claimed<'_>> {
        self.claim_key(key_of(partition))
    }

    fn claim_key(&self, key: Key) -> Option<Claimed<'_>> {
        let is_free = self.busy.lock().insert(key.clone());
        // only then is there one: its end lets go of the partition, whoever has it
        is_free.then(|| Claimed { busy: &self.busy, key })
    }

    /// The offset that a checkpoint of a data directory tells of a replica that is about to be there.
    pub(super) fn arriving(&self, to: &LogDir, checkpoint: Checkpoint) -> Option<(Key, i64)> {
        let arriving = self.arriving.lock();
        let it = arriving.as_ref().filter(|it| it.to == to.path())?;
        Some((it.key.clone(), it.offset(checkpoint)?))
    }
}

impl LogManager {
    /// Does a step of a move that is wanted; false = there is none for now, or moves were stopped. One thread calls it. A move
    /// that fails ends, which is told, and the replica goes on where it is; one for which there is no descriptor is gone on with
    /// by a later call.
    pub fn move_next(&self, settings: &MoveSettings, now_ms: i64) -> Result<bool, LogError> {
        if self.moves.brake.is_stopped() {
            return Ok(false);
        }
        let mut current = self.moves.current.lock();
        if current.is_none() {
            *current = self.begin_move()?;
        }
        let Some(it) = current.as_mut() else { return Ok(false) };
        let went = self.move_on(it, settings);
        if let Err(error) = &went
            && error.is_out_of_descriptors()
        {
            self.tell_waits(&it.partition, &it.to, error);
            return Ok(false);
        }
        self.moves.lacks_descriptors.store(false, Ordering::Relaxed);
        if matches!(went, Ok(Went::On | Went::Stopped)) {
            return Ok(matches!(went, Ok(Went::On)));
        }
        if self.moves.brake.is_stopped() && matches!(went, Err(LogError::Gone { .. })) {
            // logs are closed by now: the next start is to begin it anew
            return Ok(false);
        }
        let Some(it) = current.take() else { return Ok(true) };
        *self.moves.arriving.lock() = None;
        self.cleaner.hold(&it.partition, false);
        match went {
            Ok(Went::Done(handed)) => {
                self.end(&it.partition, &it.wanted);
                self.moved(&it, &handed, now_ms);
            }
            Ok(_) | Err(LogError::Gone { .. }) => {
                let message = "a replica is not moved any more, it was deleted or is to be elsewhere";
                self.tell_move(&it.partition, Level::Info, message, &it.to, None);
                self.give_up(it);
            }
            Err(error) => {
                self.fail(&it.partition, &it.wanted, &it.to, &error);
                self.give_up(it);
            }
        }
        Ok(true)
    }

    /// What is left of a move that ended without a replica that moved.
    fn give_up(&self, it: Current) {
        let Current { partition, wanted, to, future, is_noted, .. } = it;
        if is_noted {
            self.forget_move(&partition, &to);
        }
        if !self.waits_for_disk(&partition, &wanted) {
            self.end(&partition, &wanted);
        }
        let copy = future.directory().to_owned();
        if let Err(error) = future.remove() {
            let message = "a copy that is of no use could not be removed, the next start does it";
            self.tell_move(&partition, Level::Warning, message, &copy, Some(&error));
        }
    }

    fn fail(&self, partition: &Partition, wanted: &Wanted, to: &Path, error: &LogError) {
        let message = if self.waits_for_disk(partition, wanted) {
            "a replica could not be moved, a disk failed: it goes on where it is, and the start at which the disk is well moves it"
        } else {
            "a replica could not be moved, it goes on where it is"
        };
        self.tell_move(partition, Level::Error, message, to, Some(error));
    }

    /// Whether one of the two disks is bad, or away: a later run does it.
    fn waits_for_disk(&self, partition: &Partition, wanted: &Wanted) -> bool {
        let is_bad = |it: Arc<directories::Directories>| wanted.target(&it).is_none();
        partition.log().storage().check().is_err() || self.directories().is_ok_and(is_bad)
    }

    /// It is not wanted any more, unless it is to be elsewhere by now.
    fn end(&self, partition: &Partition, wanted: &Wanted) {
        let ended = key_of(partition);
        self.forget_wanted(|key, it| *key == ended && it.is_same(wanted));
    }

    /// Stops moves for good, also in the middle of one, which the next start begins anew; returns without waiting for it.
    pub fn stop_moves(&self) {
        self.moves.brake.stop();
    }

    fn begin_move(&self) -> Result<Option<Current>, LogError> {
        let directories = self.directories()?;
        for ((topic, index), wanted) in self.moves.wanted.all() {
            // one that an earlier run was to move may be opened later, and one that is to be made here made
            let Some(partition) = self.broker.partitions().get(&topic, index) else { continue };
            let is_there =
                directories.all().iter().any(|it| wanted.is_in(it) && directories::has(it, partition.log()));
            if is_there || wanted.topic_id != partition.topic_id() {
                self.end(&partition, &wanted);
                continue;
            }
            let is_readable = partition.log().storage().check().is_ok();
            let Some(target) = wanted.target(&directories).filter(|_| is_readable) else { continue };
            let to = target.path().to_owned();
            self.cleaner.hold(&partition, true);
            let name = name_of(&partition);
            let begun = target.check_name_is_free(&name);
            match begun.and_then(|()| FutureLog::begin(partition.log(), target.storage())) {
                Ok(future) => {
                    self.tell_move(&partition, Level::Info, "a replica is being moved", &to, None);
                    let began = Instant::now();
                    let begun = Current { partition, wanted, to, future, began, is_noted: false, tries: 0 };
                    return Ok(Some(begun));
                }
                Err(error) => {
                    self.cleaner.hold(&partition, false);
                    if error.is_out_of_descriptors() {
                        self.tell_waits(&partition, &to, &error);
                        return Ok(None);
                    }
                    self.fail(&partition, &wanted, &to, &error);
                    if !self.waits_for_disk(&partition, &wanted) {
                        self.end(&partition, &wanted);
                    }
                }
            }
        }
        Ok(None)
    }

    fn move_on(&self, it: &mut Current, settings: &MoveSettings) -> Result<Went, LogError> {
        let pace = Throttle::new(&self.moves.brake, settings.bytes_per_second);
        let mut copied = 0;
        while copied < STEP_BYTES {
            if !self.moves.wanted.get(&it.partition).is_some_and(|now| now.is_same(&it.wanted)) {
                return Ok(Went::Cancelled);
            }
            let before = it.future.size_bytes();
            let is_near = it.partition.log().copy_next(&mut it.future)?;
            it.wanted.progress.size_bytes.store(it.future.size_bytes(), Ordering::Relaxed);
            it.wanted.progress.end_offset.store(it.future.end_offset(), Ordering::Relaxed);
            let bytes = it.future.size_bytes().saturating_sub(before);
            if !pace.go_on(bytes) {
                return Ok(Went::Stopped);
            }
            if is_near && let Some(handed) = self.try_hand_over(it)? {
                return Ok(Went::Done(handed));
            }
            copied += bytes.max(1);
        }
        Ok(Went::On)
    }

    /// Tells once that moves wait, and why.
    fn tell_waits(&self, partition: &Partition, to: &Path, error: &LogError) {
        if !self.moves.lacks_descriptors.swap(true, Ordering::Relaxed) {
            let message =
                "a replica that is to be moved waits until there are descriptors; `ulimit -n` may be too low";
            self.tell_move(partition, Level::Warning, message, to, Some(error));
        }
    }

    fn tell_move(
        &self,
        partition: &Partition,
        level: Level,
        message: &'static str,
        to: &Path,
        error: Option<&LogError>,
    ) {
        let mut fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("from", partition.log().directory().display().to_string()),
            ("to", to.display().to_string()),
        ];
        fields.extend(error.map(|error| ("reason", error.to_string())));
        self.broker.events().push(level, message, fields);
    }
}

/// A topic whose records are in an object store too stays where it is.
fn check_movable(partition: &Partition) -> Result<(), ChangeError> {
    let (topic, index) = (partition.topic(), partition.index());
    if file_name::of_future_partition(topic, index, Uuid::nil()).is_none() {
        let message = format!("{topic}-{index} cannot be moved: the topic's name is too long");
        return Err(ChangeError { code: ErrorCode::INVALID_TOPIC_EXCEPTION, message });
    }
    if partition.tier().is_some() || partition.log().config().remote_storage {
        let message = format!("{topic}-{index} cannot be moved: it is tiered (remote.storage.enable)");
        return Err(ChangeError { code: ErrorCode::INVALID_REQUEST, message });
    }
    Ok(())
}

/// The name of its directory.
fn name_of(partition: &Partition) -> String {
    file_name::of_partition(partition.topic(), partition.index())
}

fn key_of(partition: &Partition) -> Key {
    (partition.topic().to_string(), partition.index())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_is_at_a_partition_and_who_finds_it_taken_neither_waits_nor_frees_it() {
        let moves = Moves::default();
        let key = |index| ("t".to_owned(), index);
        let first = moves.claim_key(key(0)).unwrap();
        for _ in 0..2 {
            assert!(moves.claim_key(key(0)).is_none());
        }
        assert!(moves.claim_key(key(1)).is_some(), "of another partition");
        drop(first);
        assert!(moves.claim_key(key(0)).is_some());
    }
}
