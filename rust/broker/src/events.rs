//! Log lines of the data plane, handed to the control plane: Rust never calls Python, Python drains a queue.

use crate::Wakeup;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// How bad an [`Event`] is; the names are those of Python's logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Normal operation.
    Info,
    /// A peer misbehaved or a limit was met; the broker goes on.
    Warning,
    /// The broker failed at something.
    Error,
}

impl Level {
    /// `info`, `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// One structured log line.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it happened, in milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// How bad it is.
    pub level: Level,
    /// What happened: a short constant text.
    pub message: &'static str,
    /// What it happened to.
    pub fields: Vec<(&'static str, String)>,
}

/// A bounded queue of events. When it is full the newest is dropped and counted.
pub struct Events {
    state: Mutex<State>,
    capacity: usize,
    wakeup: Arc<Wakeup>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Event>,
    dropped: u64,
}

impl Events {
    /// A queue of at most `capacity` events that wakes `wakeup` when it stops being empty.
    pub fn new(capacity: usize, wakeup: Arc<Wakeup>) -> Self {
        Self { state: Mutex::new(State::default()), capacity, wakeup }
    }

    /// Adds a line; never blocks.
    pub fn push(&self, level: Level, message: &'static str, fields: Vec<(&'static str, String)>) {
        let mut state = self.state.lock();
        if state.queue.len() >= self.capacity {
            state.dropped += 1;
            return;
        }
        let first = state.queue.is_empty();
        state.queue.push_back(Event { timestamp_ms: wall_clock_ms(), level, message, fields });
        drop(state);
        if first {
            self.wakeup.wake();
        }
    }

    /// Takes all events, and the number of those dropped since the last call.
    pub fn drain(&self) -> (Vec<Event>, u64) {
        let mut state = self.state.lock();
        let dropped = std::mem::take(&mut state.dropped);
        (state.queue.drain(..).collect(), dropped)
    }
}

/// The wall clock in milliseconds since the epoch; 0 for a clock set before it.
pub(crate) fn wall_clock_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX))
}
