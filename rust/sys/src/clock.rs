//! Monotonic time as a number, the same one that Python's `time.monotonic_ns` tells.

/// Nanoseconds of CLOCK_MONOTONIC: they never go back, and stand for nothing but their differences.
pub fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    #[test]
    fn time_goes_on() {
        let before = super::monotonic_ns();
        assert!(before > 0 && super::monotonic_ns() >= before);
    }
}
