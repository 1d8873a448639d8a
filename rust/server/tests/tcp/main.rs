//! A broker behind a real TCP listener, spoken to by frames made by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod cold;
mod control;
mod fetch;
mod frames;
mod harness;
mod limits;
mod load;
mod metadata;
mod offsets;
mod produce;
mod sessions;
