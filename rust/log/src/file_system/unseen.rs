//! A file that is read from end to end and leaves the page cache as it was: others' pages are not pushed out by it.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::FileHandle;

/// How finely is told what was in memory before: the kernel's usual read-ahead.
const STEP_BYTES: usize = 128 << 10;

/// Reads `file` and drops from memory what was not there before. The descriptor must be its own: others would lose their
/// read-ahead with it.
#[derive(Debug)]
pub(crate) struct UnseenFile {
    file: Arc<dyn FileHandle>,
}

impl UnseenFile {
    pub(crate) fn new(file: Arc<dyn FileHandle>) -> Self {
        if let Some(descriptor) = file.descriptor() {
            // pages that the kernel read ahead would pass for somebody else's; without the hint they only stay
            let _hint = fastlog_sys::page_cache::expect_random_reads(descriptor);
        }
        Self { file }
    }

    /// The parts of `length` bytes from `position` on that are to be read from the disk: start and length.
    fn absent(&self, position: u64, length: usize) -> Vec<(u64, u64)> {
        let Some(descriptor) = self.file.descriptor() else { return Vec::new() };
        let starts = (0..length).step_by(STEP_BYTES);
        let parts = starts.map(|start| (position + start as u64, STEP_BYTES.min(length - start) as u64));
        parts.filter(|(start, _)| !fastlog_sys::page_cache::is_in_memory(descriptor, *start, 1)).collect()
    }
}

impl FileHandle for UnseenFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let absent = self.absent(position, buffer.len());
        let read = self.file.read_at(buffer, position);
        if let Some(descriptor) = self.file.descriptor() {
            for (start, length) in absent {
                let _hint = fastlog_sys::page_cache::drop_from_memory(descriptor, start, length);
            }
        }
        read
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

    fn read_ahead(&self, _position: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.descriptor()
    }
}
