//! Several brokers and one store: each may be stopped before any request of its, while others lead, upload, delete and sweep,
//! die, and go on; a request whose answer was lost may be carried out much later. What the store names is always there and
//! is the history of the log, no record is lost, and in the end nobody's strays are left.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fastlog_log::lineage::common_end;
use fastlog_log::{ClosedSegment, EpochStart, RealFileSystem};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use fastlog_tiers::memory::MemoryStore;
use fastlog_tiers::store::Listed;
use fastlog_tiers::{Local, Manifest, Store, StoreError, Tier, TierError, Writer};

use crate::common::{place, read_all, reader};

const NODES: usize = 3;

/// What a seed chooses.
#[derive(Debug)]
struct Chance(Mutex<u64>);

impl Chance {
    fn below(&self, limit: usize) -> usize {
        let mut state = self.0.lock().unwrap();
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*state >> 33) as usize % limit
    }

    fn is_one_in(&self, count: usize) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Batch {
    base_offset: i64,
    next_offset: i64,
    epoch: i32,
    bytes: Vec<u8>,
}

/// A log, as long as it is: batches, and where its segments begin, which is each replica's own.
#[derive(Clone, Debug, Default)]
struct Log {
    batches: Vec<Batch>,
    borders: Vec<i64>,
}

impl Log {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |it| it.next_offset)
    }

    fn epochs(&self) -> Vec<EpochStart> {
        let mut all: Vec<EpochStart> = Vec::new();
        for it in &self.batches {
            if all.last().is_none_or(|last| last.epoch < it.epoch) {
                all.push(EpochStart { epoch: it.epoch, start_offset: it.base_offset });
            }
        }
        all
    }

    fn agreed_end(&self, manifest: &Manifest) -> i64 {
        let offsets = manifest.start_offset().zip(manifest.end_offset());
        offsets.map_or(0, |(start, end)| {
            common_end(&self.epochs(), &manifest.epochs(), start, end.min(self.end()))
        })
    }

    fn bytes(&self, offsets: Range<i64>) -> Vec<u8> {
        let within = |it: &&Batch| offsets.contains(&it.base_offset);
        self.batches.iter().filter(within).flat_map(|it| it.bytes.clone()).collect()
    }

    /// What is full and begins at `from`, or within what does.
    fn closed(&self, from: i64) -> Option<ClosedSegment> {
        let next_offset = *self.borders.iter().find(|it| **it > from)?;
        let bytes = self.bytes(from..next_offset);
        let file = fastlog_sys::memory_file::in_memory("segment", &bytes).unwrap();
        let epochs = self.epochs();
        let first = epochs.iter().rposition(|it| it.start_offset <= from).unwrap_or(0);
        let within = epochs.into_iter().skip(first).take_while(|it| it.start_offset < next_offset);
        Some(ClosedSegment {
            base_offset: from,
            next_offset,
            position: 0,
            size_bytes: bytes.len() as u64,
            log: RealFileSystem::handle(file),
            offset_index: Vec::new(),
            time_index: Vec::new(),
            txn_index: Vec::new(),
            snapshot: Vec::new(),
            epochs: within.collect(),
        })
    }
}

#[derive(Debug)]
struct Node {
    tier: Mutex<Arc<Tier>>,
    copy: Mutex<Option<Vec<u8>>>,
    log: Mutex<Log>,
    log_start: AtomicI64,
    /// Where its disk begins.
    local_start: AtomicI64,
    /// The epoch in which it thinks that it leads; −1 = in none.
    leads_in: AtomicI32,
    is_busy: AtomicBool,
    is_dead: AtomicBool,
}

/// A request that is on its way still.
type Late = Box<dyn FnOnce(&MemoryStore) + Send>;

