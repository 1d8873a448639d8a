//! The work of tiered storage on the logs of a broker: uploads, retention of what was uploaded, and deletion.
//!
//! Crash points. A partition's start is in its checkpoint before the store forgets what lies below. The copy of a manifest
//! lies in the partition's directory, and keeps it there once the partition is deleted, until the store has nothing of it.

use super::directories::Directories;
use super::{LogManager, OpenPartition};
use crate::events::Level;
use crate::partition::{Duty, Partition};
use crate::tiers::{PartitionTier, Tiers};
use fastlog_log::file_system::atomic_file;
use fastlog_log::{Checkpoint, LogConfig, LogError, Storage};
use fastlog_tiers::{Entry, Local, Manifest, Place, Tier, TierError, Writer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The copy of the manifest in force, in a partition's directory.
pub(super) const COPY: &str = "remote-log-manifest";

impl LogManager {
    /// Looks after what every partition has in the object store: deletes what retention says, and uploads a full segment
    /// of each that has one. Waits for the store. True = there may be more to do at once.
    pub fn run_tiers(&self, now_ms: i64) -> bool {
        let Some(tiers) = self.broker.tiers() else { return false };
        self.remove_deleted_tiers(tiers);
        let tiered = |it: &Partition| it.log().config().remote_storage || it.tier().is_some();
        let mut has_more = false;
        for partition in self.broker.partitions().those(tiered) {
            if tiers.is_stopped() {
                return false;
            }
            if partition.role().duty != Duty::Leader {
                continue;
            }
            match self.run_tier(tiers, &partition, now_ms) {
                Ok(uploaded) => has_more |= uploaded,
                Err(error) => {
                    self.tell_tier(&partition, &error);
                    if matches!(error, TierError::Store(_)) {
                        // it would fail ten thousand times in the same way
                        return false;
                    }
                }
            }
        }
        has_more
    }

    fn tell_tier(&self, partition: &Partition, error: &TierError) {
        let fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("reason", error.to_string()),
        ];
        let message =
            "tiered storage failed, it is tried again; nothing goes from the disk that is not uploaded";
        self.broker.events().push(Level::Error, message, fields);
    }

    /// True = a segment was uploaded, and there may be another one.
    fn run_tier(&self, tiers: &Tiers, partition: &Arc<Partition>, now_ms: i64) -> Result<bool, TierError> {
        let (log, config) = (partition.log(), partition.log().config());
        let directories = self.directories()?;
        let storage = directories.of_log(log)?.storage();
        let files = &*storage.file_system;
        let copy = log.directory().join(COPY);
        let save = |bytes: &[u8]| atomic_file::replace(files, &copy, bytes);
        let tier = match partition.tier() {
            Some(tier) => tier,
            None => {
                let tier = Tier::new(place(partition), None)?;
                // before anything is uploaded: by it the directory is kept until the store has nothing of it
                save(&tier.manifest().encode()).map_err(|error| TierError::Local {
                    what: "write the copy of a manifest",
                    reason: error.to_string(),
                })?;
                partition.set_tier(tier, tiers.reader())
            }
        };
        let has = |it: &Entry| log.has_segment(it.base_offset, it.next_offset, it.log_bytes);
        let local = Local { save: &save, has: &has };
        if !config.remote_storage {
            return self.give_up_tier(tiers, partition, &tier, storage).map(|()| false);
        }
        let writer = Writer { node_id: self.broker.config.node_id, leader_epoch: partition.leader_epoch() };
        tier.tier.attach(tiers.store(), writer, &local)?;
        let note = || log.set_tiered_end(tier.tier.range().map(|it| it.end_offset));
        note();
        if let Some(start) = start_by_retention(partition, &tier.tier.manifest(), &config, now_ms)
            && log.advance_start(start)?
        {
            partition.notify();
        }
        if tier.tier.range().is_some_and(|it| it.start_offset < log.log_start_offset()) {
            self.write_checkpoint(Checkpoint::LogStart)?;
            tier.tier.trim(tiers.store(), writer, log.log_start_offset(), &local)?;
            note();
        }
        if !config.remote_copy || config.restoring {
            return Ok(false);
        }
        let Some(closed) = log.next_to_upload()? else { return Ok(false) };
        tier.tier.add(tiers.store(), writer, &closed, &local)?;
        note();
        Ok(true)
    }

    /// The topic is no longer tiered: the log begins on the disk, and the store forgets it.
    fn give_up_tier(
        &self,
        tiers: &Tiers,
        partition: &Partition,
        tier: &PartitionTier,
        storage: &Storage,
    ) -> Result<(), TierError> {
        let log = partition.log();
        if log.advance_start(log.local_log_start_offset())? {
            partition.notify();
        }
        self.write_checkpoint(Checkpoint::LogStart)?;
        log.set_tiered_end(None);
        tier.tier.remove_all(tiers.store())?;
        remove_copy(storage, &log.directory().join(COPY))?;
        partition.drop_tier();
        Ok(())
    }

    fn remove_deleted_tiers(&self, tiers: &Tiers) {
        let Ok(directories) = self.directories() else { return };
        let doomed: Vec<PathBuf> = self.doomed.lock().iter().map(|(path, _)| path.clone()).collect();
        for path in doomed {
            let Ok(directory) = directories.of_path(&path) else { continue };
            if tiers.is_stopped() || !has_copy(directory.storage(), &path) {
                continue;
            }
            if let Err(error) = remove_deleted_tier(tiers, directory.storage(), &path) {
                let fields = vec![("directory", path.display().to_string()), ("reason", error.to_string())];
                let message = "what the object store has of a deleted partition could not be deleted, it is tried again";
                self.broker.events().push(Level::Error, message, fields);
                return;
            }
        }
    }

    /// Whether the directory of a deleted partition is still needed to delete what the store has of it.
    pub(super) fn is_needed_by_tiers(&self, path: &Path) -> bool {
        let has = |it: &Directories| it.of_path(path).is_ok_and(|it| has_copy(it.storage(), path));
        self.broker.tiers().is_some() && self.directories().is_ok_and(|it| has(&it))
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
            return Err(fails(
                "records of this partition are in an object store, and tiered storage is off: set \
                 remote.log.storage.system.enable and fastlog.remote.store.url again"
                    .to_owned(),
            ));
        }
        Ok(Some(tier))
    }
}

