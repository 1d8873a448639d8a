//! System calls that the standard library lacks, as small safe functions.
//!
//! One of the two homes of `unsafe` code; rustix wraps most of what is needed here safely.

pub mod allocator;
pub mod clock;
pub mod event_fd;
pub mod file;
pub mod limits;
pub mod memory_file;
pub mod page_cache;
pub mod panics;
pub mod space;
pub mod threads;

pub use event_fd::EventFd;
