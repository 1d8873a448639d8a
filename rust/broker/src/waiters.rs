//! Requests that wait: the lists by partition that wake them, and the thread that ends them in time.

use fastlog_sys::panics::vital;
use parking_lot::{Condvar, Mutex};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// Why a waiter is to look whether it can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Something changed.
    Change,
    /// Its time is over: it answers in any case.
    Deadline,
    /// The broker stops, and nobody tells the time any more: it answers, unless what it waits for is sure to come.
    Stop,
}

/// A request that waits for something that partitions tell of.
pub(crate) trait Delayed: Send + Sync {
    /// Answers the request if it can, or must. Harmless afterwards.
    fn try_complete(&self, cause: Cause);
    /// Whether it is answered, or nobody waits for the answer any more.
    fn is_over(&self) -> bool;
}

/// How long a list gets before those that are over are looked for.
const SWEEP_AT_LEAST: usize = 16;

/// The waiters of one partition.
pub(crate) struct WaiterList {
    state: Mutex<List>,
    /// Length of the list, read without the lock by appends that nobody waits for.
    count: AtomicUsize,
}

struct List {
    waiters: Vec<Arc<dyn Delayed>>,
    sweep_at: usize,
}

impl WaiterList {
    pub(crate) fn new() -> Self {
        let list = List { waiters: Vec::new(), sweep_at: SWEEP_AT_LEAST };
        Self { state: Mutex::new(list), count: AtomicUsize::new(0) }
    }

    /// Number of waiters, some of them perhaps over.
    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Adds a waiter. What it waits for may have come already: check it once more afterwards.
    pub(crate) fn add(&self, waiter: Arc<dyn Delayed>) {
        let mut list = self.state.lock();
        list.waiters.push(waiter);
        if list.waiters.len() >= list.sweep_at {
            list.waiters.retain(|waiter| !waiter.is_over());
            list.sweep_at = SWEEP_AT_LEAST.max(2 * list.waiters.len());
        }
        self.count.store(list.waiters.len(), Ordering::SeqCst);
    }

    /// Lets every waiter look whether its time has come.
    pub(crate) fn notify(&self) {
        // pairs with the store in `add`: either this append sees the waiter, or the waiter's second look sees
        // the append
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        // a copy, not the list itself: another append at this moment must find the waiters too
        let waiters = self.state.lock().waiters.clone();
        for waiter in waiters {
            waiter.try_complete(Cause::Change);
        }
        let mut list = self.state.lock();
        list.waiters.retain(|waiter| !waiter.is_over());
        self.count.store(list.waiters.len(), Ordering::SeqCst);
    }
}

/// Ends waiters at their deadlines: on a thread of its own, or when it is told that they have come.
pub(crate) struct Timer {
    deadlines: Deadlines,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The deadlines that a [`Timer`] keeps.
#[derive(Clone)]
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    limit: usize,
}

struct Shared {
    state: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    sweep_at: usize,
    stopped: bool,
}

struct Entry {
    deadline: Instant,
    waiter: Arc<dyn Delayed>,
}

impl Entry {
    /// Has a waiter that is over let go of what it holds. Its peer may be gone before it was answered: partitions and
    /// sessions hold what waits and it holds them, so nobody would ever free either.
    fn end(self) {
        self.waiter.try_complete(Cause::Deadline);
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.deadline == other.deadline
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.deadline.cmp(&other.deadline)
    }
}

impl Timer {
    /// One without a thread; it keeps at most `limit` waiters.
    pub(crate) fn new(limit: usize) -> Self {
        let queue = Queue { heap: BinaryHeap::new(), sweep_at: 1024, stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(queue), changed: Condvar::new() });
        Self { deadlines: Deadlines { shared, limit }, thread: Mutex::new(None) }
    }

    /// One whose thread runs.
    pub(crate) fn start(limit: usize) -> io::Result<Self> {
        let timer = Self::new(limit);
        let of_thread = timer.deadlines.shared.clone();
        let thread = std::thread::Builder::new()
            .name("fastlog-timer".to_owned())
            .spawn(vital(move || of_thread.run()))?;
        *timer.thread.lock() = Some(thread);
        Ok(timer)
    }

    /// What waiters are added to.
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    /// The next deadline, perhaps of a waiter that is over.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.shared.state.lock().heap.peek().map(|Reverse(entry)| entry.deadline)
    }

    /// Ends the waiters whose deadlines have come at `now`.
    pub(crate) fn run_until(&self, now: Instant) {
        while let Some(waiter) = self.deadlines.shared.pop_due(now) {
            waiter.try_complete(Cause::Deadline);
        }
    }

    /// As [`Deadlines::add`].
    pub(crate) fn add(&self, deadline: Instant, waiter: Arc<dyn Delayed>) {
        self.deadlines.add(deadline, waiter);
    }

    /// Has all waiters end now, and every later one at once.
    pub(crate) fn finish_all(&self) {
        let shared = &self.deadlines.shared;
        let mut state = shared.state.lock();
        state.stopped = true;
        let heap = std::mem::take(&mut state.heap);
        drop(state);
        shared.changed.notify_one();
        for Reverse(entry) in heap {
            entry.waiter.try_complete(Cause::Stop);
        }
    }

    /// Ends all waiters and the thread.
    pub(crate) fn stop(&self) {
        self.finish_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ended = thread.join();
        }
    }
}

