//! What is fetched from where, and what has been fetched but not yet taken: no sockets, threads or clocks.
//!
//! Every partition has a slot, named by its caller with a number, and a generation that the caller raises with each
//! seek. A slot gets a new ticket with each change of what is asked for or of whom; what arrives for an older ticket is
//! dropped. Fetched chunks wait in one queue per slot and are taken in
//! turn, so that one busy partition cannot starve the others. The bytes that wait are bounded per broker; within that
//! bound each slot has an equal share, above which it leaves the rounds until half of the share has been taken.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::chunk::{Chunk, Watermarks};
use crate::error::FetchError;
use fastlog_protocol::ErrorCode;
use uuid::Uuid;

/// A round that could bring less than this is not worth its request.
const ROOM_BYTES_MIN: usize = 64 << 10;

/// A partition to fetch, from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// the caller's number for the partition
    pub slot: u64,
    /// raised by the caller with each change of the position
    pub generation: u64,
    /// the topic's name
    pub topic: Arc<str>,
    /// the topic's id, nil where the cluster has none
    pub topic_id: Uuid,
    /// the partition's number
    pub partition: i32,
    /// whom to ask: the leader, or a replica that it named
    pub broker_id: i32,
    /// the leader epoch that the caller knows, −1 for none
    pub leader_epoch: i32,
    /// the next offset to fetch
    pub offset: i64,
}

/// A partition in a round.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) target: Target,
    pub(crate) ticket: u64,
    /// the leader epoch of what was fetched last, −1 if nothing was since the position was set
    pub(crate) fetched_epoch: i32,
}

/// One request's worth of partitions.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) wanted: Vec<Wanted>,
    /// the most bytes that the response may bring
    pub(crate) bytes_max: usize,
    /// how long the broker may hold the request
    pub(crate) wait_max: Duration,
}

/// What one partition's answer came to.
#[derive(Debug)]
pub(crate) enum Landed {
    /// records, or a position moved past what an application never sees
    Data { ticket: u64, chunk: Chunk },
    /// nothing but news about the log
    Nothing { slot: u64, ticket: u64, watermarks: Watermarks },
    /// an error; the slot rests until the caller sets or moves it
    Failed { slot: u64, ticket: u64, failure: PartitionFailure },
}

/// Who leads a partition now, as a broker says that does not, or not in the epoch that was named (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// the leader's id
    pub broker_id: i32,
    /// the leader epoch
    pub leader_epoch: i32,
    /// where it listens: host, port and rack; none where the broker does not say
    pub endpoint: Option<(String, i32, Option<String>)>,
}

/// Why a partition could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionFailure {
    /// Kafka's code; 0 where the broker only points elsewhere
    pub code: ErrorCode,
    /// the replica to read from instead (KIP-392)
    pub preferred_replica: Option<i32>,
    /// where the broker's log parts from what was fetched: (leader epoch, end offset)
    pub diverging: Option<(i32, i64)>,
    /// whom to ask instead
    pub leader: Option<LeaderHint>,
}

/// News for whoever steers the fetcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A partition's fetch failed; it rests until set or moved.
    Partition {
        /// the caller's number
        slot: u64,
        /// the caller's generation
        generation: u64,
        /// the offset asked for; what came before it is delivered or waits to be taken
        offset: i64,
        /// why
        failure: PartitionFailure,
    },
    /// A broker could not be reached or made no sense; its worker goes on trying with back-off.
    Broker {
        /// the broker
        broker_id: i32,
        /// why
        error: FetchError,
    },
}

#[derive(Debug)]
struct Slot {
    target: Target,
    ticket: u64,
    queue: VecDeque<Chunk>,
    /// by it a broker finds that its log is another one than that which was fetched (KIP-320, KIP-595)
    fetched_epoch: i32,
    buffered: usize,
    /// since when the slot has had its share; it is out of the rounds until half is taken
    full_since: Option<Instant>,
    /// an error or a corrupt batch ended the fetching
    resting: bool,
    watermarks: Option<Watermarks>,
}

#[derive(Debug, Default)]
struct Shelf {
    slots: Vec<u64>,
    buffered: usize,
    /// where the next round begins, so that each partition is first once
    start: usize,
}

