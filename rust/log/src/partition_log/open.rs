//! Opening a log, or making it.
//!
//! Crash points of making one: an empty directory, one without metadata or with an empty file of it, one without a segment
//! are all completed by the next open.
//!
//! What is opened here is one of ten thousand, as a rule, and not used for now: its directory is listed once, what is not
//! in there is not looked for, and no file stays open.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64};

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::epochs::{REBUILT, epochs_in};
use super::tail::{LogPosition, Tail};
use super::tiered::{NOTHING_TIERED, TieredRange};
use super::{Log, NOTHING_UNSTABLE, Writer};
use crate::cleaner::{CleanerState, swap};
use crate::config::{Durability, LogConfig};
use crate::epoch_cache::{self, EpochCache, EpochStart};
use crate::error::{During, LogError};
use crate::file_name;
use crate::file_system::{DirectoryEntry, Storage};
use crate::log_dir::{Checkpoint, partition_metadata};
use crate::recovery::producers::Snapshots;
use crate::recovery::{LastStop, Recovered, Recovery, RecoveryReport, producers};
use crate::segment::Segment;
use crate::segment::list::SegmentList;
use crate::segment::scan::Step;

/// What is to be opened, and what the checkpoints say of it.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The topic's id: written into a new directory, compared with that of an old one. `None` = take what is there.
    pub topic_id: Option<Uuid>,
    /// The topic's id that its directory tells, where that was read already.
    pub found_topic_id: Option<Uuid>,
    /// The settings.
    pub config: Arc<LogConfig>,
    /// From `log-start-offset-checkpoint`; 0 where it has none.
    pub log_start_offset: i64,
    /// From `recovery-point-offset-checkpoint`; 0 where it has none.
    pub recovery_point: i64,
    /// From `replication-offset-checkpoint`; 0 where it has none.
    pub high_watermark: i64,
    /// How the last run on this data directory ended.
    pub last_stop: LastStop,
    /// What the object store has of it.
    pub tiered: Option<TieredRange>,
    /// The leader epochs of those, ascending, as the store's manifest tells them.
    pub tiered_epochs: Vec<EpochStart>,
}

impl LogOptions {
    /// Of a partition that no checkpoint knows: all offsets 0, last stop as given.
    pub fn new(topic: impl Into<String>, partition: i32, last_stop: LastStop) -> Self {
        Self {
            topic: topic.into(),
            partition,
            topic_id: None,
            found_topic_id: None,
            config: Arc::default(),
            log_start_offset: 0,
            recovery_point: 0,
            high_watermark: 0,
            last_stop,
            tiered: None,
            tiered_epochs: Vec::new(),
        }
    }
}

/// Where a log lies.
struct Place {
    directory: PathBuf,
    names: Vec<String>,
    topic_id: Option<Uuid>,
    is_new: bool,
}

