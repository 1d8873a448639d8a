//! Kafka's quotas of tiered storage (KIP-956): how many bytes a second a broker puts into the store, and reads from it.
//!
//! A store around another one. Who is over the quota waits on the thread that asks: the one that uploads, or those that
//! read for consumers, whose fetches meanwhile wait as for what is on its way.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::error::StoreError;
use crate::store::{Listed, Store};
use crate::upload;

/// Stands for no quota.
const UNLIMITED: u64 = u64::MAX;
/// What is not used in so long is lost: who was idle for an hour may not take an hour's bytes at once.
const SAVED: Duration = Duration::from_secs(1);
const STOPPED: &str = "the broker stops";

/// A number of bytes a second.
#[derive(Debug)]
struct Quota {
    bytes_per_second: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    /// Until when what went is paid for.
    paid_until: Instant,
    is_stopped: bool,
}

impl Quota {
    fn new() -> Self {
        let state = State { paid_until: Instant::now(), is_stopped: false };
        Self { bytes_per_second: UNLIMITED.into(), state: Mutex::new(state), changed: Condvar::new() }
    }

    fn set(&self, bytes_per_second: Option<u64>) {
        let rate = bytes_per_second.unwrap_or(UNLIMITED).max(1);
        if self.bytes_per_second.swap(rate, Ordering::Relaxed) != rate {
            // what went by the old one is forgiven
            self.state.lock().paid_until = Instant::now();
            self.changed.notify_all();
        }
    }

    fn stop(&self) {
        self.state.lock().is_stopped = true;
        self.changed.notify_all();
    }

    /// Waits until what went before is paid for, and notes `bytes`. False = it was stopped.
    fn take(&self, bytes: u64) -> bool {
        let mut state = self.state.lock();
        loop {
            let now = Instant::now();
            let rate = self.bytes_per_second.load(Ordering::Relaxed);
            if state.is_stopped || rate == UNLIMITED {
                return !state.is_stopped;
            }
            if state.paid_until <= now {
                let from = state.paid_until.max(now.checked_sub(SAVED).unwrap_or(now));
                state.paid_until = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
                return true;
            }
            let until = state.paid_until;
            let _woken = self.changed.wait_until(&mut state, until);
        }
    }
}

/// A store with quotas.
#[derive(Debug)]
pub struct LimitedStore {
    inner: Arc<dyn Store>,
    copy: Quota,
    fetch: Quota,
}

impl LimitedStore {
    /// `inner`, without limits yet.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, copy: Quota::new(), fetch: Quota::new() }
    }

    /// How many bytes a second are put and read, from now on; `None` = any number.
    pub fn set_limits(&self, copy: Option<u64>, fetch: Option<u64>) {
        self.copy.set(copy);
        self.fetch.set(fetch);
    }

    /// Ends all waits, and refuses what would come after them.
    pub fn stop(&self) {
        self.copy.stop();
        self.fetch.stop();
    }
}

impl Store for LimitedStore {
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError> {
        let mut paced = parts.map(|part| {
            let part = part?;
            if self.copy.take(part.len() as u64) { Ok(part) } else { Err(io::Error::other(STOPPED)) }
        });
        self.inner.put(key, length, &mut paced)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.inner.create(key, bytes)
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        // manifests and indexes are small, and who deletes and uploads by them is not to wait for readers
        if upload::is_log(key) && !self.fetch.take(range.end.saturating_sub(range.start)) {
            let (key, reason) = (key.to_owned(), STOPPED.to_owned());
            return Err(StoreError::Failed { what: "get", key, reason });
        }
        self.inner.get(key, range)
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.inner.size(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.inner.delete(key)
    }

    fn remove_unfinished(&self, prefix: &str) -> Result<(), StoreError> {
        self.inner.remove_unfinished(prefix)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(prefix)
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        self.inner.list_after(prefix, key)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        self.inner.prepare()
    }

    fn stays(&self) -> Duration {
        self.inner.stays()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_is_paid_for_before_more_goes_and_a_stop_ends_the_wait() {
        let quota = Quota::new();
        let began = Instant::now();
        assert!(quota.take(u64::MAX), "nothing is set");
        quota.set(Some(1_000_000));
        // the first goes at once, and with it what was saved up before
        (0..5).for_each(|_| assert!(quota.take(50_000)));
        assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
        quota.set(Some(1));
        assert!(quota.take(3_600));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| quota.take(1));
            quota.stop();
            assert!(!waiting.join().unwrap(), "a wait of an hour is over at once");
        });
    }

    #[test]
    fn another_rate_counts_at_once() {
        let quota = Quota::new();
        quota.set(Some(1));
        assert!(quota.take(3_600));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| quota.take(1));
            quota.set(Some(1_000_000));
            assert!(waiting.join().unwrap());
        });
    }
}
