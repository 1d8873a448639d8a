//! Which compacted log is cleaned next, how fast, and up to where logs were cleaned (Kafka's `LogCleaner` and
//! `LogCleanerManager`).

use std::collections::BTreeSet;

use fastlog_log::{Cleanable, CleanerLimits, LogError, Offsets};
use parking_lot::Mutex;
use std::sync::Arc;

use crate::broker::Broker;
use crate::events::Level;
use crate::pace::{Brake, Throttle};
use crate::partition::Partition;

/// The settings of the cleaner.
#[derive(Clone, Copy, Debug, Default)]
pub struct CleanerSettings {
    /// Memory and how much is written at once.
    pub limits: CleanerLimits,
    /// `log.cleaner.io.max.bytes.per.second`: what it reads and writes together; `None` = no limit.
    pub bytes_per_second: Option<f64>,
}

/// What is known of all logs' cleaning.
pub(crate) struct Cleaner {
    progress: Mutex<Progress>,
    /// Partitions that are not tried again in this run, since they are damaged.
    damaged: Mutex<BTreeSet<(String, i32)>>,
    /// Partitions that are copied: what is cleaned would have to be copied again (Kafka: `abortAndPauseCleaning`).
    held: Mutex<BTreeSet<(String, i32)>>,
    brake: Brake,
}

/// Up to where logs were cleaned.
#[derive(Default)]
struct Progress {
    offsets: Offsets,
    /// The log of the pass that is under way, and the lowest offset that it was cut to meanwhile.
    under_way: Option<((String, i32), i64)>,
}

impl Cleaner {
    pub(crate) fn new(offsets: Offsets) -> Self {
        Self {
            progress: Mutex::new(Progress { offsets, under_way: None }),
            damaged: Mutex::default(),
            held: Mutex::default(),
            brake: Brake::default(),
        }
    }

    /// Up to where logs were cleaned.
    pub(crate) fn offsets(&self) -> Offsets {
        self.progress.lock().offsets.clone()
    }

    /// The log is cut to `offset`: what comes in its place was never cleaned. True = it was taken for clean beyond.
    pub(crate) fn is_cut(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let key = (topic.to_owned(), partition);
        let mut progress = self.progress.lock();
        if let Some((cleaned, cut_to)) = &mut progress.under_way
            && *cleaned == key
        {
            *cut_to = offset.min(*cut_to);
        }
        match progress.offsets.get_mut(&key) {
            Some(known) if *known > offset => {
                *known = offset;
                true
            }
            _ => false,
        }
    }

    /// The topic is deleted; one of the same name starts anew.
    pub(crate) fn forget(&self, topic: &str) {
        self.damaged.lock().retain(|(known, _)| known != topic);
        self.progress.lock().offsets.retain(|(known, _), _| known != topic);
    }

    /// The replica is put away; one that comes back starts anew.
    pub(crate) fn forget_partition(&self, topic: &str, index: i32) {
        let key = (topic.to_owned(), index);
        self.damaged.lock().remove(&key);
        self.progress.lock().offsets.remove(&key);
    }

    /// The partition is not to be cleaned from now on, or may be again.
    pub(crate) fn hold(&self, partition: &Partition, is_held: bool) {
        let mut held = self.held.lock();
        if is_held {
            held.insert(key_of(partition));
        } else {
            held.remove(&key_of(partition));
        }
    }

    pub(crate) fn stop(&self) {
        self.brake.stop();
    }

    /// The partition that was cleaned; `None` = no log needs it, or none can be now.
    pub(crate) fn clean_one(
        &self,
        broker: &Broker,
        settings: &CleanerSettings,
        now_ms: i64,
    ) -> Option<Arc<Partition>> {
        let mut failed = BTreeSet::new();
        while !self.brake.is_stopped() {
            let (partition, found) = self.dirtiest(broker, &failed, now_ms)?;
            let key = key_of(&partition);
            let pace = Throttle::new(&self.brake, settings.bytes_per_second);
            let from = found.first_dirty_offset;
            self.progress.lock().under_way = Some((key.clone(), i64::MAX));
            match partition.log().clean(from, settings.limits, &pace, now_ms) {
                Ok(Some(cleaned)) if cleaned.end_offset > from => {
                    tell(broker, &partition, from, &cleaned);
                    self.reached(key, cleaned.end_offset);
                    return Some(partition);
                }
                // nothing to do after all, or it was stopped
                Ok(_) => {}
                Err(error) => self.failed(broker, &partition, &error),
            }
            failed.insert(key_of(&partition));
        }
        None
    }

    /// A pass ended there.
    fn reached(&self, key: (String, i32), end_offset: i64) {
        let mut progress = self.progress.lock();
        let cut_to = progress.under_way.take().map_or(i64::MAX, |(_, cut_to)| cut_to);
        progress.offsets.insert(key, end_offset.min(cut_to));
    }

    /// The log with the largest dirty part of those that are due.
    fn dirtiest(
        &self,
        broker: &Broker,
        failed: &BTreeSet<(String, i32)>,
        now_ms: i64,
    ) -> Option<(Arc<Partition>, Cleanable)> {
        let mut best: Option<(Arc<Partition>, Cleanable)> = None;
        for partition in broker.partitions().those(|it| it.log().config().cleanup_compact) {
            let key = key_of(&partition);
            if failed.contains(&key) || self.damaged.lock().contains(&key) || self.held.lock().contains(&key)
            {
                continue;
            }
            let checkpoint = self.progress.lock().offsets.get(&key).copied();
            match partition.log().cleanable(checkpoint, now_ms) {
                Ok(found) if found.is_due => {
                    if best.as_ref().is_none_or(|(_, other)| found.dirty_ratio() > other.dirty_ratio()) {
                        best = Some((partition, found));
                    }
                }
                Ok(_) => {}
                Err(error) => self.failed(broker, &partition, &error),
            }
        }
        best
    }

    fn failed(&self, broker: &Broker, partition: &Partition, error: &LogError) {
        let is_damaged = matches!(error, LogError::Corrupt { .. });
        let message = if is_damaged {
            self.damaged.lock().insert(key_of(partition));
            "a damaged log is not cleaned: a copy would lose what could be repaired"
        } else {
            "a log could not be cleaned, it is tried again"
        };
        let fields = vec![
            ("topic", partition.topic().to_string()),
            ("partition", partition.index().to_string()),
            ("reason", error.to_string()),
        ];
        broker.events().push(Level::Error, message, fields);
    }
}

fn key_of(partition: &Partition) -> (String, i32) {
    (partition.topic().to_string(), partition.index())
}

fn tell(broker: &Broker, partition: &Partition, from: i64, cleaned: &fastlog_log::Cleaned) {
    let fields = vec![
        ("topic", partition.topic().to_string()),
        ("partition", partition.index().to_string()),
        ("from", from.to_string()),
        ("to", cleaned.end_offset.to_string()),
        ("records", cleaned.records_read.to_string()),
        ("records_kept", cleaned.records_kept.to_string()),
        ("segments", cleaned.segments_before.to_string()),
        ("segments_after", cleaned.segments_after.to_string()),
    ];
    broker.events().push(Level::Info, "cleaned a compacted log", fields);
}
