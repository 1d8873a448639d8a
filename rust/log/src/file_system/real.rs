//! The machine's own file system.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{DirectoryEntry, DirectoryHandle, FileHandle, FileSystem, OpenMode, Space, is_disk_bad, waiting};

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

impl RealFileSystem {
    /// A file that is open already, as a log's files are.
    pub fn handle(file: File) -> Arc<dyn FileHandle> {
        Arc::new(RealFile(file, UnreadablePages::default()))
    }
}

#[derive(Debug)]
struct RealFile(File, UnreadablePages);

/// What the kernel reads at once.
const PAGE_BYTES: u64 = 4096;
/// Of one file; where there are more, readers of the others lose their connections again and again.
const UNREADABLE_PAGES_MAX: usize = 1024;

/// After this time they are tried again: each try costs a reader its connection where the disk still fails.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Where pages begin that the disk could not read, and when that was.
#[derive(Debug, Default)]
struct UnreadablePages(Mutex<Vec<(u64, Instant)>>);

impl UnreadablePages {
    fn note(&self, position: u64) {
        let (page, mut pages) = (position - position % PAGE_BYTES, self.0.lock());
        pages.retain(|(known, _)| *known != page);
        if pages.len() < UNREADABLE_PAGES_MAX {
            pages.push((page, Instant::now()));
        }
    }

    fn first_in(&self, range: Range<u64>) -> Option<u64> {
        let mut pages = self.0.lock();
        if pages.is_empty() {
            return None;
        }
        pages.retain(|(_, noted)| noted.elapsed() < TRY_AGAIN);
        let within = pages.iter().map(|(page, _)| *page);
        let first = within.filter(|page| *page < range.end && page + PAGE_BYTES > range.start).min();
        first.map(|page| page.max(range.start))
    }
}

impl FileHandle for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let read = if waiting::may_wait() {
            self.0.read_at(buffer, position)
        } else {
            let read = fastlog_sys::page_cache::read_in_memory(&self.0, buffer, position);
            read.and_then(|read| read.ok_or_else(waiting::not_in_memory))
        };
        // a page that cannot be read ends a read before it, and fails the next one
        read.inspect_err(|error| self.note_failed_read(position, error))
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        fastlog_sys::file::write_vectored_at(&self.0, parts, position)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, position: u64, length: u64) -> io::Result<()> {
        fastlog_sys::file::allocate_keep_size(&self.0, position, length)
    }

    fn read_ahead(&self, position: u64, length: u64) -> io::Result<()> {
        fastlog_sys::page_cache::read_ahead(&self.0, position, length)
    }

    fn start_write_back(&self, position: u64, length: u64) -> io::Result<()> {
        fastlog_sys::page_cache::start_write_back(&self.0, position, length)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }

    fn note_failed_read(&self, position: u64, error: &io::Error) {
        if is_disk_bad(error) {
            self.1.note(position);
        }
    }

    fn unreadable_in(&self, range: Range<u64>) -> Option<u64> {
        self.1.first_in(range)
    }
}

impl DirectoryHandle for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_all()
    }
}

impl FileSystem for RealFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        if !waiting::may_wait() {
            let known = fastlog_sys::file::open_known(path, mode != OpenMode::Read)?;
            return known.map(|file| RealFileSystem::handle(file.into())).ok_or_else(waiting::not_in_memory);
        }
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::Create => options.write(true).create(true).truncate(false),
        };
        Ok(RealFileSystem::handle(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        // an empty one goes without a descriptor
        fs::remove_dir(path).or_else(|_| fs::remove_dir_all(path))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirectoryEntry { name, is_directory: entry.file_type()?.is_dir() });
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn DirectoryHandle>> {
        Ok(Box::new(File::open(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync + Debug>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn device(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.dev())
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let (total, usable) = fastlog_sys::space::of(path)?;
        Ok(Space { total, usable })
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_could_not_be_read_are_known_by_the_ranges_that_touch_them() {
        let pages = UnreadablePages::default();
        assert_eq!(pages.first_in(0..u64::MAX), None);
        pages.note(3 * PAGE_BYTES + 17);
        pages.note(PAGE_BYTES);
        assert_eq!(pages.first_in(0..u64::MAX), Some(PAGE_BYTES));
        assert_eq!(pages.first_in(0..PAGE_BYTES), None);
        assert_eq!(pages.first_in(PAGE_BYTES + 5..PAGE_BYTES + 6), Some(PAGE_BYTES + 5));
        assert_eq!(pages.first_in(2 * PAGE_BYTES..3 * PAGE_BYTES + 1), Some(3 * PAGE_BYTES));
        assert_eq!(pages.first_in(4 * PAGE_BYTES..u64::MAX), None);
        (0..5_000).for_each(|page| pages.note(page * PAGE_BYTES));
        assert!(pages.0.lock().len() <= UNREADABLE_PAGES_MAX);
    }
}
