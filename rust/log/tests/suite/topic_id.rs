//! The file that tells a directory's topic id, written into one that had none, and deaths beside that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{FileSystem, LastStop, Log, LogOptions, OpenMode, Storage};
use uuid::Uuid;

const DIRECTORY: &str = "/data";

/// A log of three records on disk, in a directory without a topic id, as brokers left them before there were any.
fn without_topic_id(file_system: &MemoryFileSystem) {
    let (log, _) = Log::open(&storage_of(file_system), options(config(), LastStop::Clean), NOW_MS).unwrap();
    fill(&log, 3);
    log.close(true).unwrap();
}

fn storage_of(file_system: &MemoryFileSystem) -> Arc<Storage> {
    Storage::new(Arc::new(file_system.clone()), PathBuf::from(DIRECTORY), 8)
}

fn with_topic_id(last_stop: LastStop) -> LogOptions {
    let topic_id = Some(Uuid::from_u128(7));
    LogOptions { recovery_point: 3, topic_id, ..options(config(), last_stop) }
}

#[test]
fn a_half_written_topic_id_of_an_earlier_start_does_not_keep_a_log_closed() {
    let file_system = MemoryFileSystem::new(1);
    without_topic_id(&file_system);
    let left = Path::new(DIRECTORY).join("t-0/partition.metadata.tmp");
    file_system.open(&left, OpenMode::Create).unwrap();
    let opened = Log::open(&storage_of(&file_system), with_topic_id(LastStop::ProcessDied), NOW_MS);
    let (log, _) = opened.unwrap();
    assert_eq!(values(&log), expected(0, 3));
    assert!(!file_system.exists(&left).unwrap());
}

#[test]
fn a_topic_id_written_beside_synced_records_is_not_torn_by_a_power_cut() {
    for seed in 0..16 {
        let file_system = MemoryFileSystem::new(seed);
        without_topic_id(&file_system);
        for last_stop in [LastStop::Clean, LastStop::MachineDied] {
            let opened = Log::open(&storage_of(&file_system), with_topic_id(last_stop), NOW_MS);
            let (log, _) = opened.unwrap_or_else(|error| panic!("seed {seed}, {last_stop:?}: {error}"));
            assert_eq!(log.topic_id(), Some(Uuid::from_u128(7)));
            assert_eq!(values(&log), expected(0, 3));
            drop(log);
            file_system.restart_machine();
        }
    }
}
