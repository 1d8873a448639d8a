//! A broker whose disk, clock and death are made up: the real data plane on a file system in memory, without threads.
//!
//! Built with Cargo's feature `simulation` only. Nothing happens between calls, and all chance comes from one seed, so
//! the same calls give the same bytes.

use crate::broker::{Broker, BrokerConfig, Clock};
use crate::log_manager::LogManager;
use crate::request::context::{AllowAll, Listener, ListenerProtocol, RequestContext};
use crate::request::response::{Answer, Outcome, Reply, ReplySink, Response};
use bytes::Bytes;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{Checkpoint, Identity, LastStop, LogError, Storage};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Enough for what a simulation opens: nothing is closed for want of descriptors.
const OPEN_FILES_MAX: usize = 1 << 16;

/// A clock that stands still until it is set.
#[derive(Debug)]
struct ManualClock {
    start: Instant,
    now_ms: AtomicI64,
    wall_offset_ms: AtomicI64,
}

impl ManualClock {
    fn at(&self, now_ms: i64) -> Instant {
        self.start + Duration::from_millis(u64::try_from(now_ms).unwrap_or(0))
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed) + self.wall_offset_ms.load(Ordering::Relaxed)
    }

    fn now(&self) -> Instant {
        self.at(self.now_ms.load(Ordering::Relaxed))
    }

    fn monotonic_ns(&self) -> i64 {
        self.now_ms.load(Ordering::Relaxed).saturating_mul(1_000_000)
    }
}

/// Answers that came later, by the number of their request.
type Late = Arc<Mutex<Vec<(u64, Answer)>>>;

struct ToLate {
    token: u64,
    late: Late,
}

