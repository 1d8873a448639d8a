//! The work of tiered storage on the logs of a broker: what a leader uploads and deletes, what a follower reads of it, and
//! what becomes of deleted partitions.
//!
//! Crash points. A partition's start is in its checkpoint before the store forgets what lies below. The copy of a manifest
//! lies in the partition's directory before anything is uploaded.

mod begin;
mod deleted;
mod following;
mod knowing;
mod leading;
mod starts;

pub(super) use deleted::mark_for_store;

use super::{LogManager, OpenPartition};
use crate::events::Level;
use crate::partition::{Duty, Partition, Role};
use crate::tiers::{PartitionTier, Tiers};
use fastlog_log::file_system::atomic_file;
use fastlog_log::{LogError, Storage};
use fastlog_tiers::{Entry, Local, Lost, Manifest, Place, Tier, TierError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// So many partitions in a row that the store fails end a turn.
const FAILED_MAX: usize = 3;

/// The copy of the manifest in force, in a partition's directory.
const COPY: &str = "remote-log-manifest";

/// One look at all partitions, by several threads.
#[derive(Default)]
struct Turn {
    due: Vec<Arc<Partition>>,
    /// Which is next.
    next: AtomicUsize,
    /// How many the store failed since one went well.
    failed: AtomicUsize,
    has_more: AtomicBool,
}

impl Turn {
    /// Whether the store seems to be away.
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= FAILED_MAX
    }
}

impl LogManager {
    /// Looks after what every partition has in the object store: where it leads it deletes what retention says, and uploads
    /// a full segment of each that has one; where it follows it looks what its leader did. Waits for the store. True =
    /// there may be more to do at once.
    ///
    /// An object that cannot be read stops its own partition. Where the store fails several in a row, the turn is over, and
    /// the next one begins behind them: neither does a store that is away fail ten thousand times, nor do a few bad objects
    /// keep others from it.
    /// At most `threads` partitions at a time, each on a thread of its own: one request after the other goes to a store that
    /// answers many at once.
    pub fn run_tiers(&self, now_ms: i64, threads: usize) -> bool {
        let Some(tiers) = self.broker.tiers() else { return false };
        let tiered = |it: &Partition| it.log().config().remote_storage || it.tier().is_some();
        let mut due = self.broker.partitions().those(tiered);
        let known = self.know_store(tiers, &due);
        if known.is_ok() {
            self.remove_deleted_tiers(tiers);
        }
        let first = tiers.turn.swap(0, Ordering::Relaxed).checked_rem(due.len()).unwrap_or_default();
        due.rotate_left(first);
        self.move_starts(tiers, &due, now_ms);
        if let Err(error) = known {
            self.tell_store(&due, &error, now_ms);
            return false;
        }
        let turn = Turn { due, ..Turn::default() };
        let others = threads.min(turn.due.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            for number in 0..others {
                let builder = std::thread::Builder::new().name(format!("fastlog-upload-{number}"));
                // without it the others do the work
                let _started = builder.spawn_scoped(scope, || self.work_on(&turn, tiers, now_ms));
            }
            self.work_on(&turn, tiers, now_ms);
        });
        if turn.is_over() {
            tiers.turn.store(first + turn.next.into_inner(), Ordering::Relaxed);
            return false;
        }
        turn.has_more.into_inner() && !tiers.is_stopped()
    }

    fn work_on(&self, turn: &Turn, tiers: &Tiers, now_ms: i64) {
        while !tiers.is_stopped() && !turn.is_over() {
            let Some(partition) = turn.due.get(turn.next.fetch_add(1, Ordering::Relaxed)) else { return };
            // one that is handed over comes in the next turn
            let Some(_not_handed_over) = self.moves.claim(partition) else { continue };
            if self.is_to_be_moved(partition) {
                continue;
            }
            match self.run_tier(tiers, partition, now_ms) {
                Ok(uploaded) => {
                    turn.has_more.fetch_or(uploaded, Ordering::Relaxed);
                    turn.failed.store(0, Ordering::Relaxed);
                }
                // an upload that waited for its quota, say
                Err(_) if tiers.is_stopped() => return,
                Err(error) => {
                    self.tell_tier(partition, &error, now_ms);
                    turn.failed.fetch_add(usize::from(error.is_of_store()), Ordering::Relaxed);
                }
            }
        }
    }

    fn run_tier(&self, tiers: &Tiers, partition: &Arc<Partition>, now_ms: i64) -> Result<bool, TierError> {
        let role = partition.role();
        match role.duty {
            Duty::Leader => self.lead_tier(tiers, partition, role.leader_epoch, now_ms),
            Duty::Follower if tiers.is_clustered() => {
                following::follow_tier(tiers, partition, now_ms).map(|()| false)
            }
            Duty::Follower | Duty::Deleted => Ok(false),
        }
    }

    /// Nothing was done, as the store is not to be used.
    fn tell_store(&self, due: &[Arc<Partition>], error: &TierError, now_ms: i64) {
        due.iter().take(FAILED_MAX).for_each(|it| self.tell_tier(it, error, now_ms));
        if due.is_empty() {
            let message =
                "what the object store has of deleted partitions could not be deleted, it is tried again";
            self.broker.events().push(Level::Error, message, vec![("reason", error.to_string())]);
        }
    }

    fn tell_tier(&self, partition: &Partition, error: &TierError, now_ms: i64) {
        let kept_bytes =
            partition.log().kept_bytes(now_ms).map_or_else(|it| it.to_string(), |it| it.to_string());
        let fields = vec![
            ("kept_bytes", kept_bytes),
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("reason", error.to_string()),
        ];
        // one that leads no more is told so soon, and has nothing to mend
        let level = match error {
            TierError::Deposed { .. } | TierError::Fenced { .. } => Level::Warning,
            _ => Level::Error,
        };
        let message = "tiered storage failed, it is tried again; until then the disk keeps what local retention would delete";
        self.broker.events().push(level, message, fields);
    }

    /// What the store has of a partition that is to be opened, by the copy of its manifest.
    pub(super) fn known_tier(
        &self,
        storage: &Storage,
        directory: &Path,
        wanted: &OpenPartition,
    ) -> Result<Option<Tier>, LogError> {
        let (topic, topic_id) = (wanted.topic.to_string(), wanted.topic_id);
        let place = Place { topic, topic_id, partition: wanted.index };
        let path = directory.join(COPY);
        let fails = |reason: String| LogError::BadFile { path: path.clone(), reason };
        let read = atomic_file::read(&*storage.file_system, &path);
        let Some(copy) = read.map_err(|error| fails(error.to_string()))? else { return Ok(None) };
        let tier = Tier::new(place, Some(&copy)).map_err(|error| fails(error.to_string()))?;
        if self.broker.tiers().is_none() && tier.range().is_some() {
            return Err(LogError::TiersOff { path: directory.to_owned() });
        }
        Ok(Some(tier))
    }
}