struct World {
    store: Arc<MemoryStore>,
    nodes: Vec<Node>,
    chance: Chance,
    epoch: AtomicI32,
    leader: AtomicUsize,
    late: Mutex<Vec<Late>>,
    depth: AtomicUsize,
    /// An unclean election may make a leader of one that was away.
    is_unclean: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// The store, as a broker reaches it: others act before each of its requests.
#[derive(Clone, Debug)]
struct Reached {
    world: Arc<World>,
    node: usize,
}

impl Reached {
    fn request<T>(&self, what: impl FnOnce(&MemoryStore) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.world.others_act();
        if self.world.nodes[self.node].is_dead.load(SeqCst) {
            return Err(self.lost());
        }
        what(&self.world.store)
    }

    /// One that changes something: it may be lost, or carried out later, or its answer is lost.
    fn change(
        &self,
        what: impl FnOnce(&MemoryStore) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        self.request(|store| {
            if !self.world.chance.is_one_in(12) {
                return what(store);
            }
            match self.world.chance.below(3) {
                0 => {}
                1 => drop(what(store)),
                _ => self.world.late.lock().unwrap().push(Box::new(|store| drop(what(store)))),
            }
            Err(self.lost())
        })
    }

    fn lost(&self) -> StoreError {
        StoreError::Failed { what: "reach", key: "the store".to_owned(), reason: "no answer".to_owned() }
    }
}

impl Store for Reached {
    fn put(
        &self,
        key: &str,
        length: u64,
        parts: &mut dyn Iterator<Item = io::Result<Bytes>>,
    ) -> Result<(), StoreError> {
        let parts: Vec<_> = parts.map(Result::unwrap).collect();
        let key = key.to_owned();
        self.change(move |store| store.put(&key, length, &mut parts.into_iter().map(Ok)))
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.change(move |store| store.create(&key, bytes))
    }

    fn get(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.request(|store| store.get(key, range))
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.request(|store| store.size(key))
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        let key = key.to_owned();
        self.change(move |store| store.delete(&key))
    }

    fn remove_unfinished(&self, _prefix: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, StoreError> {
        self.request(|store| store.list(prefix))
    }

    fn list_after(&self, prefix: &str, key: &str) -> Result<Vec<Listed>, StoreError> {
        self.request(|store| store.list_after(prefix, key))
    }
}

impl World {
    fn new(seed: u64, is_unclean: bool) -> Arc<Self> {
        let node = |_| Node {
            tier: Mutex::new(Arc::new(Tier::new(place(), None).unwrap())),
            copy: Mutex::default(),
            log: Mutex::default(),
            log_start: AtomicI64::new(0),
            local_start: AtomicI64::new(0),
            leads_in: AtomicI32::new(-1),
            is_busy: AtomicBool::new(false),
            is_dead: AtomicBool::new(false),
        };
        let world = Self {
            store: Arc::default(),
            nodes: (0..NODES).map(node).collect(),
            chance: Chance(Mutex::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)),
            epoch: AtomicI32::new(0),
            leader: AtomicUsize::new(0),
            late: Mutex::default(),
            depth: AtomicUsize::new(0),
            is_unclean,
        };
        world.nodes[0].leads_in.store(0, SeqCst);
        Arc::new(world)
    }

    fn others_act(self: &Arc<Self>) {
        let depth = self.depth.load(SeqCst);
        if depth > 3 || !self.chance.is_one_in(5 + 5 * depth) {
            return;
        }
        for _ in 0..=self.chance.below(6) {
            self.act();
        }
    }

    fn act(self: &Arc<Self>) {
        let node = self.chance.below(NODES);
        match self.chance.below(12) {
            0..=2 => self.append(),
            3 => self.elect(node),
            4 => self.tell(node),
            5 => self.crash(node),
            6 => self.retain(node),
            7 => {
                let late = self.late.lock().unwrap().pop();
                late.into_iter().for_each(|late| late(&self.store));
            }
            _ => self.turn(node),
        }
    }

