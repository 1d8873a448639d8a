//! Monotonic time as a number, the same one that Python's `time.monotonic_ns` tells.

/// Nanoseconds of CLOCK_MONOTONIC: they never go back, and stand for nothing but their differences.
pub fn monotonic_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a timespec of ours that the call fills; it cannot fail for this clock, and would leave zeros.
    #[allow(unsafe_code, reason = "rustix reads the vDSO itself, which valgrind does not survive")]
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now);
    }
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
