//! Writing to the disk what was appended a moment ago, steadily. The kernel does so by itself, but late and much at once; until
//! then the pages cannot be given to others, and where memory is short, as under a scan of the log, appends wait for that.
//!
//! A hint without a promise: nothing is synced, no recovery point moves, and a failure is told by the next sync.

use std::sync::atomic::Ordering::Relaxed;

use super::Log;
use super::tail::LogPosition;
use crate::error::{During, LogError};

/// So much is appended before it is written. At 20 MB/s a fifth of a second's, younger than what a scan at 1 GB/s pushes out of
/// 512 MiB; and enough for the disk to write it in large pieces.
const WRITE_BACK_BYTES: u64 = 4 << 20;

/// The last page may still grow.
const PAGE_BYTES: u64 = 4096;

/// Up to where what was appended was begun to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrittenBack {
    segment_base: i64,
    position: u64,
}

impl From<LogPosition> for WrittenBack {
    fn from(end: LogPosition) -> Self {
        Self { segment_base: end.segment_base, position: end.position }
    }
}

impl Log {
    pub(super) fn note_appended(&self, bytes: usize) {
        self.appended_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Whether so much was appended that [`Log::start_write_back`] should be called; true once for each such stretch. Cheap.
    pub fn takes_write_back(&self) -> bool {
        let is_due = self.appended_bytes.load(Relaxed) >= WRITE_BACK_BYTES;
        if is_due {
            self.appended_bytes.store(0, Relaxed);
        }
        is_due
    }

    /// The log was cut: what comes in the place of what was there is not written yet.
    pub(super) fn write_back_from(&self, end: LogPosition) {
        let mut written = self.written_back.lock();
        if (end.segment_base, end.position) < (written.segment_base, written.position) {
            *written = end.into();
        }
    }

    /// Has the kernel begin to write what was appended since it was last called. Blocks while the disk's queue is full.
    pub fn start_write_back(&self) -> Result<(), LogError> {
        let end = self.tail.lock().end();
        let mut written = self.written_back.lock();
        let begun_in = written.segment_base;
        for segment in self.segments().iter().filter(|it| it.base_offset >= begun_in) {
            let from = if segment.base_offset == written.segment_base { written.position } else { 0 };
            let is_last = segment.base_offset == end.segment_base;
            let until = if is_last { end.position - end.position % PAGE_BYTES } else { segment.size() };
            if from < until {
                let started = segment.file()?.start_write_back(from, until - from);
                started.during("begin to write", segment.log.path())?;
            }
            *written = WrittenBack { segment_base: segment.base_offset, position: until };
            if is_last {
                break;
            }
        }
        Ok(())
    }
}
