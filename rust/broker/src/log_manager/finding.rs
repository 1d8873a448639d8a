//! What a start finds in a data directory.

use super::{at_once, left};
use crate::events::{Events, Level};
use fastlog_log::{LogDir, LogError, Offsets, PartitionDirectory};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// The copy of a partition, and the data directory that has it.
pub(super) type LeftCopy = (Arc<LogDir>, PartitionDirectory);

/// What is in one data directory.
pub(super) struct Found {
    /// The partitions, with their topic ids where those read.
    pub(super) partitions: BTreeMap<(String, i32), PartitionDirectory>,
    /// Up to where those were compacted.
    pub(super) cleaned: Offsets,
    /// What was deleted in an earlier run: nobody reads it.
    pub(super) doomed: Vec<PathBuf>,
    /// Copies of partitions that were to be moved here.
    pub(super) copies: Vec<PartitionDirectory>,
}

/// Looks through the directory, but for `passed_over`, and puts away what is of the topics `deleted`. An error is that of its
/// disk; a partition whose topic cannot be read is told, and is for its opening to judge.
pub(super) fn find(
    directory: &LogDir,
    passed_over: &[PathBuf],
    deleted: &BTreeSet<Uuid>,
    threads: usize,
    events: &Events,
) -> Result<Found, LogError> {
    let mut unread = directory.unread_partitions()?;
    unread.retain(|it| !passed_over.contains(&it.path));
    let here = Mutex::new(BTreeMap::new());
    at_once(&unread, threads, |unread| {
        let mut read = unread.clone();
        if let Err(error) = directory.read_topic_id(&mut read) {
            let fields = vec![
                ("topic", read.topic.clone()),
                ("partition", read.partition.to_string()),
                ("reason", error.to_string()),
            ];
            let message =
                "which topic a partition's directory is of cannot be read: it is offline if that stays so";
            events.push(Level::Error, message, fields);
        }
        here.lock().insert((read.topic.clone(), read.partition), read);
        Ok(())
    })?;
    let here: Vec<PartitionDirectory> = here.into_inner().into_values().collect();
    let here = left::put_left_away(directory, here, deleted)?;
    let partitions: BTreeMap<_, _> =
        here.into_iter().map(|it| ((it.topic.clone(), it.partition), it)).collect();
    let offsets = directory.cleaner_offsets().into_iter();
    let cleaned = offsets.filter(|(key, _)| partitions.contains_key(key)).collect();
    let (doomed, copies) = (directory.deleted_partitions()?, directory.future_partitions()?);
    Ok(Found { partitions, cleaned, doomed, copies })
}

/// Puts the copies away that moves left; answers where they are then, to be removed.
pub(super) fn put_copies_away(copies: &[LeftCopy], events: &Events) -> Vec<PathBuf> {
    let each = copies.iter().filter_map(|(directory, copy)| {
        let put_away = directory.give_up_future(copy).inspect_err(|error| {
            let fields = vec![("directory", copy.path.display().to_string()), ("reason", error.to_string())];
            events.push(
                Level::Warning,
                "a copy that a move left could not be put away, the next start does it",
                fields,
            );
        });
        put_away.ok()
    });
    each.collect()
}
