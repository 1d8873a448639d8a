//! Holds what works in the background to a rate, and stops it.

use fastlog_log::Pace;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Waits shorter than this are saved up: the timer is no finer.
const WAIT_MIN: Duration = Duration::from_millis(5);
/// However far ahead a work is.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// So often something else is done in a long wait.
const MEANWHILE: Duration = Duration::from_secs(1);

/// Stops a work for good, also in the middle of a wait.
#[derive(Default)]
pub(crate) struct Brake {
    stopped: Mutex<bool>,
    stopping: Condvar,
}

impl Brake {
    pub(crate) fn stop(&self) {
        *self.stopped.lock() = true;
        self.stopping.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stopped.lock()
    }

    /// Waits; false = it was stopped.
    pub(crate) fn wait(&self, duration: Duration) -> bool {
        let mut stopped = self.stopped.lock();
        let until = Instant::now() + duration;
        while !*stopped && !duration.is_zero() {
            if self.stopping.wait_until(&mut stopped, until).timed_out() {
                break;
            }
        }
        !*stopped
    }
}

/// Keeps a work to so many bytes a second on average since it began.
pub(crate) struct Throttle<'a> {
    brake: &'a Brake,
    bytes_per_second: Option<f64>,
    began: Instant,
    bytes: AtomicU64,
}

impl<'a> Throttle<'a> {
    pub(crate) fn new(brake: &'a Brake, bytes_per_second: Option<f64>) -> Self {
        Self { brake, bytes_per_second, began: Instant::now(), bytes: 0.into() }
    }
    /// As [`Pace::go_on`]; while it waits it does something else now and then, and once before.
    pub(crate) fn go_on_with(&self, bytes: u64, meanwhile: impl Fn()) -> bool {
        meanwhile();
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0.0) else {
            return self.brake.wait(Duration::ZERO);
        };
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let due = Duration::try_from_secs_f64(total as f64 / rate).unwrap_or(Duration::MAX);
        let until = due.min(self.began.elapsed() + WAIT_MAX);
        loop {
            let ahead = until.saturating_sub(self.began.elapsed());
            if ahead < WAIT_MIN {
                return self.brake.wait(Duration::ZERO);
            }
            if !self.brake.wait(ahead.min(MEANWHILE)) {
                return false;
            }
            meanwhile();
        }
    }
}

impl Pace for Throttle<'_> {
    fn go_on(&self, bytes: u64) -> bool {
        self.go_on_with(bytes, || ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttled_work_takes_its_time_and_a_stop_ends_the_wait() {
        let brake = Brake::default();
        let pace = Throttle::new(&brake, Some(1e6));
        for _ in 0..10 {
            assert!(pace.go_on(2_000));
        }
        assert!(pace.began.elapsed() >= Duration::from_millis(15), "20 kB at 1 MB/s");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pace.go_on(u64::MAX / 4));
            brake.stop();
            assert!(!waiting.join().unwrap(), "a wait of an hour is over at once");
        });
        assert!(!Throttle::new(&brake, None).go_on(1));
    }
}
