//! A data directory that a real Kafka wrote (tests/formats) opens, reads, and is continued; what we build anew equals
//! what Kafka built, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::common::*;
use fastlog_log::{AbortedTxn, LastStop, Log, LogDir, LogOptions, Storage, log_dir};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/formats/kafka-4.3.1")
}

/// A copy to work on.
fn copy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("formats-0")).unwrap();
    for folder in ["", "formats-0"] {
        for entry in fs::read_dir(fixture().join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), directory.path().join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
    directory
}

/// Offset and value of each record but the transaction markers.
fn records_of(log: &Log) -> Vec<(i64, String)> {
    let mut all = values_below(log, log.log_start_offset(), log.log_end_offset(), 1 << 20).unwrap();
    all.retain(|(offset, _)| ![605, 611].contains(offset));
    all
}

/// The same from `expected.jsonl`, which Kafka's own client read.
fn expected_records() -> Vec<(i64, String)> {
    let text = fs::read_to_string(fixture().join("expected.jsonl")).unwrap();
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("\"{name}\":")).unwrap();
        rest.trim_start_matches('"').split(['"', ',', '}']).next().unwrap().to_owned()
    };
    text.lines().map(|line| (field(line, "offset").parse().unwrap(), field(line, "value"))).collect()
}

fn open_copy(directory: &Path) -> (LogDir, Log) {
    let identity = log_dir::read_identity(&fastlog_log::RealFileSystem, directory).unwrap().unwrap();
    let log_dir = LogDir::open(Storage::real(directory), &identity).unwrap();
    let partitions = log_dir.partitions().unwrap();
    assert_eq!(partitions.len(), 1);
    let options = LogOptions {
        topic_id: partitions[0].topic_id,
        config: fastlog_log::LogConfig { index_interval_bytes: 1024, ..Default::default() }.into(),
        ..log_dir.log_options("formats", 0)
    };
    let (log, report) = Log::open(log_dir.storage(), options, NOW_MS).unwrap();
    assert!(report.cut.is_none() && report.damages.is_empty() && !report.below_high_watermark);
    (log_dir, log)
}

#[test]
fn kafkas_directory_opens_as_cleanly_closed_and_reads() {
    let directory = copy();
    let (log_dir, log) = open_copy(directory.path());
    assert_eq!(log_dir.last_stop(), LastStop::Clean);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.high_watermark()), (0, 612, 612));
    assert_eq!(log.leader_epoch(), Some(0));
    assert_eq!(records_of(&log), expected_records());
    assert_eq!(log.last_stable_offset(), 612);
    let aborted = AbortedTxn { producer_id: 6, first_offset: 606, last_offset: 611, last_stable_offset: 612 };
    let found = log.aborted_transactions(0, 612).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(AbortedTxn { producer_id: 6, ..found[0] }, aborted);
    assert_eq!(log.aborted_transactions(0, 606).unwrap(), []);
    let aborted_in = |from, bytes| {
        let slice = log.read(from, bytes, 612, true).unwrap().unwrap();
        log.aborted_in(&slice, from, 612).unwrap().len()
    };
    assert_eq!((aborted_in(606, 1 << 20), aborted_in(0, 1)), (1, 0), "only those within reach are told");
    assert_eq!(log.producer_count(), 7);
}

#[test]
fn kafkas_log_is_continued() {
    let directory = copy();
    let (log_dir, log) = open_copy(directory.path());
    let before = records_of(&log);
    append(&log, &batch(&["ours"])).unwrap();
    log.close(true).unwrap();
    log_dir.close_clean().unwrap();
    let (_, log) = open_copy(directory.path());
    assert_eq!(log.log_end_offset(), 613);
    assert_eq!(records_of(&log), [before, vec![(612, "ours".to_owned())]].concat());
}

/// The producers of a snapshot. Of the entries of one, Kafka keeps the last. When a producer last wrote is left out, since
/// it is not in the batches.
fn as_kafka_reads(snapshot: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let entries = snapshot[10..].chunks(46);
    entries.map(|entry| (entry[..8].to_vec(), [&entry[8..26], &entry[34..]].concat())).collect()
}

#[test]
fn indexes_snapshots_and_epochs_built_anew_equal_kafkas() {
    let directory = copy();
    let partition = directory.path().join("formats-0");
    for entry in fs::read_dir(&partition).unwrap() {
        let path = entry.unwrap().path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if !is_log && !path.ends_with("partition.metadata") {
            fs::remove_file(path).unwrap();
        }
    }
    let config = fastlog_log::LogConfig { index_interval_bytes: 1024, ..Default::default() };
    let options =
        LogOptions { config: config.into(), ..LogOptions::new("formats", 0, LastStop::MachineDied) };
    let (log, report) = Log::open(&Storage::real(directory.path()), options, NOW_MS).unwrap();
    assert_eq!(report.cut, None);
    assert_eq!(records_of(&log), expected_records());
    log.close(true).unwrap();
    for entry in fs::read_dir(fixture().join("formats-0")).unwrap() {
        let kafkas = entry.unwrap().path();
        let name = kafkas.file_name().unwrap().to_owned();
        let suffix = kafkas.extension().map_or("", |extension| extension.to_str().unwrap());
        let ours = fs::read(partition.join(&name));
        match suffix {
            "snapshot" if name == "00000000000000000612.snapshot" => {
                assert_eq!(as_kafka_reads(&ours.unwrap()), as_kafka_reads(&fs::read(kafkas).unwrap()));
            }
            "snapshot" => {}
            _ => assert!(ours.unwrap() == fs::read(&kafkas).unwrap(), "{} differs", name.display()),
        }
    }
}
