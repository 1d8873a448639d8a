//! What an answer and a fetch promise with `fastlog.durability = fsync`, on a file system in memory that fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod group_commit;
#[path = "../../../log/tests/suite/memory.rs"]
#[allow(dead_code, reason = "the tests of the log use the rest of it")]
mod memory;
mod node;
mod power_cut;