    /// The leader takes records. Who is in sync has them at once; an unclean world has one that may not be.
    fn append(&self) {
        let (leader, epoch) = (self.leader.load(SeqCst), self.epoch.load(SeqCst));
        let base_offset = self.nodes[leader].log.lock().unwrap().end();
        let count = 1 + self.chance.below(3) as i64;
        let mut builder = Builder::new().base_offset(base_offset).leader_epoch(epoch);
        for it in 0..count {
            builder.append(base_offset + it, None, Some(format!("{epoch}").as_bytes()));
        }
        let bytes = builder.seal(Compression::None).unwrap();
        let batch = Batch { base_offset, next_offset: base_offset + count, epoch, bytes };
        for number in 0..NODES {
            let is_away = self.is_unclean && number != leader && self.chance.is_one_in(3);
            if number == leader {
                self.add(number, batch.clone());
            } else if !is_away && self.nodes[number].leads_in.load(SeqCst) < 0 {
                self.sync(number);
            }
        }
    }

    fn add(&self, number: usize, batch: Batch) {
        let mut log = self.nodes[number].log.lock().unwrap();
        if self.chance.is_one_in(3) {
            log.borders.push(batch.base_offset);
        }
        log.batches.push(batch);
    }

    /// A follower comes to have what its leader has, as followers do: cut where the histories part.
    fn sync(&self, number: usize) {
        let leader = self.leader.load(SeqCst);
        if number == leader {
            return;
        }
        let theirs = self.nodes[leader].log.lock().unwrap().clone();
        let node = &self.nodes[number];
        let common = {
            let mut log = node.log.lock().unwrap();
            let same =
                log.batches.iter().zip(&theirs.batches).take_while(|(one, other)| one == other).count();
            let common = log.batches[..same].last().map_or(0, |it| it.next_offset);
            if common < log.end() {
                log.batches.truncate(same);
                log.borders.retain(|it| *it < common);
                node.tier.lock().unwrap().cut(common);
                node.local_start.fetch_min(common, SeqCst);
            }
            common
        };
        let missing = theirs.batches.iter().filter(|it| it.base_offset >= common);
        missing.for_each(|it| self.add(number, it.clone()));
    }

    fn elect(&self, number: usize) {
        if !self.is_unclean {
            self.sync(number);
        }
        if self.nodes[number].is_dead.load(SeqCst) {
            return;
        }
        self.leader.store(number, SeqCst);
        let epoch = self.epoch.fetch_add(1, SeqCst) + 1;
        self.nodes[number].leads_in.store(epoch, SeqCst);
    }

    /// One that led hears that it does not.
    fn tell(&self, number: usize) {
        if number != self.leader.load(SeqCst) {
            self.nodes[number].leads_in.store(-1, SeqCst);
            self.sync(number);
        }
    }

    fn crash(&self, number: usize) {
        let node = &self.nodes[number];
        if number == self.leader.load(SeqCst) {
            let others = (0..NODES).filter(|it| *it != number && !self.nodes[*it].is_dead.load(SeqCst));
            let Some(other) = others.into_iter().next() else { return };
            self.elect(other);
        }
        node.leads_in.store(-1, SeqCst);
        if node.is_busy.load(SeqCst) {
            // what it is at fails from here on
            node.is_dead.store(true, SeqCst);
        } else {
            self.start(number);
        }
    }

    fn start(&self, number: usize) {
        let node = &self.nodes[number];
        node.is_dead.store(false, SeqCst);
        let tier = Tier::new(place(), node.copy.lock().unwrap().as_deref()).unwrap();
        tier.cut(node.log.lock().unwrap().agreed_end(&tier.whole()));
        *node.tier.lock().unwrap() = Arc::new(tier);
        self.sync(number);
    }

    /// Retention, or DeleteRecords: by anybody who thinks that it leads, of what is uploaded.
    fn retain(&self, number: usize) {
        let node = &self.nodes[number];
        if node.leads_in.load(SeqCst) < 0 || !self.chance.is_one_in(3) {
            return;
        }
        let end = node.tier.lock().unwrap().range().map_or(0, |it| it.end_offset);
        let start = node.log_start.load(SeqCst);
        if end > start {
            node.log_start.fetch_max(start + self.chance.below((end - start) as usize + 1) as i64, SeqCst);
        }
    }

