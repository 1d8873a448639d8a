//! The fetcher: one worker thread per broker, one table of what is wanted and what waits to be taken.
//!
//! All methods may be called from any thread. Locks are held for moments only; no lock is held during I/O.

use std::collections::{HashMap, HashSet};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use socket2::Socket;

use crate::chunk::{Chunk, Watermarks};
use crate::error::FetchError;
use crate::options::FetchOptions;
use crate::table::{Event, Landed, Round, Table, Target};
use crate::worker::Worker;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// the broker's id
    pub broker_id: i32,
    /// a name or an address
    pub host: String,
    /// its port
    pub port: u16,
}

/// What came of waiting for records.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// The next chunk.
    Chunk(Chunk),
    /// [`Fetcher::wake`] was called.
    Woken,
    /// Nothing in time.
    TimedOut,
    /// The fetcher is closed.
    Closed,
}

#[derive(Debug)]
struct Broker {
    address: BrokerAddress,
    /// the socket in use, for other threads to shut down
    socket: Option<Arc<Socket>>,
}

#[derive(Debug)]
struct State {
    table: Table,
    brokers: HashMap<i32, Broker>,
    /// brokers that have a thread
    workers: HashSet<i32>,
    woken: bool,
    events_woken: bool,
    closed: bool,
}

/// What the workers and the callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    data: Condvar,
    news: Condvar,
    room: Condvar,
    gone: Condvar,
    pub(crate) options: FetchOptions,
}

/// Fetches partitions from their brokers ahead of the caller, within a bound of bytes.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
}

impl Fetcher {
    /// A fetcher with nothing to fetch; threads begin with the first partition of a broker.
    pub fn new(options: FetchOptions) -> Self {
        let table = Table::new(options.prefetch_bytes, options.fetch_bytes_max, options.wait_max);
        let state = State {
            table,
            brokers: HashMap::new(),
            workers: HashSet::new(),
            woken: false,
            events_woken: false,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            data: Condvar::new(),
            news: Condvar::new(),
            room: Condvar::new(),
            gone: Condvar::new(),
            options,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says where the brokers are. The connection to one that moved or is gone is ended.
    pub fn set_brokers(&self, addresses: &[BrokerAddress]) {
        let mut state = self.shared.state.lock();
        state.brokers.retain(|id, broker| {
            let known = addresses.iter().any(|address| address.broker_id == *id);
            if !known {
                broker.hang_up();
            }
            known
        });
        for address in addresses {
            let broker = state.brokers.entry(address.broker_id).or_insert_with(|| Broker::new(address));
            if broker.address != *address {
                broker.hang_up();
                broker.address = address.clone();
            }
        }
        self.start_workers(&mut state);
    }

    /// Fetches partitions, each from its offset on, dropping what its slot held.
    pub fn set(&self, targets: Vec<Target>) {
        let mut state = self.shared.state.lock();
        targets.into_iter().for_each(|target| state.table.set(target));
        self.start_workers(&mut state);
    }

    /// Goes on fetching a partition where its fetching stands, from another broker or with another leader epoch; keeps
    /// what waits to be taken. Returns false if the slot is unknown or of another generation.
    pub fn move_to(&self, slot: u64, generation: u64, broker_id: i32, leader_epoch: i32) -> bool {
        let mut state = self.shared.state.lock();
        let moved = state.table.move_to(slot, generation, broker_id, leader_epoch);
        self.start_workers(&mut state);
        moved
    }

    /// Stops fetching partitions and drops what their slots held.
    pub fn remove(&self, slots: &[u64]) {
        let mut state = self.shared.state.lock();
        slots.iter().for_each(|slot| state.table.remove(*slot));
        self.shared.room.notify_all();
    }

    /// Waits for the next chunk. Blocks for at most `timeout`.
    pub fn next(&self, timeout: Duration) -> Next {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        loop {
            if state.closed {
                return Next::Closed;
            }
            if std::mem::take(&mut state.woken) {
                return Next::Woken;
            }
            if let Some(chunk) = state.table.take() {
                self.shared.room.notify_all();
                return Next::Chunk(chunk);
            }
            if self.shared.data.wait_until(&mut state, deadline).timed_out() {
                return Next::TimedOut;
            }
        }
    }

    /// Waits for the next event; `None` if none came in time, or the fetcher is closed. Blocks for at most `timeout`.
    pub fn next_event(&self, timeout: Duration) -> Option<Event> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        loop {
            if let Some(event) = state.table.take_event() {
                return Some(event);
            }
            if state.closed || std::mem::take(&mut state.events_woken) {
                return None;
            }
            if self.shared.news.wait_until(&mut state, deadline).timed_out() {
                return None;
            }
        }
    }

    /// Ends the wait of a thread in [`Self::next`], or the next one.
    pub fn wake(&self) {
        self.shared.state.lock().woken = true;
        self.shared.data.notify_all();
    }

    /// Ends the wait of a thread in [`Self::next_event`], or the next one.
    pub fn wake_events(&self) {
        self.shared.state.lock().events_woken = true;
        self.shared.news.notify_all();
    }

    /// Where a partition's log stands, as last told.
    pub fn watermarks(&self, slot: u64) -> Option<Watermarks> {
        self.shared.state.lock().table.watermarks(slot)
    }

    /// The bytes that wait to be taken.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.state.lock().table.buffered_bytes()
    }

