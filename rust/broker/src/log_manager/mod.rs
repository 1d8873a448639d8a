//! The logs of a broker's data directories: opened, recovered, checkpointed, purged and closed together.
//!
//! Crash points. A partition's directory is made by its first open, whole or to be completed by the next. A deletion
//! renames the directories of topic ids, then drops their offsets from the checkpoints that have them, once for all that
//! are deleted together; the control plane remembers a deletion until both are done, and repeating it is harmless. Offsets of a checkpoint are used only for a directory
//! that was there, with that topic id, when the data directory was opened: a topic made anew under an old name starts
//! from nothing.

mod checkpoints;
mod closing;
mod deleting;
mod directories;
mod finding;
mod housekeeping;
mod left;
mod moves;
mod replicas;
mod room;
mod scrub;
mod tiers;

use checkpoints::Checkpointing;
use deleting::PutAway;
use directories::Directories;
use finding::LeftCopy;
pub use moves::{DescribedFuture, MoveSettings, WantedReplica};
use moves::{List, Moves};
pub use replicas::{FetchAnswer, FetchResult, FetchedFrom, ReplicaChange};

use crate::broker::Broker;
use crate::cleaner::{Cleaner, CleanerSettings};
use crate::events::Level;
use crate::partition::{PartitionSettings, Replication};
use crate::scrubber::Scrubber;
use fastlog_log::log_dir::deleted_topics;
use fastlog_log::{
    Checkpoint, Due, FailedDirectory, Identity, LastStop, Log, LogConfig, LogDir, LogError, LogOptions,
    Offsets, PartitionDirectory, RecoveryReport, Space, Storage, file_name,
};
use fastlog_tiers::Tier;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use uuid::Uuid;

/// Threads that wait for syncs while many logs are opened or closed: 5,000 new ones took 55 s with one.
const SYNCING_THREADS: usize = 16;

/// Partitions that an event names at most.
const SHOWN_MAX: usize = 10;

/// A partition to open.
#[derive(Clone, Debug)]
pub struct OpenPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub index: i32,
    /// The epoch of this broker's leadership.
    pub leader_epoch: i32,
    /// The topic's settings for logs.
    pub config: Arc<LogConfig>,
    /// `min.insync.replicas` of the topic.
    pub min_insync_replicas: usize,
}

/// One data directory, for those who ask.
#[derive(Debug)]
pub struct DescribedDirectory {
    /// Its path.
    pub path: PathBuf,
    /// The room of its disk.
    pub space: Result<Space, LogError>,
    /// Topic, partition and bytes on disk of each open log in it, sorted.
    pub sizes: Vec<(Arc<str>, i32, u64)>,
    /// Replicas that are to be moved to it.
    pub futures: Vec<DescribedFuture>,
}

/// What the partitions of a broker's data directories have in common. Every call blocks on the disk.
pub struct LogManager {
    broker: Arc<Broker>,
    /// None once closed.
    directories: Mutex<Option<Arc<Directories>>>,
    /// The first data directory.
    path: PathBuf,
    last_stop: LastStop,
    /// Directories of partitions that were there at the start and are not opened yet, with their topic ids.
    found: Mutex<BTreeMap<(String, i32), PartitionDirectory>>,
    /// Those of them that could not be opened.
    unopened: Mutex<BTreeSet<(String, i32)>>,
    /// Directories of deleted partitions, and when they may be removed.
    doomed: Mutex<Vec<(PathBuf, Due)>>,
    /// Of what was deleted, what could not be made durable yet.
    unsettled: Mutex<PutAway>,
    /// Partitions that may be in a directory that failed before the start: they are not opened in this run, nor made anew.
    missing: Mutex<BTreeSet<(String, i32, Uuid)>>,
    /// One at a time writes down which topics were deleted while a directory failed.
    noting: Mutex<()>,
    /// Partitions of which nobody knows where they count, since a move of theirs was cut short: neither.
    passed_over: BTreeSet<(String, i32)>,
    /// Partitions that are opened may have been here before.
    is_opening: AtomicBool,
    checkpointing: Checkpointing,
    cleaner: Cleaner,
    scrubber: Scrubber,
    moves: Moves,
}

