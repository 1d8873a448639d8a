//! Group commit: threads that sync partitions with `fastlog.durability = fsync`, so that nobody who appends does.
//!
//! A partition is in the queue once, however many appends wait for it, and one thread at a time syncs it. What is
//! appended while a sync runs is covered by the next one, which is where groups form: there is no delay. Partitions
//! take turns, in the order in which they asked.
//!
//! Nothing is lost between an append and its sync: an append asks after it released the log's writer lock, and a sync
//! notes that it runs before it takes that lock to see where the log ends. An append that finds the partition waiting
//! in the queue is therefore below that end, and one that does not finds the sync running and asks for another.
//!
//! Segments that became full are synced too, of any topic, one partition after another on a thread of their own. That
//! may be a GiB at once, and nobody waits for it, so it comes when they have been full for so long that the kernel has
//! written them by itself: a sync at once competes with those who append.

use crate::broker::Clock;
use crate::disk::DiskThreads;
use crate::partition::Partition;
use fastlog_log::Log;
use fastlog_sys::panics::vital;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How many partitions are synced at once. A file system answers syncs that come together with one commit of its
/// journal: 16 clients on 16 partitions had 5,800 appends a second with one thread, 15,200 with four, 17,500 with
/// eight (ext4, two cores). One busy partition needs one.
const SYNC_THREADS: usize = 4;

/// So long later a sync is tried again for which the process had no descriptor.
const DESCRIPTORS_WAIT: Duration = Duration::from_millis(100);

/// What is to be synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// All that was appended to a topic with `fastlog.durability = fsync`.
    Appends,
    /// The segments that are full, whatever the durability: a crash then leaves less to scan.
    FullSegments,
}

const IDLE: u8 = 0;
const QUEUED: u8 = 1;
const SYNCING: u8 = 2;
/// Syncing, and asked for another one meanwhile.
const AGAIN: u8 = 3;

/// Where a partition is on its way through a queue.
#[derive(Debug, Default)]
struct SyncState(AtomicU8);

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

/// A partition's way through both queues, and that of write-back.
#[derive(Debug, Default)]
pub(crate) struct SyncStates {
    appends: SyncState,
    full_segments: SyncState,
    write_back: SyncState,
}

/// Partitions that are to be synced, each a while after it asked.
struct SyncQueue {
    work: Work,
    delay: Duration,
    clock: Arc<dyn Clock>,
    state: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// In the order in which they asked, so the first is due first.
    waiting: VecDeque<Waiting>,
    stopped: bool,
}

struct Waiting {
    /// Gone when its topic was deleted, whose open files would else keep their room on the disk until it is due.
    partition: Weak<Partition>,
    due: Instant,
    /// Where its full segments ended when it asked; those that became full later are not due yet.
    full_end_offset: i64,
}

impl SyncQueue {
    fn new(work: Work, delay: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { work, delay, clock, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Puts the partition in, if it is not; false = the threads are gone.
    fn ask(&self, partition: &Arc<Partition>) -> bool {
        !self.state_of(partition).ask() || self.push(partition)
    }

    fn state_of<'p>(&self, partition: &'p Partition) -> &'p SyncState {
        let states = partition.sync_states();
        match self.work {
            Work::Appends => &states.appends,
            Work::FullSegments => &states.full_segments,
        }
    }

    fn push(&self, partition: &Arc<Partition>) -> bool {
        let full_end_offset = match self.work {
            Work::Appends => i64::MAX,
            Work::FullSegments => partition.log().full_end_offset(),
        };
        let mut queue = self.state.lock();
        if queue.stopped {
            return false;
        }
        let due = self.clock.now() + self.delay;
        queue.waiting.push_back(Waiting { partition: Arc::downgrade(partition), due, full_end_offset });
        drop(queue);
        self.changed.notify_one();
        true
    }

