//! A shared budget of bytes held on behalf of requests (`queued.max.request.bytes`): requests that are not whole
//! or wait, and large answers that are not written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the bytes of requests held in memory by all connections and queues together.
///
/// It only counts: whoever holds bytes charges them, and readers stop reading sockets while it is exhausted.
#[derive(Debug)]
pub struct ByteBudget {
    used: AtomicUsize,
    limit_bytes: usize,
}

impl ByteBudget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), limit_bytes })
    }

    /// Whether as much as or more than the limit is held: stop taking more in.
    pub fn is_exhausted(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.limit_bytes
    }

    /// The limit.
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Bytes held now.
    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Starts a charge of `bytes`, which ends when the permit is dropped. Never refuses: the check is
    /// [`ByteBudget::is_exhausted`], made before reading, so the overshoot is at most one read per connection.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> BytePermit {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        BytePermit { budget: self.clone(), bytes }
    }
}

/// Bytes charged to a [`ByteBudget`] until this is dropped.
#[derive(Debug)]
pub struct BytePermit {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl BytePermit {
    /// Changes the charge to `bytes`.
    pub fn set(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        if bytes > self.bytes {
            self.budget.used.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for BytePermit {
    fn drop(&mut self) {
        self.set(0);
    }
}
