//! How partitions tell fetch sessions that something changed, so that a session looks at those partitions only.

use crate::waiters::Delayed;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Weak};

/// Which partition of a session.
pub(crate) type Slot = usize;

/// What the partitions of one session have told it.
#[derive(Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changed: Vec<Slot>,
    /// The fetch that waits for a change.
    waiter: Option<Arc<dyn Delayed>>,
}

impl Signal {
    /// Takes what changed since the last time. Each is to be [`Watch::rearm`]ed before its partition is looked at.
    pub(crate) fn take(&self) -> Vec<Slot> {
        std::mem::take(&mut self.state.lock().changed)
    }

    /// Has `waiter` look at every change from now on, instead of whoever did. What it waits for may have come already:
    /// check it once more afterwards.
    pub(crate) fn wait(&self, waiter: Arc<dyn Delayed>) {
        let mut state = self.state.lock();
        let before = state.waiter.replace(waiter);
        drop(state);
        drop(before);
    }

    pub(super) fn change(&self, slot: Slot) -> Option<Arc<dyn Delayed>> {
        let mut state = self.state.lock();
        state.changed.push(slot);
        state.waiter.clone()
    }
}

/// That a session is told of a partition's changes, for as long as it keeps this.
pub(crate) struct Watch {
    slot: Slot,
    signal: Arc<Signal>,
    /// The session was told, and has not looked since: it need not be told again.
    is_told: AtomicBool,
}

impl Watch {
    pub(crate) fn new(slot: Slot, signal: Arc<Signal>) -> Arc<Self> {
        Arc::new(Self { slot, signal, is_told: AtomicBool::new(false) })
    }

    /// Wants to be told of the next change. Whoever looks at the partition after this sees all changes that were not
    /// told because of an earlier one.
    pub(crate) fn rearm(&self) {
        // a read-modify-write: it takes over what was done before the telling that it undoes, and before those left out
        self.is_told.swap(false, Ordering::AcqRel);
    }

    /// Tells the session, and answers its fetch that waits.
    fn tell(&self) -> Option<Arc<dyn Delayed>> {
        if self.is_told.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.signal.change(self.slot)
    }
}

/// How long a list gets before those whose sessions are over are looked for.
const SWEEP_AT_LEAST: usize = 8;

/// The sessions that watch one partition.
pub(crate) struct WatchList {
    state: Mutex<List>,
    /// Length of the list, read without the lock by appends that nobody watches.
    count: AtomicUsize,
}

struct List {
    watches: Vec<Weak<Watch>>,
    sweep_at: usize,
}

impl WatchList {
    pub(crate) fn new() -> Self {
        let list = List { watches: Vec::new(), sweep_at: SWEEP_AT_LEAST };
        Self { state: Mutex::new(list), count: AtomicUsize::new(0) }
    }

    /// Adds a watch. Changes before this are not told: look at the partition afterwards.
    pub(crate) fn add(&self, watch: &Arc<Watch>) {
        let mut list = self.state.lock();
        list.watches.push(Arc::downgrade(watch));
        if list.watches.len() >= list.sweep_at {
            list.watches.retain(|it| it.strong_count() > 0);
            list.sweep_at = SWEEP_AT_LEAST.max(2 * list.watches.len());
        }
        self.count.store(list.watches.len(), Ordering::SeqCst);
    }

    /// Tells all sessions that something changed, and has those of their fetches that wait look at it.
    pub(crate) fn notify(&self) {
        // pairs with the store in `add`, as in `WaiterList`
        fence(Ordering::SeqCst);
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let waiters: Vec<_> = {
            let list = self.state.lock();
            list.watches.iter().filter_map(|it| it.upgrade()?.tell()).collect()
        };
        // without the lock: they read the partition, and answer
        for waiter in waiters {
            waiter.try_complete(crate::waiters::Cause::Change);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiters::Cause;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Delayed for Counted {
        fn try_complete(&self, _: Cause) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        fn is_over(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_change_is_told_once_until_the_session_has_looked() {
        let (list, signal, waiter) =
            (WatchList::new(), Arc::new(Signal::default()), Arc::<Counted>::default());
        let watch = Watch::new(7, signal.clone());
        list.add(&watch);
        signal.wait(waiter.clone());
        list.notify();
        list.notify();
        assert_eq!((signal.take(), waiter.0.load(Ordering::SeqCst)), (vec![7], 1));
        list.notify();
        assert_eq!(signal.take(), [0_usize; 0], "taken, but not looked at");
        watch.rearm();
        list.notify();
        assert_eq!((signal.take(), waiter.0.load(Ordering::SeqCst)), (vec![7], 2));
    }

    #[test]
    fn a_session_that_is_over_is_not_told_and_leaves_the_list() {
        let (list, signal) = (WatchList::new(), Arc::new(Signal::default()));
        for slot in 0..1000 {
            list.add(&Watch::new(slot, signal.clone()));
        }
        list.notify();
        assert_eq!(signal.take(), [0_usize; 0]);
        assert!(list.state.lock().watches.len() < 2 * SWEEP_AT_LEAST);
    }
}
