//! Limits of this process.

use rustix::process::{Resource, getrlimit};

/// How many descriptors this process may have open at once; `None` = no limit.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Descriptors that are neither for logs' files, which have a half of all, nor for connections: of threads, listeners and
/// object stores, and of files that answers hold.
const RESERVE: u64 = 128;

/// How many descriptors connections may have in all; ZeroMQ's, which another listener counts, have a sixth of them.
pub fn connections_max() -> usize {
    usize::try_from(of_connections(open_files_max())).unwrap_or(usize::MAX)
}

fn of_connections(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| (limit / 2).saturating_sub(RESERVE).max(limit / 4))
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
    fn files_and_connections_leave_some_descriptors() {
        for limit in [300, 1024, 20_000] {
            let left = limit - limit / 2 - super::of_connections(Some(limit));
            assert!(left >= (limit / 4).min(super::RESERVE), "{left} of {limit}");
        }
        assert_eq!(super::of_connections(None), u64::MAX);
    }

    #[test]
    fn a_machine_has_some_memory() {
        assert!(super::memory_bytes() > 1 << 20);
    }
}
