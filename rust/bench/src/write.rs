//! The limit of appending: bare writes to a new file that is preallocated as a log's segments are.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::time::Instant;

use fastlog_sys::file::{allocate_keep_size, write_vectored_at};

use crate::nanoseconds;

/// As much as the log reserves ahead at a time.
pub const RESERVED_BYTES: u64 = 64 << 20;

/// A new file that is only appended to.
#[derive(Debug)]
pub struct BareFile {
    file: File,
    position: u64,
    reserved: u64,
    preallocate: bool,
}

impl BareFile {
    /// Makes the file; an error where it exists. With `preallocate`, [`RESERVED_BYTES`] are reserved ahead at a time.
    pub fn create(path: &Path, preallocate: bool) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { file, position: 0, reserved: 0, preallocate })
    }

    /// Writes `bytes` at the end; with `sync`, has them on the disk. Blocks.
    pub fn append(&mut self, bytes: &[u8], sync: bool) -> io::Result<()> {
        let end = self.position + bytes.len() as u64;
        if self.preallocate && end > self.reserved {
            let length = RESERVED_BYTES.max(bytes.len() as u64);
            allocate_keep_size(&self.file, self.position, length)?;
            self.reserved = self.position + length;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = write_vectored_at(&self.file, &[IoSlice::new(rest)], self.position)?;
            self.position += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        if sync { self.file.sync_data() } else { Ok(()) }
    }

    /// Appends `bytes` `count` times; the time of each.
    pub fn append_times(&mut self, bytes: &[u8], count: usize, sync: bool) -> io::Result<Vec<u64>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.append(bytes, sync)?;
            times.push(nanoseconds(start));
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_the_file() {
        let directory = tempfile::tempdir().unwrap();
        for preallocate in [false, true] {
            let path = directory.path().join(format!("{preallocate}"));
            let mut file = BareFile::create(&path, preallocate).unwrap();
            assert_eq!(file.append_times(b"ab", 3, true).unwrap().len(), 3);
            file.append(b"c", false).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"abababc");
            assert!(BareFile::create(&path, preallocate).is_err());
        }
    }
}
