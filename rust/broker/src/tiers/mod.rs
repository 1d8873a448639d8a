//! Tiered storage of a broker: the object store, and those who read from it.

mod looks;
mod partition;

pub(crate) use looks::News;
pub(crate) use partition::{Begin, Limits, PartitionTier, UNREADABLE, file_range};

use fastlog_tiers::{Cache, KnownStore, LimitedStore, ObjectStore, Reader, Store, StoreError};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// The object store of a broker, with threads that read from it.
pub struct Tiers {
    known: Arc<KnownStore>,
    store: Arc<LimitedStore>,
    reader: Arc<Reader>,
    is_clustered: bool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    is_stopped: AtomicBool,
    /// At which partition the next turn begins.
    pub(crate) turn: AtomicUsize,
}

impl fmt::Debug for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiers").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Tiers {
    /// Opens the store at `url` (`fastlog.remote.store.url`); of what was read at most `cache_bytes` are kept. Asks
    /// nothing of the store. `is_clustered`: other brokers lead and follow the same partitions.
    pub fn open(url: &str, cache_bytes: usize, is_clustered: bool) -> Result<Arc<Self>, StoreError> {
        let fails = |error: io::Error| StoreError::Failed {
            what: "open",
            key: url.to_owned(),
            reason: error.to_string(),
        };
        Self::of(Arc::new(ObjectStore::open(url)?), cache_bytes, is_clustered).map_err(fails)
    }

    /// The same on a store that is open.
    pub fn of(store: Arc<dyn Store>, cache_bytes: usize, is_clustered: bool) -> io::Result<Arc<Self>> {
        let known = Arc::new(KnownStore::new(store));
        let store = Arc::new(LimitedStore::new(Arc::clone(&known) as Arc<dyn Store>));
        let reader = Reader::new(Arc::clone(&store) as Arc<dyn Store>, Cache::new(cache_bytes));
        let threads = Mutex::new(reader.start()?);
        Ok(Arc::new(Self {
            known,
            store,
            reader,
            is_clustered,
            threads,
            is_stopped: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
        }))
    }

    /// Which store it is.
    pub(crate) fn known(&self) -> &KnownStore {
        &self.known
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn store_handle(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    /// How many bytes a second go to the store and come from it, from now on; `None` = any number.
    pub fn set_limits(&self, copy: Option<u64>, fetch: Option<u64>) {
        self.store.set_limits(copy, fetch);
    }

    pub(crate) fn is_clustered(&self) -> bool {
        self.is_clustered
    }

    pub(crate) fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// Ends uploads after the segment that they are at, and refuses reads.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.store.stop();
        self.reader.stop();
    }

    /// Whether it was stopped.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.stop();
        // by one of them, where a lookup was the last to hold the broker
        let me = std::thread::current().id();
        for thread in self.threads.lock().drain(..).filter(|it| it.thread().id() != me) {
            // what ended it was told by `vital`
            let _ended = thread.join();
        }
    }
}
