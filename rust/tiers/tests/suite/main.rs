//! Tiers: what is uploaded reads back as it was, or not at all, whatever the store does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod bytes;
mod common;
mod crashes;
mod directory;
mod faults;
mod kept;
mod known;
mod leaders;
mod reading;