impl Log {
    /// Opens the partition's log in the data directory of `storage`; makes it when it is not there. After an unclean
    /// stop it is scanned from the recovery point on, which the report tells of.
    pub fn open(
        storage: &Arc<Storage>,
        mut options: LogOptions,
        now_ms: i64,
    ) -> Result<(Self, RecoveryReport), LogError> {
        storage.check()?;
        // before somebody asks who may not wait for the disk
        let _known = storage.device();
        let directory = storage.directory().join(file_name::of_partition(&options.topic, options.partition));
        let listed = list_or_make(storage, &directory)?;
        let mut is_new = listed.is_none();
        if is_new {
            // what checkpoints say is of an earlier topic of that name
            (options.log_start_offset, options.recovery_point, options.high_watermark) = (0, 0, 0);
            options.tiered = None;
        }
        let (topic_id, is_written) = match_topic_id(storage, &directory, &options, is_new)?;
        let mut names = match listed {
            // its writing takes over what a crash left of an earlier try
            Some(_) if is_written => list_names(storage, &directory)?,
            listed => listed.unwrap_or_default(),
        };
        // what a machine that died lost of it is to be synced like that of a new one
        is_new |= is_written;
        let segments = open_segments(storage, &directory, &mut names, now_ms)?;
        let mut epochs = load_epochs(storage, &directory, &names)?;
        if epochs.is_incomplete() {
            note_all_epochs(&segments, &mut epochs, i64::MAX)?;
        } else {
            note_first_epochs(&segments, &mut epochs, options.log_start_offset)?;
        }
        note_tiered_epochs(&mut epochs, &options)?;
        let recovery = Recovery {
            last_stop: options.last_stop,
            recovery_point: options.recovery_point,
            interval_bytes: options.config.index_interval_bytes,
            file_system: &*storage.file_system,
            directory: &directory,
            names: &names,
            epochs: &mut epochs,
            epochs_changed: false,
            last: None,
            first_marker: i64::MAX,
            report: RecoveryReport::new(options.last_stop),
        };
        let mut recovered = recovery.run(segments)?;
        recovered.report.below_high_watermark = recovered.log_end_offset < options.high_watermark;
        recovered.report.below_recovery_point = recovered.log_end_offset < options.recovery_point;
        check_last_epoch(&recovered, &mut epochs, options.log_start_offset)?;
        if recovered.log_end_offset < options.log_start_offset {
            check_all_deleted(&directory, &options, recovered.log_end_offset)?;
            start_anew(storage, &directory, &mut recovered, options.log_start_offset, now_ms)?;
        }
        let place = Place { directory, names, topic_id, is_new };
        let (log, report) = Self::of(storage, options, now_ms, place, epochs, recovered)?;
        log.segments().iter().for_each(|segment| segment.close_files());
        Ok((log, report))
    }

    fn of(
        storage: &Arc<Storage>,
        options: LogOptions,
        now_ms: i64,
        place: Place,
        mut epochs: EpochCache,
        recovered: Recovered,
    ) -> Result<(Self, RecoveryReport), LogError> {
        let Place { directory, names, topic_id, is_new } = place;
        let list = SegmentList::new(recovered.segments);
        let active = list.last().cloned();
        let active = active.ok_or_else(|| LogError::Invalid { reason: "no segment".to_owned() })?;
        let end = recovered.log_end_offset;
        let tiered = options.tiered.and_then(|it| it.agreed(&epochs, &options, end));
        let first = tiered.map_or(list.first_base_offset(), |it| it.first_offset(&list));
        let start = options.log_start_offset.max(first).min(end);
        let report = recovered.report;
        warn_of_loss(&report, &options, end);
        settle_epochs(&mut epochs, &report, recovered.epochs_changed, start, end)?;
        let snapshots = Snapshots {
            storage: Arc::clone(storage),
            directory: directory.clone(),
            segments: &list,
            interval_bytes: options.config.index_interval_bytes,
            last: recovered.last.as_ref(),
        };
        let high_watermark = options.high_watermark.clamp(start, end);
        let (mut producers, snapshot_offset) =
            producers::restore(&snapshots, &names, end, recovered.unsure_from, now_ms)?;
        // what was replayed as ended holds nobody back below it, which no move of the high watermark may come to say
        producers.high_watermark_moved(high_watermark);
        let unstable = producers.first_unstable_offset().unwrap_or(NOTHING_UNSTABLE);
        let position = LogPosition { offset: end, segment_base: active.base_offset, position: active.size() };
        // full segments that the last run did not come to flush
        let filled = options.recovery_point < active.base_offset;
        let writer = Writer {
            since_entry: recovered.since_entry,
            reserved_to: active.size(),
            active,
            producers,
            snapshot_offset,
            closed: recovered.sealed.map(Box::new),
            broken_off: None,
            leader_epoch: epochs.latest().map_or(-1, |latest| latest.epoch),
        };
        // what was made or removed until now; after a clean stop there is nothing, unless there never was a record
        let directory_changed = is_new || options.last_stop != LastStop::Clean || end == 0;
        let log = Self {
            storage: RwLock::new(Arc::clone(storage)),
            topic: options.topic,
            partition: options.partition,
            topic_id,
            directory: RwLock::new(directory),
            syncs_appends: AtomicBool::new(options.config.durability == Durability::Fsync),
            config: RwLock::new(options.config),
            segments: RwLock::new(Arc::new(list)),
            tail: Mutex::new(Tail::new(position)),
            epochs: Mutex::new(epochs),
            log_start_offset: AtomicI64::new(start),
            log_end_offset: AtomicI64::new(end),
            high_watermark: AtomicI64::new(high_watermark),
            recovery_point: AtomicI64::new(options.recovery_point.min(end)),
            tiered_end_offset: AtomicI64::new(tiered.map_or(NOTHING_TIERED, |it| it.end_offset)),
            keep_from_offset: AtomicI64::new(0),
            first_unstable_offset: AtomicI64::new(unstable),
            least_epoch: AtomicI32::new(i32::MIN),
            writer: Mutex::new(writer),
            stands_still_since: Mutex::new(None),
            flushing: Mutex::new(()),
            appended_bytes: AtomicU64::new(0),
            written_back: Mutex::new(position.into()),
            filled: AtomicBool::new(filled),
            directory_changed: AtomicBool::new(directory_changed),
            is_new: AtomicBool::new(directory_changed),
            cleaner: CleanerState::default(),
            txn_indexes: Mutex::default(),
            deleted: Mutex::default(),
        };
        Ok((log, report))
    }
}

