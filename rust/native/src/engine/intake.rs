//! Requests that Python hands in: those that came by ZeroMQ, and the broker's own. They are answered at once or by way of
//! a queue that an eventfd announces.

use crate::buffer::ReadBuffer;
use fastlog_broker::{
    Answer, Broker, DiskThreads, Listener, Outcome, Reply, ReplySink, RequestContext, Response, Wakeup,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

/// Where requests are handed in.
#[pyclass(frozen, module = "fastlog.native._engine")]
pub(crate) struct Intake {
    broker: Arc<Broker>,
    listener: Arc<Listener>,
    principal: Arc<str>,
    completions: Arc<Completions>,
}

/// Answers that came later, in the order in which they came.
struct Completions {
    queue: Mutex<VecDeque<(u64, Answer)>>,
    wakeup: Wakeup,
}

struct ToQueue {
    peer: u64,
    completions: Arc<Completions>,
    disks: Arc<DiskThreads>,
}

impl Completions {
    fn push(&self, peer: u64, answer: Answer) {
        let mut queue = self.queue.lock();
        let first = queue.is_empty();
        queue.push_back((peer, answer));
        drop(queue);
        if first {
            self.wakeup.wake();
        }
    }
}

impl ReplySink for ToQueue {
    fn answer(&mut self, answer: Answer) {
        let (peer, completions) = (self.peer, Arc::clone(&self.completions));
        match answer {
            Answer::Response(response) => {
                self.disks.bring(response, move |it| completions.push(peer, Answer::Response(it)));
            }
            answer => completions.push(peer, answer),
        }
    }

    fn is_open(&self) -> bool {
        // ZeroMQ does not tell when a peer goes: its answer is dropped when it is sent
        true
    }
}

impl Intake {
    pub(super) fn new(broker: Arc<Broker>, listener: Listener) -> io::Result<Self> {
        let completions = Completions { queue: Mutex::default(), wakeup: Wakeup::new()? };
        Ok(Self {
            broker,
            listener: Arc::new(listener),
            principal: Arc::from("User:ANONYMOUS"),
            completions: Arc::new(completions),
        })
    }

    fn handle(&self, peer: u64, request: &[u8]) -> Result<Option<Response>, String> {
        let context = RequestContext {
            listener: self.listener.clone(),
            principal: self.principal.clone(),
            client_address: None,
            local_address: None,
            connection_id: peer,
        };
        let (completions, disks) = (&self.completions, self.broker.disks());
        let mut reply = || {
            let (completions, disks) = (Arc::clone(completions), Arc::clone(disks));
            Reply::new(Box::new(ToQueue { peer, completions, disks }))
        };
        match self.broker.handle(&context, request, &mut reply) {
            Outcome::Now(response) if response.is_in_memory() => Ok(Some(response)),
            Outcome::Now(response) => {
                reply().send(response);
                Ok(None)
            }
            Outcome::Later { .. } => Ok(None),
            Outcome::NoResponse => {
                reply().send_nothing();
                Ok(None)
            }
            Outcome::Close(reason) => Err(reason),
        }
    }

    /// Answers that came later, in memory; file ranges are small until they are read, so no more than are asked for.
    fn gather_completions(&self, bytes_max: usize) -> Vec<(u64, Option<bytes::Bytes>)> {
        self.completions.wakeup.clear();
        let (mut gathered, mut size) = (Vec::new(), 0);
        while size < bytes_max {
            let Some((peer, answer)) = self.completions.queue.lock().pop_front() else { return gathered };
            let bytes = match answer {
                Answer::Response(response) => self.gather(response),
                Answer::Nothing => None,
                Answer::Close(reason) => {
                    self.complain(reason);
                    None
                }
            };
            size += bytes.as_ref().map_or(0, bytes::Bytes::len);
            gathered.push((peer, bytes));
        }
        self.completions.wakeup.wake();
        gathered
    }

    /// The whole response in memory; None, which is said in the log, when a file became shorter meanwhile.
    fn gather(&self, response: Response) -> Option<bytes::Bytes> {
        response.into_bytes().inspect_err(|error| self.complain(error.to_string())).ok()
    }

    fn complain(&self, reason: String) {
        let fields = vec![("listener", self.listener.name.clone()), ("reason", reason)];
        self.broker.events().push(fastlog_broker::Level::Warning, "a request got no answer", fields);
    }
}

#[pymethods]
impl Intake {
    fn submit<'py>(
        &self,
        py: Python<'py>,
        peer: u64,
        frames: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        // nobody else holds the frames: they came from the socket a moment ago
        let buffers = frames.iter().map(ReadBuffer::shared).collect::<PyResult<Vec<_>>>()?;
        let answer = py.detach(|| {
            let joined: Vec<u8>;
            let request = match buffers.as_slice() {
                [only] => only.bytes(),
                several => {
                    joined = several.iter().map(ReadBuffer::bytes).collect::<Vec<_>>().concat();
                    &joined
                }
            };
            let response = self.handle(peer, request)?;
            response.map_or(Ok(None), |it| match self.gather(it) {
                Some(bytes) => Ok(Some(bytes)),
                None => Err("its answer could not be read".to_owned()),
            })
        });
        answer.map(|it| it.map(|bytes| PyBytes::new(py, &bytes))).map_err(PyValueError::new_err)
    }

    fn completions_fd(&self) -> i32 {
        self.completions.wakeup.as_raw_fd()
    }

    fn drain_completions<'py>(
        &self,
        py: Python<'py>,
        bytes_max: usize,
    ) -> Vec<(u64, Option<Bound<'py, PyBytes>>)> {
        let gathered = py.detach(|| self.gather_completions(bytes_max));
        gathered.into_iter().map(|(peer, it)| (peer, it.map(|bytes| PyBytes::new(py, &bytes)))).collect()
    }

    fn memory_bytes_max(&self) -> usize {
        self.broker.budget().limit_bytes()
    }
}
