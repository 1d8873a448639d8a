//! Positioned vectored writes, preallocation, read-ahead and sendfile(2).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Advice, FallocateFlags};
use rustix::io::{Errno, ReadWriteFlags};

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

/// Asks the kernel to read `length` bytes from `position` on into the page cache. Does not wait for the disk.
pub fn read_ahead(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    // A length of 0 means "to the end of the file" to posix_fadvise, which is never what is wanted here.
    match std::num::NonZeroU64::new(length) {
        Some(length) => Ok(rustix::fs::fadvise(file, position, Some(length), Advice::WillNeed)?),
        None => Ok(()),
    }
}

/// Has the kernel read no more than is asked for by this descriptor.
pub fn expect_random_reads(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, Advice::Random)?)
}

/// Drops whole pages of `length` bytes from `position` on from the page cache, but for those that wait to be written.
pub fn drop_from_memory(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    // A length of 0 means "to the end of the file", as above.
    match std::num::NonZeroU64::new(length) {
        Some(length) => Ok(rustix::fs::fadvise(file, position, Some(length), Advice::DontNeed)?),
        None => Ok(()),
    }
}

/// Whether the byte at `position` can be read without waiting for the disk. True also where the file system cannot
/// tell, and at the end of the file.
pub fn is_in_memory(file: impl AsFd, position: u64) -> bool {
    let mut byte = [0];
    let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut byte)], position, ReadWriteFlags::NOWAIT);
    read != Err(Errno::AGAIN)
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

    #[test]
    fn what_was_just_written_is_in_memory_and_so_is_the_end() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(b"0123456789")], 0).unwrap();
        assert!(is_in_memory(&file, 0));
        assert!(is_in_memory(&file, 10));
    }

    #[test]
    fn dropping_nothing_is_nothing_and_what_is_dropped_still_reads() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(&[7; 8192])], 0).unwrap();
        expect_random_reads(&file).unwrap();
        drop_from_memory(&file, 0, 0).unwrap();
        drop_from_memory(&file, 0, 8192).unwrap();
        let mut bytes = [0; 8192];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 8192]);
    }

    #[test]
    fn read_ahead_of_nothing_is_nothing() {
        read_ahead(file(), 0, 0).unwrap();
        read_ahead(file(), 0, 4096).unwrap();
    }
}