/// The names in the directory; `None` = it was not there, and was made.
fn list_or_make(storage: &Storage, directory: &Path) -> Result<Option<Vec<String>>, LogError> {
    match storage.file_system.list(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            storage.file_system.create_directory(directory).during("create", directory)?;
            Ok(None)
        }
        listed => Ok(Some(names_of(listed.during("list", directory)?))),
    }
}

/// The topic id, and whether its file had to be written.
fn match_topic_id(
    storage: &Storage,
    directory: &Path,
    options: &LogOptions,
    is_new: bool,
) -> Result<(Option<Uuid>, bool), LogError> {
    if let (true, Some(topic_id)) = (is_new, options.topic_id) {
        partition_metadata::write_first(&*storage.file_system, directory, topic_id)?;
        return Ok((Some(topic_id), true));
    }
    let found = match options.found_topic_id {
        Some(found) => Some(found),
        None => match partition_metadata::read(&*storage.file_system, directory) {
            // torn by a crash soon after it was made, since nothing here was ever synced
            Err(LogError::BadFile { .. }) if options.recovery_point == 0 => None,
            result => result?,
        },
    };
    match (found, options.topic_id) {
        (Some(found), Some(expected)) if found != expected => {
            Err(LogError::InconsistentTopicId { path: directory.to_owned(), found, expected })
        }
        (None, Some(topic_id)) => {
            let is_synced = options.recovery_point > 0;
            partition_metadata::write(&*storage.file_system, directory, topic_id, is_synced)?;
            Ok((Some(topic_id), true))
        }
        (found, _) => Ok((found, false)),
    }
}

/// Opens the segments, ascending, after removing what crashes left behind: files whose deletion was under way,
/// copies that the cleaner had not finished (finished ones take their place), half-written replacements, and indexes without batches.
///
/// `names` are those in the directory, also afterwards.
fn open_segments(
    storage: &Storage,
    directory: &Path,
    names: &mut Vec<String>,
    now_ms: i64,
) -> Result<Vec<Arc<Segment>>, LogError> {
    let mut bases = Vec::new();
    let mut indexes = Vec::new();
    if swap::complete(storage, directory, names)? {
        *names = list_names(storage, directory)?;
    }
    for name in &*names {
        let path = directory.join(name);
        if name.ends_with(file_name::DELETED) || name.ends_with(".tmp") {
            storage.file_system.remove_file(&path).during("remove", &path)?;
            continue;
        }
        match file_name::parse(name) {
            Some((offset, file_name::LOG)) => bases.push(offset),
            Some((offset, file_name::OFFSET_INDEX | file_name::TIME_INDEX | file_name::TXN_INDEX)) => {
                indexes.push((offset, path));
            }
            _ => {}
        }
    }
    bases.sort_unstable();
    for (offset, path) in &indexes {
        if bases.binary_search(offset).is_err() {
            storage.file_system.remove_file(path).during("remove", path)?;
        }
    }
    if bases.is_empty() {
        return Ok(vec![Arc::new(Segment::create_first(storage, directory, 0, now_ms)?)]);
    }
    let last = bases.last().copied();
    let open = |base| {
        let segment = Segment::open(storage, directory, base, now_ms, last == Some(base))?;
        if segment.size() == 0 && indexes.iter().all(|(offset, _)| *offset != base) {
            segment.set_loaded();
        }
        Ok(Arc::new(segment))
    };
    let mut segments = bases.into_iter().map(open).collect::<Result<Vec<_>, LogError>>()?;
    if remove_left_over(storage, &mut segments)? {
        *names = list_names(storage, directory)?;
    }
    Ok(segments)
}