    /// What the thread of tiers does with a partition.
    fn turn(self: &Arc<Self>, number: usize) {
        let node = &self.nodes[number];
        if node.is_busy.swap(true, SeqCst) {
            return;
        }
        self.depth.fetch_add(1, SeqCst);
        let result = self.turn_of(number);
        if let Err(error @ (TierError::Conflict { .. } | TierError::Corrupt { .. })) = &result {
            panic!("node {number}: {error}");
        }
        self.depth.fetch_sub(1, SeqCst);
        node.is_busy.store(false, SeqCst);
        if node.is_dead.load(SeqCst) {
            self.start(number);
        }
    }

    fn turn_of(self: &Arc<Self>, number: usize) -> Result<(), TierError> {
        let node = &self.nodes[number];
        let store = Reached { world: Arc::clone(self), node: number };
        let tier = Arc::clone(&node.tier.lock().unwrap());
        let leader_epoch = node.leads_in.load(SeqCst);
        let save = |bytes: &[u8]| {
            if node.is_dead.load(SeqCst) {
                return Err(io::Error::other("dead"));
            }
            *node.copy.lock().unwrap() = Some(bytes.to_vec());
            Ok(())
        };
        let agreed = |it: &Manifest| node.log.lock().unwrap().agreed_end(it);
        let leads = || node.leads_in.load(SeqCst) == leader_epoch;
        let local =
            Local { save: &save, has: &|_| panic!("asked in a cluster"), agreed: &agreed, leads: &leads };
        if leader_epoch < 0 {
            tier.follow(&store, &local)?;
        } else {
            let writer = Writer { node_id: number as i32, leader_epoch, is_clustered: true };
            tier.attach(&store, writer, &local)?;
            node.log_start.fetch_max(tier.whole().log_start_offset, SeqCst);
            tier.trim(&store, writer, node.log_start.load(SeqCst), &local)?;
            let from = tier.range().map_or(node.log_start.load(SeqCst), |it| it.end_offset);
            let from = if tier.range().is_none() { self.border_before(number, from) } else { from };
            let closed = node.log.lock().unwrap().closed(from);
            if let Some(closed) = closed {
                tier.add(&store, writer, &closed, &local)?;
            }
        }
        if node.is_dead.load(SeqCst) {
            return Ok(());
        }
        tier.compare(&agreed);
        // local retention: whole segments that the store and the copy name
        let end = tier.range().map_or(0, |it| it.end_offset);
        let borders = node.log.lock().unwrap().borders.clone();
        if let Some(border) = borders.iter().rfind(|it| **it <= end) {
            node.local_start.fetch_max(*border, SeqCst);
        }
        Ok(())
    }

    fn border_before(&self, number: usize, offset: i64) -> i64 {
        let log = self.nodes[number].log.lock().unwrap();
        log.borders.iter().rfind(|it| **it <= offset).copied().unwrap_or(0)
    }

    /// The manifest in force, by the store alone.
    fn newest(&self) -> Manifest {
        let keys = self.store.keys();
        let Some(key) = keys.iter().rfind(|key| key.contains("manifest-")) else {
            return Manifest::empty(place());
        };
        let size = self.store.list(key.rsplit_once('/').unwrap().0).unwrap();
        let size = size.iter().find(|it| it.key == *key).unwrap().size_bytes;
        Manifest::decode(key, &self.store.get(key, 0..size).unwrap()).unwrap()
    }

