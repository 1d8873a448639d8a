//! A bounded queue of requests that the control plane answers. A thread of Python's drains it, which an eventfd wakes.

use crate::budget::BytePermit;
use crate::request::context::RequestContext;
use crate::request::response::Reply;
use crate::wakeup::Wakeup;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// One request for the control plane.
#[derive(Debug)]
pub struct ControlRequest {
    /// Who asks.
    pub context: RequestContext,
    /// The header's API key.
    pub api_key: i16,
    /// The header's API version; the version was checked.
    pub api_version: i16,
    /// The header's correlation id.
    pub correlation_id: i32,
    /// The header's client id.
    pub client_id: Option<String>,
    /// The whole request: header and body, no length prefix.
    pub request: Bytes,
    /// Where the body begins in `request`.
    pub body_offset: usize,
    /// Takes the response: header and body.
    pub reply: Reply,
    /// Keeps the bytes charged to the broker's budget.
    pub permit: BytePermit,
}

/// Requests in the order in which they came.
pub struct ControlQueue {
    state: Mutex<State>,
    capacity: usize,
    wakeup: Arc<Wakeup>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<ControlRequest>,
    closed: bool,
}

impl ControlQueue {
    /// A queue of at most `capacity` requests that wakes `wakeup` when it stops being empty.
    pub fn new(capacity: usize, wakeup: Arc<Wakeup>) -> Self {
        Self { state: Mutex::new(State::default()), capacity, wakeup }
    }

    /// What tells that there is something to drain.
    pub fn wakeup(&self) -> &Wakeup {
        &self.wakeup
    }

    /// Adds a request and says true. When the queue is full or closed it says false, and the request is given
    /// up, which closes its connection.
    pub fn push(&self, request: ControlRequest) -> bool {
        let mut state = self.state.lock();
        if state.closed || state.queue.len() >= self.capacity {
            // the reply must not run under the lock: it may call into the transport
            drop(state);
            request.reply.close("the control queue is full".to_owned());
            return false;
        }
        let first = state.queue.is_empty();
        state.queue.push_back(request);
        drop(state);
        if first {
            self.wakeup.wake();
        }
        true
    }

    /// Takes at most `limit` requests; wakes again when some remain.
    pub fn drain(&self, limit: usize) -> Vec<ControlRequest> {
        let mut state = self.state.lock();
        let count = limit.min(state.queue.len());
        let taken = state.queue.drain(..count).collect();
        if !state.queue.is_empty() {
            self.wakeup.wake();
        }
        taken
    }

    /// Number of requests that wait.
    pub fn len(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more requests and gives up those that wait.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.queue);
        drop(state);
        drop(waiting);
    }
}
