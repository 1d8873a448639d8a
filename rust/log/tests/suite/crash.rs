//! The log against a plain list, with the process or the machine dying inside any system call.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use fastlog_log::file_system::FileSystem;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{LastStop, Log, LogConfig, LogOptions, RecoveryReport, Storage};
use proptest::prelude::*;

/// What a test does to a log.
#[derive(Clone, Debug)]
enum Step {
    /// Appends a batch of so many records, each with so many bytes of value.
    Append {
        records: usize,
        bytes: usize,
    },
    /// Appends the next record of an idempotent producer, twice.
    Idempotent,
    Flush,
    FlushFullSegments,
    Truncate {
        back: i64,
    },
    DeleteRecords {
        back: i64,
    },
    /// Retention by size to about half.
    Retain,
    /// Closes the files that were not used since the last time.
    CloseIdle,
    /// Closes cleanly and opens again.
    Reopen,
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1usize..4, 0usize..400).prop_map(|(records, bytes)| Step::Append { records, bytes }),
        3 => Just(Step::Idempotent),
        2 => Just(Step::Flush),
        2 => Just(Step::FlushFullSegments),
        1 => (0i64..12).prop_map(|back| Step::Truncate { back }),
        1 => (0i64..12).prop_map(|back| Step::DeleteRecords { back }),
        1 => Just(Step::Retain),
        2 => Just(Step::CloseIdle),
        1 => Just(Step::Reopen),
    ]
}

/// How the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    Process,
    Machine,
}

/// What the log must hold: the list, and what a death in the middle of a step may leave.
#[derive(Clone, Debug, Default)]
struct Model {
    /// All records since offset 0.
    records: Vec<String>,
    /// The log may start anywhere in this range.
    start: (i64, i64),
    /// The log may end anywhere from here to the end of `records`.
    end_min: i64,
    /// What the checkpoints on disk say.
    recovery_point: i64,
    start_checkpoint: i64,
    next_sequence: i32,
    /// Records on disk for certain.
    synced: i64,
}

impl Model {
    fn end(&self) -> i64 {
        self.records.len() as i64
    }
}

struct Run {
    file_system: MemoryFileSystem,
    model: Model,
    /// Of the log that is open.
    storage: Option<Arc<Storage>>,
}

const DIRECTORY: &str = "/data";
/// Fewer than the files of three segments: most are opened for each use.
const OPEN_FILES_MAX: usize = 8;

fn small() -> LogConfig {
    LogConfig { segment_bytes: 1500, index_interval_bytes: 200, ..LogConfig::default() }
}

impl Run {
    fn new(seed: u64) -> Self {
        Self { file_system: MemoryFileSystem::new(seed), model: Model::default(), storage: None }
    }

    fn open(&mut self, last_stop: LastStop) -> Result<(Log, RecoveryReport), fastlog_log::LogError> {
        let file_system = Arc::new(self.file_system.clone());
        let storage = Storage::new(file_system, PathBuf::from(DIRECTORY), OPEN_FILES_MAX);
        self.storage = Some(storage.clone());
        let options = LogOptions {
            recovery_point: self.model.recovery_point,
            log_start_offset: self.model.start_checkpoint,
            ..options(small(), last_stop)
        };
        Log::open(&storage, options, NOW_MS)
    }

    fn close_idle(&self) {
        if let Some(storage) = &self.storage {
            storage.open_files.close_idle();
        }
    }

    /// Does one step. `None` = the process died in it; the model then allows for both outcomes.
    fn step(&mut self, log: Log, step: &Step) -> Option<Log> {
        let model = &mut self.model;
        match step {
            Step::Append { records, bytes } => {
                let first = model.end();
                let values: Vec<String> = (first..)
                    .take(*records)
                    .map(|offset| format!("value-{offset}-{}", "x".repeat(*bytes)))
                    .collect();
                model.end_min = first;
                model.records.extend(values.iter().cloned());
                let values: Vec<_> = values.iter().map(String::as_str).collect();
                append(&log, &batch(&values)).ok()?;
            }
            Step::Idempotent => {
                let value = format!("sequence-{}", model.next_sequence);
                model.end_min = model.end();
                model.records.push(value.clone());
                let sent = idempotent(9, 0, model.next_sequence, &value);
                assert!(!append(&log, &sent).ok()?.duplicate);
                model.next_sequence += 1;
                model.end_min = model.end();
                assert!(append(&log, &sent).ok()?.duplicate);
            }
            Step::Flush => {
                let point = log.flush().ok()?;
                assert_eq!(point, model.end());
                (model.recovery_point, model.synced) = (point, point);
            }
            Step::FlushFullSegments => {
                flush_full_segments(model, &log)?;
            }
            Step::Truncate { back } => {
                truncate(model, &log, *back)?;
            }
            Step::DeleteRecords { back } => {
                log.advance_high_watermark(model.end());
                let to = (model.end() - back).max(model.start.1);
                model.start.1 = to;
                assert_eq!(log.delete_records(to).ok()?, to);
                model.start = (to, to);
                model.start_checkpoint = to;
            }
            Step::Retain => {
                log.advance_high_watermark(model.end());
                let half = LogConfig { retention_bytes: log.size_bytes() as i64 / 2, ..small() };
                model.start.1 = model.end();
                log.set_config(Arc::new(half));
                log.enforce_retention(NOW_MS).ok()?;
                log.purge_deleted(NOW_MS + 60_000).ok()?;
                log.set_config(Arc::new(small()));
                model.start = (log.log_start_offset(), log.log_start_offset());
                model.start_checkpoint = model.start.0;
            }
            Step::CloseIdle => self.close_idle(),
            Step::Reopen => {
                log.close(true).ok()?;
                model.recovery_point = log.recovery_point();
                assert_eq!(model.recovery_point, model.end());
                model.synced = model.end();
                drop(log);
                let (log, report) = self.open(LastStop::Clean).ok()?;
                assert!(report.cut.is_none() && report.damages.is_empty(), "{report:?}");
                return Some(log);
            }
        }
        let model = &mut self.model;
        model.end_min = model.end();
        Some(log)
    }

