//! The port through which a log touches files: the real file system, and a faulty one for tests.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use uuid::Uuid;

use crate::identity;

pub mod atomic_file;
mod floor;
#[cfg(feature = "memory")]
pub mod memory;
pub mod open_files;
pub(crate) mod readable_part;
pub mod real;
mod short_name;
pub mod storage;
pub(crate) mod unseen;
pub(crate) mod waiting;

pub use open_files::{LazyFile, OpenFiles};
pub(crate) use readable_part::ReadablePart;
pub use real::RealFileSystem;
pub(crate) use storage::FailureWatch;
pub use storage::Storage;
pub(crate) use unseen::UnseenFile;
pub use waiting::{NotInMemory, only_in_memory};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    ReadWrite,
    /// For reading and writing; made when absent, kept as it is when present.
    Create,
}

/// An open file. All positions are bytes from its start; no call moves a shared position.
///
/// Every call blocks. An implementation may fail any call with any error and may write fewer bytes than asked for.
pub trait FileHandle: Send + Sync + Debug {
    /// Reads into `buffer` from `position` on; fewer bytes than asked for only at the end of the file, or, within
    /// [`only_in_memory`], where something is not in memory: from there on it fails.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes `parts` one after another at `position` by one system call; returns how many bytes, maybe fewer.
    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Cuts or extends the file, and gives back blocks reserved beyond `length`.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// The size in bytes.
    fn length(&self) -> io::Result<u64>;
    /// fdatasync: contents and size survive the death of the machine once this has returned.
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves blocks without changing the size.
    fn allocate(&self, position: u64, length: u64) -> io::Result<()>;
    /// Starts reading ahead into memory; a hint.
    fn read_ahead(&self, position: u64, length: u64) -> io::Result<()>;
    /// Starts to write to the disk what was written; a hint, of which a sync tells what became.
    fn start_write_back(&self, _position: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }
    /// The descriptor for sendfile; `None` where there is none and bytes must be read instead.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
    /// A read from `position` on failed: where the disk is to blame (EIO) it is noted for [`FileHandle::unreadable_in`].
    /// [`FileHandle::read_at`] notes it by itself, sendfile cannot.
    fn note_failed_read(&self, _position: u64, _error: &io::Error) {}
    /// The first byte of `range` that the disk could not read a moment ago.
    fn unreadable_in(&self, _range: std::ops::Range<u64>) -> Option<u64> {
        None
    }
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, without the directory.
    pub name: String,
    /// A directory, not a file.
    pub is_directory: bool,
}

/// The room of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Used or not.
    pub total: u64,
    /// What this process may still write.
    pub usable: u64,
}

/// An open directory. Whoever is to change names in one, and to sync them, opens it before: want of a descriptor is then met
/// while nothing is done, and not in between.
pub trait DirectoryHandle: Send + Sync + Debug {
    /// Makes names made, renamed or removed in it survive the death of the machine. Blocks.
    fn sync(&self) -> io::Result<()>;
}

/// Directories and the files in them. Every call blocks.
pub trait FileSystem: Send + Sync + Debug {
    /// Opens or makes a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>>;
    /// Renames a file or directory, replacing a file that is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all in it.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents; no error when it is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// What a directory holds, in no particular order; `NotFound` where there is none. Names that are not UTF-8 are not ours and are left out.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;
    /// Whether there is such a file or directory.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Opens a directory, to sync it later, whatever its name is by then.
    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn DirectoryHandle>>;
    /// Makes names made, renamed or removed in the directory survive the death of the machine.
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.open_directory(path)?.sync()
    }
    /// Takes the exclusive lock of a file, made when absent, until the answer is dropped; `None` = someone has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Send + Sync + Debug>>>;
    /// The number of the disk that the directory is on; one that cannot tell has a single one.
    fn device(&self, _path: &Path) -> io::Result<u64> {
        Ok(0)
    }
    /// The room of the file system that the directory is on.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Something that changes with each start of the machine.
    fn boot_id(&self) -> io::Result<String>;
    /// A new identifier that nobody else has.
    fn random_uuid(&self) -> Uuid {
        identity::random_uuid()
    }
}

/// Reads exactly `buffer.len()` bytes, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn FileHandle, buffer: &mut [u8], position: u64) -> io::Result<()> {
    let wanted = buffer.len();
    match read_up_to_at(file, buffer, position)? {
        read if read == wanted => Ok(()),
        read => Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the file ends {} bytes early at byte {}", wanted - read, position + read as u64),
        )),
    }
}

/// Reads until `buffer` is full or the file ends; returns how many bytes.
pub fn read_up_to_at(file: &dyn FileHandle, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, position + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all of `parts` at `position`: one system call as a rule, more only to complete a short write.
pub fn write_all_at(file: &dyn FileHandle, parts: &mut [IoSlice<'_>], position: u64) -> io::Result<()> {
    let mut parts = parts;
    let mut position = position;
    while !parts.is_empty() {
        match file.write_vectored_at(parts, position) {
            Ok(0) if parts.iter().all(|part| part.is_empty()) => break,
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether an error means that the disk (or a quota, or the largest file size) is full.
pub fn is_disk_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Whether an error means that this process, or the system, has no descriptor left: the disk has nothing to do with it, and
/// nothing was done.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

/// Whether an error means that the disk itself fails, or that its file system was made read-only since it did.
pub fn is_disk_bad(error: &io::Error) -> bool {
    // the standard library has no kind for it
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::ReadOnlyFilesystem
}
