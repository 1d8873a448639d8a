//! The loops that the benchmarks time, and the machine's bare limits beside them.
//!
//! A limit does what its subject cannot avoid (the same bytes to the same kind of file or socket) and nothing else. Both
//! run here, without Python, so that a comparison has the same cost of timing on each side. Times are in nanoseconds.

pub mod append;
pub mod clean;
pub mod file_server;
pub mod lookup;
pub mod reader;
pub mod write;

use std::time::Instant;

/// The time since `start`.
fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
