//! A fetch that waits: for records, or for a disk.

use super::answer::{LEADERS_VERSION, encode, tells_leaders};
use super::read::{FetchPlan, PartitionRead, Prospect};
use super::session_cache::SessionCache;
use crate::broker::{Broker, Clock};
use crate::budget::BytePermit;
use crate::disk::{Disk, DiskThreads, MayWait};
use crate::dispatch::Incoming;
use crate::leaders::Leaders;
use crate::request::response::Reply;
use crate::waiters::{Cause, Deadlines, Delayed};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A fetch that found less than `min_bytes`, or bytes that are not in memory on its way to what it asked for.
pub(crate) struct DelayedFetch {
    pending: Mutex<Option<Pending>>,
    this: Weak<Self>,
    deadlines: Deadlines,
    clock: Arc<dyn Clock>,
    disks: Arc<DiskThreads>,
    may_wait: MayWait,
}

/// How long a high watermark that moved waits for records to go with, where the last ones came as close. A follower under
/// load has half the fetches so. It tells its consumers of the last of many records so much later; of a lone one at once.
const NEWS_LINGER: Duration = Duration::from_millis(20);

/// About what one partition of a waiting fetch holds in memory.
const PARTITION_BYTES: usize = 128;

struct Pending {
    plan: FetchPlan,
    _permit: BytePermit,
    sessions: Arc<SessionCache>,
    /// None before the version that tells them.
    leaders: Option<Leaders>,
    reply: Reply,
    /// It is to be answered soon, with whatever there is then.
    has_news: bool,
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
            has_news: false,
        };
        Arc::new_cyclic(|this| Self {
            pending: Mutex::new(Some(pending)),
            this: this.clone(),
            deadlines: broker.timer.deadlines().clone(),
            clock: broker.clock.clone(),
            disks: broker.disks().clone(),
            may_wait: broker.may_wait(),
        })
    }

    /// Begins to wait: for the partitions, all of them or those of its session that change, and for the deadline.
    pub(crate) fn start(self: &Arc<Self>, deadline: Instant) {
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
            self.deadlines.add(deadline, self.clone());
        }
    }

    /// Has the disk's thread read first what is not in memory; then waits up to the deadline, if there is one and that was
    /// too little. Where no such thread can be had the connection ends, and the client asks again.
    pub(crate) fn start_on(self: &Arc<Self>, disk: Disk, deadline: Option<Instant>) {
        let Some(pending) = self.pending.lock().take() else { return };
        let first = Some(First { fetch: self.clone(), deadline });
        OnDisk { pending, clock: self.clock.clone(), may_wait: self.may_wait.clone(), first }
            .go(self.disks.clone(), disk);
    }

    fn linger(&self) {
        if let Some(this) = self.this.upgrade() {
            self.deadlines.add(self.clock.now() + NEWS_LINGER, this);
        }
    }
}

impl Pending {
    /// What it could be answered with now; a deadline is enough, and news only once.
    fn prospect(&mut self, cause: Cause, may_wait: &MayWait) -> Prospect {
        self.plan.look_again();
        match self.plan.prospect(may_wait) {
            _ if cause != Cause::Change => Prospect::Enough,
            Prospect::News if !self.plan.expects_records(NEWS_LINGER) => Prospect::Enough,
            Prospect::News if std::mem::replace(&mut self.has_news, true) => Prospect::Nothing,
            prospect => prospect,
        }
    }

    fn answer(self, reads: Vec<PartitionRead>) {
        let Self { plan, sessions, leaders, reply, .. } = self;
        let tells = tells_leaders(&reads, plan.version);
        let hints = leaders.as_ref().filter(|_| tells).map(Leaders::hints);
        match encode(plan, reads, &sessions, hints) {
            Ok(response) => reply.send(response),
            Err(error) => reply.close(format!("a Fetch response cannot be written: {error}")),
        }
    }
}

/// A fetch of which a disk's thread reads what is not in memory.
struct OnDisk {
    pending: Pending,
    clock: Arc<dyn Clock>,
    /// For which disks the thread that has it may wait.
    may_wait: MayWait,
    /// None where it is answered with whatever there is.
    first: Option<First>,
}

/// It was just asked, and may wait for more.
struct First {
    fetch: Arc<DelayedFetch>,
    deadline: Option<Instant>,
}

impl OnDisk {
    fn go(mut self, disks: Arc<DiskThreads>, disk: Disk) {
        self.may_wait = self.may_wait.and_for(disk);
        let again = disks.clone();
        // what cannot be asked for is dropped with the reply, which ends the connection
        let _refused = disks.ask_short(disk, Box::new(move || self.read(again)));
    }

    fn read(self, disks: Arc<DiskThreads>) {
        if !self.pending.reply.is_open() {
            return;
        }
        let plan = &self.pending.plan;
        let read = match &self.first {
            Some(_) => plan.read_first(&self.may_wait, &*self.clock),
            None => plan.read(&self.may_wait),
        };
        let reads = match read {
            Ok(reads) => reads,
            Err(another) => return self.go(disks, another),
        };
        let Self { pending, first, .. } = self;
        match first {
            Some(First { fetch, deadline: Some(deadline) }) if !pending.plan.is_enough(&reads) => {
                *fetch.pending.lock() = Some(pending);
                fetch.start(deadline);
            }
            _ => pending.answer(reads),
        }
    }
}

impl Delayed for DelayedFetch {
    fn try_complete(&self, cause: Cause) {
        let mut guard = self.pending.lock();
        let prospect = guard.as_mut().map_or(Prospect::Nothing, |it| it.prospect(cause, &self.may_wait));
        if prospect == Prospect::News {
            drop(guard);
            self.linger();
        } else if prospect == Prospect::Enough
            && let Some(pending) = guard.take()
        {
            drop(guard);
            match pending.plan.read(&self.may_wait) {
                Ok(reads) => pending.answer(reads),
                Err(disk) => {
                    let (clock, may_wait) = (self.clock.clone(), self.may_wait.clone());
                    OnDisk { pending, clock, may_wait, first: None }.go(self.disks.clone(), disk);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        // asked under the lock of a list: whoever holds ours at this moment is not to be waited for
        let pending = self.pending.try_lock();
        pending.is_some_and(|it| it.as_ref().is_none_or(|pending| !pending.reply.is_open()))
    }
}
