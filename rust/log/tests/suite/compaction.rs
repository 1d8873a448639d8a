//! The cleaner against a dictionary.

use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::*;
use crate::compaction_reader::*;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{CleanerLimits, LastStop, Log, LogConfig, Unpaced};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use proptest::prelude::*;

/// All bytes that a reader gets.
fn all_bytes(log: &Log) -> Vec<Vec<u8>> {
    batches_from(log, 0).into_iter().map(|(_, bytes)| bytes).collect()
}

proptest! {
    #![proptest_config(few_cases(24))]

    #[test]
    fn the_log_stands_for_the_same_dictionary_however_often_it_is_cleaned(
        seed in any::<u64>(),
        rounds in 1usize..5,
        has_little in any::<bool>(),
    ) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let file_system = MemoryFileSystem::new(seed);
        let mut log = open_on(&file_system, 0, LastStop::Clean).unwrap();
        let mut model = Model::default();
        let mut clean_to = 0;
        let mut now_ms = NOW_MS;
        let limits = if has_little { little_memory() } else { CleanerLimits::default() };
        for _ in 0..rounds {
            for _ in 0..10 + random.below(30) {
                model.append(&log, &mut random);
            }
            let end = log.log_end_offset();
            let cleaned = log.clean(clean_to, limits, &Unpaced, now_ms).unwrap();
            if let Some(cleaned) = cleaned {
                prop_assert!(cleaned.end_offset > clean_to && cleaned.end_offset <= end);
                clean_to = cleaned.end_offset;
            }
            prop_assert_eq!(log.log_end_offset(), end);
            model.compare(&log);
            model.check_sequences(&log);
            now_ms += random.below(2_000) as i64;
            if random.below(2) == 0 {
                log.close(true).unwrap();
                log = open_on(&file_system, end, LastStop::Clean).unwrap();
                model.compare(&log);
                model.check_sequences(&log);
            }
        }
        prop_assert_eq!(read_committed(&log, clean_to), model.committed_from(clean_to), "what was not cleaned");
    }

    #[test]
    fn cleaning_again_changes_nothing(seed in any::<u64>()) {
        println!("seed {seed}");
        let mut random = Random(seed);
        let log = open_on(&MemoryFileSystem::new(seed), 0, LastStop::Clean).unwrap();
        let mut model = Model::default();
        for _ in 0..60 {
            model.append(&log, &mut random);
        }
        // The second pass finds the markers whose records the first one took, and segments that fit together now.
        let mut before = Vec::new();
        let passes = (1..8).take_while(|_| {
            clean_at(&log, 0, NOW_MS);
            std::mem::replace(&mut before, all_bytes(&log)) != before
        });
        prop_assert!(passes.count() < 5, "it goes on changing");
        let segments = log.segment_count();
        clean_at(&log, 0, NOW_MS);
        prop_assert!(all_bytes(&log) == before);
        prop_assert_eq!(log.segment_count(), segments);
    }
}

/// One record a segment, or nearly so.
fn keyed(log: &Log, key: u8, value: Option<&[u8]>) -> i64 {
    let offset = log.log_end_offset();
    let mut builder = Builder::new();
    builder.append(NOW_MS, Some(&[key]), value);
    append(log, &builder.seal(Compression::Lz4).unwrap()).unwrap();
    log.advance_high_watermark(offset + 1);
    offset
}

fn offsets(log: &Log) -> Vec<i64> {
    read_committed(log, 0).into_iter().map(|(offset, _)| offset).collect()
}

#[test]
fn a_tombstone_stays_for_its_time_from_the_first_cleaning_on() {
    let log = open_on(&MemoryFileSystem::new(0), 0, LastStop::Clean).unwrap();
    keyed(&log, 1, Some(b"value"));
    let tombstone = keyed(&log, 1, None);
    while log.segment_count() < 3 {
        keyed(&log, 2, Some(&[b'x'; 100]));
    }
    let later = NOW_MS + 1_000_000;
    clean_at(&log, 0, later).unwrap();
    assert_eq!(offsets(&log)[0], tombstone, "however old it was");
    let (header, _) = &batches_from(&log, 0)[0];
    assert_eq!(header.delete_horizon_ms(), Some(later + 1_000));
    assert_eq!(header.max_timestamp, NOW_MS, "the records keep their times");
    clean_at(&log, 0, later + 999).unwrap();
    assert_eq!(offsets(&log)[0], tombstone);
    clean_at(&log, 0, later + 1_000).unwrap();
    assert!(offsets(&log)[0] > tombstone, "its time is over");
}