    /// The settings.
    pub fn options(&self) -> &FetchOptions {
        &self.shared.options
    }

    /// Ends all connections and threads; waits for them for at most `timeout`. Returns whether all ended in time: one
    /// that still resolves a name or connects ends by itself later.
    pub fn close(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.brokers.values_mut().for_each(Broker::hang_up);
        for condition in [&self.shared.data, &self.shared.news, &self.shared.room] {
            condition.notify_all();
        }
        while !state.workers.is_empty() {
            if self.shared.gone.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.workers.is_empty()
    }

    /// Starts the missing workers of brokers that partitions are wanted from, and wakes the others.
    fn start_workers(&self, state: &mut MutexGuard<'_, State>) {
        if state.closed {
            return;
        }
        let State { table, brokers, workers, .. } = &mut **state;
        for broker_id in brokers.keys() {
            let needed = !workers.contains(broker_id) && table.has(*broker_id);
            if needed && Worker::start(Arc::clone(&self.shared), *broker_id) {
                workers.insert(*broker_id);
            }
        }
        self.shared.room.notify_all();
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.close(Duration::ZERO);
    }
}

impl Broker {
    fn new(address: &BrokerAddress) -> Self {
        Self { address: address.clone(), socket: None }
    }

    fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            // one that is not connected yet, or not any more, says so; there is nothing else to do about it
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    /// Waits until something is wanted from the broker and there is room for it; `None` once the worker shall end,
    /// which is noted under the same lock, so that a successor can begin.
    pub(crate) fn wait_for_round(&self, broker_id: i32) -> Option<(Round, BrokerAddress)> {
        let mut state = self.state.lock();
        loop {
            let address = state.brokers.get(&broker_id).map(|broker| broker.address.clone());
            let Some(address) = address.filter(|_| !state.closed) else {
                state.workers.remove(&broker_id);
                self.gone.notify_all();
                return None;
            };
            if let Some(round) = state.table.round(broker_id, Instant::now()) {
                return Some((round, address));
            }
            self.room.wait(&mut state);
        }
    }

    /// Shows a worker's socket, for others to shut down; false if the worker should give up instead.
    pub(crate) fn show_socket(&self, address: &BrokerAddress, socket: &Arc<Socket>) -> bool {
        let mut state = self.state.lock();
        let closed = state.closed;
        match state.brokers.get_mut(&address.broker_id) {
            Some(broker) if !closed && broker.address == *address => {
                broker.socket = Some(Arc::clone(socket));
                true
            }
            _ => false,
        }
    }

    /// Whether the worker's connection is still wanted.
    pub(crate) fn wants(&self, address: &BrokerAddress) -> bool {
        let state = self.state.lock();
        !state.closed
            && state.brokers.get(&address.broker_id).is_some_and(|broker| broker.address == *address)
    }

    pub(crate) fn land(&self, broker_id: i32, landed: Vec<Landed>) {
        if landed.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let (data, news) = state.table.land(broker_id, landed);
        drop(state);
        if data {
            self.data.notify_one();
        }
        if news {
            self.news.notify_all();
        }
    }

    /// A broker has not answered yet.
    pub(crate) fn silent(&self, broker_id: i32, silence: FetchError) {
        self.failed(broker_id, silence);
    }

    pub(crate) fn failed(&self, broker_id: i32, error: FetchError) {
        self.state.lock().table.broker_failed(broker_id, error);
        self.news.notify_all();
    }

    /// Lets a worker rest; ends early when the fetcher closes.
    pub(crate) fn rest(&self, pause: Duration) {
        let deadline = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.closed && !self.room.wait_until(&mut state, deadline).timed_out() {}
    }
}
