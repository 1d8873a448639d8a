//! The room of a file system.

use std::io;
use std::path::Path;

/// The bytes of a file system, used or not, and those that this process may still write.
pub fn of(path: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_blocks.saturating_mul(found.f_frsize), found.f_bavail.saturating_mul(found.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_more_room_than_a_disk_has_and_none_where_there_is_no_disk() {
        let directory = tempfile::tempdir().unwrap();
        let (total, usable) = of(directory.path()).unwrap();
        assert!(total > 0 && usable <= total, "{usable} of {total}");
        assert!(of(&directory.path().join("none")).is_err());
    }
}