#[test]
fn a_batch_of_more_keys_than_memory_holds_is_cleaned_piece_by_piece() {
    let log = open_on(&MemoryFileSystem::new(0), 0, LastStop::Clean).unwrap();
    for _ in 0..2 {
        let mut builder = Builder::new();
        for key in 0..30 {
            builder.append(NOW_MS, Some(&[key]), Some(b"value"));
        }
        append(&log, &builder.seal(Compression::Lz4).unwrap()).unwrap();
    }
    while log.segment_count() < 3 {
        keyed(&log, 30, Some(&[b'x'; 100]));
    }
    let (mut clean_to, mut passes) = (0, 0);
    while let Some(cleaned) = log.clean(clean_to, little_memory(), &Unpaced, NOW_MS).unwrap() {
        assert!(cleaned.end_offset > clean_to, "a pass comes further");
        clean_to = cleaned.end_offset;
        passes += 1;
    }
    assert!(passes > 4, "{passes} passes with room for 9 keys");
    assert_eq!(clean_to, log.full_end_offset());
    let found = offsets(&log);
    assert!(found.iter().take(30).copied().eq(30..60), "the second record of each key stays: {found:?}");
}

#[test]
fn what_may_not_be_cleaned_is_not() {
    let log = open_on(&MemoryFileSystem::new(0), 0, LastStop::Clean).unwrap();
    for _ in 0..40 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    let found = log.cleanable(None, NOW_MS).unwrap();
    assert!(found.is_due && found.dirty_bytes > 0 && found.clean_bytes == 0);
    let lag = |min_compaction_lag_ms, max_compaction_lag_ms, min_cleanable_dirty_ratio| {
        let config = LogConfig {
            min_compaction_lag_ms,
            max_compaction_lag_ms,
            min_cleanable_dirty_ratio,
            ..compacted()
        };
        log.set_config(Arc::new(config));
    };
    lag(1_000, i64::MAX, 0.5);
    assert_eq!(log.cleanable(None, NOW_MS + 999).unwrap().dirty_bytes, 0, "all of it is too young");
    assert_eq!(clean_at(&log, 0, NOW_MS + 999), None);
    assert!(log.cleanable(None, NOW_MS + 1_000).unwrap().is_due);
    lag(0, i64::MAX, 0.5);
    let cleaned = clean_at(&log, 0, NOW_MS).unwrap();
    assert_eq!(cleaned.end_offset, log.full_end_offset(), "the active segment is left alone");
    assert!(offsets(&log).len() as i64 > log.log_end_offset() - log.full_end_offset());
    let again = log.cleanable(Some(cleaned.end_offset), NOW_MS).unwrap();
    assert!(!again.is_due && again.dirty_bytes == 0);
    for _ in 0..12 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    lag(0, i64::MAX, 1.0);
    assert!(!log.cleanable(Some(cleaned.end_offset), NOW_MS).unwrap().is_due, "it is not dirty enough");
    lag(0, 500, 1.0);
    assert!(!log.cleanable(Some(cleaned.end_offset), NOW_MS + 500).unwrap().is_due);
    assert!(log.cleanable(Some(cleaned.end_offset), NOW_MS + 501).unwrap().is_due, "it waited too long");
}

#[test]
fn an_open_transaction_bounds_a_pass() {
    let log = open_on(&MemoryFileSystem::new(0), 0, LastStop::Clean).unwrap();
    for _ in 0..15 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    let first = log.log_end_offset();
    let transactional = fastlog_protocol::batch::Attributes::default().with_transactional(true);
    let mut open = Builder::new().producer(7, 0, 0).attributes(transactional);
    open.append(NOW_MS, Some(&[1]), Some(b"open"));
    append(&log, &open.seal(Compression::None).unwrap()).unwrap();
    for _ in 0..30 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    let cleaned = clean_at(&log, 0, NOW_MS).unwrap();
    assert!(cleaned.end_offset <= first);
    marker(&log, 7, 0, false);
    let cleaned = clean_at(&log, cleaned.end_offset, NOW_MS).unwrap();
    assert!(cleaned.end_offset > first);
    assert!(!offsets(&log).contains(&first));
}

#[test]
fn readers_with_the_originals_in_hand_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { file_delete_delay_ms: 0, ..compacted() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    for _ in 0..40 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    let slice = log.read(0, 500, log.log_end_offset(), true).unwrap().unwrap();
    let before = bytes_of(&slice);
    clean_at(&log, 0, NOW_MS).unwrap();
    assert!(log.purge_deleted(NOW_MS).unwrap() > 1);
    assert_eq!(bytes_of(&slice), before);
    assert!(log.read(0, 500, log.log_end_offset(), true).unwrap().is_some());
}

