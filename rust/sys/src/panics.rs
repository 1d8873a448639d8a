//! What becomes of a process in which a thread of the engine ends by a panic.

use std::sync::atomic::{AtomicBool, Ordering};

static ENDS_PROCESS: AtomicBool = AtomicBool::new(false);

/// Ends the process with SIGABRT when a thread that the engine lives by is ended by a panic: without one that takes
/// connections or syncs, a broker would stay in its cluster and answer nobody. The logs are as after a kill.
///
/// A panic that is caught, that of one request say, ends nothing, and one on a thread of Python's is an exception there.
/// For a process of our own only: it holds from now on.
pub fn end_process_on_panic() {
    ENDS_PROCESS.store(true, Ordering::Relaxed);
}

/// What a thread that the engine lives by runs; see `end_process_on_panic`.
pub fn vital(run: impl FnOnce()) -> impl FnOnce() {
    move || {
        let _watch = Watch;
        run();
    }
}

struct Watch;

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() && ENDS_PROCESS.load(Ordering::Relaxed) {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            eprintln!(
                "fastlog: the thread {name} failed, and the broker ends: a fault of fastlog's, start it again"
            );
            std::process::abort();
        }
    }
}