/// All slots of one fetcher.
#[derive(Debug)]
pub(crate) struct Table {
    slots: HashMap<u64, Slot>,
    shelves: HashMap<i32, Shelf>,
    ready: VecDeque<u64>,
    events: VecDeque<Event>,
    /// the ticket given last
    ticket: u64,
    prefetch_bytes: usize,
    fetch_bytes_max: usize,
    wait_max: Duration,
}

impl Table {
    pub(crate) fn new(prefetch_bytes: usize, fetch_bytes_max: usize, wait_max: Duration) -> Self {
        Self {
            slots: HashMap::new(),
            shelves: HashMap::new(),
            ready: VecDeque::new(),
            events: VecDeque::new(),
            ticket: 0,
            prefetch_bytes,
            fetch_bytes_max,
            wait_max,
        }
    }

    /// Whether any partition is wanted from a broker.
    pub(crate) fn has(&self, broker_id: i32) -> bool {
        self.shelves.get(&broker_id).is_some_and(|shelf| !shelf.slots.is_empty())
    }

    /// Fetches a partition from `target.offset` on; drops what its slot held.
    pub(crate) fn set(&mut self, target: Target) {
        let watermarks = self.slots.get(&target.slot).and_then(|slot| slot.watermarks);
        self.remove(target.slot);
        self.shelves.entry(target.broker_id).or_default().slots.push(target.slot);
        self.ticket += 1;
        let slot = Slot {
            ticket: self.ticket,
            queue: VecDeque::new(),
            fetched_epoch: -1,
            buffered: 0,
            full_since: None,
            resting: false,
            watermarks,
            target: target.clone(),
        };
        self.slots.insert(target.slot, slot);
    }

    /// Goes on fetching a partition where its fetching stands, from another broker or with another leader epoch; keeps
    /// what waits to be taken. Returns false if the slot is unknown or of another generation.
    pub(crate) fn move_to(&mut self, slot: u64, generation: u64, broker_id: i32, leader_epoch: i32) -> bool {
        let Some(moving) = self.slots.get_mut(&slot).filter(|one| one.target.generation == generation) else {
            return false;
        };
        self.ticket += 1;
        moving.ticket = self.ticket;
        moving.resting = false;
        moving.target.leader_epoch = leader_epoch;
        let before = std::mem::replace(&mut moving.target.broker_id, broker_id);
        let buffered = moving.buffered;
        if let Some(shelf) = self.shelves.get_mut(&before) {
            shelf.slots.retain(|other| *other != slot);
            shelf.buffered = shelf.buffered.saturating_sub(buffered);
        }
        let shelf = self.shelves.entry(broker_id).or_default();
        shelf.slots.push(slot);
        shelf.buffered += buffered;
        true
    }

    /// Forgets a slot with what it held, and its news.
    pub(crate) fn remove(&mut self, slot: u64) {
        let Some(old) = self.slots.remove(&slot) else { return };
        if let Some(shelf) = self.shelves.get_mut(&old.target.broker_id) {
            shelf.slots.retain(|other| *other != slot);
            shelf.buffered = shelf.buffered.saturating_sub(old.buffered);
        }
        if !old.queue.is_empty() {
            self.ready.retain(|other| *other != slot);
        }
        self.events.retain(|event| !matches!(event, Event::Partition { slot: other, .. } if *other == slot));
    }

    /// The next request to a broker; `None` while nothing is wanted from it, or no room is left for more.
    pub(crate) fn round(&mut self, broker_id: i32, now: Instant) -> Option<Round> {
        let brokers = self.shelves.values().filter(|shelf| !shelf.slots.is_empty()).count().max(1);
        let shelf = self.shelves.get_mut(&broker_id)?;
        let share = self.prefetch_bytes / brokers;
        let room = share.saturating_sub(shelf.buffered);
        if shelf.slots.is_empty() || (room < ROOM_BYTES_MIN && shelf.buffered > 0) {
            return None;
        }
        let slot_share = share / shelf.slots.len();
        let mut wait_max = self.wait_max;
        let mut wanted = Vec::with_capacity(shelf.slots.len());
        let (after, before) = shelf.slots.split_at_checked(shelf.start).unwrap_or((&[], &shelf.slots));
        for number in before.iter().chain(after) {
            let Some(slot) = self.slots.get_mut(number).filter(|slot| !slot.resting) else { continue };
            match slot.full(slot_share, now) {
                // Held no longer than the slot has been full: the half of its share that is left when it joins again
                // lasts as long as the first half did, so the other partitions' long poll does not stall this one.
                Some(since) => wait_max = wait_max.min(now.saturating_duration_since(since)),
                None => wanted.push(Wanted {
                    target: slot.target.clone(),
                    ticket: slot.ticket,
                    fetched_epoch: slot.fetched_epoch,
                }),
            }
        }
        let bytes_max = self.fetch_bytes_max.min(room.max(ROOM_BYTES_MIN));
        (!wanted.is_empty()).then_some(Round { wanted, bytes_max, wait_max })
    }