impl LogManager {
    /// The cluster id that a data directory belongs to; None for a directory that belongs to none yet. Takes no lock.
    pub fn cluster_id(path: &Path) -> Result<Option<String>, LogError> {
        let storage = Storage::real(path);
        let found = fastlog_log::log_dir::read_identity(&*storage.file_system, path)?;
        Ok(found.map(|identity| identity.cluster_id))
    }

    /// Takes the data directories of `storages` into use, at least one; no partition is opened yet. Where one is refused,
    /// all are left as they are.
    pub fn open(
        broker: Arc<Broker>,
        storages: Vec<Arc<Storage>>,
        identity: &Identity,
    ) -> Result<Self, LogError> {
        let (mut directories, deleted, settled) = Directories::open(storages, identity)?;
        for decided in settled.decided {
            let message = "a move of a replica was cut short by the end of the last run";
            broker.events().push(Level::Warning, message, vec![("decided", decided)]);
        }
        let threads = if broker.has_threads { SYNCING_THREADS } else { 1 };
        let (mut found, mut doomed, mut cleaned) = (BTreeMap::new(), Vec::new(), Offsets::new());
        let mut copies = Vec::new();
        for directory in directories.all().to_vec() {
            match finding::find(&directory, &settled.passed_over, &deleted, threads, broker.events()) {
                Ok(it) => {
                    copies.extend(it.copies.into_iter().map(|copy| (directory.clone(), copy)));
                    cleaned.extend(it.cleaned);
                    found.extend(it.partitions);
                    doomed.extend(it.doomed);
                }
                Err(error) => directories.do_without(&directory, error)?,
            }
        }
        let moves = Moves::of(List::resume(&directories, &copies, broker.events())?);
        doomed.extend(finding::put_copies_away(&copies, broker.events()));
        drop(copies);
        for failed in directories.failed() {
            let fields =
                vec![("directory", failed.path.display().to_string()), ("reason", failed.reason.to_string())];
            let message = "a data directory failed, what it has is offline; mend its disk and restart";
            broker.events().push(Level::Error, message, fields);
        }
        if directories.failed().is_empty() {
            // named for longer they do no harm
            if let Err(error) = deleted_topics::forget(directories.all()) {
                let message = "that topics were deleted is still noted, the next start forgets it";
                broker.events().push(Level::Warning, message, vec![("reason", error.to_string())]);
            }
        }
        let names = settled.passed_over.iter().filter_map(|it| it.file_name()?.to_str());
        let passed_over = names.filter_map(file_name::parse_partition);
        let passed_over = passed_over.map(|(topic, index)| (topic.to_owned(), index)).collect();
        let checkpointing = Checkpointing::of(&directories);
        Ok(Self {
            broker,
            path: directories.first()?.path().to_owned(),
            last_stop: directories.last_stop(),
            directories: Mutex::new(Some(Arc::new(directories))),
            found: Mutex::new(found),
            unopened: Mutex::default(),
            doomed: Mutex::new(doomed.into_iter().map(|path| (path, Due::at_once())).collect()),
            unsettled: Mutex::default(),
            missing: Mutex::default(),
            noting: Mutex::default(),
            passed_over,
            is_opening: AtomicBool::new(true),
            checkpointing,
            cleaner: Cleaner::new(cleaned),
            scrubber: Scrubber::default(),
            moves,
        })
    }

    fn threads(&self) -> usize {
        if self.broker.has_threads { SYNCING_THREADS } else { 1 }
    }

    /// How the last run ended, in the directory where it ended worst.
    pub fn last_stop(&self) -> LastStop {
        self.last_stop
    }

    /// Whether a data directory was lost since the last start, as a person said, or does not answer: what it had is not here.
    pub fn has_lost(&self) -> Result<bool, LogError> {
        let directories = self.directories()?;
        Ok(directories.has_lost() || !directories.failed().is_empty())
    }

    fn directories(&self) -> Result<Arc<Directories>, LogError> {
        let directories = self.directories.lock().clone();
        directories.ok_or_else(|| LogError::Gone { path: self.path.clone(), state: "closed" })
    }

