//! Threads that wait for disks, so that those do not which serve everybody.
//!
//! Each disk has a queue and threads of its own, started when something is first to be read from it: one that hangs stops
//! those who want something of it, and nobody else. Whoever waits has one job in a queue at most (a connection hands in no
//! other request, and sends nothing else, meanwhile), so a queue is no longer than there are connections, and those who read
//! much take turns, a piece each.

mod queue;

use parking_lot::Mutex;
use queue::Queue;
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

#[derive(Default)]
struct State {
    /// By the number of the device.
    queues: HashMap<u64, Arc<Queue>>,
    stopped: bool,
}

impl DiskThreads {
    /// So many threads work for a disk at most.
    pub const OF_A_DISK: usize = queue::THREADS;

    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default() })
    }

    /// Has the job done by a thread of that device, after those that were asked for before. Never blocks on a disk. Fails
    /// where no thread can be started, or after [`DiskThreads::stop`]; the job is dropped then.
    pub fn ask(&self, device: u64, job: DiskJob) -> io::Result<()> {
        let queue = {
            let mut state = self.state.lock();
            if state.stopped {
                return Err(io::Error::other("the broker is stopped"));
            }
            state.queues.entry(device).or_default().clone()
        };
        queue.ask(job)
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
        let held = (0..queue::THREADS).map(|_| {
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