/// Removes empty segments that are no part of the log, and says whether there were any. A roll that failed may have left
/// one at the log's end of then, and its removal may not have come to the disk; records went on in the segment before.
/// Taken for the end of the log it would cost all of them.
fn remove_left_over(storage: &Storage, segments: &mut Vec<Arc<Segment>>) -> Result<bool, LogError> {
    let mut kept: Vec<Arc<Segment>> = Vec::with_capacity(segments.len());
    let mut left_over = Vec::new();
    let last_base = segments.last().map(|it| it.base_offset);
    for segment in segments.drain(..) {
        let is_last = last_base == Some(segment.base_offset);
        let is_needed = match kept.last() {
            Some(before) if segment.size() == 0 => is_last && !has_batch_from(before, segment.base_offset)?,
            _ => true,
        };
        if is_needed { kept.push(segment) } else { left_over.push(segment) }
    }
    *segments = kept;
    for segment in &left_over {
        tracing::warn!(segment = %segment.log.path().display(), "an empty segment within the log is removed");
        segment.remove_files(&*storage.file_system)?;
    }
    Ok(!left_over.is_empty())
}

/// Whether the segment goes on from `offset`, by headers up to there and whole batches behind. What cannot be read says
/// nothing: a start is not to fail for a place that nobody may ever ask for.
fn has_batch_from(segment: &Segment, offset: i64) -> Result<bool, LogError> {
    let mut scan = segment.scan_from(0, segment.size())?;
    loop {
        match scan.step(offset) {
            Ok(Step::Batch(located)) if located.header.last_offset() >= offset => return Ok(true),
            Ok(Step::Batch(_)) => {}
            Ok(_) => return Ok(false),
            Err(error) => {
                let path = segment.log.path();
                let segment = path.display();
                tracing::warn!(%error, %segment, "whether an empty segment goes on from this one is not known");
                return Ok(false);
            }
        }
    }
}

fn load_epochs(storage: &Storage, directory: &Path, names: &[String]) -> Result<EpochCache, LogError> {
    let (file_system, path) = (Arc::clone(&storage.file_system), directory.join(epoch_cache::FILE_NAME));
    if names.iter().any(|name| name == epoch_cache::FILE_NAME) {
        EpochCache::load(file_system, path)
    } else {
        Ok(EpochCache::new(file_system, path))
    }
}

/// The names of what is in a directory.
pub(super) fn list_names(storage: &Storage, directory: &Path) -> Result<Vec<String>, LogError> {
    Ok(names_of(storage.file_system.list(directory).during("list", directory)?))
}

fn names_of(entries: Vec<DirectoryEntry>) -> Vec<String> {
    entries.into_iter().map(|entry| entry.name).collect()
}

/// A log that ends before its start lost records with the machine, after they were deleted; or the process died as it began
/// anew where its leader's log starts, which is written down first. A clean stop leaves neither: who takes a checkpoint
/// of another directory for this one's must not lose all records by it.
fn check_all_deleted(directory: &Path, options: &LogOptions, end: i64) -> Result<(), LogError> {
    if options.last_stop != LastStop::Clean {
        return Ok(());
    }
    let reason = format!(
        "{} says that it starts at offset {}, but it ends at {end}, and no crash explains that: the file is of \
         another directory, or segments were removed; put back what was there, or take the line of {}-{} out of the file",
        Checkpoint::LogStart.file_name(),
        options.log_start_offset,
        options.topic,
        options.partition,
    );
    Err(LogError::BadFile { path: directory.to_owned(), reason })
}

