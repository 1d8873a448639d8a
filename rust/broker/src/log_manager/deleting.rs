//! Topics that are deleted: their partitions are closed, and the directories renamed, which a later purge removes.

use super::checkpoints::has_checkpointed;
use super::{LogManager, failed, tiers};
use crate::partition::Partition;
use fastlog_log::{Due, LogError, file_name};
use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};
use uuid::Uuid;

impl LogManager {
    /// Closes the partitions of topics, each by name and id, and renames their directories, open or not. All are tried;
    /// a result each: how many there were. It waits for the disk once, not for each.
    pub fn delete_topics<S: AsRef<str>>(
        &self,
        topics: &[(S, Uuid)],
        now_ms: i64,
    ) -> Vec<Result<usize, LogError>> {
        let mut put_away = PutAway::default();
        let ids: Vec<_> = topics.iter().map(|(_, id)| *id).collect();
        if let Err(error) = self.directories().and_then(|it| self.note_if_left(&it, &ids)) {
            return topics.iter().map(|_| Err(error.clone())).collect();
        }
        let mut each = |topic: &str, topic_id| {
            for partition in self.broker.partitions().of_topic(topic) {
                let index = partition.index();
                if partition.topic_id() != topic_id {
                    continue;
                }
                if self.is_left(&partition) {
                    self.broker.leave_partition(topic, index);
                    continue;
                }
                self.mark_open(topic, topic_id, index)?;
                if self.broker.delete_partition(topic, index)? {
                    self.doom(&partition, now_ms);
                    put_away.add(topic, index, &partition.log().directory());
                }
            }
            self.delete_unopened(topic, topic_id, |_| true, true, &mut put_away)?;
            self.cleaner.forget(topic);
            Ok(put_away.take_count())
        };
        let counts: Vec<_> = topics.iter().map(|(topic, id)| each(topic.as_ref(), *id)).collect();
        self.forget_wanted_of(&ids);
        match self.settle(put_away) {
            Ok(()) => counts,
            Err(error) => counts.into_iter().map(|it| it.and(Err(error.clone()))).collect(),
        }
    }

    pub(super) fn doom(&self, gone: &Partition, now_ms: i64) {
        let due = Due::after(now_ms, gone.log().config().file_delete_delay_ms);
        self.doomed.lock().push((gone.log().directory(), due));
    }

    /// Makes what was put away durable, and drops its offsets from the checkpoints: a namesake is not to inherit them. What
    /// that failed for stays to be done: whoever asks again finds nothing to put away, and comes here.
    pub(super) fn settle(&self, mut put_away: PutAway) -> Result<(), LogError> {
        put_away.take_in(mem::take(&mut *self.unsettled.lock()));
        let settled = self.settle_all(&put_away);
        if settled.is_err() {
            self.unsettled.lock().take_in(put_away);
        }
        settled
    }

    fn settle_all(&self, put_away: &PutAway) -> Result<(), LogError> {
        let directories = self.directories()?;
        // a namesake that was made since the first try may be on the move itself
        let is_gone = |(topic, index): &&(String, i32)| self.broker.partitions().get(topic, *index).is_none();
        let name = |(topic, index): &(String, i32)| file_name::of_partition(topic, *index);
        let names: Vec<_> = put_away.partitions.iter().filter(is_gone).map(name).collect();
        // in one that failed what was deleted is found again, and left alone
        for directory in directories.healthy() {
            // a namesake may be made in either of the directories that a move of it was about
            directory.forget_moves(&names)?;
            // one that had none of them may be one whose disk answers nothing
            let is_home = put_away.homes.contains(directory.path());
            if is_home {
                directory.sync()?;
            }
            if is_home || has_checkpointed(directory, &put_away.partitions) {
                self.write_without(directory, &put_away.partitions)?;
            }
        }
        Ok(())
    }

    pub(super) fn delete_unopened(
        &self,
        topic: &str,
        topic_id: Uuid,
        is_meant: impl Fn(i32) -> bool,
        is_deleted: bool,
        put_away: &mut PutAway,
    ) -> Result<(), LogError> {
        let directories = self.directories()?;
        let mut found = self.found.lock();
        let doomed: Vec<_> = found
            .range((topic.to_owned(), i32::MIN)..=(topic.to_owned(), i32::MAX))
            .filter(|(_, it)| it.topic_id == Some(topic_id) && is_meant(it.partition))
            .map(|(key, it)| (key.clone(), it.path.clone()))
            .collect();
        for (key, from) in doomed {
            let storage = directories.of_path(&from)?.storage();
            if is_deleted {
                tiers::mark_for_store(storage, &from)?;
            }
            let files = &storage.file_system;
            let name = file_name::of_deleted_partition(topic, key.1, files.random_uuid());
            let to = from.with_file_name(name);
            files.rename(&from, &to).map_err(|error| failed("rename", &from, error))?;
            self.doomed.lock().push((to, Due::at_once()));
            put_away.add(topic, key.1, &from);
            found.remove(&key);
        }
        Ok(())
    }
}

/// Replicas whose directories were renamed, and that have to be made durable.
#[derive(Default)]
pub(super) struct PutAway {
    partitions: Vec<(String, i32)>,
    /// The data directories that had them.
    homes: BTreeSet<PathBuf>,
    /// Those that were counted already.
    counted: usize,
}

impl PutAway {
    /// `place` is its directory, renamed or not.
    pub(super) fn add(&mut self, topic: &str, index: i32, place: &Path) {
        self.partitions.push((topic.to_owned(), index));
        self.homes.extend(place.parent().map(Path::to_owned));
    }

    pub(super) fn has(&self, replica: &(String, i32)) -> bool {
        self.partitions.contains(replica)
    }

    /// What was put away before.
    fn take_in(&mut self, earlier: Self) {
        self.partitions.extend(earlier.partitions);
        self.homes.extend(earlier.homes);
    }

    /// How many came since this was last asked.
    pub(super) fn take_count(&mut self) -> usize {
        let count = self.partitions.len() - self.counted;
        self.counted = self.partitions.len();
        count
    }
}