    fn check(&self, context: &str) {
        let newest = self.newest();
        let tier = Tier::new(place(), Some(&newest.encode())).unwrap();
        let leader = &self.nodes[self.leader.load(SeqCst)];
        let log = leader.log.lock().unwrap().clone();
        let (start, end) = (newest.start_offset().unwrap_or(0), newest.end_offset().unwrap_or(0));
        if start < end {
            let agreed = log.agreed_end(&newest);
            assert!(self.is_unclean || agreed == end, "{context}: {agreed} of {newest:?}");
            // all that is named is there, also what is another history's by now
            let read = read_all(&reader(&self.store, 1 << 20), &tier, start, end, 1 << 20);
            let read =
                read.unwrap_or_else(|| panic!("{context}: not there: {newest:?} {:?}", self.store.keys()));
            let whole = log.bytes(start..agreed.max(start));
            assert_eq!(read[..whole.len().min(read.len())], whole[..], "{context}");
        }
        // What is not on a disk is in the store. Unclean elections, one after the other, may take it from both.
        if self.is_unclean {
            return;
        }
        let deleted = self.nodes.iter().map(|it| it.log_start.load(SeqCst)).max().unwrap();
        for (number, node) in self.nodes.iter().enumerate() {
            let local_start = node.local_start.load(SeqCst);
            if local_start > deleted {
                assert!(
                    start <= deleted && end >= local_start,
                    "{context}: {number} {local_start} {newest:?}"
                );
            }
        }
    }

    /// All is told, and the last leader comes to rest.
    fn settle(self: &Arc<Self>, context: &str) {
        let leader = self.leader.load(SeqCst);
        (0..NODES).for_each(|it| self.tell(it));
        for _ in 0..2000 {
            self.turn(leader);
            let log = self.nodes[leader].log.lock().unwrap().clone();
            let tier = Arc::clone(&self.nodes[leader].tier.lock().unwrap());
            let end = tier.range().map_or(self.nodes[leader].log_start.load(SeqCst), |it| it.end_offset);
            if leader != self.leader.load(SeqCst) {
                return self.settle(context);
            }
            if log.closed(end).is_none() && self.late.lock().unwrap().is_empty() && self.has_no_strays() {
                return;
            }
            // one that looks at the store anew, as a restart does, removes what came late
            if self.chance.is_one_in(4) {
                let late: Vec<Late> = self.late.lock().unwrap().drain(..).collect();
                late.into_iter().for_each(|late| late(&self.store));
                self.elect(leader);
            }
        }
        panic!("{context}: it never comes to rest: {:?}", self.store.keys());
    }

    fn has_no_strays(&self) -> bool {
        let newest = self.newest();
        let named: HashSet<_> = newest.segments.iter().map(|it| it.id.simple().to_string()).collect();
        let is_stray = |key: &String| !key.contains("manifest-") && !named.iter().any(|id| key.contains(id));
        !self.store.keys().iter().any(is_stray)
    }
}

fn run(seeds: Range<u64>, is_unclean: bool) {
    let (mut segments, mut epochs) = (0, 0);
    for seed in seeds {
        let world = World::new(seed, is_unclean);
        for step in 0..150 {
            world.act();
            world.check(&format!("seed {seed}, step {step}, unclean {is_unclean}"));
        }
        let context = format!("seed {seed}, at the end, unclean {is_unclean}");
        world.settle(&context);
        world.check(&context);
        let (newest, leader) = (world.newest(), &world.nodes[world.leader.load(SeqCst)]);
        let agreed = leader.log.lock().unwrap().agreed_end(&newest);
        assert_eq!(agreed, newest.end_offset().unwrap_or(0), "{context}: another history is left");
        segments += world.newest().segments.len();
        epochs += world.epoch.load(SeqCst);
    }
    assert!(segments > 0 && epochs > 0, "nothing happened");
}

#[test]
fn leaders_that_are_stopped_anywhere_lose_nothing_and_leave_nothing() {
    run(0..15, false);
}

#[test]
fn after_unclean_elections_the_store_has_the_leaders_history() {
    run(0..15, true);
}

#[test]
#[ignore = "the long form"]
fn of_many_seeds_none_loses_anything_or_leaves_another_history() {
    run(15..300, false);
    run(15..300, true);
}
