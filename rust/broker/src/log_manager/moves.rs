//! Moving replicas from one data directory to another (`AlterReplicaLogDirs`, KIP-113).
//!
//! One thread copies one partition after the other, while they are led, followed, written to and read. What is copied is not
//! cleaned meanwhile. [`fastlog_log::FutureLog`] has the copy, [`fastlog_log::HandOver`] what a crash leaves.
//!
//! Crash points. A move that was not done when a run ended is begun anew by the next one: the directory of the copy tells
//! that there was one. The order: the copy; when it is near for the first time the note in the directory that is left, and the
//! target's checkpoints, in which the partition is from then on; the log stands still; the rename; the old directory's rename;
//! the log goes on; the note goes. What the checkpoints say may be too low by then, but where that would be wrong the log goes on
//! and they are written anew.

use super::{LogManager, directories};
use crate::events::Level;
use crate::pace::{Brake, Throttle};
use crate::partition::{ChangeError, Partition};
use fastlog_log::{Checkpoint, Commit, Due, FutureLog, HandedOver, LogDir, LogError, Move, Pace, file_name};
use fastlog_protocol::ErrorCode;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// As much is copied before the settings are read again.
const STEP_BYTES: u64 = 16 << 20;

/// So long later it is looked again whether a partition may be handed over with which tiered storage is about to begin or end.
const BUSY_WAIT: Duration = Duration::from_millis(10);

/// After so many tries at which too much was appended meanwhile it is told; each time twice as much may be.
const TRIES_TOLD: u32 = 4;

/// The settings of moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct MoveSettings {
    /// `replica.alter.log.dirs.io.max.bytes.per.second`; `None` = no limit.
    pub bytes_per_second: Option<f64>,
}

/// A replica that is being moved, for those who ask.
#[derive(Clone, Debug)]
pub struct DescribedFuture {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub index: i32,
    /// Bytes of batches that are copied.
    pub size_bytes: u64,
    /// How many offsets the copy is behind the log's end.
    pub offset_lag: i64,
}

type Key = (String, i32);

/// What is to be moved.
#[derive(Default)]
pub(super) struct Moves {
    brake: Brake,
    wanted: Mutex<BTreeMap<Key, Wanted>>,
    /// Where partitions are to be made that are not here yet.
    preferred: Mutex<BTreeMap<Key, PathBuf>>,
    /// What is under way.
    current: Mutex<Option<Current>>,
    /// What the checkpoints of the target say of the replica that is about to be there.
    arriving: Mutex<Option<Arriving>>,
    /// Partitions of which an object store is given something, or that are handed over.
    busy: Mutex<BTreeSet<Key>>,
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

#[derive(Clone)]
struct Wanted {
    /// `None` where that is not known any more.
    topic_id: Option<Uuid>,
    /// The data directory.
    to: PathBuf,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    size_bytes: AtomicU64,
    end_offset: AtomicI64,
}

struct Current {
    partition: Arc<Partition>,
    wanted: Wanted,
    future: FutureLog,
    began: Instant,
    /// The directory that is left says that it is moved.
    is_noted: bool,
    /// How often too much was appended for it to be handed over.
    tries: u32,
}

/// A replica that is not in a data directory yet, but in its checkpoints.
struct Arriving {
    to: PathBuf,
    key: Key,
    recovery_point: i64,
    log_start: i64,
    high_watermark: i64,
    cleaned: Option<i64>,
}

impl Arriving {
    fn offset(&self, checkpoint: Checkpoint) -> Option<i64> {
        let offset = match checkpoint {
            Checkpoint::RecoveryPoint => Some(self.recovery_point),
            Checkpoint::LogStart => Some(self.log_start),
            Checkpoint::HighWatermark => Some(self.high_watermark),
            Checkpoint::Cleaner => self.cleaned,
        };
        offset.filter(|it| *it != 0)
    }

    /// Whether they may say that of a log that stands still. What is too low for its recovery point and its high watermark only
    /// means more to look at; records that were deleted would be back, though, and what was cut counts for nothing.
    fn holds_for(&self, partition: &Partition, cleaned: Option<i64>) -> bool {
        let log = partition.log();
        self.log_start == log.log_start_offset()
            && self.cleaned == cleaned
            && self.recovery_point <= log.log_end_offset()
            && self.high_watermark <= log.high_watermark()
    }
}

/// How a try to hand a replica over ended.
enum Outcome {
    Moved(HandedOver),
    /// Too much was appended meanwhile, or the checkpoints say what is no longer so.
    NotYet,
    /// The copy does not have the partition's name.
    Failed(LogError),
    /// It may have it on the disk, which is noted.
    MaybeRenamed(LogError),
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
    /// The directory in which the partition is to be made, if somebody said so.
    pub(super) fn take_preferred(&self, topic: &str, index: i32) -> Option<PathBuf> {
        self.preferred.lock().remove(&(topic.to_owned(), index))
    }

