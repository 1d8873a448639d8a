//! The process or the machine dies inside any system call of any of several passes.

use std::path::Path;

use crate::common::*;
use crate::compaction_model::*;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{CleanerLimits, FileSystem, LastStop, Log, Unpaced};

const PASSES: usize = 3;

#[derive(Clone, Copy, Debug)]
struct Death {
    in_call: u64,
    /// Of the machine; otherwise of the process alone.
    of_machine: bool,
    /// The next start dies too, in that call.
    in_recovery: Option<u64>,
}

impl Death {
    fn at(in_call: u64, of_machine: bool) -> Self {
        let in_recovery = ((in_call + u64::from(of_machine)).is_multiple_of(2)).then_some(in_call % 37);
        Self { in_call, of_machine, in_recovery }
    }
}

/// Appends before each pass, then the pass and the purge of what it replaced, in which there may be a death. Answers how
/// many calls each one made.
fn live(seed: u64, limits: CleanerLimits, deaths: [Option<Death>; PASSES]) -> [u64; PASSES] {
    println!("seed {seed}, {limits:?}, {deaths:?}");
    let mut random = Random(seed);
    let file_system = MemoryFileSystem::new(seed);
    let mut log = open_on(&file_system, 0, LastStop::Clean).unwrap();
    let mut model = Model { compresses: false, ..Model::default() };
    let mut clean_to = 0;
    let calls = deaths.map(|death| {
        for _ in 0..12 {
            model.append(&log, &mut random);
        }
        let end = log.flush().unwrap();
        let before = file_system.calls();
        let die_at_call = death.map(|death| before + death.in_call);
        file_system.set_faults(Faults { die_at_call, ..Faults::default() });
        let cleaned = log.clean(clean_to, limits, &Unpaced, model.now_ms);
        let purged = log.purge_deleted(i64::MAX);
        let calls = file_system.calls() - before;
        if let Some(death) = death.filter(|_| file_system.is_dead()) {
            // an old checkpoint or a new one
            let recovery_point = if death.in_call.is_multiple_of(2) { 0 } else { end };
            log = start_again(&file_system, death, recovery_point);
        } else {
            clean_to = cleaned.unwrap().map_or(clean_to, |cleaned| cleaned.end_offset);
            purged.unwrap();
        }
        file_system.set_faults(Faults::default());
        assert_eq!(log.log_end_offset(), end);
        assert_eq!(leftovers(&file_system), Vec::<String>::new());
        model.compare_from(&log, 0);
        model.check_sequences(&log);
        model.now_ms += random.below(2 * DELETE_RETENTION_MS as u64) as i64;
        calls
    });
    model.compare(&log);
    calls
}

fn start_again(file_system: &MemoryFileSystem, death: Death, recovery_point: i64) -> Log {
    let restart =
        || if death.of_machine { file_system.restart_machine() } else { file_system.restart_process() };
    let last_stop = if death.of_machine { LastStop::MachineDied } else { LastStop::ProcessDied };
    restart();
    if let Some(call) = death.in_recovery {
        file_system.set_faults(Faults { die_at_call: Some(file_system.calls() + call), ..Faults::default() });
        drop(open_on(file_system, recovery_point, last_stop));
        restart();
    }
    open_on(file_system, recovery_point, last_stop).unwrap()
}

/// Names of files that belong to no segment.
fn leftovers(file_system: &MemoryFileSystem) -> Vec<String> {
    let entries = file_system.list(Path::new(LOG_DIRECTORY)).unwrap();
    let is_left = |name: &str| [".cleaned", ".swap", ".deleted", ".tmp"].iter().any(|it| name.ends_with(it));
    entries.into_iter().map(|entry| entry.name).filter(|name| is_left(name)).collect()
}

