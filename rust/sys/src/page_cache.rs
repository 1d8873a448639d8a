//! What of a file is in the page cache, and hints about it.

use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::AsFd;

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

/// How finely [`is_in_memory`] looks where the kernel cannot count pages: its usual read-ahead.
const STEP_BYTES: u64 = 128 << 10;

/// The largest unit in which the page cache keeps a file (Linux 6.18 on x86-64: a huge page, `MAX_PAGECACHE_ORDER`), which goes
/// as a whole or not at all.
const FOLIO_BYTES_MAX: u64 = 2 << 20;

/// Asks the kernel to read `length` bytes from `position` on into the page cache. Does not wait for their arrival, though
/// for a place in the disk's queue.
pub fn read_ahead(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    advise(file, position, length, Advice::WillNeed)
}

/// Has the kernel read no more than is asked for by this descriptor.
pub fn expect_random_reads(file: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, 0, None, Advice::Random)?)
}

/// Drops whole pages of `length` bytes from `position` on from the page cache, but for those that wait to be written or are
/// in use, as pages are that sendfile(2) gave to a socket which has not sent them yet.
pub fn drop_from_memory(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    advise(file, position, length, Advice::DontNeed)
}

/// The same for who drops a file stretch by stretch, in order: also the large folio that the stretch begins in, which stayed when
/// the one before was dropped. Read-ahead makes folios as large as what is dropped at a time, and without this most stay.
pub fn drop_passed(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    let before = position.min(FOLIO_BYTES_MAX);
    drop_from_memory(file, position - before, if length == 0 { 0 } else { before + length })
}

