//! Positioned vectored writes, preallocation and sendfile(2).

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Writes `parts` one after another at byte `position` by one pwritev(2); the file's own position is untouched.
///
/// Returns how many bytes were written, which may be fewer than asked for (disk nearly full, signal). Blocks.
pub fn write_vectored_at(file: impl AsFd, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
    Ok(rustix::io::pwritev(file, parts, position)?)
}

/// Reserves disk blocks for `length` bytes from `position` on without changing the file's size
/// (`FALLOC_FL_KEEP_SIZE`): appends then cost no block allocation, and the size stays what was appended.
///
/// Fails with `ENOSPC` when there is no room and `EOPNOTSUPP` where the file system cannot.
pub fn allocate_keep_size(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, position, length)?)
}

/// The same file, opened once more for reading: with a position and a read-ahead of its own. Needs /proc. Does not wait for the
/// disk, since the file is open.
pub fn reopen(file: impl AsFd) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens a file that is there for reading, and for writing with `writes`, if the kernel has its name and what is needed of it in
/// memory; `None` if not, or before Linux 5.12. Does not wait for the disk.
pub fn open_known(path: impl AsRef<Path>, writes: bool) -> io::Result<Option<OwnedFd>> {
    let access = if writes { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::CLOEXEC;
    match rustix::fs::openat2(CWD, path.as_ref(), flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(file) => Ok(Some(file)),
        // not known; or an older kernel, or one that does not let this process ask
        Err(Errno::AGAIN | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(None),
        // it may have to be made, which is no look
        Err(Errno::NOENT) if writes => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The number of the device that the file lies on.
pub fn device(file: impl AsFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(file)?.st_dev)
}

/// Sends up to `count` bytes of `file` from `*position` on to `socket` and moves `*position` past what was sent.
///
/// Returns 0 when the file ends at or before `*position`: the file shrank under the reader, and whoever promised
/// those bytes must close the connection. Fails with `WouldBlock` when a non-blocking socket is full.
pub fn send_file(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    position: &mut u64,
    count: usize,
) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(position), count)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn preallocation_leaves_the_size_alone_and_truncation_to_the_size_releases_it() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(b"ab"), IoSlice::new(b"cd")], 0).unwrap();
        if allocate_keep_size(&file, 0, 1 << 20).is_err() {
            return; // the temporary directory's file system cannot preallocate; nothing to promise then
        }
        let metadata = file.metadata().unwrap();
        assert_eq!(metadata.len(), 4);
        assert!(metadata.blocks() * 512 >= 1 << 20);
        file.set_len(4).unwrap();
        let metadata = file.metadata().unwrap();
        assert!(metadata.blocks() * 512 < 1 << 20);
    }

    #[test]
    fn a_file_that_is_opened_again_is_the_same_even_when_it_has_no_name() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(b"0123456789")], 0).unwrap();
        let again = reopen(&file).unwrap();
        assert_eq!(device(&again).unwrap(), device(&file).unwrap());
        let mut text = String::new();
        File::from(again).read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123456789");
    }

    #[test]
    fn a_file_that_was_just_made_is_known_and_one_that_is_not_there_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        std::fs::write(&path, b"0123").unwrap();
        for writes in [false, true] {
            // None where the kernel is too old, or does not let us ask
            if let Some(file) = open_known(&path, writes).unwrap() {
                let mut text = String::new();
                File::from(file).read_to_string(&mut text).unwrap();
                assert_eq!(text, "0123");
            }
        }
        let missing = directory.path().join("b");
        assert!(!matches!(open_known(&missing, false), Ok(Some(_))));
        assert!(open_known(&missing, true).unwrap().is_none());
        assert!(!missing.exists(), "a look makes no file");
    }

    #[test]
    fn send_file_moves_the_position_and_stops_at_the_end() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(b"0123456789")], 0).unwrap();
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut position = 4;
        assert_eq!(send_file(near.as_fd(), file.as_fd(), &mut position, 100).unwrap(), 6);
        assert_eq!(position, 10);
        assert_eq!(send_file(near.as_fd(), file.as_fd(), &mut position, 100).unwrap(), 0);
        drop(near);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "456789");
    }
}