/// Every call of every pass is the last one, while another pass dies elsewhere.
fn any_call_may_be_the_last(seed: u64, limits: CleanerLimits, both_deaths: bool) {
    for (swept, calls) in live(seed, limits, [None; PASSES]).into_iter().enumerate() {
        assert!(calls > 20, "pass {swept} makes {calls} calls");
        for at in 0..calls {
            for of_machine in [false, true] {
                if both_deaths || of_machine == (at + seed).is_multiple_of(2) {
                    let mut deaths = [None; PASSES];
                    deaths[(swept + 1 + at as usize % 2) % PASSES] =
                        Some(Death::at(at * 7 % calls, !of_machine));
                    deaths[swept] = Some(Death::at(at, of_machine));
                    live(seed, limits, deaths);
                }
            }
        }
    }
}

#[test]
fn any_call_of_any_pass_may_be_the_last() {
    any_call_may_be_the_last(0, CleanerLimits::default(), false);
}

#[test]
fn any_call_of_any_pass_that_runs_out_of_memory_may_be_the_last() {
    any_call_may_be_the_last(1, little_memory(), false);
}

#[test]
#[ignore = "the long form"]
fn any_call_of_any_pass_may_be_the_last_of_many_logs() {
    for seed in 0..4 {
        for limits in [CleanerLimits::default(), little_memory()] {
            any_call_may_be_the_last(seed, limits, true);
        }
    }
}

/// A pass of which call `at` is the last, and then the machine has what was synced, perhaps more. True = the pass got to
/// its end before.
fn machine_dies_with_unsynced_records(seed: u64, at: u64) -> bool {
    let mut random = Random(seed);
    let file_system = MemoryFileSystem::new(seed);
    let log = open_on(&file_system, 0, LastStop::Clean).unwrap();
    let mut model = Model { compresses: false, ..Model::default() };
    let mut append = || (0..16).for_each(|_| model.append(&log, &mut random));
    append();
    let synced = log.flush().unwrap();
    append();
    file_system.set_faults(Faults { die_at_call: Some(file_system.calls() + at), ..Faults::default() });
    let _ = log.clean(0, CleanerLimits::default(), &Unpaced, NOW_MS);
    let is_over = !file_system.is_dead();
    drop(log);
    file_system.restart_machine();
    let log = open_on(&file_system, synced, LastStop::MachineDied).unwrap();
    let end = log.log_end_offset();
    assert!(end >= synced);
    model.cut(&log, end);
    model.compare_from(&log, 0);
    is_over
}

/// What a machine that dies loses is no reason to lose what it would have replaced, too.
#[test]
fn what_is_synced_stays_until_that_is_synced_which_replaces_it() {
    for seed in 0..5 {
        println!("seed {seed}");
        let mut calls = 0..;
        while !machine_dies_with_unsynced_records(seed, calls.next().unwrap()) {}
    }
}

#[test]
fn a_pass_without_descriptors_leaves_the_log_as_it_was_and_the_next_one_cleans_it() {
    for dies in [false, true] {
        for left in 0.. {
            let mut random = Random(left);
            let file_system = MemoryFileSystem::new(left);
            let mut log = open_on(&file_system, 0, LastStop::Clean).unwrap();
            let mut model = Model { compresses: false, ..Model::default() };
            (0..12).for_each(|_| model.append(&log, &mut random));
            let end = log.flush().unwrap();
            file_system.set_faults(Faults { opens_left: Some(left), ..Faults::default() });
            let cleaned = log.clean(0, CleanerLimits::default(), &Unpaced, model.now_ms);
            file_system.set_faults(Faults::default());
            log.storage().check().expect("no disk is to blame");
            if dies {
                file_system.kill_process();
                log =
                    start_again(&file_system, Death { in_call: 0, of_machine: true, in_recovery: None }, end);
            }
            let is_whole = match cleaned {
                Ok(cleaned) => cleaned.is_some(),
                Err(error) => {
                    assert!(error.is_out_of_descriptors(), "{left} descriptors: {error}");
                    false
                }
            };
            log.clean(0, CleanerLimits::default(), &Unpaced, model.now_ms).unwrap();
            log.purge_deleted(i64::MAX).unwrap();
            assert_eq!((log.log_end_offset(), leftovers(&file_system)), (end, vec![]), "{left} descriptors");
            model.compare(&log);
            if is_whole {
                assert!(left > 10, "only {left} descriptors");
                break;
            }
        }
    }
}