    /// The next one that is due; None when there is none and never will be.
    fn next(&self) -> Option<Waiting> {
        let mut queue = self.state.lock();
        loop {
            match queue.waiting.front().map(|first| first.due) {
                Some(due) if due <= self.clock.now() => return queue.waiting.pop_front(),
                Some(due) => {
                    self.changed.wait_until(&mut queue, due);
                }
                None if queue.stopped => return None,
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn run(&self) {
        while let Some(next) = self.next() {
            self.serve_waiting(&next);
        }
    }

    /// Serves those that are due now, without waiting for others.
    fn run_due(&self) {
        let now = self.clock.now();
        let pop = || {
            let mut queue = self.state.lock();
            let is_due = queue.waiting.front().is_some_and(|first| first.due <= now);
            if is_due { queue.waiting.pop_front() } else { None }
        };
        while let Some(next) = pop() {
            self.serve_waiting(&next);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.state.lock().waiting.front().map(|first| first.due)
    }

    fn serve_waiting(&self, waiting: &Waiting) {
        if let Some(partition) = waiting.partition.upgrade() {
            self.serve(&partition, waiting.full_end_offset);
        }
    }

    fn serve(&self, partition: &Arc<Partition>, full_end_offset: i64) {
        self.state_of(partition).begin();
        self.sync(partition, full_end_offset);
        // before this thread answers those who waited, so that another one can sync meanwhile
        if self.state_of(partition).end() && !self.push(partition) && self.work == Work::Appends {
            self.sync(partition, full_end_offset);
        }
        partition.notify();
    }

    fn sync(&self, partition: &Partition, full_end_offset: i64) {
        let flush = |log: &Log| match self.work {
            Work::Appends => log.flush(),
            Work::FullSegments => log.flush_full_segments(full_end_offset).inspect(|_| {
                // one became full meanwhile
                if log.has_full_segment_to_flush() {
                    self.state_of(partition).ask();
                }
            }),
        };
        partition.sync(|log| {
            loop {
                match flush(log) {
                    // it is still to be done, and those who wait for it wait on
                    Err(error) if error.is_out_of_descriptors() && !self.state.lock().stopped => {
                        std::thread::sleep(DESCRIPTORS_WAIT);
                    }
                    flushed => return flushed,
                }
            }
        });
    }

    /// What is in the queue is still done where somebody waits for it.
    fn stop(&self) {
        let mut queue = self.state.lock();
        queue.stopped = true;
        if self.work == Work::FullSegments {
            queue.waiting.clear();
        }
        drop(queue);
        self.changed.notify_all();
    }
}

/// Where partitions ask for syncs.
pub(crate) struct Syncs {
    appends: SyncQueue,
    full_segments: SyncQueue,
    /// None where nothing is done by itself.
    disks: Option<Arc<DiskThreads>>,
}

impl Syncs {
    /// Has what was appended synced soon, and then those told who wait for it. Never blocks. When the threads are gone
    /// it fails.
    pub(crate) fn ask_for_appends(&self, partition: &Arc<Partition>) {
        if !self.appends.ask(partition) {
            partition.fail_sync("the broker is stopped");
            partition.notify();
        }
    }

    /// Has the segments that are full now synced some time, unless the threads are gone. Never blocks on the disk.
    pub(crate) fn ask_for_full_segments(&self, partition: &Arc<Partition>) {
        let _stopped = self.full_segments.ask(partition);
    }

    /// Has a thread of its disk begin to write what was appended, if there is one. Never blocks on the disk.
    pub(crate) fn ask_for_write_back(&self, partition: &Arc<Partition>) {
        if let Some(disks) = &self.disks
            && partition.sync_states().write_back.ask()
        {
            write_back(disks, partition);
        }
    }
}

fn write_back(disks: &Arc<DiskThreads>, partition: &Arc<Partition>) {
    let (again, weak) = (disks.clone(), Arc::downgrade(partition));
    let job = move || {
        let Some(partition) = weak.upgrade() else { return };
        let state = &partition.sync_states().write_back;
        state.begin();
        // the next sync tells why
        let _failed = partition.log().start_write_back();
        if state.end() {
            write_back(&again, &partition);
        }
    };
    // without a thread the kernel writes it in its time
    let _refused = disks.ask_to_write(partition.log().device(), Box::new(job));
}

/// The threads that sync; none where syncs run when they are told to.
pub(crate) struct SyncThreads {
    syncs: Arc<Syncs>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SyncThreads {
    /// None of them; segments are to be synced `full_segment_delay` after they became full.
    pub(crate) fn none(full_segment_delay: Duration, clock: &Arc<dyn Clock>) -> Self {
        Self::with(full_segment_delay, clock, None)
    }

    fn with(full_segment_delay: Duration, clock: &Arc<dyn Clock>, disks: Option<Arc<DiskThreads>>) -> Self {
        let syncs = Syncs {
            appends: SyncQueue::new(Work::Appends, Duration::ZERO, clock.clone()),
            full_segments: SyncQueue::new(Work::FullSegments, full_segment_delay, clock.clone()),
            disks,
        };
        Self { syncs: Arc::new(syncs), threads: Mutex::default() }
    }

    /// Starts them; segments are synced `full_segment_delay` after they became full.
    pub(crate) fn start(
        full_segment_delay: Duration,
        clock: &Arc<dyn Clock>,
        disks: &Arc<DiskThreads>,
    ) -> io::Result<Self> {
        let started = Self::with(full_segment_delay, clock, Some(disks.clone()));
        // when one does not start, those that run already end with `started`
        for number in 0..SYNC_THREADS {
            started.spawn(format!("fastlog-sync-{number}"), |syncs| syncs.appends.run())?;
        }
        started.spawn("fastlog-flush".to_owned(), |syncs| syncs.full_segments.run())?;
        Ok(started)
    }

    fn spawn(&self, name: String, run: fn(&Syncs)) -> io::Result<()> {
        let syncs = self.syncs.clone();
        let thread = std::thread::Builder::new().name(name).spawn(vital(move || run(&syncs)))?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Syncs the appends that are asked for. Blocks on the disk.
    pub(crate) fn run_appends(&self) {
        self.syncs.appends.run_due();
    }

    /// Syncs the full segments that are due. Blocks on the disk.
    pub(crate) fn run_full_segments(&self) {
        self.syncs.full_segments.run_due();
    }

    /// When full segments are due next.
    pub(crate) fn full_segments_due(&self) -> Option<Instant> {
        self.syncs.full_segments.next_due()
    }

    pub(crate) fn syncs(&self) -> &Arc<Syncs> {
        &self.syncs
    }

    /// Syncs the appends that are asked for by now and ends the threads. Blocks on the disk; again is harmless.
    pub(crate) fn stop(&self) {
        self.syncs.appends.stop();
        self.syncs.full_segments.stop();
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
