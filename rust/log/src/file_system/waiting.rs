//! Threads that serve everybody look at logs without waiting for a disk: what they look for is in memory, or they leave
//! the look to a thread that may wait.
//!
//! A rule of the thread and not a parameter, since a look-up goes through segments, indexes and walks over batches that are
//! the same for those who may wait. Whoever meets something that is not in memory gets an error there and then; should it be
//! swallowed on the way, the look as a whole still counts as one that found nothing out.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// A lock under which files are written is waited for no longer than a write into the page cache takes.
const LOCK_PATIENCE: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    MayWait,
    OnlyMemory,
    /// The same, and something was not there.
    Missed,
}

thread_local! {
    static RULE: Cell<Rule> = const { Cell::new(Rule::MayWait) };
}

/// A look needs something that is not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotInMemory;

/// Does `look`, in which this thread reads only what is in memory and opens only what the kernel knows. Where that is not
/// enough its result is dropped. For looks, not for changes.
pub fn only_in_memory<T>(look: impl FnOnce() -> T) -> Result<T, NotInMemory> {
    /// Also where `look` panics.
    struct Before(Rule);
    impl Drop for Before {
        fn drop(&mut self) {
            RULE.set(self.0);
        }
    }
    let _before = Before(RULE.replace(Rule::OnlyMemory));
    let found = look();
    if RULE.get() == Rule::Missed { Err(NotInMemory) } else { Ok(found) }
}

/// Whether this thread may wait for a disk now.
pub(crate) fn may_wait() -> bool {
    RULE.get() == Rule::MayWait
}

/// Notes that something is not in memory; the error to give up with. Only where [`may_wait`] is false.
pub(crate) fn not_in_memory() -> io::Error {
    RULE.set(Rule::Missed);
    io::Error::new(
        io::ErrorKind::WouldBlock,
        "it is not in memory, and this thread does not wait for the disk",
    )
}

/// An error in a thread that may not wait, before work that reads much, or changes what is known of a log.
pub(crate) fn leave_unless_waiting() -> io::Result<()> {
    if may_wait() { Ok(()) } else { Err(not_in_memory()) }
}

/// Takes a lock under which files are read or written.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> io::Result<MutexGuard<'_, T>> {
    if may_wait() { Ok(mutex.lock()) } else { mutex.try_lock_for(LOCK_PATIENCE).ok_or_else(not_in_memory) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_missed_something_found_nothing_even_where_the_error_was_swallowed() {
        assert!(may_wait());
        assert_eq!(only_in_memory(|| 3), Ok(3));
        let swallowed = || leave_unless_waiting().map_or(0, |()| 1);
        assert_eq!(only_in_memory(swallowed), Err(NotInMemory));
        assert_eq!(swallowed(), 1, "this thread may wait again");
        assert!(std::panic::catch_unwind(|| only_in_memory(|| panic!("a bug"))).is_err());
        assert!(may_wait(), "after a panic too");
    }

    #[test]
    fn a_lock_that_another_holds_over_a_write_is_not_waited_for() {
        let mutex = Mutex::new(());
        let held = mutex.lock();
        assert_eq!(only_in_memory(|| lock(&mutex).is_ok()), Err(NotInMemory));
        drop(held);
        assert_eq!(only_in_memory(|| lock(&mutex).is_ok()), Ok(true));
    }
}
