//! Files without a disk.

use std::fs::File;
use std::io::{self, Write};

use rustix::fs::MemfdFlags;

/// A file in memory that has these bytes (memfd_create(2)): it can be sent like any other, and is gone when it is closed.
/// `name` is what /proc shows. Fails when descriptors or memory are used up.
pub fn in_memory(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_was_given_reads() {
        let file = in_memory("test", b"0123456789").unwrap();
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, 3).unwrap();
        assert_eq!(&bytes, b"3456");
    }
}
