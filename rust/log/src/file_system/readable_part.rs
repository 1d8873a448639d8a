//! A file of which the disk cannot read everything: the rest of it is worth a look.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{FileHandle, is_disk_bad};

/// What the kernel reads at once.
const PAGE_BYTES: u64 = 4096;
/// Of one file: with more of them the disk is gone, and each costs it seconds. Then reads fail.
const PAGES_MAX: usize = 1024;

/// Reads `file`; pages that the disk cannot read (EIO) are zeros, and told by [`FileHandle::unreadable_in`]. No batch is made
/// of zeros, but one may end with some: who reads batches has to ask.
#[derive(Debug)]
pub(crate) struct ReadablePart {
    file: Arc<dyn FileHandle>,
    /// Where pages begin that could not be read when they were last tried.
    unreadable: Mutex<BTreeSet<u64>>,
}

impl ReadablePart {
    pub(crate) fn new(file: Arc<dyn FileHandle>) -> Self {
        Self { file, unreadable: Mutex::default() }
    }
}

fn page_of(position: u64) -> u64 {
    position - position % PAGE_BYTES
}

impl FileHandle for ReadablePart {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let (page, mut unreadable) = (page_of(position), self.unreadable.lock());
        match self.file.read_at(buffer, position) {
            Ok(read) => {
                let end = position + read as u64;
                unreadable.retain(|known| *known < page || *known >= end);
                Ok(read)
            }
            // a read ends before such a page, so the first one is to blame
            Err(error) if is_disk_bad(&error) && unreadable.len() < PAGES_MAX => {
                unreadable.insert(page);
                let left = self.file.length()?.min(page + PAGE_BYTES).saturating_sub(position);
                let count = buffer.len().min(usize::try_from(left).unwrap_or_default());
                buffer.iter_mut().take(count).for_each(|byte| *byte = 0);
                Ok(count)
            }
            Err(error) => Err(error),
        }
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.file.write_vectored_at(parts, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        self.file.allocate(position, length)
    }

    fn read_ahead(&self, position: u64, length: u64) -> io::Result<()> {
        self.file.read_ahead(position, length)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }

    fn unreadable_in(&self, range: Range<u64>) -> Option<u64> {
        let unreadable = self.unreadable.lock();
        let page = unreadable.range(page_of(range.start)..range.end).next()?;
        Some((*page).max(range.start))
    }
}
