//! Files opened at first use and closed when too many are open.
//!
//! A broker may have far more segments than a process may have descriptors. A `LazyFile` is a name that opens itself;
//! `OpenFiles` bounds how many are open at once by the clock algorithm (second chance). Whoever holds the `Arc` of an
//! evicted file keeps it open until done, so a reader is never cut off.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::{FileHandle, FileSystem, OpenMode};

/// How many files of logs are open at once, and which.
#[derive(Debug)]
pub struct OpenFiles {
    file_system: Arc<dyn FileSystem>,
    open_count_max: usize,
    /// Oldest first; entries of files closed meanwhile are dropped as they come up.
    clock: Mutex<VecDeque<Weak<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    place: Mutex<Place>,
    used: AtomicBool,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    handle: Option<Arc<dyn FileHandle>>,
}

/// A file that is opened when needed. Cheap to clone: clones share the handle and the name.
#[derive(Clone, Debug)]
pub struct LazyFile {
    files: Arc<OpenFiles>,
    slot: Arc<Slot>,
}

impl OpenFiles {
    /// At most about `open_count_max` files open at once (at least 8).
    pub fn new(file_system: Arc<dyn FileSystem>, open_count_max: usize) -> Arc<Self> {
        Arc::new(Self { file_system, open_count_max: open_count_max.max(8), clock: Mutex::default() })
    }

    /// The file at `path`, not opened yet.
    pub fn file(self: &Arc<Self>, path: PathBuf) -> LazyFile {
        let place = Mutex::new(Place { path, handle: None });
        LazyFile { files: Arc::clone(self), slot: Arc::new(Slot { place, used: AtomicBool::new(false) }) }
    }

    fn remember(&self, slot: &Arc<Slot>) {
        let mut clock = self.clock.lock();
        clock.push_back(Arc::downgrade(slot));
        let mut spared = 0;
        while clock.len() > self.open_count_max && spared < self.open_count_max {
            let Some(oldest) = clock.pop_front() else { break };
            let Some(slot) = oldest.upgrade() else { continue };
            if slot.used.swap(false, Relaxed) {
                clock.push_back(oldest);
                spared += 1;
                continue;
            }
            // A file in the middle of being opened is in use: try_lock, or two threads could wait for each other.
            match slot.place.try_lock() {
                Some(mut place) => place.handle = None,
                None => {
                    clock.push_back(oldest);
                    spared += 1;
                }
            }
        }
    }
}

impl LazyFile {
    /// The open file, for reading and writing; opened now if it is not. It must exist.
    pub fn open(&self) -> io::Result<Arc<dyn FileHandle>> {
        self.open_with(OpenMode::ReadWrite)
    }

    /// The open file, made when absent.
    pub fn create(&self) -> io::Result<Arc<dyn FileHandle>> {
        self.open_with(OpenMode::Create)
    }

    fn open_with(&self, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        self.slot.used.store(true, Relaxed);
        let mut place = self.slot.place.lock();
        if let Some(handle) = &place.handle {
            return Ok(Arc::clone(handle));
        }
        let handle = self.files.file_system.open(&place.path, mode)?;
        place.handle = Some(Arc::clone(&handle));
        drop(place);
        self.files.remember(&self.slot);
        Ok(handle)
    }

    /// Its name at present.
    pub fn path(&self) -> PathBuf {
        self.slot.place.lock().path.clone()
    }

    /// Renames the file; open handles stay good.
    pub fn rename(&self, to: &Path) -> io::Result<()> {
        let mut place = self.slot.place.lock();
        self.files.file_system.rename(&place.path, to)?;
        to.clone_into(&mut place.path);
        Ok(())
    }

    /// Notes that the directory it lies in was renamed.
    pub fn moved_to(&self, directory: &Path) {
        let mut place = self.slot.place.lock();
        if let Some(name) = place.path.file_name() {
            place.path = directory.join(name);
        }
    }

    /// Closes it; the next use opens it again.
    pub fn close(&self) {
        self.slot.place.lock().handle = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file_system::RealFileSystem;

    #[test]
    fn no_more_files_are_open_than_allowed_and_each_still_reads() {
        let directory = tempfile::tempdir().unwrap();
        let files = OpenFiles::new(Arc::new(RealFileSystem), 8);
        let all: Vec<_> =
            (0..40).map(|number| files.file(directory.path().join(number.to_string()))).collect();
        for file in &all {
            file.create().unwrap();
        }
        let open = || all.iter().filter(|file| file.slot.place.lock().handle.is_some()).count();
        assert!(open() <= 9, "{} are open", open());
        for file in &all {
            assert_eq!(file.open().unwrap().length().unwrap(), 0);
        }
        assert!(open() <= 9, "{} are open", open());
    }

    #[test]
    fn a_handle_outlives_rename_and_close() {
        let directory = tempfile::tempdir().unwrap();
        let file = OpenFiles::new(Arc::new(RealFileSystem), 8).file(directory.path().join("a"));
        let handle = file.create().unwrap();
        handle.write_vectored_at(&[io::IoSlice::new(b"abc")], 0).unwrap();
        file.rename(&directory.path().join("a.deleted")).unwrap();
        file.close();
        let mut buffer = [0; 3];
        assert_eq!(handle.read_at(&mut buffer, 0).unwrap(), 3);
        assert_eq!(file.open().unwrap().length().unwrap(), 3);
    }
}
