//! What the cleaner needs of a log.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::MutexGuard;

use super::Log;
use crate::cleaner::CleanerState;
use crate::error::LogError;
use crate::segment::Segment;

impl Log {
    pub(crate) fn cleaner(&self) -> &CleanerState {
        &self.cleaner
    }

    pub(crate) fn poison(&self, error: &LogError) {
        self.storage().poison(error);
    }

    /// An error when the log is closed, deleted or on a directory that is offline, or when its end is damaged.
    pub(crate) fn check_cleanable(&self) -> Result<(), LogError> {
        self.check_writable(&self.writer.lock())
    }

    /// Keeps flushes and retention away.
    pub(crate) fn lock_flushing(&self) -> MutexGuard<'_, ()> {
        self.flushing.lock()
    }

    /// Of each producer that is remembered: the last offset of its last batch, and its epoch.
    pub(crate) fn last_of_producers(&self) -> HashMap<i64, (Option<i64>, i16)> {
        self.writer.lock().producers.last_batches()
    }

    /// Lets readers see the copy from now on; those that hold the originals go on with them.
    pub(crate) fn replace_in_list(&self, originals: &[Arc<Segment>], copy: &Arc<Segment>) {
        // a roll must not come between
        let _writer = self.writer.lock();
        let list = Arc::new(self.segments().with_copy(originals, copy));
        *self.segments.write() = list;
    }
}
