//! Reading what is in the store: by threads of its own, through the cache. Whoever asks is never kept waiting: what is not
//! in the cache is on its way, and who asked is told when it is there.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fastlog_log::AbortedTxn;
use fastlog_sys::panics::vital;
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use crate::cache::{Cache, CachedChunk};
use crate::indexes::Lookup;
use crate::manifest::Entry;
use crate::store::Store;
use crate::tier::Tier;

/// Chunks read ahead of a reader, on that many threads: while one is sent the next are on their way.
const AHEAD: usize = 4;
/// Requests for chunks that wait. Whoever comes then asks again.
const WAITING_MAX: usize = 256;
/// What failed is not asked for again for so long: those who asked hear of it meanwhile.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// Told when what was asked for came, or failed.
pub type Wake = Arc<dyn Fn() + Send + Sync>;
type Call = Box<dyn FnOnce(&Reader) + Send>;

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Found<T> {
    /// It is here.
    Here(T),
    /// It is on its way: the reader is told.
    Coming,
    /// It could not be read, or is not what was stored.
    Failed,
}

/// Batches that are in the cache.
#[derive(Clone, Debug)]
pub struct Range {
    /// The chunk they lie in.
    pub chunk: Arc<CachedChunk>,
    /// Their first byte in its file.
    pub position: usize,
    /// How many bytes; whole batches.
    pub length: usize,
    /// The offset after the last of them.
    pub next_offset: i64,
}

enum Job {
    /// The chunk that holds the offset, or only the lookup.
    Read {
        prefix: String,
        entry: Entry,
        offset: Option<i64>,
    },
    Call(Call),
}

type Asked = (Uuid, Option<i64>);

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// What is asked for, and who waits for it.
    asked: HashMap<Asked, Vec<Wake>>,
    failed: HashMap<Asked, Instant>,
    is_stopped: bool,
}

/// Reads from a store.
pub struct Reader {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Cache,
    queue: Mutex<Queue>,
    came: Condvar,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("store", &self.store).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of `store`, without threads yet.
    pub fn new(store: Arc<dyn Store>, cache: Cache) -> Arc<Self> {
        Arc::new(Self { store, cache, queue: Mutex::default(), came: Condvar::new() })
    }

    /// Starts its threads; they end after `stop`.
    pub fn start(self: &Arc<Self>) -> io::Result<Vec<JoinHandle<()>>> {
        let start = |number| {
            let reader = Arc::clone(self);
            let name = format!("fastlog-tiers-{number}");
            std::thread::Builder::new().name(name).spawn(vital(move || while reader.run_one(true) {}))
        };
        (0..AHEAD).map(start).collect()
    }