/// All that is left was deleted before (the log's start lies beyond its end): the log is empty, at its start. Crash
/// points: segments go newest first; without any the log is made at 0, and comes here again.
fn start_anew(
    storage: &Storage,
    directory: &Path,
    recovered: &mut Recovered,
    start: i64,
    now_ms: i64,
) -> Result<(), LogError> {
    for segment in recovered.segments.iter().rev() {
        segment.remove_files(&*storage.file_system)?;
    }
    storage.file_system.sync_directory(directory).during("sync", directory)?;
    recovered.segments = vec![Arc::new(Segment::create(storage, directory, start, now_ms)?)];
    recovered.log_end_offset = start;
    recovered.report.log_end_offset = start;
    recovered.since_entry = 0;
    recovered.sealed = None;
    Ok(())
}

/// Asks every batch for its leader epoch: where the file that should tell is missing or does not read, or the batches
/// contradict it. True = it told something else.
fn note_all_epochs(segments: &[Arc<Segment>], epochs: &mut EpochCache, end: i64) -> Result<bool, LogError> {
    let is_changed = epochs.rebuild(epochs_in(segments, i64::MAX)?, end);
    if is_changed && !epochs.entries().is_empty() {
        epochs.save()?;
    }
    Ok(is_changed)
}

/// Asks the batches below the first epoch that the file tells, where the log begins before it: records were deleted, which
/// cut the file, and the process died before the checkpoint told of the new start.
fn note_first_epochs(
    segments: &[Arc<Segment>],
    epochs: &mut EpochCache,
    log_start_offset: i64,
) -> Result<(), LogError> {
    let Some(first) = epochs.entries().first().map(|first| first.start_offset) else { return Ok(()) };
    // a checkpoint may also be older than the first segment
    let start = segments.first().map_or(log_start_offset, |it| it.base_offset.max(log_start_offset));
    if first <= start {
        return Ok(());
    }
    if epochs.note_before(epochs_in(segments, first)?) { epochs.save() } else { Ok(()) }
}

/// Takes the epochs of what only the object store has from its manifest, where the file does not have them: it was lost, or
/// the batches that told them are no longer on the disk.
fn note_tiered_epochs(epochs: &mut EpochCache, options: &LogOptions) -> Result<(), LogError> {
    let Some(tiered) = options.tiered else { return Ok(()) };
    let start = options.log_start_offset.max(tiered.start_offset);
    let told = options.tiered_epochs.clone();
    let is_news = match epochs.entries().first().map(|first| first.start_offset) {
        Some(first) => first > start && epochs.note_before(told),
        None => {
            epochs.replace(told);
            true
        }
    };
    if is_news { epochs.save() } else { Ok(()) }
}

/// The last batch is of the epoch that is said to hold the log's end, or the file is another log's.
fn check_last_epoch(
    recovered: &Recovered,
    epochs: &mut EpochCache,
    log_start_offset: i64,
) -> Result<(), LogError> {
    let (end, last) = (recovered.log_end_offset, recovered.last_epoch);
    // where all records were deleted nothing is told of the last one
    if last < 0 || end <= log_start_offset || epochs.epoch_for(end.saturating_sub(1)) == Some(last) {
        return Ok(());
    }
    if note_all_epochs(&recovered.segments, epochs, end)? {
        let first = recovered.segments.first().map(|it| it.log.path());
        tracing::warn!(log = %first.unwrap_or_default().display(), "{}", REBUILT);
    }
    Ok(())
}

/// Epochs that started beyond the log's end are gone with it; those before its start are not needed.
fn settle_epochs(
    epochs: &mut EpochCache,
    report: &RecoveryReport,
    changed: bool,
    start: i64,
    end: i64,
) -> Result<(), LogError> {
    // One that starts at the very end may have lost its records in a cut.
    let beyond = if report.cut.is_some() { end } else { end.saturating_add(1) };
    let cut = epochs.truncate_from_end(beyond);
    if changed | cut | epochs.truncate_from_start(start) { epochs.save() } else { Ok(()) }
}

fn warn_of_loss(report: &RecoveryReport, options: &LogOptions, end: i64) {
    if report.below_high_watermark || report.below_recovery_point {
        tracing::error!(
            topic = options.topic,
            partition = options.partition,
            log_end_offset = end,
            high_watermark = options.high_watermark,
            recovery_point = options.recovery_point,
            "the log ends below what was committed or synced: records are missing on this replica"
        );
    }
}