impl ReplySink for ToLate {
    fn answer(&mut self, answer: Answer) {
        self.late.lock().push((self.token, answer));
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Handled {
    /// The answer.
    Answer(Bytes),
    /// It comes later, from [`Node::drain`].
    Later,
    /// There is none.
    Nothing,
    /// The connection is closed, and why.
    Close(String),
}

/// A process: from its start to its death.
struct Process {
    broker: Arc<Broker>,
    logs: Arc<LogManager>,
    late: Late,
    last_stop: LastStop,
}

/// A broker's machine: its disk, its clocks and, while one runs, its process.
pub struct Node {
    identity: Identity,
    files: MemoryFileSystem,
    clock: Arc<ManualClock>,
    listeners: [Arc<Listener>; 2],
    starts: u64,
    process: Option<Process>,
}

impl Node {
    /// A machine with an empty disk, whose monotonic clock is at 0. No process runs.
    pub fn new(node_id: i32, cluster_id: &str, seed: u64) -> Self {
        let listener = |name: &str, inter_broker| {
            let (name, host) = (name.to_owned(), String::new());
            Arc::new(Listener { name, protocol: ListenerProtocol::Zmq, inter_broker, host, port: 0 })
        };
        let (now_ms, wall_offset_ms) = (AtomicI64::new(0), AtomicI64::new(0));
        Self {
            identity: Identity { cluster_id: cluster_id.to_owned(), node_id },
            files: MemoryFileSystem::new(seed),
            clock: Arc::new(ManualClock { start: Instant::now(), now_ms, wall_offset_ms }),
            listeners: [listener("CLIENTS", false), listener("BROKERS", true)],
            starts: 0,
            process: None,
        }
    }

    /// Starts a process on the disk; how the last one ended. Partitions are opened by way of [`Node::logs`].
    pub fn start(&mut self, replica_lag_max: Duration) -> Result<LastStop, LogError> {
        if self.process.is_some() {
            return Err(LogError::Invalid { reason: "a process runs already".to_owned() });
        }
        self.starts += 1;
        let config = BrokerConfig {
            node_id: self.identity.node_id,
            fetch_session_seed: Some(self.starts),
            replica_lag_max,
            ..BrokerConfig::default()
        };
        let directory = PathBuf::from("/data");
        let broker = Broker::without_threads(config, Arc::new(AllowAll), self.clock.clone())
            .map_err(|error| LogError::Invalid { reason: format!("cannot make a broker: {error}") })?;
        let storage = Storage::new(Arc::new(self.files.clone()), directory, OPEN_FILES_MAX);
        let logs = Arc::new(LogManager::open(broker.clone(), vec![storage], &self.identity)?);
        let last_stop = logs.last_stop();
        self.process = Some(Process { broker, logs, late: Late::default(), last_stop });
        Ok(last_stop)
    }

    fn process(&self) -> Result<&Process, LogError> {
        let gone = || LogError::Invalid { reason: "no process runs".to_owned() };
        self.process.as_ref().ok_or_else(gone)
    }

    /// The running process's data plane.
    pub fn broker(&self) -> Result<&Arc<Broker>, LogError> {
        Ok(&self.process()?.broker)
    }

    /// The running process's logs.
    pub fn logs(&self) -> Result<&Arc<LogManager>, LogError> {
        Ok(&self.process()?.logs)
    }

    /// How the run before this one ended.
    pub fn last_stop(&self) -> Result<LastStop, LogError> {
        Ok(self.process()?.last_stop)
    }

    /// The disk, for faults.
    pub fn files(&self) -> &MemoryFileSystem {
        &self.files
    }

    /// The wall clock in milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Hands in a request, header and body; a token names the answer that comes later.
    pub fn handle(&self, token: u64, request: &[u8], inter_broker: bool) -> Result<Handled, LogError> {
        let process = self.process()?;
        let [clients, brokers] = &self.listeners;
        let context = RequestContext {
            listener: if inter_broker { brokers } else { clients }.clone(),
            principal: Arc::from("User:ANONYMOUS"),
            client_address: None,
            local_address: None,
            connection_id: token,
        };
        let mut reply = || Reply::new(Box::new(ToLate { token, late: process.late.clone() }));
        Ok(match process.broker.handle(&context, request, &mut reply) {
            Outcome::Now(response) => bytes_of(response),
            Outcome::Later { .. } => Handled::Later,
            Outcome::NoResponse => Handled::Nothing,
            Outcome::Close(reason) => Handled::Close(reason),
        })
    }

    /// The answers that came since the last call, in the order in which they came.
    pub fn drain(&self) -> Result<Vec<(u64, Handled)>, LogError> {
        let late = std::mem::take(&mut *self.process()?.late.lock());
        let handled = late.into_iter().map(|(token, answer)| {
            let handled = match answer {
                Answer::Response(response) => bytes_of(response),
                Answer::Nothing => Handled::Nothing,
                Answer::Close(reason) => Handled::Close(reason),
            };
            (token, handled)
        });
        Ok(handled.collect())
    }

    /// When the process has something to do next, by the monotonic clock: a deadline or the sync of full segments.
    pub fn next_due_ms(&self) -> Option<i64> {
        let due = self.process.as_ref()?.broker.next_due()?;
        i64::try_from(due.saturating_duration_since(self.clock.start).as_millis()).ok()
    }

    /// Lets the monotonic clock go on to `now_ms`, never back; what is due on the way is done at its own time.
    pub fn advance_to(&self, now_ms: i64) {
        while let Some(due_ms) = self.next_due_ms().filter(|due_ms| *due_ms <= now_ms) {
            self.clock.now_ms.fetch_max(due_ms, Ordering::Relaxed);
            self.process.iter().for_each(|process| process.broker.run_until_now());
        }
        self.clock.now_ms.fetch_max(now_ms, Ordering::Relaxed);
    }

    /// The same for a process that was stopped meanwhile, or whose clock jumped: it finds all that is due at `now_ms`.
    pub fn jump_to(&self, now_ms: i64) {
        self.clock.now_ms.fetch_max(now_ms, Ordering::Relaxed);
        self.process.iter().for_each(|process| process.broker.run_until_now());
    }

    /// How far the wall clock is ahead of the monotonic one.
    pub fn set_wall_clock(&self, ahead_ms: i64) {
        self.clock.wall_offset_ms.store(ahead_ms, Ordering::Relaxed);
    }

    /// Does the syncs that appends asked for (`fastlog.durability = fsync`), and answers who waits for them.
    pub fn run_syncs(&self) -> Result<(), LogError> {
        self.process()?.broker.run_syncs();
        Ok(())
    }

    /// Writes all checkpoints, as the process does from time to time.
    pub fn checkpoint(&self) -> Result<(), LogError> {
        let logs = self.logs()?;
        [Checkpoint::RecoveryPoint, Checkpoint::LogStart, Checkpoint::HighWatermark]
            .into_iter()
            .try_for_each(|it| logs.write_checkpoint(it))
    }

    /// Syncs all logs, as the system does some time after they were written, and writes all checkpoints.
    pub fn flush(&self) -> Result<(), LogError> {
        for partition in self.broker()?.partitions().all() {
            partition.log().flush()?;
        }
        self.checkpoint()
    }

    /// Ends the process well: all is synced, and the directory marked as closed cleanly.
    pub fn stop(&mut self) -> Result<(), LogError> {
        let Some(process) = self.process.take() else { return Ok(()) };
        process.broker.run_syncs();
        process.broker.shutdown();
        let closed = process.logs.close();
        process.broker.abandon();
        closed
    }

    /// The process dies, perhaps with the machine: then what was not synced is lost, in any order.
    pub fn crash(&mut self, lose_unsynced: bool) {
        self.files.kill_process();
        if let Some(process) = self.process.take() {
            process.broker.abandon();
        }
        if lose_unsynced {
            self.files.restart_machine();
        } else {
            self.files.restart_process();
        }
    }

    /// The process dies, and the disk is replaced by an empty one.
    pub fn wipe(&mut self) {
        self.crash(false);
        self.files.wipe();
    }
}

/// The whole answer in memory.
fn bytes_of(response: Response) -> Handled {
    response.into_bytes().map_or_else(|error| Handled::Close(error.to_string()), Handled::Answer)
}
