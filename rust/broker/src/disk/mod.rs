//! Threads that wait for disks, so that those do not which serve everybody.
//!
//! Each disk has queues and threads of its own, for reads and for writes, started when something is first asked of it: one that
//! hangs stops those who want something of it read, synced or written back, and nobody else. Appends are no jobs of theirs: they
//! write into the page cache on the thread that has the request, which waits where a disk has the kernel wait. Whoever waits has one job in a queue at most (a connection hands in no
//! other request, and sends nothing else, meanwhile), so a queue is no longer than there are connections, and those who read
//! much take turns, a piece each.

mod bring;
mod look;
mod queue;

pub(crate) use look::{Disk, MayWait};

use parking_lot::Mutex;
use queue::{Job, Queue};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a disk's thread is to do; it may block on that disk, and on nothing else.
pub type DiskJob = Box<dyn FnOnce() + Send>;

/// The threads of all disks.
pub struct DiskThreads {
    state: Mutex<State>,
}

/// What a disk's thread does; one does not wait for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Read,
    /// Starts to write what was appended.
    Write,
}

impl Lane {
    fn threads(self) -> usize {
        match self {
            Self::Read => DiskThreads::OF_A_DISK,
            Self::Write => 1,
        }
    }

    /// Reading takes processors as well, for copying and sending most of all. Readers of a backlog take what there is, so those
    /// who write and read what is new go before them; these still get a tenth beside them. What is written back makes room for
    /// appends, and takes next to nothing.
    fn niceness(self) -> i32 {
        match self {
            Self::Read => 10,
            Self::Write => 0,
        }
    }
}

#[derive(Default)]
struct State {
    /// By the number of the device.
    queues: HashMap<(u64, Lane), Arc<Queue>>,
    stopped: bool,
}

impl DiskThreads {
    /// So many threads read from a disk at most: while one hands to a socket what came, the other waits for what comes next.
    /// More would only let one disk take more of the processors.
    pub const OF_A_DISK: usize = 2;

    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// Has the job done by a thread of that device, after those that were asked for before. Never blocks on a disk. Fails
    /// where no thread can be started, or after [`DiskThreads::stop`]; the job is dropped then.
    pub fn ask(&self, device: u64, job: DiskJob) -> io::Result<()> {
        self.ask_lane(device, Lane::Read, Job::Piece, job)
    }

    /// The same for a job that reads some pages only: it takes turns with pieces, and does not wait behind all of them.
    pub(crate) fn ask_short(&self, device: u64, job: DiskJob) -> io::Result<()> {
        self.ask_lane(device, Lane::Read, Job::Short, job)
    }

    /// The same, by a thread that writes.
    pub(crate) fn ask_to_write(&self, device: u64, job: DiskJob) -> io::Result<()> {
        self.ask_lane(device, Lane::Write, Job::Piece, job)
    }

    fn ask_lane(&self, device: u64, lane: Lane, kind: Job, job: DiskJob) -> io::Result<()> {
        let queue = {
            let mut state = self.state.lock();
            if state.stopped {
                return Err(io::Error::other("the broker is stopped"));
            }
            let queue = || Arc::new(Queue::new(lane.threads(), lane.niceness()));
            state.queues.entry((device, lane)).or_insert_with(queue).clone()
        };
        queue.ask(kind, job)
    }

    /// Drops the jobs that wait, and waits up to `patience` for those that run; false where one hangs: its thread is left
    /// to itself, with what it holds. Again is harmless.
    pub fn stop(&self, patience: Duration) -> bool {
        let queues: Vec<_> = {
            let mut state = self.state.lock();
            state.stopped = true;
            state.queues.drain().map(|(_, queue)| queue).collect()
        };
        let deadline = Instant::now() + patience;
        queues.iter().for_each(|queue| queue.stop());
        // the deadline is one for all: where it has passed, the others are only looked at
        queues.iter().filter(|queue| !queue.is_done_by(deadline)).count() == 0
    }
}

