//! A fetch that waits for records.

use super::answer::{LEADERS_VERSION, encode, tells_leaders};
use super::read::FetchPlan;
use super::session_cache::SessionCache;
use crate::broker::Broker;
use crate::budget::BytePermit;
use crate::dispatch::Incoming;
use crate::leaders::Leaders;
use crate::request::response::Reply;
use crate::waiters::{Cause, Delayed, Timer};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;

/// A fetch that found less than `min_bytes`.
pub(crate) struct DelayedFetch {
    pending: Mutex<Option<Pending>>,
}

/// About what one partition of a waiting fetch holds in memory.
const PARTITION_BYTES: usize = 128;

struct Pending {
    plan: FetchPlan,
    _permit: BytePermit,
    sessions: Arc<SessionCache>,
    /// None before the version that tells them.
    leaders: Option<Leaders>,
    reply: Reply,
}

impl DelayedFetch {
    /// Waits for `plan`, of a request that `incoming` had.
    pub(crate) fn new(broker: &Broker, incoming: &mut Incoming<'_, '_>, plan: FetchPlan) -> Arc<Self> {
        let leaders = (plan.version >= LEADERS_VERSION).then(|| Leaders::new(broker, incoming.context));
        let pending = Pending {
            _permit: broker.budget().charge(PARTITION_BYTES * plan.wanted.len()),
            plan,
            sessions: broker.sessions.clone(),
            leaders,
            reply: (incoming.reply)(),
        };
        Arc::new(Self { pending: Mutex::new(Some(pending)) })
    }

    /// Begins to wait: for the partitions, all of them or those of its session that change, and for the deadline.
    pub(crate) fn start(self: &Arc<Self>, timer: &Timer, deadline: Instant) {
        match &*self.pending.lock() {
            Some(Pending { plan, .. }) => plan.tell_changes(self),
            None => return,
        }
        // what it waits for may have come between the read and now
        self.try_complete(Cause::Change);
        if self.is_over() {
            // The peer may have gone meanwhile. Partitions hold what waits and it holds partitions: left to the next
            // sweep of a list, which may never come, neither would ever be freed.
            drop(self.pending.lock().take());
        } else {
            timer.add(deadline, self.clone());
        }
    }
}

impl Delayed for DelayedFetch {
    fn try_complete(&self, cause: Cause) {
        let mut guard = self.pending.lock();
        let must = cause != Cause::Change;
        let due = guard.as_mut().is_some_and(|pending| {
            pending.plan.look_again();
            must || pending.plan.would_be_enough()
        });
        if due && let Some(Pending { plan, sessions, leaders, reply, .. }) = guard.take() {
            drop(guard);
            let reads = plan.read();
            let tells = tells_leaders(&reads, plan.version);
            let hints = leaders.as_ref().filter(|_| tells).map(Leaders::hints);
            match encode(plan, reads, &sessions, hints) {
                Ok(response) => reply.send(response),
                Err(error) => reply.close(format!("a Fetch response cannot be written: {error}")),
            }
        }
    }

    fn is_over(&self) -> bool {
        // asked under the lock of a list: whoever holds ours at this moment is not to be waited for
        let pending = self.pending.try_lock();
        pending.is_some_and(|it| it.as_ref().is_none_or(|pending| !pending.reply.is_open()))
    }
}