    /// Ends its threads, each after what it is at; what waits is dropped.
    pub fn stop(&self) {
        let mut queue = self.queue.lock();
        queue.is_stopped = true;
        queue.jobs.clear();
        drop(queue);
        self.came.notify_all();
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Batches from the one that holds `offset` on, or the first behind it, up to `max_bytes` and below offset `bound`;
    /// `at_least_one`: the first batch is given whole even when it is larger. `None` = no room, or nothing below the bound.
    /// Never blocks.
    pub fn read(
        &self,
        tier: &Tier,
        offset: i64,
        bound: i64,
        max_bytes: usize,
        at_least_one: bool,
        wake: &Wake,
    ) -> Found<Option<Range>> {
        let manifest = tier.manifest();
        let Some(entry) = manifest.holding(offset) else { return Found::Failed };
        let Some((lookup, number)) = self.chunk_of(entry, offset) else {
            return self.ask(tier.prefix(), entry, Some(offset), Some(wake));
        };
        let Some(chunk) = self.cache.chunk(entry.id, number) else {
            return self.ask(tier.prefix(), entry, Some(offset), Some(wake));
        };
        self.read_ahead(tier.prefix(), entry, &lookup, number);
        // what an unclean election cut off is in the object still
        let end = entry.next_offset;
        if let Some(range) = range_of(&chunk, offset..end, bound, max_bytes, at_least_one) {
            return Found::Here(range);
        }
        // a gap: no batch from the offset on is in this chunk
        let next = lookup.chunks.get(number + 1).map_or(end, |next| next.base_offset.min(end));
        if next >= bound || manifest.holding(next).is_none() {
            return Found::Here(None);
        }
        self.read(tier, next, bound, max_bytes, at_least_one, wake)
    }

    /// Whether a `read` would bring something now: batches, or the news that they cannot be read.
    pub fn is_ready(&self, tier: &Tier, offset: i64) -> bool {
        let manifest = tier.manifest();
        let Some(entry) = manifest.holding(offset) else { return true };
        let is_here = self.chunk_of(entry, offset).is_some_and(|(_, it)| self.cache.has_chunk(entry.id, it));
        is_here || self.has_failed((entry.id, Some(offset)))
    }

    /// Aborted transactions of which a reader of `[from, to)` may see records, as far as the store has them; and whether
    /// later segments may have more. Never blocks.
    pub fn aborted(&self, tier: &Tier, from: i64, to: i64, wake: &Wake) -> Found<(Vec<AbortedTxn>, bool)> {
        let manifest = tier.manifest();
        let mut found = Vec::new();
        for entry in manifest.from(from).filter(|it| it.aborted_count > 0) {
            let Some(lookup) = self.cache.lookup(entry.id) else {
                return self.ask(tier.prefix(), entry, None, Some(wake));
            };
            // one whose marker was cut off may have ended in another way
            let overlaps = |txn: &&AbortedTxn| {
                txn.last_offset >= from && txn.first_offset < to && txn.last_offset < entry.next_offset
            };
            found.extend(lookup.aborted.iter().filter(overlaps));
            if lookup.aborted.last().is_some_and(|txn| txn.last_stable_offset >= to) {
                return Found::Here((found, false));
            }
        }
        Found::Here((found, true))
    }

    /// Has `work` done by a thread that may wait for the store. False = too much waits, or it was stopped.
    pub fn call(&self, work: impl FnOnce(&Self) + Send + 'static) -> bool {
        let mut queue = self.queue.lock();
        if queue.is_stopped || queue.jobs.len() >= WAITING_MAX {
            return false;
        }
        queue.jobs.push_back(Job::Call(Box::new(work)));
        self.came.notify_one();
        true
    }

    fn chunk_of(&self, entry: &Entry, offset: i64) -> Option<(Arc<Lookup>, usize)> {
        let lookup = self.cache.lookup(entry.id)?;
        let number = lookup.chunk_for(offset)?;
        Some((lookup, number))
    }

    fn read_ahead(&self, prefix: &str, entry: &Entry, lookup: &Lookup, number: usize) {
        for (ahead, chunk) in lookup.chunks.iter().enumerate().skip(number + 1).take(AHEAD) {
            if !self.cache.has_chunk(entry.id, ahead) {
                let _later: Found<()> = self.ask(prefix, entry, Some(chunk.base_offset), None);
            }
        }
    }

    fn has_failed(&self, asked: Asked) -> bool {
        self.queue.lock().failed.get(&asked).is_some_and(|when| when.elapsed() < FAILED_FOR)
    }

    fn ask<T>(&self, prefix: &str, entry: &Entry, offset: Option<i64>, wake: Option<&Wake>) -> Found<T> {
        let asked = (entry.id, offset);
        if self.has_failed(asked) {
            return Found::Failed;
        }
        let mut queue = self.queue.lock();
        let is_full = queue.jobs.len() >= WAITING_MAX;
        let is_new = !queue.asked.contains_key(&asked);
        if is_new && (is_full || queue.is_stopped) {
            return Found::Coming;
        }
        let waiting = queue.asked.entry(asked).or_default();
        if let Some(wake) = wake.filter(|wake| !waiting.iter().any(|it| Arc::ptr_eq(it, wake))) {
            waiting.push(Arc::clone(wake));
        }
        if is_new {
            queue.jobs.push_back(Job::Read { prefix: prefix.to_owned(), entry: entry.clone(), offset });
            self.came.notify_one();
        }
        Found::Coming
    }

    /// Does what is next; `waits`: for something to do. False = there was nothing, or it was stopped.
    pub fn run_one(&self, waits: bool) -> bool {
        let mut queue = self.queue.lock();
        let job = loop {
            match queue.jobs.pop_front() {
                Some(job) => break job,
                None if queue.is_stopped || !waits => return false,
                None => self.came.wait(&mut queue),
            }
        };
        drop(queue);
        match job {
            Job::Call(call) => call(self),
            Job::Read { prefix, entry, offset } => self.run_read(&prefix, &entry, offset),
        }
        true
    }

    fn run_read(&self, prefix: &str, entry: &Entry, offset: Option<i64>) {
        let read = self.load(prefix, entry, offset);
        let mut queue = self.queue.lock();
        queue.failed.retain(|_, when| when.elapsed() < FAILED_FOR);
        if let Err(error) = read {
            queue.failed.insert((entry.id, offset), Instant::now());
            tracing::warn!(%error, segment = entry.base_offset, prefix, "a segment in the object store could not be read");
        }
        let waiting = queue.asked.remove(&(entry.id, offset)).unwrap_or_default();
        drop(queue);
        waiting.iter().for_each(|wake| wake());
    }
}

fn range_of(
    chunk: &Arc<CachedChunk>,
    offsets: std::ops::Range<i64>,
    bound: i64,
    max_bytes: usize,
    at_least_one: bool,
) -> Option<Option<Range>> {
    let first = chunk.places.partition_point(|place| place.last_offset < offsets.start);
    let place = chunk.places.get(first).filter(|place| place.last_offset < offsets.end)?;
    let (start, bound) = (place.position as usize, bound.min(offsets.end));
    let (mut end, mut next_offset) = (start, offsets.start);
    for (number, place) in chunk.places.iter().enumerate().skip(first) {
        let next = chunk.places.get(number + 1).map_or(chunk.length, |next| next.position as usize);
        let has_room = next - start <= max_bytes || (number == first && at_least_one);
        if place.last_offset >= bound || !has_room {
            break;
        }
        (end, next_offset) = (next, place.last_offset + 1);
    }
    let range = Range { chunk: Arc::clone(chunk), position: start, length: end - start, next_offset };
    Some((end > start).then_some(range))
}
