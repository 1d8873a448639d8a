//! Limits of this process.

use rustix::process::{Resource, getrlimit};

/// How many descriptors this process may have open at once; `None` = no limit.
pub fn open_files_max() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_process_may_open_some_files() {
        assert!(super::open_files_max().is_none_or(|limit| limit > 2));
    }
}
