//! What an answer and a fetch promise with `fastlog.durability = fsync`, on a file system in memory that fails.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod group_commit;
mod node;
mod power_cut;