impl Drop for DiskThreads {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A job that tells that it began, and waits until it is let go.
    fn held(began: &Sender<()>) -> (DiskJob, Sender<()>) {
        let (go, wait): (Sender<()>, Receiver<()>) = channel();
        let began = began.clone();
        let job = move || {
            began.send(()).unwrap();
            let _gone = wait.recv();
        };
        (Box::new(job), go)
    }

    /// Holds all threads of a device.
    fn hang(disks: &DiskThreads, device: u64) -> Vec<Sender<()>> {
        let (began, running) = channel();
        let held = (0..DiskThreads::OF_A_DISK).map(|_| {
            let (job, go) = held(&began);
            disks.ask(device, job).unwrap();
            running.recv_timeout(PATIENCE).unwrap();
            go
        });
        held.collect()
    }

    #[test]
    fn a_disk_that_hangs_stops_no_other() {
        let disks = DiskThreads::new();
        let hanging = hang(&disks, 1);
        let (done, heard) = channel();
        let tell = |name: &'static str| {
            let done = done.clone();
            Box::new(move || done.send(name).unwrap())
        };
        disks.ask(1, tell("of the disk that hangs")).unwrap();
        disks.ask(2, tell("of another")).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("of another"));
        assert!(heard.try_recv().is_err());
        drop(hanging);
        assert_eq!(heard.recv_timeout(PATIENCE), Ok("of the disk that hangs"));
    }

    #[test]
    fn readers_that_ask_again_and_again_take_turns() {
        const READERS: usize = 10;
        let disks = DiskThreads::new();
        let hanging = hang(&disks, 1);
        let (done, heard) = channel();
        fn read_on(disks: &Arc<DiskThreads>, reader: usize, rounds: usize, done: Sender<usize>) {
            let again = disks.clone();
            let job = move || {
                done.send(reader).unwrap();
                if rounds > 1 {
                    read_on(&again, reader, rounds - 1, done);
                }
            };
            disks.ask(1, Box::new(job)).unwrap();
        }
        (0..READERS).for_each(|reader| read_on(&disks, reader, 20, done.clone()));
        // one thread alone, or the order in which two of them tell would be chance
        let mut hanging = hanging;
        let kept = hanging.pop();
        drop(hanging);
        let served: Vec<usize> = (0..READERS * 20).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
        let expected: Vec<usize> = (0..READERS * 20).map(|turn| turn % READERS).collect();
        assert_eq!(served, expected);
        drop(kept);
    }

    #[test]
    fn short_jobs_and_pieces_take_turns() {
        let disks = DiskThreads::new();
        let mut hanging = hang(&disks, 1);
        let kept = hanging.pop();
        let (done, heard) = channel();
        let tell = |name: &'static str| {
            let done = done.clone();
            Box::new(move || done.send(name).unwrap())
        };
        ["a", "b", "c"].into_iter().for_each(|piece| disks.ask(1, tell(piece)).unwrap());
        ["1", "2", "3", "4", "5"].into_iter().for_each(|short| disks.ask_short(1, tell(short)).unwrap());
        drop(hanging);
        let order: String = (0..8).map(|_| heard.recv_timeout(PATIENCE).unwrap()).collect();
        assert_eq!(order, "1a2b3c45");
        drop(kept);
    }

    #[test]
    fn what_waits_is_dropped_at_a_stop_and_one_that_hangs_is_not_waited_for() {
        let disks = DiskThreads::new();
        let hanging = hang(&disks, 1);
        let (done, heard) = channel::<()>();
        disks.ask(1, Box::new(move || done.send(()).unwrap())).unwrap();
        assert!(!disks.stop(Duration::from_millis(20)), "it hangs");
        assert!(heard.recv_timeout(PATIENCE).is_err(), "the job was dropped without being done");
        assert!(disks.ask(1, Box::new(|| {})).is_err());
        drop(hanging);
    }

    #[test]
    fn a_stop_waits_for_what_runs() {
        let disks = DiskThreads::new();
        let hanging = hang(&disks, 1);
        let stopping = std::thread::spawn({
            let disks = disks.clone();
            move || disks.stop(PATIENCE)
        });
        drop(hanging);
        assert!(stopping.join().unwrap());
    }
}
