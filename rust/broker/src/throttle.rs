//! How fast replicas that are behind are filled (KIP-73): a leader sends, and a follower asks for, no more bytes a second
//! than it is told to, in those partitions that a topic's settings list. Who is in sync is never held back.
//!
//! Kafka measures a rate over eleven windows of a second, which lets ten seconds' worth through at once at the beginning;
//! here a bucket of one second is filled at the rate. An answer larger than what is in it leaves a debt.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A rate that is none.
const UNLIMITED: u64 = i64::MAX as u64;

/// The two rates of a broker.
#[derive(Default)]
pub(crate) struct Throttle {
    /// `leader.replication.throttled.rate`: what is sent to followers.
    pub(crate) leader: Quota,
    /// `follower.replication.throttled.rate`: what is fetched from leaders.
    pub(crate) follower: Quota,
}

/// Bytes per second, and how many of them may pass now.
pub(crate) struct Quota {
    /// Read alone where there is no limit, which is nearly always.
    bytes_per_second: AtomicU64,
    bucket: Mutex<Bucket>,
}

struct Bucket {
    /// Negative after an answer that was larger than what there was.
    bytes: f64,
    filled_ns: i64,
}

impl Default for Quota {
    fn default() -> Self {
        let bucket = Mutex::new(Bucket { bytes: 0.0, filled_ns: 0 });
        Self { bytes_per_second: AtomicU64::new(UNLIMITED), bucket }
    }
}

impl Quota {
    /// Changes the rate; what passed under another one is forgotten.
    pub(crate) fn set_rate(&self, bytes_per_second: u64, now_ns: i64) {
        let mut bucket = self.bucket.lock();
        if self.bytes_per_second.swap(bytes_per_second, Ordering::AcqRel) != bytes_per_second {
            *bucket = Bucket { bytes: 0.0, filled_ns: now_ns };
        }
    }

    /// Whether nothing may pass now; the clock, in nanoseconds, is asked only where there is a limit.
    pub(crate) fn is_exceeded(&self, now_ns: impl FnOnce() -> i64) -> bool {
        self.fill(now_ns).is_some_and(|bucket| bucket.bytes <= 0.0)
    }

    /// Notes that so much has passed.
    pub(crate) fn record(&self, bytes: usize, now_ns: impl FnOnce() -> i64) {
        if let Some(mut bucket) = self.fill(now_ns) {
            #[allow(clippy::cast_precision_loss, reason = "an answer has far fewer bytes than 2^52")]
            let passed = bytes as f64;
            bucket.bytes -= passed;
        }
    }

    fn fill(&self, now_ns: impl FnOnce() -> i64) -> Option<parking_lot::MutexGuard<'_, Bucket>> {
        if self.bytes_per_second.load(Ordering::Acquire) == UNLIMITED {
            return None;
        }
        let mut bucket = self.bucket.lock();
        let now_ns = now_ns();
        #[allow(clippy::cast_precision_loss, reason = "nobody sees the difference")]
        let (rate, seconds) = (
            self.bytes_per_second.load(Ordering::Acquire) as f64,
            now_ns.saturating_sub(bucket.filled_ns).max(0) as f64 / 1e9,
        );
        bucket.bytes = (bucket.bytes + rate * seconds).min(rate);
        bucket.filled_ns = now_ns;
        Some(bucket)
    }
}

/// Whether the replica here is listed in its topic's `leader.` and `follower.replication.throttled.replicas`.
#[derive(Default)]
pub(crate) struct Listed {
    pub(crate) leader: AtomicBool,
    pub(crate) follower: AtomicBool,
}

/// Whether a list, `*` or `partition:broker` each, has a replica. What is neither lists nobody.
pub(crate) fn lists<S: AsRef<str>>(items: &[S], partition: i32, broker: i32) -> bool {
    items.iter().map(AsRef::as_ref).any(|item| {
        let both = item.split_once(':').map(|(left, right)| (left.parse(), right.parse()));
        item == "*" || both == Some((Ok(partition), Ok(broker)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn without_a_rate_everything_passes() {
        let quota = Quota::default();
        quota.record(1 << 40, || unreachable!("nobody asks the clock"));
        assert!(!quota.is_exceeded(|| unreachable!("nobody asks the clock")));
    }

    #[test]
    fn so_many_bytes_a_second_pass_and_a_debt_is_paid() {
        let quota = Quota::default();
        quota.set_rate(100, 0);
        assert!(quota.is_exceeded(|| 0));
        // rests do not add up to more than a second's worth
        assert!(!quota.is_exceeded(|| 60 * SECOND));
        quota.record(300, || 60 * SECOND);
        assert!(quota.is_exceeded(|| 62 * SECOND));
        assert!(!quota.is_exceeded(|| 62 * SECOND + 1_000));
    }

    #[test]
    fn another_rate_forgives_debts_and_the_same_does_not() {
        let quota = Quota::default();
        quota.set_rate(1, 0);
        quota.record(1_000_000, || 0);
        quota.set_rate(1, 0);
        assert!(quota.is_exceeded(|| 1_000 * SECOND));
        quota.set_rate(2, 1_000 * SECOND);
        assert!(!quota.is_exceeded(|| 1_001 * SECOND));
        quota.set_rate(0, 1_001 * SECOND);
        assert!(quota.is_exceeded(|| 9_000 * SECOND), "0 lets nothing pass");
        quota.set_rate(UNLIMITED, 9_000 * SECOND);
        assert!(!quota.is_exceeded(|| 9_000 * SECOND));
    }

    #[test]
    fn who_is_listed() {
        assert!(lists(&["*"], 7, 1));
        assert!(lists(&["0:1", "7:1"], 7, 1));
        assert!(!lists(&["7:2", "1:7", "7", "x:1"], 7, 1));
        assert!(!lists::<&str>(&[], 7, 1));
    }
}