    /// Opens or makes partitions and leads them. All are tried; a result each, and each failure is an event.
    pub fn open_partitions(&self, wanted: &[OpenPartition], now_ms: i64) -> Vec<Result<(), LogError>> {
        let results = Mutex::new(vec![Ok(()); wanted.len()]);
        let numbered: Vec<_> = wanted.iter().enumerate().collect();
        let _all_tried = at_once(&numbered, self.threads(), |(number, it)| {
            if let Err(error) = self.open_partition(it, now_ms) {
                let fields = vec![
                    ("topic", it.topic.to_string()),
                    ("partition", it.index.to_string()),
                    ("reason", error.to_string()),
                ];
                let message = "a partition could not be opened, it is offline";
                self.broker.events().push(Level::Error, message, fields);
                if let Some(place) = results.lock().get_mut(*number) {
                    *place = Err(error);
                }
            }
            Ok(())
        });
        results.into_inner()
    }

    /// Opens a partition, or makes it, and leads it; nothing happens when it is open already.
    pub fn open_partition(&self, wanted: &OpenPartition, now_ms: i64) -> Result<(), LogError> {
        if let Some(open) = self.broker.partitions().get(&wanted.topic, wanted.index)
            && open.topic_id() == wanted.topic_id
        {
            return Ok(());
        }
        let (log, tier) = self.open_log(wanted, now_ms)?;
        let settings = PartitionSettings {
            topic: wanted.topic.clone(),
            topic_id: wanted.topic_id,
            index: wanted.index,
            leader_epoch: wanted.leader_epoch,
            replication: Replication::single(self.broker.config.node_id, wanted.min_insync_replicas),
        };
        match tier.zip(self.broker.tiers()) {
            Some((tier, tiers)) => self.broker.add_tiered_partition(settings, log, (tier, tiers.reader()))?,
            None => self.broker.add_partition(settings, log)?,
        };
        self.found.lock().remove(&(wanted.topic.to_string(), wanted.index));
        Ok(())
    }

    fn open_log(&self, wanted: &OpenPartition, now_ms: i64) -> Result<(Log, Option<Tier>), LogError> {
        let opened = self.try_open_log(wanted, now_ms);
        let key = (wanted.topic.to_string(), wanted.index);
        let mut unopened = self.unopened.lock();
        match &opened {
            Ok(_) => unopened.remove(&key),
            Err(_) => unopened.insert(key),
        };
        drop(unopened);
        opened
    }

    fn try_open_log(&self, wanted: &OpenPartition, now_ms: i64) -> Result<(Log, Option<Tier>), LogError> {
        let directories = self.directories()?;
        let found =
            self.found.lock().get(&(wanted.topic.to_string(), wanted.index)).map(|it| it.path.clone());
        let directory = match &found {
            Some(path) => directories.of_path(path)?,
            None if self.is_missing(wanted, &directories) => {
                return Err(may_be_elsewhere(directories.failed()));
            }
            None => self.place(&directories, wanted)?,
        };
        let tier = match &found {
            Some(path) => self.known_tier(directory.storage(), path, wanted)?,
            None => None,
        };
        let options = self.options(directory, wanted);
        let tiered = tier.as_ref().and_then(Tier::range);
        let tiered_epochs = tier.as_ref().map_or(Vec::new(), |it| it.manifest().epochs());
        let options = LogOptions { tiered, tiered_epochs, ..options };
        let (log, report) = Log::open(directory.storage(), options, now_ms)?;
        tier.iter().for_each(|tier| tier.cut(log.tiered_end().unwrap_or(i64::MIN)));
        // what comes in the place of what was lost, or cut, was never cleaned
        self.cleaner.is_cut(&wanted.topic, wanted.index, log.log_end_offset());
        self.tell(wanted, &report);
        Ok((log, tier))
    }

    /// The replicas whose data directory failed, in this run or before it: topic, topic id, partition.
    pub fn offline(&self) -> Result<Vec<(String, Uuid, i32)>, LogError> {
        let directories = self.directories()?;
        let missing = self.missing.lock();
        let mut offline: Vec<_> =
            missing.iter().map(|(topic, index, id)| (topic.clone(), *id, *index)).collect();
        drop(missing);
        if directories.healthy().count() < directories.all().len() {
            let failed = self.broker.partitions().those(|it| it.log().storage().check().is_err());
            offline.extend(failed.iter().map(|it| (it.topic().to_string(), it.topic_id(), it.index())));
        }
        Ok(offline)
    }

