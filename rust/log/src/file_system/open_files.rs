//! Files opened at first use and closed when too many are open, or when nobody used them for a while.
//!
//! A broker may have far more segments than a process may have descriptors. A `LazyFile` is a name that opens itself;
//! `OpenFiles` bounds how many are open at once by the clock algorithm (second chance), and closes what was not used
//! between two calls of [`OpenFiles::close_idle`]. Whoever holds the `Arc` of a closed file keeps it open until done, so a
//! reader is never cut off.
//!
//! What a disk could not write of a file the kernel tells at the next sync, and may forget where no descriptor of it is open.
//! So files of which that is to be asked soon are kept ([`LazyFile::keep_open`]), as long as they are few.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::short_name::ShortName;
use super::{FileHandle, FileSystem, OpenMode};

/// Files that are to stay open are at most this part of all.
const KEPT_PART: usize = 4;

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
    /// To be closed only where there are many such.
    is_kept: AtomicBool,
}

#[derive(Debug)]
struct Place {
    files: Arc<OpenFiles>,
    /// Shared by the files of a segment.
    directory: Arc<Path>,
    name: ShortName,
    handle: Option<Arc<dyn FileHandle>>,
}

impl Place {
    fn path(&self) -> PathBuf {
        self.directory.join(self.name.text())
    }
}

/// A file that is opened when needed. Cheap to clone: clones share the handle and the name.
#[derive(Clone, Debug)]
pub struct LazyFile {
    slot: Arc<Slot>,
}

impl OpenFiles {
    /// At most about `open_count_max` files open at once (at least 8).
    pub fn new(file_system: Arc<dyn FileSystem>, open_count_max: usize) -> Arc<Self> {
        Arc::new(Self { file_system, open_count_max: open_count_max.max(8), clock: Mutex::default() })
    }

    /// The file `name` in `directory`, not opened yet.
    pub fn file(self: &Arc<Self>, directory: &Arc<Path>, name: impl Into<String>) -> LazyFile {
        let name = ShortName::new(name.into());
        let place = Mutex::new(Place {
            files: Arc::clone(self),
            directory: Arc::clone(directory),
            name,
            handle: None,
        });
        let slot = Slot { place, used: AtomicBool::new(false), is_kept: AtomicBool::new(false) };
        LazyFile { slot: Arc::new(slot) }
    }

    /// Closes the files that were not used since it was last called; answers how many. To be called every so often: a
    /// file stays open for one such interval at least.
    pub fn close_idle(&self) -> usize {
        let mut closed = Vec::new();
        let mut kept = 0;
        self.clock.lock().retain(|slot| {
            let Some(slot) = slot.upgrade() else { return false };
            if slot.used.swap(false, Relaxed) || self.keeps(&slot, &mut kept) {
                return true;
            }
            // one that somebody is at is in use, see `remember`
            let Some(mut place) = slot.place.try_lock() else { return true };
            closed.extend(place.handle.take());
            false
        });
        closed.len()
    }

    /// Whether a file is one of the first that are to stay open.
    fn keeps(&self, slot: &Slot, kept: &mut usize) -> bool {
        let is_kept = slot.is_kept.load(Relaxed) && *kept < self.open_count_max / KEPT_PART;
        *kept += usize::from(is_kept);
        is_kept
    }

