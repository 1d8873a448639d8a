//! Which compacted log is cleaned next, how fast, and up to where logs were cleaned (Kafka's `LogCleaner` and
//! `LogCleanerManager`).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fastlog_log::{Cleanable, CleanerLimits, LogError, Offsets, Pace};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;

use crate::broker::Broker;
use crate::events::Level;
use crate::partition::Partition;

/// Waits shorter than this are saved up: the timer is no finer.
const WAIT_MIN: Duration = Duration::from_millis(5);

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
    stopped: Mutex<bool>,
    stopping: Condvar,
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
            stopped: Mutex::new(false),
            stopping: Condvar::new(),
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

    /// The topic is deleted; one of the same name starts anew. True = offsets of it were known.
    pub(crate) fn forget(&self, topic: &str) -> bool {
        self.damaged.lock().retain(|(known, _)| known != topic);
        let mut progress = self.progress.lock();
        let before = progress.offsets.len();
        progress.offsets.retain(|(known, _), _| known != topic);
        progress.offsets.len() < before
    }

    /// The replica is put away; one that comes back starts anew. True = its offset was known.
    pub(crate) fn forget_partition(&self, topic: &str, index: i32) -> bool {
        let key = (topic.to_owned(), index);
        self.damaged.lock().remove(&key);
        self.progress.lock().offsets.remove(&key).is_some()
    }

    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.stopping.notify_all();
    }

    /// True = one was cleaned; false = none needs it, or none can be now.
    pub(crate) fn clean_one(&self, broker: &Broker, settings: &CleanerSettings, now_ms: i64) -> bool {
        let mut failed = BTreeSet::new();
        while !*self.stopped.lock() {
            let Some((partition, found)) = self.dirtiest(broker, &failed, now_ms) else { return false };
            let key = key_of(&partition);
            let pace = Throttle::new(self, settings.bytes_per_second);
            let from = found.first_dirty_offset;
            self.progress.lock().under_way = Some((key.clone(), i64::MAX));
            match partition.log().clean(from, settings.limits, &pace, now_ms) {
                Ok(Some(cleaned)) if cleaned.end_offset > from => {
                    tell(broker, &partition, from, &cleaned);
                    self.reached(key, cleaned.end_offset);
                    return true;
                }
                // nothing to do after all, or it was stopped
                Ok(_) => {}
                Err(error) => self.failed(broker, &partition, &error),
            }
            failed.insert(key_of(&partition));
        }
        false
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
        for partition in broker.partitions().all() {
            let key = key_of(&partition);
            if !partition.log().config().cleanup_compact
                || failed.contains(&key)
                || self.damaged.lock().contains(&key)
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

    /// Waits; false = the cleaner was stopped.
    fn wait(&self, duration: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        let until = Instant::now() + duration;
        while !*stopped && !duration.is_zero() {
            if self.stopping.wait_until(&mut stopped, until).timed_out() {
                break;
            }
        }
        !*stopped
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

/// Keeps a pass to so many bytes a second on average since it began.
struct Throttle<'a> {
    cleaner: &'a Cleaner,
    bytes_per_second: Option<f64>,
    began: Instant,
    bytes: std::sync::atomic::AtomicU64,
}

impl<'a> Throttle<'a> {
    fn new(cleaner: &'a Cleaner, bytes_per_second: Option<f64>) -> Self {
        Self { cleaner, bytes_per_second, began: Instant::now(), bytes: 0.into() }
    }
}

impl Pace for Throttle<'_> {
    fn go_on(&self, bytes: u64) -> bool {
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0.0) else {
            return self.cleaner.wait(Duration::ZERO);
        };
        let total = self.bytes.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes;
        let due = Duration::try_from_secs_f64(total as f64 / rate).unwrap_or(Duration::MAX);
        let ahead = due.saturating_sub(self.began.elapsed()).min(Duration::from_secs(3600));
        self.cleaner.wait(if ahead < WAIT_MIN { Duration::ZERO } else { ahead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_pass_takes_its_time_and_a_stop_ends_the_wait() {
        let cleaner = Cleaner::new(Offsets::new());
        let pace = Throttle::new(&cleaner, Some(1e6));
        for _ in 0..10 {
            assert!(pace.go_on(2_000));
        }
        assert!(pace.began.elapsed() >= Duration::from_millis(15), "20 kB at 1 MB/s");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.go_on(u64::MAX / 4));
            cleaner.stop();
            assert!(!waiting.join().unwrap(), "a wait of an hour is over at once");
        });
        assert!(!Throttle::new(&cleaner, None).go_on(1));
    }
}
