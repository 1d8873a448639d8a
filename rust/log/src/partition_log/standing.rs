//! A log that stands still while a copy takes its place: those who may not wait for a disk are refused before long.
//!
//! Appends, what a follower fetched and what it cuts, and new roles are handled by threads that have other partitions to serve
//! too. As a rule the log stands still for two syncs; where the disk of the copy is slow, or hangs, they are answered with an
//! error, and tried again. That a leadership is over is in force at once.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{Log, Writer};
use crate::error::LogError;

/// So long they wait at most for a log that stands still.
pub const PATIENCE: Duration = Duration::from_millis(100);

impl Log {
    /// The writer, for who may not wait for a disk.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`PATIENCE`]: to be tried again.
    pub(super) fn lock_writer(&self) -> Result<MutexGuard<'_, Writer>, LogError> {
        self.lock_patiently(&self.writer)
    }

    /// A lock that others hold while they wait for this log, for who may not wait for a disk.
    ///
    /// # Errors
    /// `StandsStill` where the log does so for longer than [`PATIENCE`]: to be tried again.
    pub fn lock_patiently<'a, T>(&self, lock: &'a Mutex<T>) -> Result<MutexGuard<'a, T>, LogError> {
        if let Some(locked) = lock.try_lock() {
            return Ok(locked);
        }
        loop {
            let since = *self.stands_still_since.lock();
            // the others are short
            let left = since.map_or(PATIENCE, |since| PATIENCE.saturating_sub(since.elapsed()));
            if let Some(locked) = lock.try_lock_for(left) {
                return Ok(locked);
            }
            if since.is_some() {
                return Err(LogError::StandsStill { path: self.directory() });
            }
        }
    }

    /// The writer is held from now on, perhaps for long.
    pub(super) fn stand_still(&self) {
        *self.stands_still_since.lock() = Some(Instant::now());
    }

    /// The writer is about to be let go.
    pub(super) fn go_on(&self, writer: &mut Writer) {
        *self.stands_still_since.lock() = None;
        // whoever moved it before this was refused, and whoever moves it after this waits
        writer.producers.high_watermark_moved(self.high_watermark());
        self.publish_unstable(writer);
    }
}