impl Deadlines {
    /// Ends `waiter` at `deadline`; at once when too many wait already, or the timer is stopped.
    pub(crate) fn add(&self, deadline: Instant, waiter: Arc<dyn Delayed>) {
        let mut state = self.shared.state.lock();
        let mut over = Vec::new();
        if state.heap.len() >= state.sweep_at.min(self.limit) {
            let kept;
            (over, kept) = std::mem::take(&mut state.heap)
                .into_iter()
                .partition::<Vec<_>, _>(|Reverse(entry)| entry.waiter.is_over());
            state.heap = kept.into();
            state.sweep_at = 1024.max(2 * state.heap.len());
        }
        if state.stopped || state.heap.len() >= self.limit {
            let cause = if state.stopped { Cause::Stop } else { Cause::Deadline };
            drop(state);
            waiter.try_complete(cause);
        } else {
            let first = state.heap.peek().is_none_or(|Reverse(entry)| deadline < entry.deadline);
            state.heap.push(Reverse(Entry { deadline, waiter }));
            drop(state);
            if first {
                self.shared.changed.notify_one();
            }
        }
        for Reverse(entry) in over {
            entry.end();
        }
    }
}

impl Shared {
    fn pop_due(&self, now: Instant) -> Option<Arc<dyn Delayed>> {
        let mut state = self.state.lock();
        state.heap.peek().filter(|Reverse(entry)| entry.deadline <= now)?;
        state.heap.pop().map(|Reverse(entry)| entry.waiter)
    }

    fn run(&self) {
        let mut state = self.state.lock();
        while !state.stopped {
            // most are answered long before: their deadlines are nothing to wake up for
            while state.heap.peek().is_some_and(|Reverse(entry)| entry.waiter.is_over()) {
                if let Some(Reverse(entry)) = state.heap.pop() {
                    parking_lot::MutexGuard::unlocked(&mut state, || entry.end());
                }
            }
            // a stop may have come meanwhile, when nobody waited for its signal
            if state.stopped {
                return;
            }
            let now = Instant::now();
            match state.heap.peek().map(|Reverse(entry)| entry.deadline) {
                None => self.changed.wait(&mut state),
                Some(deadline) if deadline > now => {
                    self.changed.wait_until(&mut state, deadline);
                }
                Some(_) => {
                    if let Some(Reverse(entry)) = state.heap.pop() {
                        parking_lot::MutexGuard::unlocked(&mut state, || {
                            entry.waiter.try_complete(Cause::Deadline);
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    struct Probe {
        ready: AtomicBool,
        over: AtomicBool,
        answered: Sender<Cause>,
    }

    fn probe() -> (Arc<Probe>, Receiver<Cause>) {
        let (answered, receiver) = channel();
        (Arc::new(Probe { ready: false.into(), over: false.into(), answered }), receiver)
    }

    impl Delayed for Probe {
        fn try_complete(&self, cause: Cause) {
            if (cause != Cause::Change || self.ready.load(Ordering::SeqCst))
                && !self.over.swap(true, Ordering::SeqCst)
            {
                self.answered.send(cause).unwrap();
            }
        }
        fn is_over(&self) -> bool {
            self.over.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_waiter_answers_once_when_its_time_has_come() {
        let list = WaiterList::new();
        let (waiter, answered) = probe();
        list.add(waiter.clone());
        list.notify();
        assert!(answered.try_recv().is_err());
        waiter.ready.store(true, Ordering::SeqCst);
        list.notify();
        list.notify();
        assert_eq!(answered.try_recv(), Ok(Cause::Change));
        assert!(answered.try_recv().is_err());
        assert_eq!(list.state.lock().waiters.len(), 0);
    }

    #[test]
    fn lists_do_not_grow_with_waiters_that_are_over() {
        let list = WaiterList::new();
        for _ in 0..1000 {
            let (waiter, _) = probe();
            waiter.over.store(true, Ordering::SeqCst);
            list.add(waiter);
        }
        assert!(list.state.lock().waiters.len() < 2 * SWEEP_AT_LEAST);
    }

    #[test]
    fn the_timer_ends_waiters_in_the_order_of_their_deadlines() {
        let timer = Timer::start(10).unwrap();
        let (late, late_answered) = probe();
        let (soon, soon_answered) = probe();
        let now = Instant::now();
        timer.add(now + Duration::from_secs(3600), late);
        timer.add(now + Duration::from_millis(1), soon);
        assert_eq!(soon_answered.recv(), Ok(Cause::Deadline));
        assert!(late_answered.try_recv().is_err());
        timer.stop();
        assert_eq!(late_answered.recv(), Ok(Cause::Stop));
    }

    #[test]
    fn a_full_timer_ends_the_newest_waiter_at_once() {
        let timer = Timer::start(1).unwrap();
        let (first, first_answered) = probe();
        let (second, second_answered) = probe();
        let later = Instant::now() + Duration::from_secs(3600);
        timer.add(later, first);
        timer.add(later, second);
        assert_eq!(second_answered.try_recv(), Ok(Cause::Deadline));
        assert!(first_answered.try_recv().is_err());
        timer.stop();
    }

    /// Over already; its end takes until it is told to go on.
    struct Slow {
        begun: Sender<()>,
        go_on: Mutex<Receiver<()>>,
    }

    impl Delayed for Slow {
        fn try_complete(&self, _: Cause) {
            self.begun.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
        }
        fn is_over(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_stop_is_heard_while_one_that_is_over_is_ended() {
        let timer = Arc::new(Timer::start(10).unwrap());
        let (begun, has_begun) = channel();
        let (go, go_on) = channel();
        let slow = Arc::new(Slow { begun, go_on: Mutex::new(go_on) });
        timer.add(Instant::now() + Duration::from_secs(3600), slow);
        has_begun.recv().unwrap();
        timer.finish_all();
        go.send(()).unwrap();
        let (ended, has_ended) = channel();
        std::thread::spawn(move || {
            timer.stop();
            ended.send(()).unwrap();
        });
        assert_eq!(has_ended.recv_timeout(Duration::from_secs(30)), Ok(()), "its thread waits for ever");
    }
}