    fn options(&self, directory: &LogDir, wanted: &OpenPartition) -> LogOptions {
        let found = self.found.lock();
        let known = found.get(&(wanted.topic.to_string(), wanted.index));
        let found_topic_id = known.and_then(|it| it.topic_id);
        let is_same = known.is_some() && found_topic_id.is_none_or(|id| id == wanted.topic_id);
        let options = if is_same {
            directory.log_options(&wanted.topic, wanted.index)
        } else {
            LogOptions::new(&*wanted.topic, wanted.index, LastStop::Clean)
        };
        let topic_id = Some(wanted.topic_id);
        LogOptions { topic_id, found_topic_id, config: wanted.config.clone(), ..options }
    }

    /// Log lines about what recovery found.
    fn tell(&self, wanted: &OpenPartition, report: &RecoveryReport) {
        let events = self.broker.events();
        let place = || vec![("topic", wanted.topic.to_string()), ("partition", wanted.index.to_string())];
        if let Some(cut) = &report.cut {
            let mut fields = place();
            fields.push(("offset", cut.offset.to_string()));
            fields.push(("bytes", cut.bytes.to_string()));
            fields.push(("segments_removed", cut.segments_removed.to_string()));
            fields.push(("file", cut.file.display().to_string()));
            fields.push(("position", cut.position.to_string()));
            fields.push(("reason", cut.reason.clone()));
            events.push(Level::Warning, "the log's tail was cut after an unclean stop", fields);
        }
        for damage in &report.damages {
            let mut fields = place();
            fields.push(("reason", damage.to_string()));
            events.push(Level::Error, "the log is damaged, nothing was deleted", fields);
        }
        if report.below_high_watermark || report.below_recovery_point {
            let mut fields = place();
            fields.push(("log_end_offset", report.log_end_offset.to_string()));
            events.push(Level::Error, "committed records are missing at the end of the log", fields);
        }
    }

    /// To be called when all partitions were opened after a start. Answers the directories of no known topic, which are
    /// left alone; those of partitions that could not be opened are not among them. Where one could not be opened after the
    /// death of the machine, the next start still recovers all of its data directory by the rules for that.
    pub fn finish_opening(&self) -> Result<Vec<PathBuf>, LogError> {
        let directories = self.directories()?;
        for directory in directories.healthy() {
            if self.is_unrecovered(directory) {
                continue;
            }
            if let Err(error) = directory.mark_recovered() {
                if error.is_out_of_descriptors() {
                    // it says what it said: that is true of what it had, and costs the next start some time
                    let message = "that a data directory was recovered could not be written down, the next start does it again";
                    self.broker.events().push(Level::Warning, message, vec![("reason", error.to_string())]);
                    continue;
                }
                directory.storage().poison(&error);
                if directory.path() == self.path {
                    return Err(error);
                }
            }
        }
        directories.note()?;
        self.is_opening.store(false, Ordering::Release);
        // what ten thousand logs took to be found and opened
        fastlog_sys::allocator::give_back_freed_memory();
        let (found, unopened) = (self.found.lock(), self.unopened.lock());
        Ok(found.iter().filter(|(key, _)| !unopened.contains(key)).map(|(_, it)| it.path.clone()).collect())
    }

    /// Whether logs in a directory whose machine died could not be opened, and so were not recovered; says so.
    fn is_unrecovered(&self, directory: &LogDir) -> bool {
        if directory.last_stop() != LastStop::MachineDied {
            return false;
        }
        let found = self.found.lock();
        let unopened = self.unopened.lock();
        let is_here = |it: &PartitionDirectory| it.path.parent() == Some(directory.path());
        let names = unopened.iter().filter(|key| found.get(key).is_some_and(is_here));
        let names: Vec<_> = names.map(|(topic, index)| format!("{topic}-{index}")).collect();
        if names.is_empty() {
            return false;
        }
        let fields = vec![
            ("directory", directory.path().display().to_string()),
            ("count", names.len().to_string()),
            ("partitions", names.iter().take(SHOWN_MAX).map(String::as_str).collect::<Vec<_>>().join(" ")),
        ];
        let message = "partitions that could not be opened are not recovered: the next start recovers all of their data \
                       directory as after a power cut";
        self.broker.events().push(Level::Warning, message, fields);
        true
    }

