//! What the control plane is to hear of partitions soon; each thing once until it is taken.

use crate::Wakeup;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Something that happened to a partition here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// A follower outside the in-sync replicas of a partition led here has all that it needs to join them.
    Joinable {
        /// The topic's name.
        topic: Arc<str>,
        /// The partition's number.
        index: i32,
        /// The follower.
        replica_id: i32,
    },
    /// A follower's log here is synced: it may fetch on.
    Synced {
        /// The topic's name.
        topic: Arc<str>,
        /// The partition's number.
        index: i32,
    },
}

/// A set of notices, bounded by the number of replicas.
pub struct Notices {
    waiting: Mutex<BTreeSet<Notice>>,
    wakeup: Arc<Wakeup>,
}

impl Notices {
    pub(crate) fn new(wakeup: Arc<Wakeup>) -> Self {
        Self { waiting: Mutex::default(), wakeup }
    }

    pub(crate) fn push(&self, notice: Notice) {
        let mut waiting = self.waiting.lock();
        let first = waiting.is_empty();
        waiting.insert(notice);
        drop(waiting);
        if first {
            self.wakeup.wake();
        }
    }

    /// Takes all, in order.
    pub fn drain(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.waiting.lock()).into_iter().collect()
    }
}
