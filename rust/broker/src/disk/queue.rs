//! The queue of one disk and its threads.

use super::DiskJob;
use fastlog_sys::panics::vital;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// What kind of job it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Reads some pages; what a piece begins with.
    Short,
    Piece,
}

/// Jobs of each kind in the order in which they were asked for. The kinds take turns: a reader that needs short jobs for its
/// pieces gets as many pieces as others, and short ones alone do not hold up pieces.
pub(super) struct Queue {
    threads_max: usize,
    /// Of each thread.
    niceness: i32,
    state: Mutex<State>,
    /// There is a job, or none will come.
    changed: Condvar,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    short: VecDeque<DiskJob>,
    pieces: VecDeque<DiskJob>,
    /// The last one taken was short.
    was_short: bool,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
    stopped: bool,
}

impl State {
    fn pop(&mut self) -> Option<DiskJob> {
        let takes_short = !self.short.is_empty() && (!self.was_short || self.pieces.is_empty());
        self.was_short = takes_short;
        if takes_short { self.short.pop_front() } else { self.pieces.pop_front() }
    }
}

impl Queue {
    /// For so many threads of that niceness, none of which runs yet.
    pub(super) fn new(threads_max: usize, niceness: i32) -> Self {
        Self {
            threads_max,
            niceness,
            state: Mutex::default(),
            changed: Condvar::new(),
            ended: Condvar::new(),
        }
    }

    /// Adds a job; starts another thread where none is idle and there may be one.
    pub(super) fn ask(self: &Arc<Self>, kind: Job, job: DiskJob) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.stopped {
            return Err(io::Error::other("the broker is stopped"));
        }
        // those that are idle may already be meant for jobs that wait
        let waiting = state.short.len() + state.pieces.len();
        if state.idle <= waiting && state.threads < self.threads_max {
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
        match kind {
            Job::Short => state.short.push_back(job),
            Job::Piece => state.pieces.push_back(job),
        }
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    fn run(&self) {
        // where it is not granted they are as others
        let _hint = fastlog_sys::threads::step_back(self.niceness);
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
            if let Some(job) = state.pop() {
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
        let waiting = (std::mem::take(&mut state.short), std::mem::take(&mut state.pieces));
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
