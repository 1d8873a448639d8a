//! Until when this broker may take itself for the leader of what it leads, without asking anybody.

use std::sync::atomic::{AtomicI64, Ordering};

const ENDLESS: i64 = i64::MAX;

/// A moment of monotonic time; that of a broker without a cluster never comes.
pub(crate) struct Lease {
    until_ns: AtomicI64,
}

impl Lease {
    pub(crate) fn endless() -> Self {
        Self { until_ns: AtomicI64::new(ENDLESS) }
    }

    pub(crate) fn set(&self, until_ns: i64) {
        self.until_ns.store(until_ns, Ordering::Release);
    }

    pub(crate) fn is_endless(&self) -> bool {
        self.until_ns.load(Ordering::Acquire) == ENDLESS
    }

    /// The time is asked for only where there is an end.
    pub(crate) fn is_over(&self, now_ns: impl FnOnce() -> i64) -> bool {
        let until_ns = self.until_ns.load(Ordering::Acquire);
        until_ns != ENDLESS && now_ns() >= until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_lease_does_not_ask_the_time_and_another_ends_at_its_moment() {
        let lease = Lease::endless();
        assert!(lease.is_endless() && !lease.is_over(|| panic!("asked")));
        lease.set(100);
        assert!(!lease.is_over(|| 99) && lease.is_over(|| 100));
    }
}
