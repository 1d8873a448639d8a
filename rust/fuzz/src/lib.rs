//! Fuzz targets: what must hold whatever bytes come in by a socket or lie on the disk.
//!
//! A target is a function of bytes that panics where something does not hold, and seeds made by code. libFuzzer drives
//! them (src/main.rs, built and run by tools/fuzz.py); tests/replay.rs runs each over its seeds and over the inputs
//! that once found something. Everything runs on the caller's thread and begins from the same state, so that an input
//! finds tomorrow what it found today.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a finding is a panic, and the harness's own mistakes may be one too"
)]

mod bounded;
mod input;
mod log_files;
mod requests;
mod targets;

// what the tests of other crates have made for the same purpose
#[path = "../../protocol/tests/common/mod.rs"]
mod common;
#[path = "../../protocol/tests/common/data_plane.rs"]
mod data_plane;

pub use targets::{TARGETS, Target, target};
