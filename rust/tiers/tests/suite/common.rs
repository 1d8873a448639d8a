//! A partition with closed segments, in memory, and its tier.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use fastlog_log::{ClosedSegment, EpochStart, RealFileSystem};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_tiers::{
    Cache, Entry, Found, Local, Manifest, Place, Reader, Store, Tier, TierError, Wake, Writer,
};
use uuid::Uuid;

pub(crate) const TOPIC_ID: Uuid = Uuid::from_u128(7);
pub(crate) const WRITER: Writer = Writer { node_id: 1, leader_epoch: 3, is_clustered: false };

pub(crate) fn place() -> Place {
    Place { topic: "orders".to_owned(), topic_id: TOPIC_ID, partition: 2 }
}

/// One segment of the log.
#[derive(Clone)]
pub(crate) struct Closed {
    pub(crate) base_offset: i64,
    pub(crate) next_offset: i64,
    pub(crate) bytes: Vec<u8>,
}

/// A segment of batches, each of so many records with values of so many bytes; timestamps are offsets.
pub(crate) fn segment(base_offset: i64, batches: &[(i64, usize)]) -> Closed {
    let mut offset = base_offset;
    let mut bytes = Vec::new();
    for (count, size) in batches {
        let mut builder = Builder::new().base_offset(offset).leader_epoch(3);
        for record in 0..*count {
            let value = vec![(offset + record) as u8; *size];
            builder.append(offset + record, None, Some(&value));
        }
        bytes.extend(builder.seal(Compression::None).unwrap());
        offset += count;
    }
    Closed { base_offset, next_offset: offset, bytes }
}

impl Closed {
    pub(crate) fn source(&self) -> ClosedSegment {
        let file = fastlog_sys::memory_file::in_memory("segment", &self.bytes).unwrap();
        ClosedSegment {
            base_offset: self.base_offset,
            next_offset: self.next_offset,
            position: 0,
            size_bytes: self.bytes.len() as u64,
            log: RealFileSystem::handle(file),
            offset_index: vec![1; 16],
            time_index: vec![2; 24],
            txn_index: Vec::new(),
            snapshot: vec![3; 10],
            epochs: vec![EpochStart { epoch: 3, start_offset: 0 }],
        }
    }
}

/// The side of the broker: its local segments, and its copy of the manifest.
#[derive(Default)]
pub(crate) struct Broker {
    pub(crate) segments: Vec<Closed>,
    pub(crate) copy: Mutex<Option<Vec<u8>>>,
}

impl Broker {
    pub(crate) fn with<T>(&self, work: impl FnOnce(&Local<'_>) -> T) -> T {
        let save = |bytes: &[u8]| {
            *self.copy.lock().unwrap() = Some(bytes.to_vec());
            Ok(())
        };
        let has = |entry: &Entry| {
            self.segments.iter().any(|it| {
                (it.base_offset, it.next_offset, it.bytes.len() as u64)
                    == (entry.base_offset, entry.next_offset, entry.log_bytes)
            })
        };
        let agreed = |it: &Manifest| it.end_offset().unwrap_or(0);
        work(&Local { save: &save, has: &has, agreed: &agreed, leads: &|| true })
    }

    /// The tier as a new run finds it.
    pub(crate) fn tier(&self) -> Tier {
        Tier::new(place(), self.copy.lock().unwrap().as_deref()).unwrap()
    }

    pub(crate) fn add(&self, tier: &Tier, store: &dyn Store, segment: &Closed) -> Result<(), TierError> {
        self.with(|local| tier.add(store, WRITER, &segment.source(), local))
    }

    pub(crate) fn attach(&self, tier: &Tier, store: &dyn Store) -> Result<(), TierError> {
        self.with(|local| tier.attach(store, WRITER, local))
    }

    pub(crate) fn trim(&self, tier: &Tier, store: &dyn Store, start: i64) -> Result<usize, TierError> {
        self.with(|local| tier.trim(store, WRITER, start, local))
    }
}

pub(crate) fn reader(store: &Arc<impl Store + 'static>, cache_bytes: usize) -> Arc<Reader> {
    Reader::new(Arc::clone(store) as Arc<dyn Store>, Cache::new(cache_bytes))
}

/// A wake that counts.
pub(crate) fn counted() -> (Wake, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    (Arc::new(move || _ = counter.fetch_add(1, Ordering::SeqCst)), count)
}

/// Reads all from `offset` to `end`, at most `max_bytes` at once, as a consumer would; `None` when something failed.
pub(crate) fn read_all(
    reader: &Reader,
    tier: &Tier,
    offset: i64,
    end: i64,
    max_bytes: usize,
) -> Option<Vec<u8>> {
    let (wake, _) = counted();
    let (mut offset, mut bytes) = (offset, Vec::new());
    while offset < end {
        match reader.read(tier, offset, end, max_bytes, true, &wake) {
            Found::Here(Some(range)) => {
                let mut part = vec![0; range.length];
                range.chunk.file.read_at(&mut part, range.position as u64).unwrap();
                bytes.extend(part);
                assert!(range.next_offset > offset);
                offset = range.next_offset;
            }
            Found::Here(None) => break,
            Found::Coming => assert!(reader.run_one(false), "nothing is on its way"),
            Found::Failed => return None,
        }
    }
    Some(bytes)
}

/// The bytes of what the manifest names, as the local segments have them.
pub(crate) fn expected(manifest: &Manifest, segments: &[Closed]) -> Vec<u8> {
    let find = |base| segments.iter().find(|it| it.base_offset == base).unwrap();
    manifest.segments.iter().flat_map(|it| find(it.base_offset).bytes.clone()).collect()
}
