//! The queue of one disk and its threads.

use super::DiskJob;
use fastlog_sys::panics::vital;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Threads of a disk: while one hands to a socket what came, the other waits for what comes next. More would only let one
/// disk take more of the processors.
pub(super) const THREADS: usize = 2;

/// Jobs in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is a job, or none will come.
    changed: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<DiskJob>,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
    stopped: bool,
}

impl Queue {
    /// Adds a job; starts another thread where none is idle and there may be one.
    pub(super) fn ask(self: &Arc<Self>, job: DiskJob) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(io::Error::other("the broker is stopped"));
        }
        // those that are idle may already be meant for jobs that wait
        if state.idle <= state.waiting.len() && state.threads < THREADS {
            let queue = self.clone();
            let started =
                std::thread::Builder::new().name("fastlog-disk".to_owned()).spawn(vital(move || queue.run()));
            match started {
                Ok(_) => state.threads += 1,
                // one that runs takes the job in its time
                Err(_) if state.threads > 0 => {}
                Err(error) => return Err(error),
            }
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            job();
        }
        self.state.lock().threads -= 1;
        self.ended.notify_all();
    }

    /// The next job; None when the queue is stopped.
    fn next(&self) -> Option<DiskJob> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Drops what waits; the threads end when they are done with what they do.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.changed.notify_all();
        // what a job holds may ask for something when it is dropped
        drop(waiting);
    }

    /// Whether all threads have ended by then. Blocks until they have.
    pub(super) fn is_done_by(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while state.threads > 0 {
            if self.ended.wait_until(&mut state, deadline).timed_out() {
                return state.threads == 0;
            }
        }
        true
    }
}