    /// A move to `to` that an earlier run did not finish.
    pub(super) fn resume(&self, topic: String, index: i32, topic_id: Option<Uuid>, to: &Path) {
        let wanted = Wanted { topic_id, to: to.to_owned(), progress: Arc::default() };
        self.wanted.lock().insert((topic, index), wanted);
    }

    pub(super) fn stop(&self) {
        self.brake.stop();
    }

    /// Whether the partition waits to be moved, or is.
    pub(super) fn has(&self, partition: &Partition) -> bool {
        self.wanted.lock().contains_key(&key_of(partition))
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

    fn is_wanted(&self, partition: &Partition, to: &Path) -> bool {
        self.wanted.lock().get(&key_of(partition)).is_some_and(|it| it.to == to)
    }

    /// A topic was deleted: a later one of its name is another one.
    pub(super) fn forget_topic(&self, topic: &str) {
        self.preferred.lock().retain(|(name, _), _| name != topic);
    }

    /// A replica was deleted.
    pub(super) fn forget_replica(&self, topic: &str, index: i32) {
        self.wanted.lock().remove(&(topic.to_owned(), index));
    }

    /// The offset that a checkpoint of a data directory tells of a replica that is about to be there.
    pub(super) fn arriving(&self, to: &LogDir, checkpoint: Checkpoint) -> Option<(Key, i64)> {
        let arriving = self.arriving.lock();
        let it = arriving.as_ref().filter(|it| it.to == to.path())?;
        Some((it.key.clone(), it.offset(checkpoint)?))
    }

    fn end(&self, partition: &Partition, to: &Path) {
        let mut wanted = self.wanted.lock();
        if wanted.get(&key_of(partition)).is_some_and(|it| it.to == to) {
            wanted.remove(&key_of(partition));
        }
    }
}

impl LogManager {
    /// Has a replica moved to another data directory, or stay where it is if that is the one; a move elsewhere that is under
    /// way ends. Returns at once: [`LogManager::move_next`] does it. Of a partition that is not here, it is remembered where it
    /// is to be made.
    ///
    /// # Errors
    /// `LOG_DIR_NOT_FOUND`; `KAFKA_STORAGE_ERROR` where one of the two directories is offline; `REPLICA_NOT_AVAILABLE` where the
    /// partition is not here; `INVALID_TOPIC_EXCEPTION` for a name that is too long; `INVALID_REQUEST` for a tiered topic.
    pub fn move_replica(&self, topic: &str, index: i32, to: &Path) -> Result<(), ChangeError> {
        let directories = self.directories()?;
        let Some(target) = directories.all().iter().find(|it| it.path() == to) else {
            if let Some(failed) = directories.failed().iter().find(|it| it.path == to) {
                return Err(failed.reason.clone().into());
            }
            let message = format!("this broker has no log directory {}", to.display());
            return Err(ChangeError { code: ErrorCode::LOG_DIR_NOT_FOUND, message });
        };
        target.storage().check()?;
        let key = (topic.to_owned(), index);
        let Some(partition) = self.broker.partitions().get(topic, index) else {
            if self.offline()?.iter().any(|(name, _, number)| name == topic && *number == index) {
                let message = format!("{topic}-{index} is in a data directory that failed");
                return Err(ChangeError { code: ErrorCode::KAFKA_STORAGE_ERROR, message });
            }
            self.moves.preferred.lock().insert(key, to.to_owned());
            let message = format!(
                "no replica of {topic}-{index} is here; one that is made will be in {}",
                to.display()
            );
            return Err(ChangeError { code: ErrorCode::REPLICA_NOT_AVAILABLE, message });
        };
        partition.log().storage().check()?;
        let mut wanted = self.moves.wanted.lock();
        if directories::has(target, partition.log()) {
            wanted.remove(&key);
            return Ok(());
        }
        check_movable(&partition)?;
        if wanted.get(&key).is_none_or(|it| it.to != to) {
            let topic_id = Some(partition.topic_id());
            wanted.insert(key, Wanted { topic_id, to: to.to_owned(), progress: Arc::default() });
        }
        Ok(())
    }

    /// The replicas that are to be moved to a data directory.
    pub(super) fn described_futures(&self, to: &LogDir) -> Vec<DescribedFuture> {
        let wanted = self.moves.wanted.lock().clone();
        let here = wanted.into_iter().filter(|(_, it)| it.to == to.path());
        let described = here.filter_map(|((topic, index), it)| {
            let partition = self.broker.partitions().get(&topic, index)?;
            let end_offset = it.progress.end_offset.load(Ordering::Relaxed);
            Some(DescribedFuture {
                topic: partition.topic().clone(),
                index,
                size_bytes: it.progress.size_bytes.load(Ordering::Relaxed),
                offset_lag: partition.log().log_end_offset().saturating_sub(end_offset).max(0),
            })
        });
        described.collect()
    }

