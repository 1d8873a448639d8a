//! A replica that is handed over to its copy in another data directory: what is written down before, and what comes of it.
//!
//! Crash points: [`super`] has the order.

use super::super::LogManager;
use super::{BUSY_WAIT, Current, DESCRIPTORS_WAIT, Key, TRIES_TOLD, check_movable, key_of, name_of};
use crate::events::Level;
use crate::partition::Partition;
use fastlog_log::{Checkpoint, Commit, Due, HandedOver, LogDir, LogError, Move};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A replica that is not in a data directory yet, but in its checkpoints.
pub(super) struct Arriving {
    pub(super) to: PathBuf,
    pub(super) key: Key,
    recovery_point: i64,
    log_start: i64,
    high_watermark: i64,
    cleaned: Option<i64>,
}

impl Arriving {
    pub(super) fn offset(&self, checkpoint: Checkpoint) -> Option<i64> {
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

impl LogManager {
    /// Hands the replica over to its copy, which is near; the first time all is prepared for that. `None` = not yet. After an
    /// error the note is what it is to be.
    pub(super) fn try_hand_over(&self, it: &mut Current) -> Result<Option<HandedOver>, LogError> {
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
                while self.waits_for_descriptor(handed.left.as_ref()) {
                    handed.sync();
                }
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
        // somebody may have given it up, and have been told so, while the rest was copied: the next look at what is wanted ends it
        let Some(_decided) = self.moves.wanted.begin_hand_over(&it.partition, &it.wanted) else {
            return Outcome::NotYet;
        };
        it.wanted.progress.size_bytes.store(hand_over.size_bytes(), Ordering::Relaxed);
        match hand_over.commit() {
            Commit::Moved(handed) => Outcome::Moved(handed),
            Commit::Failed(error) => Outcome::Failed(error),
            Commit::MaybeRenamed(error) => {
                // before anything is appended where it was; the log stands still as long as that takes
                let note = || source.note_move(name, log.topic_id(), target, Move::Kept).err();
                let mut unnoted = note();
                while self.waits_for_descriptor(unnoted.as_ref()) {
                    unnoted = note();
                }
                if let Some(error) = unnoted {
                    source.storage().poison(&error);
                }
                Outcome::MaybeRenamed(error)
            }
        }
    }

    /// After a step that has to be done failed: whether it is to be tried again, after a wait; false = it was another reason than
    /// want of a descriptor, or moves were stopped.
    fn waits_for_descriptor(&self, error: Option<&LogError>) -> bool {
        error.is_some_and(LogError::is_out_of_descriptors) && self.moves.brake.wait(DESCRIPTORS_WAIT)
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
        let written = self.write_all(target);
        // else the next try would take for written what is not
        written.inspect_err(|_| *self.moves.arriving.lock() = None).map(|()| true)
    }

    fn cleaned(&self, partition: &Partition) -> Option<i64> {
        self.cleaner.offsets().get(&key_of(partition)).copied()
    }

    pub(super) fn forget_move(&self, partition: &Partition, to: &Path) {
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

    pub(super) fn moved(&self, it: &Current, handed: &HandedOver, now_ms: i64) {
        let partition = &it.partition;
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
            ("bytes", it.wanted.progress.size_bytes.load(Ordering::Relaxed).to_string()),
            ("milliseconds", it.began.elapsed().as_millis().to_string()),
        ];
        self.broker.events().push(Level::Info, "a replica was moved", fields);
    }
}