    /// Moves a partition's log start, and has written it down when this returns.
    pub fn delete_records(&self, topic: &str, index: i32, offset: i64) -> Result<i64, LogError> {
        let partition = self.broker.partitions().get(topic, index).ok_or_else(|| LogError::Gone {
            path: self.path.join(file_name::of_partition(topic, index)),
            state: "deleted",
        })?;
        let start = partition.delete_records(offset)?;
        self.write_checkpoint_of_log(partition.log(), Checkpoint::LogStart)?;
        Ok(start)
    }

    /// What each data directory has, in the order of `log.dirs`, those behind that failed at the start.
    pub fn described(&self) -> Result<Vec<DescribedDirectory>, LogError> {
        let partitions = self.broker.partitions().all();
        let directories = self.directories()?;
        let each = directories.all().iter().map(|directory| {
            let here = partitions.iter().filter(|it| directories::has(directory, it.log()));
            DescribedDirectory {
                path: directory.path().to_owned(),
                space: directory.storage().check().and_then(|()| directory.space()),
                sizes: here.map(|it| (it.topic().clone(), it.index(), it.log().size_bytes())).collect(),
                futures: self.described_futures(directory),
            }
        });
        let failed = directories.failed().iter().map(|it| DescribedDirectory {
            path: it.path.clone(),
            space: Err(it.reason.clone()),
            sizes: Vec::new(),
            futures: Vec::new(),
        });
        Ok(each.chain(failed).collect())
    }

    /// Topic, partition and bytes on disk of each open log, sorted.
    pub fn sizes(&self) -> Vec<(Arc<str>, i32, u64)> {
        let all = self.broker.partitions().all();
        all.iter().map(|it| (it.topic().clone(), it.index(), it.log().size_bytes())).collect()
    }

    /// Cleans the compacted log that needs it most; false when none does, or the cleaner was stopped. One thread calls it.
    /// The new segments are in place before the checkpoint is; one that is too low only means more work.
    pub fn clean_one(&self, settings: &CleanerSettings, now_ms: i64) -> Result<bool, LogError> {
        let Some(cleaned) = self.cleaner.clean_one(&self.broker, settings, now_ms) else { return Ok(false) };
        self.write_checkpoint_of_log(cleaned.log(), Checkpoint::Cleaner)?;
        Ok(true)
    }

    /// Stops the cleaner for good; returns without waiting for it.
    pub fn stop_cleaner(&self) {
        self.cleaner.stop();
    }
}

/// A partition is in none of the directories that answer, and may be in one that does not: it must not be made anew.
fn may_be_elsewhere(failed: &[FailedDirectory]) -> LogError {
    if failed.is_empty() {
        let reason = "it was being moved, and which of its two directories counts does not read; mend the disk and restart";
        return LogError::Io {
            action: "open the partition in",
            path: PathBuf::from("the data directories"),
            source: Arc::new(io::Error::other(reason)),
        };
    }
    let paths: Vec<_> = failed.iter().map(|it| it.path.display().to_string()).collect();
    LogError::Io {
        action: "find the partition, which may be in",
        path: PathBuf::from(paths.join(", ")),
        source: Arc::new(io::Error::other("the data directory failed; mend its disk and restart")),
    }
}

/// Does `work` for all items on at most so many threads, and answers the first failure that it met. Opening and closing logs
/// waits for syncs, which the file system answers together when they come together.
fn at_once<T: Sync>(
    items: &[T],
    threads: usize,
    work: impl Fn(&T) -> Result<(), LogError> + Sync,
) -> Result<(), LogError> {
    let next = AtomicUsize::new(0);
    let first_failure = Mutex::new(None);
    let take = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item) {
                first_failure.lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(threads) {
            // where the system gives no more threads, this one does it all
            if std::thread::Builder::new().spawn_scoped(scope, take).is_err() {
                break;
            }
        }
        take();
    });
    first_failure.into_inner().map_or(Ok(()), Err)
}

fn failed(action: &'static str, path: &Path, error: io::Error) -> LogError {
    LogError::Io { action, path: path.to_owned(), source: Arc::new(error) }
}