    /// Does a step of a move that is wanted; false = there is none, or moves were stopped. One thread calls it. A move that
    /// fails ends, which is told, and the replica goes on where it is.
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
        if matches!(went, Ok(Went::On | Went::Stopped)) {
            return Ok(matches!(went, Ok(Went::On)));
        }
        let Some(Current { partition, wanted, future, began, is_noted, .. }) = current.take() else {
            return Ok(true);
        };
        *self.moves.arriving.lock() = None;
        self.cleaner.hold(&partition, false);
        let (bytes, to) = (future.size_bytes(), future.directory().to_owned());
        match went {
            Ok(Went::Done(handed)) => {
                self.moves.end(&partition, &wanted.to);
                self.moved(&partition, &handed, bytes, began, now_ms);
                return Ok(true);
            }
            Ok(_) | Err(LogError::Gone { .. }) => {
                let message = "a replica is not moved any more, it was deleted or is to be elsewhere";
                self.tell_move(&partition, Level::Info, message, &wanted.to, None);
            }
            Err(error) => {
                let message = "a replica could not be moved, it goes on where it is";
                self.tell_move(&partition, Level::Error, message, &wanted.to, Some(&error));
            }
        }
        if is_noted {
            self.forget_move(&partition, &wanted.to);
        }
        // one that is to be elsewhere by now stays wanted
        self.moves.end(&partition, &wanted.to);
        if let Err(error) = future.remove() {
            let message = "a copy that is of no use could not be removed, the next start does it";
            self.tell_move(&partition, Level::Warning, message, &to, Some(&error));
        }
        Ok(true)
    }

    /// Stops moves for good, also in the middle of one, which the next start begins anew; returns without waiting for it.
    pub fn stop_moves(&self) {
        self.moves.stop();
    }

    fn begin_move(&self) -> Result<Option<Current>, LogError> {
        let directories = self.directories()?;
        let all = self.moves.wanted.lock().clone();
        for ((topic, index), wanted) in all {
            // one that an earlier run began may be opened later
            let Some(partition) = self.broker.partitions().get(&topic, index) else { continue };
            let target = directories.all().iter().find(|it| it.path() == wanted.to);
            let is_same = wanted.topic_id.is_none_or(|id| id == partition.topic_id());
            let target = target.filter(|it| is_same && !directories::has(it, partition.log()));
            let Some(target) = target else {
                self.moves.end(&partition, &wanted.to);
                continue;
            };
            self.cleaner.hold(&partition, true);
            let name = name_of(&partition);
            let begun = target.check_name_is_free(&name);
            match begun.and_then(|()| FutureLog::begin(partition.log(), target.storage())) {
                Ok(future) => {
                    self.tell_move(&partition, Level::Info, "a replica is being moved", &wanted.to, None);
                    let began = Instant::now();
                    return Ok(Some(Current { partition, wanted, future, began, is_noted: false, tries: 0 }));
                }
                Err(error) => {
                    self.cleaner.hold(&partition, false);
                    self.moves.end(&partition, &wanted.to);
                    let message = "a replica could not be moved, it goes on where it is";
                    self.tell_move(&partition, Level::Error, message, &wanted.to, Some(&error));
                }
            }
        }
        Ok(None)
    }

