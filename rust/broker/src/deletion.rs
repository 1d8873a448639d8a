//! Waiting until records that were deleted are gone from every live replica (`DeleteRecords`, semantics row 42).

use crate::broker::Broker;
use crate::partition::{Duty, Partition};
use crate::waiters::{Cause, Delayed};
use fastlog_protocol::ErrorCode;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Threads that may wait at once. The records of one more are gone too, as soon as its replicas are there.
const WAITING_MAX: usize = 16;

/// How many wait.
#[derive(Default)]
pub(crate) struct Deletions {
    waiting: AtomicUsize,
}

/// A partition whose log start was moved by its leader.
struct Moved {
    partition: Arc<Partition>,
    log_start_offset: i64,
}

impl Moved {
    /// The low watermark once it is there, or why it never will be; None as long as replicas are to come.
    fn outcome(&self) -> Option<Result<i64, ErrorCode>> {
        match self.partition.role().duty {
            Duty::Deleted => Some(Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            Duty::Follower => Some(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
            Duty::Leader => {
                let low_watermark = self.partition.low_watermark();
                (low_watermark >= self.log_start_offset).then_some(Ok(low_watermark))
            }
        }
    }
}

/// A thread that waits for partitions.
struct Waiting {
    moved: Vec<Moved>,
    is_over: Mutex<bool>,
    over: Condvar,
}

impl Delayed for Waiting {
    fn try_complete(&self, cause: Cause) {
        // looked at without the lock, which is a leaf
        if cause != Cause::Change || self.moved.iter().all(|it| it.outcome().is_some()) {
            *self.is_over.lock() = true;
            self.over.notify_all();
        }
    }

    fn is_over(&self) -> bool {
        *self.is_over.lock()
    }
}

impl Broker {
    /// Waits until every live replica of the partitions, each of a topic, has the log start that its leader moved to, at
    /// most for `timeout`: blocks. Answers the low watermark of each, or `REQUEST_TIMED_OUT`, `NOT_LEADER_OR_FOLLOWER`,
    /// `UNKNOWN_TOPIC_OR_PARTITION`. While 16 wait, who comes does not. A replica tells its log start by its fetches.
    pub fn wait_deleted(
        &self,
        wanted: &[(String, i32, i64)],
        timeout: Duration,
    ) -> Vec<Result<i64, ErrorCode>> {
        let found = wanted.iter().map(|(topic, index, log_start_offset)| {
            let partition = self.open_partition(topic, *index)?;
            Ok(Moved { partition, log_start_offset: *log_start_offset })
        });
        let found: Vec<Result<Moved, ErrorCode>> = found.collect();
        let is_open = |it: &Result<Moved, ErrorCode>| it.as_ref().is_ok_and(|it| it.outcome().is_none());
        if self.has_threads && !timeout.is_zero() && found.iter().any(is_open) {
            self.wait_for(&found, timeout);
        }
        let outcomes = found
            .into_iter()
            .map(|it| it.and_then(|it| it.outcome().unwrap_or(Err(ErrorCode::REQUEST_TIMED_OUT))));
        outcomes.collect()
    }

    fn wait_for(&self, found: &[Result<Moved, ErrorCode>], timeout: Duration) {
        let moved = found
            .iter()
            .flatten()
            .map(|it| Moved { partition: it.partition.clone(), log_start_offset: it.log_start_offset });
        let (is_over, over) = (Mutex::new(false), Condvar::new());
        let waiting = Arc::new(Waiting { moved: moved.collect(), is_over, over });
        if self.deletions.waiting.fetch_add(1, Ordering::SeqCst) < WAITING_MAX {
            for it in &waiting.moved {
                it.partition.waiters().add(waiting.clone());
            }
            waiting.try_complete(Cause::Change);
            self.timer.add(self.clock.now() + timeout, waiting.clone());
            let mut is_over = waiting.is_over.lock();
            while !*is_over {
                waiting.over.wait(&mut is_over);
            }
        }
        self.deletions.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