/// Has the kernel begin to write what is changed of `length` bytes from `position` on, without waiting for its end; it may wait
/// for a place in the disk's queue. No promise: only a sync tells that it is on the disk, or that it could not be written.
#[allow(unsafe_code)]
pub fn start_write_back(file: impl AsFd, position: u64, length: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (Ok(position), Ok(length)) = (i64::try_from(position), i64::try_from(length)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if length == 0 {
        return Ok(()); // it would mean "to the end of the file"
    }
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: takes numbers only; the descriptor is open as long as it is borrowed
    let result = unsafe { libc::sync_file_range(descriptor, position, length, libc::SYNC_FILE_RANGE_WRITE) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn advise(file: impl AsFd, position: u64, length: u64, advice: Advice) -> io::Result<()> {
    // A length of 0 means "to the end of the file" to posix_fadvise, which is never what is wanted here.
    match NonZeroU64::new(length) {
        Some(length) => Ok(rustix::fs::fadvise(file, position, Some(length), advice)?),
        None => Ok(()),
    }
}

/// Whether `length` bytes from `position` on can be read without waiting for the disk, all of them. True also where the file
/// system cannot tell, and for what lies beyond the end of the file within its last page. Never waits for the disk.
pub fn is_in_memory(file: impl AsFd, position: u64, length: u64) -> bool {
    let file = file.as_fd();
    let last = position + length.saturating_sub(1);
    let steps = match pages_in_memory(file, position, length) {
        // first: a read that may not wait has the kernel read ahead all the same, on the caller's time
        Some(pages) if pages < pages_of(position, length) => return false,
        // pages that are counted may be on their way from the disk; they come in the order in which they were asked for, as a
        // rule, so the last one tells
        Some(_) => 1,
        None => length / STEP_BYTES + 1,
    };
    (0..steps).all(|step| is_byte_in_memory(file, position + step * STEP_BYTES))
        && is_byte_in_memory(file, last)
}

/// Reads into `buffer` what lies in the page cache; `None` where a page of it does not, or lies wholly beyond the end of the
/// file. Never waits for the disk, nor starts to read from it.
pub fn read_in_memory(file: impl AsFd, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
    let file = file.as_fd();
    let length = buffer.len() as u64;
    // first: a read that may not wait has the kernel read ahead all the same, on the caller's time
    let counted = pages_in_memory(file, position, length);
    if length > 0 && counted.is_some_and(|pages| pages < pages_of(position, length)) {
        return Ok(None);
    }
    match rustix::io::preadv2(file, &mut [IoSliceMut::new(buffer)], position, ReadWriteFlags::NOWAIT) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        // a file system that has no such reads (FUSE): what was counted is there, but for what is on its way
        Err(Errno::OPNOTSUPP) => Ok(Some(rustix::io::pread(file, buffer, position)?)),
        Err(error) => Err(error.into()),
    }
}

/// How many of `length` bytes from `position` on the page cache has, those included that are on their way from the disk, and in
/// whole pages; `None` before Linux 6.5, and on file systems that cannot tell. Never waits for the disk.
pub fn bytes_in_memory(file: impl AsFd, position: u64, length: u64) -> Option<u64> {
    match length {
        0 => Some(0), // it would mean "to the end of the file"
        _ => pages_in_memory(file, position, length).map(|pages| pages * page_bytes()),
    }
}

/// How many pages `length` bytes from `position` on lie in.
fn pages_of(position: u64, length: u64) -> u64 {
    let page_bytes = page_bytes();
    match length {
        0 => 0,
        _ => (position + length - 1) / page_bytes - position / page_bytes + 1,
    }
}

#[allow(unsafe_code)]
fn page_bytes() -> u64 {
    // SAFETY: takes a number and may be called at any time
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096).max(1)
}

fn is_byte_in_memory(file: impl AsFd, position: u64) -> bool {
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    rustix::io::preadv2(file, parts, position, ReadWriteFlags::NOWAIT) != Err(Errno::AGAIN)
}

/// How many pages of `length` bytes from `position` on the page cache has, those included that are on their way from the
/// disk; `None` before Linux 6.5, and on file systems that cannot tell.
#[allow(unsafe_code)]
fn pages_in_memory(file: impl AsFd, position: u64, length: u64) -> Option<u64> {
    use std::os::fd::AsRawFd;
    /// cachestat(2) has this number on every architecture that Linux gives common numbers.
    const CACHESTAT: libc::c_long = 451;
    #[repr(C)]
    struct Range {
        position: u64,
        length: u64,
    }
    #[repr(C)]
    #[derive(Default)]
    struct Counts {
        cached: u64,
        dirty: u64,
        in_write_back: u64,
        evicted: u64,
        recently_evicted: u64,
    }
    let range = Range { position, length };
    let mut counts = Counts::default();
    let descriptor = file.as_fd().as_raw_fd();
    // SAFETY: both structs are laid out as the kernel's `cachestat_range` and `cachestat`, live across the call, and the
    // descriptor is open as long as it is borrowed; an unknown number fails with ENOSYS
    let result =
        unsafe { libc::syscall(CACHESTAT, descriptor, &raw const range, &raw mut counts, 0 as libc::c_uint) };
    // overlayfs has its pages in the file below, and counts none of them
    let is_counted = result == 0 && (counts.cached > 0 || !is_on_overlay(file.as_fd()));
    is_counted.then_some(counts.cached)
}

fn is_on_overlay(file: impl AsFd) -> bool {
    const OVERLAYFS_MAGIC: u64 = 0x794c_7630;
    rustix::fs::fstatfs(file).is_ok_and(|found| u64::try_from(found.f_type) == Ok(OVERLAYFS_MAGIC))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Write};
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::file::write_vectored_at;

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    /// 1 MiB that is on the disk and nowhere else, or `None` on a file system in memory.
    fn cold_file() -> Option<File> {
        let mut file = file();
        file.write_all(&vec![7; 1 << 20]).unwrap();
        file.sync_all().unwrap();
        drop_from_memory(&file, 0, 1 << 20).unwrap();
        expect_random_reads(&file).unwrap();
        let is_dropped = !is_in_memory(&file, 0, 1 << 20);
        is_dropped.then_some(file)
    }

    #[test]
    fn what_was_just_written_is_in_memory() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(&[1; 300_000])], 0).unwrap();
        for (position, length) in [(0, 0), (0, 1), (0, 300_000), (4095, 2), (100_000, 200_000), (299_999, 2)]
        {
            assert!(is_in_memory(&file, position, length), "{length} bytes at {position}");
        }
    }

    #[test]
    fn a_hole_in_the_middle_is_seen_and_looking_reads_nothing() {
        let Some(file) = cold_file() else { return }; // tmpfs keeps what it is told to drop: nothing to see there
        let mut bytes = vec![0; 1 << 20];
        for _ in 0..2 {
            assert!(!is_in_memory(&file, 0, 1 << 20));
        }
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(is_in_memory(&file, 0, 1 << 20));
        assert!(bytes_in_memory(&file, 0, 1 << 20).is_none_or(|bytes| bytes == 1 << 20));
        drop_from_memory(&file, 512 << 10, 64 << 10).unwrap();
        assert!(is_in_memory(&file, 0, 256 << 10));
        assert!(bytes_in_memory(&file, 0, 1 << 20).is_none_or(|bytes| bytes == 960 << 10));
        assert_eq!(bytes_in_memory(&file, 0, 0), Some(0));
        assert_eq!(read_in_memory(&file, &mut bytes, 0).unwrap(), None, "a part is not there");
        assert_eq!(read_in_memory(&file, &mut bytes[..8192], 508 << 10).unwrap(), None);
        assert_eq!(read_in_memory(&file, &mut bytes[..8192], 576 << 10).unwrap(), Some(8192));
        assert!(!is_in_memory(&file, 0, 1 << 20), "both ends are there, the middle is not");
    }

    #[test]
    fn what_is_read_without_waiting_is_what_is_there() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(&[7; 10_000])], 0).unwrap();
        let mut bytes = [0; 4096];
        assert_eq!(read_in_memory(&file, &mut bytes, 5_000).unwrap(), Some(4096));
        assert_eq!(bytes, [7; 4096]);
        assert_eq!(read_in_memory(&file, &mut [], 0).unwrap(), Some(0));
        assert_eq!(
            read_in_memory(&file, &mut bytes[..2_000], 9_000).unwrap(),
            Some(1_000),
            "the file ends there"
        );
    }

    #[test]
    fn what_is_being_written_back_still_reads_and_can_be_written() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(&[7; 8192])], 0).unwrap();
        for (position, length) in [(0, 8192), (0, 0), (4096, 100), (0, 1 << 30)] {
            start_write_back(&file, position, length).unwrap();
        }
        assert!(start_write_back(&file, 0, u64::MAX).is_err());
        write_vectored_at(&file, &[IoSlice::new(&[8; 4096])], 0).unwrap();
        let mut bytes = [0; 8192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!((bytes[0], bytes[8191]), (8, 7));
    }

    #[test]
    fn what_was_read_ahead_goes_stretch_by_stretch_and_all_of_it() {
        const LENGTH: u64 = 32 << 20;
        let mut file = file();
        file.write_all(&vec![7; LENGTH as usize]).unwrap();
        file.sync_all().unwrap();
        drop_from_memory(&file, 0, LENGTH).unwrap();
        if is_in_memory(&file, 0, LENGTH) {
            return; // tmpfs
        }
        let mut bytes = vec![0; 1 << 20];
        for position in (0..LENGTH).step_by(bytes.len()) {
            file.read_exact_at(&mut bytes, position).unwrap();
        }
        assert!(bytes_in_memory(&file, 0, LENGTH).is_none_or(|bytes| bytes == LENGTH));
        let stretch = (1 << 20) - 5000;
        for position in (0..LENGTH).step_by(stretch) {
            drop_passed(&file, position, stretch as u64).unwrap();
        }
        assert!(bytes_in_memory(&file, 0, LENGTH).is_none_or(|bytes| bytes == 0));
    }

    #[test]
    fn dropping_nothing_is_nothing_and_what_is_dropped_still_reads() {
        let file = file();
        write_vectored_at(&file, &[IoSlice::new(&[7; 8192])], 0).unwrap();
        expect_random_reads(&file).unwrap();
        drop_from_memory(&file, 0, 0).unwrap();
        drop_from_memory(&file, 0, 8192).unwrap();
        let mut bytes = [0; 8192];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes, [7; 8192]);
    }
}