    fn move_on(&self, it: &mut Current, settings: &MoveSettings) -> Result<Went, LogError> {
        let pace = Throttle::new(&self.moves.brake, settings.bytes_per_second);
        let mut copied = 0;
        while copied < STEP_BYTES {
            if !self.moves.is_wanted(&it.partition, &it.wanted.to) {
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

    /// Hands the replica over to its copy, which is near; the first time all is prepared for that. `None` = not yet. After an
    /// error the note is what it is to be.
    fn try_hand_over(&self, it: &mut Current) -> Result<Option<HandedOver>, LogError> {
        // what an object store knows of a directory must not be left in the old one, whose deletion would mean the store too
        let claimed = self.moves.claim(&it.partition);
        check_movable(&it.partition).map_err(|error| LogError::Policy { reason: error.message })?;
        let Some(_no_tiers) = claimed else {
            // it is about to be tiered, or was until a moment ago
            self.moves.brake.wait(BUSY_WAIT);
            return Ok(None);
        };
        let directories = self.directories()?;
        let source = directories.of_log(it.partition.log())?;
        let target = directories.of_path(it.future.directory())?;
        let name = name_of(&it.partition);
        if !it.is_noted {
            target.check_name_is_free(&name)?;
            // what was noted there is about a replica that it gave away
            target.forget_moves(std::slice::from_ref(&name))?;
            source.note_move(&name, it.partition.log().topic_id(), target, Move::Moving)?;
            it.is_noted = true;
        }
        if self.write_arriving(target, &it.partition)? {
            // that took some time
            return Ok(None);
        }
        match self.hand_over(it, source, target, &name) {
            Outcome::Moved(mut handed) => {
                handed.sync();
                *self.moves.arriving.lock() = None;
                if handed.left.is_none()
                    && let Err(error) = source.forget_moves(&[name])
                {
                    self.tell_stale_note(&it.partition, target.path(), &error);
                }
                Ok(Some(handed))
            }
            Outcome::NotYet => {
                it.tries += 1;
                if it.tries == TRIES_TOLD {
                    let message = "a replica that is being moved is written to about as fast as it is copied; appends wait the \
                                   longer when it is handed over, or lower what is written to it";
                    self.tell_move(&it.partition, Level::Warning, message, target.path(), None);
                }
                Ok(None)
            }
            // the end of the move takes the note away
            Outcome::Failed(error) => Err(error),
            Outcome::MaybeRenamed(error) => {
                it.is_noted = false;
                Err(error)
            }
        }
    }

    fn hand_over(&self, it: &mut Current, source: &LogDir, target: &LogDir, name: &str) -> Outcome {
        let log = it.partition.log();
        let mut hand_over = match log.hand_over(&mut it.future) {
            Ok(Some(hand_over)) => hand_over,
            Ok(None) => return Outcome::NotYet,
            Err(error) => return Outcome::Failed(error),
        };
        let cleaned = self.cleaned(&it.partition);
        if !self.moves.arriving.lock().as_ref().is_some_and(|told| told.holds_for(&it.partition, cleaned)) {
            return Outcome::NotYet;
        }
        match hand_over.commit() {
            Commit::Moved(handed) => Outcome::Moved(handed),
            Commit::Failed(error) => Outcome::Failed(error),
            Commit::MaybeRenamed(error) => {
                // before anything is appended where it was
                if let Err(error) = source.note_move(name, log.topic_id(), target, Move::Kept) {
                    source.storage().poison(&error);
                }
                Outcome::MaybeRenamed(error)
            }
        }
    }

    /// Writes down in the target's checkpoints what holds for a partition that it is about to have, all of it synced; from then
    /// on everybody does who writes them. False = they say what may be said already.
    fn write_arriving(&self, target: &LogDir, partition: &Partition) -> Result<bool, LogError> {
        let (log, cleaned) = (partition.log(), self.cleaned(partition));
        {
            let mut arriving = self.moves.arriving.lock();
            if arriving.as_ref().is_some_and(|told| told.holds_for(partition, cleaned)) {
                return Ok(false);
            }
            *arriving = Some(Arriving {
                to: target.path().to_owned(),
                key: key_of(partition),
                recovery_point: log.log_end_offset(),
                log_start: log.log_start_offset(),
                high_watermark: log.high_watermark(),
                cleaned,
            });
        }
        self.write_all(target)?;
        self.write_checkpoint_of(target, Checkpoint::Cleaner)?;
        Ok(true)
    }

    fn cleaned(&self, partition: &Partition) -> Option<i64> {
        self.cleaner.offsets().get(&key_of(partition)).copied()
    }

    fn forget_move(&self, partition: &Partition, to: &Path) {
        let forgotten = self.directories().and_then(|directories| {
            let target = directories.all().iter().find(|it| it.path() == to);
            let source = directories.of_log(partition.log())?;
            target.map_or(Ok(()), |target| source.forget_move(&name_of(partition), target))
        });
        if let Err(error) = forgotten {
            self.tell_stale_note(partition, to, &error);
        }
    }

    fn tell_stale_note(&self, partition: &Partition, to: &Path, error: &LogError) {
        let message = "that a move is over could not be written down, the next move or start does it";
        self.tell_move(partition, Level::Warning, message, to, Some(error));
    }

    fn moved(&self, partition: &Partition, handed: &HandedOver, bytes: u64, began: Instant, now_ms: i64) {
        if let Some(error) = &handed.left {
            let message =
                "the files that a moved replica left could not be renamed, the next start deletes them";
            self.tell_move(partition, Level::Error, message, &handed.old_directory, Some(error));
        } else {
            let due = Due::after(now_ms, partition.log().config().file_delete_delay_ms);
            self.doomed.lock().push((handed.old_directory.clone(), due));
        }
        // all of it is on the disk now
        partition.advance_high_watermark();
        partition.notify();
        let fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("directory", partition.log().directory().display().to_string()),
            ("bytes", bytes.to_string()),
            ("milliseconds", began.elapsed().as_millis().to_string()),
        ];
        self.broker.events().push(Level::Info, "a replica was moved", fields);
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
