//! Group commit: threads that sync partitions with `fastlog.durability = fsync`, so that nobody who appends does.
//!
//! A partition is in the queue once, however many appends wait for it, and one thread at a time syncs it. What is
//! appended while a sync runs is covered by the next one, which is where groups form: there is no delay. Partitions
//! take turns, in the order in which they asked.
//!
//! Nothing is lost between an append and its sync: an append asks after it released the log's writer lock, and a sync
//! notes that it runs before it takes that lock to see where the log ends. An append that finds the partition waiting
//! in the queue is therefore below that end, and one that is not finds the sync running and asks for another.

use crate::partition::Partition;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::JoinHandle;

/// How many partitions are synced at once. A file system answers syncs that come together with one commit of its
/// journal: 16 clients on 16 partitions had 5,800 appends a second with one thread, 15,200 with four, 17,500 with
/// eight (ext4, two cores). One busy partition needs one.
pub(crate) const SYNC_THREADS: usize = 4;

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const SYNCING: u8 = 2;
/// Syncing, and asked for another one meanwhile.
const AGAIN: u8 = 3;

/// Where a partition is on its way through the queue.
#[derive(Debug, Default)]
pub(crate) struct SyncState(AtomicU8);

impl SyncState {
    /// A sync is wanted; true = the partition goes into the queue.
    fn ask(&self) -> bool {
        let next = |state| match state {
            IDLE => Some(QUEUED),
            SYNCING => Some(AGAIN),
            _ => None,
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(IDLE)
    }

    fn begin(&self) {
        self.0.swap(SYNCING, Ordering::AcqRel);
    }

    /// The sync is done; true = the partition goes into the queue again.
    fn end(&self) -> bool {
        let next = |state| Some(if state == AGAIN { QUEUED } else { IDLE });
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) == Ok(AGAIN)
    }
}

/// The partitions that are to be synced.
#[derive(Default)]
pub(crate) struct SyncQueue {
    state: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Partition>>,
    stopped: bool,
}

impl SyncQueue {
    /// Has the partition synced soon, and then those told who wait for it. Never blocks. Afterwards it fails: the
    /// threads are gone.
    pub(crate) fn ask(&self, partition: &Arc<Partition>) {
        if partition.sync_state().ask() && !self.push(partition) {
            partition.fail_sync("the broker is stopped");
            partition.notify();
        }
    }

    fn push(&self, partition: &Arc<Partition>) -> bool {
        let mut queue = self.state.lock();
        if queue.stopped {
            return false;
        }
        queue.waiting.push_back(partition.clone());
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// The next partition; None when there is none and never will be.
    fn next(&self) -> Option<Arc<Partition>> {
        let mut queue = self.state.lock();
        loop {
            match queue.waiting.pop_front() {
                Some(partition) => return Some(partition),
                None if queue.stopped => return None,
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn run(&self) {
        while let Some(partition) = self.next() {
            partition.sync_state().begin();
            partition.sync();
            // before this thread answers those who waited, so that another one can sync meanwhile
            let again = partition.sync_state().end();
            if again && !self.push(&partition) {
                partition.sync();
            }
            partition.notify();
        }
    }
}

/// The threads of a [`SyncQueue`].
pub(crate) struct SyncThreads {
    queue: Arc<SyncQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SyncThreads {
    pub(crate) fn start() -> io::Result<Self> {
        let started = Self { queue: Arc::default(), threads: Mutex::default() };
        for number in 0..SYNC_THREADS {
            let queue = started.queue.clone();
            let name = format!("fastlog-sync-{number}");
            // those that run already end with `started`
            let thread = std::thread::Builder::new().name(name).spawn(move || queue.run())?;
            started.threads.lock().push(thread);
        }
        Ok(started)
    }

    pub(crate) fn queue(&self) -> &Arc<SyncQueue> {
        &self.queue
    }

    /// Syncs what is asked for by now and ends the threads. Blocks on the disk; again is harmless.
    pub(crate) fn stop(&self) {
        self.queue.state.lock().stopped = true;
        self.queue.changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ended = thread.join();
        }
    }
}

impl Drop for SyncThreads {
    fn drop(&mut self) {
        self.stop();
    }
}
