//! The cache of what was read from the store: chunks in files in memory, which are sent like those of local segments, and
//! lookups. Bounded by bytes; what was not used for longest goes first. What somebody still sends stays until it is sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use fastlog_log::FileHandle;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::chunks::BatchPlace;
use crate::indexes::Lookup;

/// Files that chunks may hold at most, be there ever so many descriptors: of segments of a few bytes there are many.
const FILES_MAX: usize = 1024;
/// And so much of the process's descriptors: half are for logs, the others for connections.
const FILES_PART: u64 = 8;

/// A chunk, verified.
#[derive(Debug)]
pub struct CachedChunk {
    /// Its bytes, from position 0 on.
    pub file: Arc<dyn FileHandle>,
    /// How many.
    pub length: usize,
    /// Where its batches are.
    pub places: Vec<BatchPlace>,
}

/// What is cached: chunk numbers count from 0 in their upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Key {
    Lookup(Uuid),
    Chunk(Uuid, usize),
}

#[derive(Clone, Debug)]
enum Cached {
    Lookup(Arc<Lookup>),
    Chunk(Arc<CachedChunk>),
}

impl Cached {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Lookup(lookup) => lookup.size_bytes(),
            Self::Chunk(chunk) => chunk.length + size_of_val(chunk.places.as_slice()),
        }
    }
}

#[derive(Debug, Default)]
struct Contents {
    entries: HashMap<Key, (Cached, u64)>,
    /// By when they were last used.
    used: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    bytes_max: usize,
    files_max: usize,
    contents: Mutex<Contents>,
}

impl Cache {
    /// One that holds at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        let part = fastlog_sys::limits::open_files_max().map(|limit| limit / FILES_PART);
        let files_max = part.and_then(|it| usize::try_from(it).ok()).unwrap_or(FILES_MAX).min(FILES_MAX);
        Self { bytes_max, files_max, contents: Mutex::default() }
    }

    /// Bytes held now.
    pub fn size_bytes(&self) -> usize {
        self.contents.lock().bytes
    }

    pub(crate) fn lookup(&self, id: Uuid) -> Option<Arc<Lookup>> {
        match self.contents.lock().get(Key::Lookup(id))? {
            Cached::Lookup(lookup) => Some(lookup),
            Cached::Chunk(_) => None,
        }
    }

    pub(crate) fn chunk(&self, id: Uuid, number: usize) -> Option<Arc<CachedChunk>> {
        match self.contents.lock().get(Key::Chunk(id, number))? {
            Cached::Chunk(chunk) => Some(chunk),
            Cached::Lookup(_) => None,
        }
    }

    pub(crate) fn has_chunk(&self, id: Uuid, number: usize) -> bool {
        self.contents.lock().entries.contains_key(&Key::Chunk(id, number))
    }

    pub(crate) fn put_lookup(&self, id: Uuid, lookup: Arc<Lookup>) {
        self.put(Key::Lookup(id), Cached::Lookup(lookup));
    }

    pub(crate) fn put_chunk(&self, id: Uuid, number: usize, chunk: Arc<CachedChunk>) {
        self.put(Key::Chunk(id, number), Cached::Chunk(chunk));
    }

    /// The newest two stay even where they are larger than the bound: else a batch of such a size, found by its lookup,
    /// could never be read.
    fn put(&self, key: Key, cached: Cached) {
        let mut contents = self.contents.lock();
        contents.remove(key);
        contents.bytes += cached.size_bytes();
        contents.clock += 1;
        let now = contents.clock;
        contents.used.insert(now, key);
        contents.entries.insert(key, (cached, now));
        while contents.entries.len() > 2
            && (contents.bytes > self.bytes_max || contents.entries.len() > self.files_max)
        {
            let Some(oldest) = contents.used.first_key_value().map(|(_, key)| *key) else { break };
            contents.remove(oldest);
        }
    }
}

impl Contents {
    fn get(&mut self, key: Key) -> Option<Cached> {
        self.clock += 1;
        let now = self.clock;
        let (cached, used) = self.entries.get_mut(&key)?;
        let before = std::mem::replace(used, now);
        let cached = cached.clone();
        self.used.remove(&before);
        self.used.insert(now, key);
        Some(cached)
    }

    fn remove(&mut self, key: Key) {
        if let Some((cached, used)) = self.entries.remove(&key) {
            self.used.remove(&used);
            self.bytes -= cached.size_bytes();
        }
    }
}