    /// Starts again after a death and compares.
    fn recover(&mut self, death: Death) -> Log {
        let last_stop = match death {
            Death::Process => {
                self.file_system.restart_process();
                LastStop::ProcessDied
            }
            Death::Machine => {
                self.file_system.restart_machine();
                if self.model.start_checkpoint > 0 {
                    // whoever wrote it synced the data directory, and so the name of the partition's
                    self.file_system.create_directory(&Path::new(DIRECTORY).join("t-0")).unwrap();
                }
                self.model.end_min = self.model.synced.max(self.model.start_checkpoint);
                LastStop::MachineDied
            }
        };
        let (log, report) = self.open(last_stop).unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        self.compare(&log);
        let model = &mut self.model;
        let end = log.log_end_offset();
        model.records.truncate(end as usize);
        model.end_min = end;
        model.synced = model.synced.min(end);
        model.recovery_point = model.recovery_point.min(end);
        model.start = (log.log_start_offset(), log.log_start_offset());
        let kept = model.records.iter().filter(|value| value.starts_with("sequence")).count();
        model.next_sequence = kept as i32;
        self.send_again(&log);
        log
    }

    /// A producer that repeats its last batch, as after a lost answer, is told where that is.
    fn send_again(&self, log: &Log) {
        let start = self.model.start.0 as usize;
        let last = self.model.records.iter().rposition(|value| value.starts_with("sequence"));
        if let Some(offset) = last.filter(|offset| *offset >= start) {
            let sequence = self.model.next_sequence - 1;
            let again = append(log, &idempotent(9, 0, sequence, &self.model.records[offset])).unwrap();
            assert!(again.duplicate, "sequence {sequence} is forgotten");
            assert_eq!(again.base_offset, offset as i64);
        }
    }

    fn compare(&self, log: &Log) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        let model = &self.model;
        assert!((model.start.0..=model.start.1).contains(&start), "starts at {start}: {:?}", model.start);
        assert!(
            (model.end_min..=model.end()).contains(&end),
            "ends at {end}, not {}..={}",
            model.end_min,
            model.end()
        );
        let wanted: Vec<_> =
            (start..end).map(|offset| (offset, model.records[offset as usize].clone())).collect();
        let found = values(log);
        let offsets = |all: &[(i64, String)]| all.iter().map(|(offset, _)| *offset).collect::<Vec<_>>();
        assert_eq!(offsets(&found), offsets(&wanted));
        assert!(found == wanted, "values differ");
        let middle = start + (end - start) / 2;
        assert!(values_below(log, middle, end, 100).unwrap() == wanted[(middle - start) as usize..]);
    }
}

/// Runs the steps with a death inside call `at` (if it comes to that), then some more steps on what was recovered.
fn run(steps: &[Step], seed: u64, at: Option<u64>, death: Death) -> u64 {
    println!("seed {seed}, death of the {death:?} in call {at:?}");
    let mut run = Run::new(seed);
    run.file_system.set_faults(Faults { die_at_call: at, ..Faults::default() });
    let mut log = run.open(LastStop::Clean).ok().map(|(log, _)| log);
    for step in steps {
        let Some(alive) = log.take() else { break };
        log = run.step(alive, step);
        assert!(log.is_some() || run.file_system.is_dead(), "{step:?} failed without a fault");
        if run.file_system.is_dead() {
            break;
        }
        if let Some(log) = &log {
            run.file_system.set_faults(Faults::default());
            run.compare(log);
            run.file_system.set_faults(Faults { die_at_call: at, ..Faults::default() });
        }
    }
    let calls = run.file_system.calls();
    drop(log);
    let mut log = run.recover(death);
    for step in [Step::Append { records: 2, bytes: 10 }, Step::Idempotent, Step::Flush, Step::Reopen] {
        log = run.step(log, &step).unwrap();
        run.compare(&log);
    }
    // what the first death left half done must not come back with a second one
    for step in
        [Step::Append { records: 3, bytes: 300 }, Step::Idempotent, Step::Append { records: 1, bytes: 9 }]
    {
        log = run.step(log, &step).unwrap();
    }
    drop(log);
    run.recover(Death::Machine);
    calls
}