#[test]
fn a_segment_that_is_cleaned_twice_leaves_each_of_its_files_until_that_is_due() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { file_delete_delay_ms: 1_000, ..compacted() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    let left = || {
        let names = std::fs::read_dir(directory.path().join("t-0")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with("00000000000000000000.log") && name.ends_with(".deleted"))
            .count()
    };
    for round in 0..2 {
        for _ in 0..40 {
            keyed(&log, 1, Some(&[b'x'; 100]));
        }
        clean_at(&log, 0, NOW_MS + 500 * round).unwrap();
    }
    assert_eq!(left(), 2);
    log.purge_deleted(NOW_MS + 1_000).unwrap();
    assert_eq!(left(), 1, "the second one is not due");
    log.purge_deleted(NOW_MS + 1_500).unwrap();
    assert_eq!(left(), 0);
    drop(log);
    // nor does one of them stay when the process dies
    let (log, _) = open(directory.path(), compacted(), LastStop::ProcessDied);
    assert_eq!(offsets(&log).last(), Some(&79));
}

#[test]
fn a_damaged_log_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path(), compacted(), LastStop::Clean);
    for _ in 0..40 {
        keyed(&log, 1, Some(&[b'x'; 100]));
    }
    let path = directory.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let error = log.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS).unwrap_err();
        assert!(matches!(error, fastlog_log::LogError::Corrupt { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_is_tried_again() {
    let file_system = MemoryFileSystem::new(3);
    let (log, model) = build(&file_system, 3);
    let before = all_bytes(&log);
    for room in [0, 100, 1_000] {
        file_system.set_faults(Faults { room: Some(room), ..Faults::default() });
        let error = log.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS).unwrap_err();
        assert!(matches!(error, fastlog_log::LogError::DiskFull { .. }), "{error}");
        file_system.set_faults(Faults::default());
        if room == 0 {
            assert!(all_bytes(&log) == before);
        }
        model.compare(&log);
    }
    clean_at(&log, 0, NOW_MS).unwrap();
    model.compare(&log);
}

#[test]
fn a_truncation_or_a_deletion_stops_a_pass() {
    /// Stops the pass from within: a truncation that waits for it would never end.
    struct Stop<'a>(&'a std::sync::atomic::AtomicUsize);
    impl fastlog_log::Pace for Stop<'_> {
        fn go_on(&self, _bytes: u64) -> bool {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 20
        }
    }
    let file_system = MemoryFileSystem::new(4);
    let (log, model) = build(&file_system, 4);
    let before = all_bytes(&log);
    let calls = std::sync::atomic::AtomicUsize::new(0);
    assert_eq!(log.clean(0, CleanerLimits::default(), &Stop(&calls), NOW_MS).unwrap(), None);
    assert!(all_bytes(&log) == before);
    model.compare(&log);
    log.truncate_to(log.log_end_offset() - 1, NOW_MS, || Ok(())).unwrap();
    assert!(
        clean_at(&log, 0, NOW_MS).is_some(),
        "the next pass is not stopped by what stopped an earlier one"
    );
    log.mark_deleted().unwrap();
    assert_eq!(clean_at(&log, 0, NOW_MS), None);
}

#[test]
fn readers_and_appends_go_on_while_passes_follow_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let config = LogConfig { file_delete_delay_ms: 0, ..compacted() };
    let (log, _) = open(directory.path(), config, LastStop::Clean);
    let end = 3_000;
    keyed(&log, 0, Some(b"0"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while log.log_end_offset() < end {
                let offset = log.log_end_offset();
                keyed(&log, offset as u8 % 7, Some(offset.to_string().as_bytes()));
            }
        });
        scope.spawn(|| {
            let mut random = Random(5);
            while log.log_end_offset() < end {
                let from = random.below(log.log_end_offset() as u64) as i64;
                let read = values_below(&log, from, (from + 40).min(log.log_end_offset()), 300).unwrap();
                assert!(read.iter().all(|(offset, value)| *value == offset.to_string()), "{read:?}");
            }
        });
        let mut passes = 0;
        while log.log_end_offset() < end {
            passes += 1;
            clean_at(&log, 0, NOW_MS + passes);
            // those of the pass before
            log.purge_deleted(NOW_MS + passes - 1).unwrap();
        }
    });
    clean_at(&log, 0, NOW_MS + 1_000_000);
    let found = values(&log);
    assert!(found.len() < 200, "{} records are left", found.len());
    assert_eq!(found.last().unwrap().0, end - 1);
}