    fn remember(&self, slot: &Arc<Slot>) {
        let mut clock = self.clock.lock();
        clock.push_back(Arc::downgrade(slot));
        let (mut spared, mut kept) = (0, 0);
        while clock.len() > self.open_count_max && spared < self.open_count_max {
            let Some(oldest) = clock.pop_front() else { break };
            let Some(slot) = oldest.upgrade() else { continue };
            if slot.used.swap(false, Relaxed) || self.keeps(&slot, &mut kept) {
                clock.push_back(oldest);
                spared += 1;
                continue;
            }
            // A file that somebody is at is in use, and nobody is waited for with the clock in hand.
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

    /// Whether it is to stay open once it is, also where nobody uses it. No promise: it is closed where there are many such.
    pub fn keep_open(&self, is_kept: bool) {
        self.slot.is_kept.store(is_kept, Relaxed);
    }

    /// The open file, made when absent.
    pub fn create(&self) -> io::Result<Arc<dyn FileHandle>> {
        self.open_with(OpenMode::Create)
    }

    /// The file for one use: open as long as the answer is kept, unless it was open before.
    pub fn open_once(&self, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        let place = self.slot.place.lock();
        match &place.handle {
            Some(handle) => Ok(Arc::clone(handle)),
            None => place.files.file_system.open(&place.path(), mode),
        }
    }

    fn open_with(&self, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        self.slot.used.store(true, Relaxed);
        loop {
            let (path, files) = {
                let place = self.slot.place.lock();
                if let Some(handle) = &place.handle {
                    return Ok(Arc::clone(handle));
                }
                (place.path(), Arc::clone(&place.files))
            };
            // without the lock: a disk that hangs is not to hold up who asks for the name
            let opened = files.file_system.open(&path, mode);
            let mut place = self.slot.place.lock();
            if place.path() != path {
                // renamed or moved meanwhile, so what was opened may be another that has the name now
                continue;
            }
            let handle = opened?;
            if let Some(others) = &place.handle {
                return Ok(Arc::clone(others));
            }
            place.handle = Some(Arc::clone(&handle));
            drop(place);
            files.remember(&self.slot);
            return Ok(handle);
        }
    }

    /// Its name at present.
    pub fn path(&self) -> PathBuf {
        self.slot.place.lock().path()
    }

    /// Gives the file another name in its directory; open handles stay good. One that is not there (`NotFound`) has the
    /// other name from now on too: what is made under the old one is another file.
    pub fn rename(&self, name: impl Into<String>) -> io::Result<()> {
        let name = name.into();
        let mut place = self.slot.place.lock();
        let renamed = place.files.file_system.rename(&place.path(), &place.directory.join(&name));
        if renamed.as_ref().err().is_none_or(|error| error.kind() == io::ErrorKind::NotFound) {
            place.name = ShortName::new(name);
        }
        renamed
    }

    /// Its name at present, without the directory.
    pub fn name(&self) -> String {
        self.slot.place.lock().name.text()
    }

    /// Notes that the directory it lies in was renamed.
    pub fn moved_to(&self, directory: &Arc<Path>) {
        self.slot.place.lock().directory = Arc::clone(directory);
    }

    /// Notes that the same bytes lie in another directory from now on, perhaps on another disk: the next use opens that file,
    /// open handles stay good.
    pub fn relocate(&self, files: &Arc<OpenFiles>, directory: &Arc<Path>) {
        let mut place = self.slot.place.lock();
        place.files = Arc::clone(files);
        place.directory = Arc::clone(directory);
        place.handle = None;
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
        let path = Arc::from(directory.path());
        let all: Vec<_> = (0..40).map(|number| files.file(&path, number.to_string())).collect();
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
    fn files_that_nobody_uses_are_closed_and_open_again() {
        let directory = tempfile::tempdir().unwrap();
        let files = OpenFiles::new(Arc::new(RealFileSystem), 8);
        let [idle, busy] = ["idle", "busy"].map(|name| files.file(&Arc::from(directory.path()), name));
        for file in [&idle, &busy] {
            file.create().unwrap();
        }
        let is_open = |file: &LazyFile| file.slot.place.lock().handle.is_some();
        assert_eq!(files.close_idle(), 0, "both were used since they were opened");
        busy.open().unwrap();
        assert_eq!(files.close_idle(), 1);
        assert!(is_open(&busy) && !is_open(&idle));
        let held = busy.open().unwrap();
        files.close_idle();
        assert_eq!(files.close_idle(), 1);
        assert_eq!(held.length().unwrap(), 0, "whoever holds it goes on");
        idle.open().unwrap();
        assert_eq!(files.clock.lock().len(), 1, "what is closed is forgotten");
    }

    #[test]
    fn a_handle_outlives_rename_and_close() {
        let directory = tempfile::tempdir().unwrap();
        let path = Arc::from(directory.path());
        let file = OpenFiles::new(Arc::new(RealFileSystem), 8).file(&path, "a");
        let handle = file.create().unwrap();
        handle.write_vectored_at(&[io::IoSlice::new(b"abc")], 0).unwrap();
        file.rename("a.deleted").unwrap();
        file.close();
        let mut buffer = [0; 3];
        assert_eq!(handle.read_at(&mut buffer, 0).unwrap(), 3);
        assert_eq!(file.open().unwrap().length().unwrap(), 3);
    }
}
