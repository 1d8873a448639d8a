//! Records of aborted transactions stay hidden, whatever the machine lost when it died.

use crate::compaction_model::*;
use crate::compaction_reader::*;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{LastStop, LogConfig};
use proptest::prelude::*;

/// Transactions over several segments, of which some were synced when the machine died.
fn machine_dies(seed: u64, batches: usize) {
    println!("seed {seed}, {batches} batches");
    let mut random = Random(seed);
    let file_system = MemoryFileSystem::new(seed);
    let config = || LogConfig { cleanup_compact: false, cleanup_delete: true, ..compacted() };
    let mut recovery_point = 0;
    let mut log = open_from(&file_system, config(), 0, recovery_point, LastStop::Clean).unwrap();
    let mut model = Model::default();
    for _ in 0..batches {
        model.append(&log, &mut random);
        if random.one_in(20) {
            recovery_point = log.flush().unwrap();
        }
        if random.one_in(30) {
            // the process dies first: what it wrote may still not be on the disk
            drop(log);
            file_system.restart_process();
            log = open_from(&file_system, config(), 0, recovery_point, LastStop::ProcessDied).unwrap();
        }
    }
    drop(log);
    file_system.restart_machine();
    let log = open_from(&file_system, config(), 0, recovery_point, LastStop::MachineDied).unwrap();
    assert!(log.log_end_offset() >= recovery_point);
    let stable = log.last_stable_offset();
    let below = |records: Vec<(i64, Entry)>| -> Vec<i64> {
        records.into_iter().map(|(offset, _)| offset).filter(|offset| *offset < stable).collect()
    };
    assert_eq!(below(read_committed(&log, 0)), below(model.committed_from(0)));
}

proptest! {
    #![proptest_config(few_cases(64))]

    #[test]
    fn a_machine_that_dies_shows_no_aborted_record_and_hides_no_other(
        seed in any::<u64>(),
        batches in 1usize..80,
    ) {
        machine_dies(seed, batches);
    }
}

/// Nothing moves the high watermark any more that could let them go.
#[test]
fn transactions_that_ended_below_the_high_watermark_are_read_after_a_crash_without_another_append() {
    let file_system = MemoryFileSystem::new(1);
    let log = open_on(&file_system, 0, LastStop::Clean).unwrap();
    let (mut model, mut random) = (Model::default(), Random(1));
    for (id, commits) in [(7, true), (8, false)] {
        model.batch(&log, &mut random, Some(id), true);
        model.end(&log, id, commits, false);
    }
    let end = log.log_end_offset();
    drop(log);
    file_system.restart_process();
    // the checkpoint tells of a high watermark at the end
    let log = open_on(&file_system, 0, LastStop::ProcessDied).unwrap();
    log.advance_high_watermark(end);
    assert_eq!((log.high_watermark(), log.last_stable_offset()), (end, end));
}

/// A segment that a flush finds full is not looked at by the next one, nor by recovery.
#[test]
fn what_was_aborted_in_a_segment_that_was_synced_as_its_last_batch_came_is_known() {
    for seed in 0..40 {
        let file_system = MemoryFileSystem::new(seed);
        let log = open_on(&file_system, 0, LastStop::Clean).unwrap();
        let (mut model, mut random) = (Model::default(), Random(seed));
        model.batch(&log, &mut random, Some(7), true);
        model.end(&log, 7, false, false);
        while log.segment_count() < 2 {
            log.flush().unwrap();
            model.batch(&log, &mut random, None, false);
        }
        let end = log.flush().unwrap();
        drop(log);
        file_system.restart_machine();
        let log = open_on(&file_system, end, LastStop::MachineDied).unwrap();
        assert_eq!(log.aborted_transactions(0, end).unwrap().len(), 1, "seed {seed}");
        model.compare(&log);
    }
}
