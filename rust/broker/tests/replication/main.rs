//! Replication between brokers in one process that are linked by direct calls.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod deleting;
mod fencing;
mod following;
mod hints;
mod leaving;
mod nearest;
mod node;
mod throttled;
mod watermark;
