//! An eventfd that tells another thread's event loop that there is something to drain.

use fastlog_sys::EventFd;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// A non-blocking eventfd: any thread wakes it, one reader clears it and then drains its queues.
#[derive(Debug)]
pub struct Wakeup(EventFd);

impl Wakeup {
    /// Makes a new eventfd that is not readable yet.
    pub fn new() -> io::Result<Self> {
        EventFd::new().map(Self)
    }

    /// Makes the descriptor readable. Never blocks.
    pub fn wake(&self) {
        // it fails only for a descriptor that is closed, and ours is open as long as `self` lives
        let _unheard = self.0.notify();
    }

    /// Makes the descriptor unreadable. Call it before draining, so that what comes meanwhile wakes again.
    pub fn clear(&self) {
        let _unheard = self.0.clear();
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Wakeup {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
