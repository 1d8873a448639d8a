//! The log through its public API, on real files. One binary: linking costs more than running.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")]

mod aborted;
mod aborted_at_rest;
mod after_tier;
mod append_read;
mod cold_looks;
mod common;
mod compaction;
mod compaction_crash;
mod compaction_model;
mod compaction_reader;
mod compaction_retention;
mod compaction_rules;
mod concurrency;
mod crash;
mod faults;
mod foreign_files;
mod full_disk;
mod full_disk_cuts;
mod idempotence;
mod kafka;
mod lazy_model;
mod lazy_segments;
mod lazy_steps;
mod lifecycle;
mod moving;
mod moving_damage;
mod recovery;
mod replica_order;
mod restore;
mod scrub;
mod tiered;
mod timestamps;
mod topic_id;
mod unreadable;
mod write_back;
