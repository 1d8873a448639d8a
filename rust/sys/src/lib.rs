//! System calls that the standard library lacks, as small safe functions.
//!
//! One of the two homes of `unsafe` code. rustix wraps what is needed here safely, so there is none at present.

pub mod event_fd;
pub mod file;
pub mod limits;

pub use event_fd::EventFd;