/// Asks the store for what local retention is to give up here next. Answers the first segment of it that the store lost: from
/// there on the disk keeps what it has.
fn ask_before_giving_up(
    tiers: &Tiers,
    partition: &Partition,
    tier: &PartitionTier,
    now_ms: i64,
) -> Result<Option<Lost>, TierError> {
    let log = partition.log();
    let Some(until) = log.local_retention_end(now_ms)? else { return Ok(None) };
    let asked = tier.tier.ask(tiers.store(), log.local_log_start_offset(), until);
    // also where the store answered for some only
    partition.note_tier(tier);
    asked
}

/// Before anything is uploaded there is a copy of a manifest in the directory: by it what the store has is found again.
fn keep_copy(partition: &Partition, tier: &PartitionTier) -> Result<(), TierError> {
    let manifest = tier.tier.whole();
    let log = partition.log();
    if manifest.version > 0 || deleted::has_copy(&log.storage(), &log.directory()) {
        return Ok(());
    }
    let copy = log.directory().join(COPY);
    let written = atomic_file::replace(&*log.storage().file_system, &copy, &manifest.encode());
    written
        .map_err(|error| TierError::Local { what: "write the copy of a manifest", reason: error.to_string() })
}

/// The tier of a partition, taken into use where it had none.
fn tier_of(tiers: &Tiers, partition: &Arc<Partition>) -> Result<Arc<PartitionTier>, TierError> {
    if let Some(tier) = partition.tier() {
        return Ok(tier);
    }
    let (topic, topic_id) = (partition.topic().to_string(), partition.topic_id());
    let tier = Tier::new(Place { topic, topic_id, partition: partition.index() }, None)?;
    Ok(partition.set_tier(tier, tiers.reader()))
}

/// Runs `work` with what a tier needs of the partition's log, in the role of now.
fn with_local<T>(partition: &Partition, work: impl FnOnce(&Local<'_>) -> T) -> T {
    let log = partition.log();
    let (storage, copy) = (log.storage(), log.directory().join(COPY));
    let files = &*storage.file_system;
    let role = partition.role();
    let is_now = |now: Role| now.duty == Duty::Leader && now == role;
    work(&Local {
        save: &|bytes| atomic_file::replace(files, &copy, bytes),
        has: &|it: &Entry| log.has_segment(it.base_offset, it.next_offset, it.log_bytes),
        agreed: &|it: &Manifest| partition.agreed_end(it),
        leads: &|| is_now(partition.role()) && !partition.is_lease_over(),
    })
}