/// Few cases as a rule; `PROPTEST_CASES` asks for more.
fn few_cases() -> ProptestConfig {
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { 32 };
    ProptestConfig { cases, max_shrink_iters: 300, failure_persistence: None, ..asked }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn a_death_inside_any_call_loses_nothing_that_was_promised(
        steps in proptest::collection::vec(a_step(), 1..25),
        seed in any::<u64>(),
        places in proptest::collection::vec(any::<proptest::sample::Index>(), 12),
    ) {
        let calls = run(&steps, seed, None, Death::Process);
        for (number, place) in places.iter().enumerate() {
            let at = place.index(calls as usize) as u64;
            run(&steps, seed ^ number as u64, Some(at), Death::Process);
            run(&steps, seed ^ number as u64, Some(at), Death::Machine);
        }
    }
}

#[test]
fn every_call_of_a_script_may_be_the_last() {
    let mut steps = vec![Step::Append { records: 2, bytes: 300 }; 4];
    steps.extend([Step::Idempotent, Step::Flush, Step::Append { records: 3, bytes: 200 }, Step::Idempotent]);
    steps.extend([Step::Truncate { back: 2 }, Step::Append { records: 1, bytes: 400 }, Step::Reopen]);
    steps.extend([Step::Append { records: 1, bytes: 350 }, Step::DeleteRecords { back: 4 }, Step::Retain]);
    steps.extend([Step::Append { records: 2, bytes: 500 }, Step::CloseIdle, Step::CloseIdle]);
    steps.extend([Step::Append { records: 2, bytes: 500 }, Step::FlushFullSegments]);
    steps.extend([Step::Idempotent, Step::Append { records: 2, bytes: 100 }]);
    let calls = run(&steps, 1, None, Death::Process);
    for at in 0..calls {
        for seed in 0..2 {
            run(&steps, seed, Some(at), Death::Process);
            run(&steps, seed, Some(at), Death::Machine);
        }
    }
}

/// Closing a log without records syncs nothing, not even its name: its first records do.
#[test]
fn what_is_flushed_after_a_clean_stop_without_records_survives() {
    let steps = [Step::Reopen, Step::Reopen, Step::Append { records: 2, bytes: 20 }, Step::Flush];
    for seed in 0..4 {
        let calls = run(&steps, seed, None, Death::Machine);
        for at in 0..calls {
            run(&steps, seed, Some(at), Death::Machine);
        }
    }
}

/// A snapshot taken before a truncation names sequences that the log never had since; its removal must be on disk.
#[test]
fn a_snapshot_of_another_history_does_not_come_back() {
    let mut steps = vec![Step::Idempotent, Step::Reopen, Step::Idempotent, Step::Truncate { back: 3 }];
    steps.extend([
        Step::Append { records: 1, bytes: 33 },
        Step::Idempotent,
        Step::Append { records: 2, bytes: 9 },
    ]);
    let calls = run(&steps, 1, None, Death::Process);
    for seed in 0..4 {
        for at in 0..calls {
            run(&steps, seed, Some(at), Death::Machine);
        }
    }
}

/// First all but the last one, then that too.
fn flush_full_segments(model: &mut Model, log: &Log) -> Option<()> {
    let full_end = log.full_end_offset();
    let point = log.flush_full_segments(full_end - 1).ok()?;
    assert_eq!(point, model.recovery_point.max(full_end - 1));
    assert!(log.has_full_segment_to_flush() || point >= full_end);
    let point = log.flush_full_segments(full_end).ok()?;
    assert_eq!(point, model.recovery_point.max(full_end));
    assert!(!log.has_full_segment_to_flush());
    (model.recovery_point, model.synced) = (point, model.synced.max(point));
    Some(())
}

/// Cuts `back` records off the end, and the model with them. `None` = the process died in it.
fn truncate(model: &mut Model, log: &Log, back: i64) -> Option<()> {
    let to = (model.end() - back).max(model.start.1);
    // a batch of up to three records that holds the offset goes whole
    let lowest = (to - 2).max(0);
    // the checkpoint comes down before the log does
    model.recovery_point = model.recovery_point.min(to);
    model.synced = model.synced.min(lowest);
    model.end_min = model.end_min.min(lowest);
    log.truncate_to(to, NOW_MS, || Ok(())).ok()?;
    let end = log.log_end_offset();
    // at the log's start an empty log begins there, even inside a batch
    assert!(end <= to, "{end} > {to}");
    model.records.truncate(end as usize);
    model.end_min = end;
    model.recovery_point = model.recovery_point.min(end);
    model.synced = model.synced.min(end);
    // sequences that were cut off are free again
    let kept = model.records.iter().filter(|value| value.starts_with("sequence")).count();
    model.next_sequence = kept as i32;
    Some(())
}
