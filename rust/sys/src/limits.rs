//! Limits of this process.

use rustix::process::{Resource, getrlimit};

/// How many descriptors this process may have open at once; `None` = no limit.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How much memory the machine has, in bytes.
pub fn memory_bytes() -> usize {
    let info = rustix::system::sysinfo();
    // a kernel long: as wide as usize
    (info.totalram as usize).saturating_mul(info.mem_unit as usize)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_may_open_some_files() {
        assert!(super::open_files_max().is_none_or(|limit| limit > 2));
    }

    #[test]
    fn a_machine_has_some_memory() {
        assert!(super::memory_bytes() > 1 << 20);
    }
}