fn place(partition: &Partition) -> Place {
    let (topic, topic_id) = (partition.topic().to_string(), partition.topic_id());
    Place { topic, topic_id, partition: partition.index() }
}

fn has_copy(storage: &Storage, directory: &Path) -> bool {
    // where nobody can tell, nothing is removed
    storage.file_system.exists(&directory.join(COPY)).unwrap_or(true)
}

fn remove_copy(storage: &Storage, copy: &Path) -> Result<(), TierError> {
    match storage.file_system.remove_file(copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let what = "remove the copy of a manifest";
            Err(TierError::Local { what, reason: error.to_string() })
        }
        _ => Ok(()),
    }
}

fn remove_deleted_tier(tiers: &Tiers, storage: &Storage, directory: &Path) -> Result<(), TierError> {
    let copy = directory.join(COPY);
    let read = atomic_file::read(&*storage.file_system, &copy);
    let bytes = read.map_err(|error| TierError::Local {
        what: "read the copy of a manifest",
        reason: error.to_string(),
    })?;
    if let Some(bytes) = bytes {
        Tier::of_copy(&bytes)?.remove_all(tiers.store())?;
    }
    remove_copy(storage, &copy)
}

/// Where the log should start by `retention.ms` and `retention.bytes` of the whole log, as far as that takes uploaded
/// segments; `None` = nothing is to go. What is on the disk only goes when it is uploaded, and by these rules then.
fn start_by_retention(
    partition: &Partition,
    manifest: &Manifest,
    config: &LogConfig,
    now_ms: i64,
) -> Option<i64> {
    if !config.cleanup_delete || config.restoring {
        return None;
    }
    let expired = |it: &&Entry| {
        let age_ms = now_ms.saturating_sub(it.max_timestamp);
        // one without timestamps stays until its size or DeleteRecords removes it
        config.retention_ms >= 0 && it.max_timestamp >= 0 && age_ms > config.retention_ms
    };
    let by_time = manifest.segments.iter().take_while(expired).last();
    let mut excess = u64::try_from(config.retention_bytes).map_or(0, |limit| {
        let local = partition.log().size_bytes_from(manifest.end_offset().unwrap_or(i64::MIN));
        (manifest.size_bytes() + local).saturating_sub(limit)
    });
    let by_size = manifest.segments.iter().take_while(|it| {
        let fits = excess >= it.log_bytes && excess > 0;
        excess = excess.saturating_sub(it.log_bytes);
        fits
    });
    let ends = [by_time, by_size.last()].into_iter().flatten().map(|it| it.next_offset);
    ends.max()
}