    /// Takes the outcome of a round in. Returns whether there is something to take, and something to be told.
    pub(crate) fn land(&mut self, broker_id: i32, landed: Vec<Landed>) -> (bool, bool) {
        let mut answered = 0;
        for outcome in landed {
            match outcome {
                Landed::Data { ticket, chunk } => answered += usize::from(self.shelve(ticket, chunk)),
                Landed::Nothing { slot, ticket, watermarks } => {
                    if let Some(slot) = self.current(slot, ticket) {
                        slot.watermarks = Some(watermarks);
                    }
                }
                Landed::Failed { slot, ticket, failure } => self.rest(slot, ticket, failure),
            }
        }
        if let Some(shelf) = self.shelves.get_mut(&broker_id) {
            shelf.start = (shelf.start + answered).checked_rem(shelf.slots.len()).unwrap_or(0);
        }
        (answered > 0, !self.events.is_empty())
    }

    /// The next chunk, slot by slot in turn.
    pub(crate) fn take(&mut self) -> Option<Chunk> {
        let number = self.ready.pop_front()?;
        let slot = self.slots.get_mut(&number)?;
        let chunk = slot.queue.pop_front()?;
        slot.buffered = slot.buffered.saturating_sub(chunk.size_bytes);
        if !slot.queue.is_empty() {
            self.ready.push_back(number);
        }
        if let Some(shelf) = self.shelves.get_mut(&slot.target.broker_id) {
            shelf.buffered = shelf.buffered.saturating_sub(chunk.size_bytes);
        }
        Some(chunk)
    }

    pub(crate) fn take_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Notes a broker's failure; one that was not taken yet is replaced.
    pub(crate) fn broker_failed(&mut self, broker_id: i32, error: FetchError) {
        self.events
            .retain(|event| !matches!(event, Event::Broker { broker_id: other, .. } if *other == broker_id));
        self.events.push_back(Event::Broker { broker_id, error });
    }

    pub(crate) fn watermarks(&self, slot: u64) -> Option<Watermarks> {
        self.slots.get(&slot)?.watermarks
    }

    /// The bytes that wait to be taken.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.shelves.values().map(|shelf| shelf.buffered).sum()
    }

    fn current(&mut self, slot: u64, ticket: u64) -> Option<&mut Slot> {
        self.slots.get_mut(&slot).filter(|slot| slot.ticket == ticket)
    }

    fn shelve(&mut self, ticket: u64, chunk: Chunk) -> bool {
        let number = chunk.slot;
        let Some(slot) = self.current(number, ticket) else { return false };
        slot.watermarks = Some(chunk.watermarks);
        slot.target.offset = chunk.next_offset;
        slot.fetched_epoch = chunk.leader_epoch;
        slot.resting = chunk.corrupt.is_some();
        slot.buffered += chunk.size_bytes;
        let first = slot.queue.is_empty();
        let (broker_id, size_bytes) = (slot.target.broker_id, chunk.size_bytes);
        slot.queue.push_back(chunk);
        if first {
            self.ready.push_back(number);
        }
        if let Some(shelf) = self.shelves.get_mut(&broker_id) {
            shelf.buffered += size_bytes;
        }
        true
    }

    fn rest(&mut self, number: u64, ticket: u64, failure: PartitionFailure) {
        let Some(slot) = self.current(number, ticket) else { return };
        slot.resting = true;
        let (generation, offset) = (slot.target.generation, slot.target.offset);
        self.events.push_back(Event::Partition { slot: number, generation, offset, failure });
    }
}

impl Slot {
    /// Since when the slot has had its share, if it still has.
    fn full(&mut self, share: usize, now: Instant) -> Option<Instant> {
        if self.buffered >= share.max(1) {
            self.full_since.get_or_insert(now);
        } else if self.buffered <= share / 2 {
            self.full_since = None;
        }
        self.full_since
    }
}

#[cfg(test)]
mod tests;
