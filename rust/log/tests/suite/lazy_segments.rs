//! Several logs of one data directory with more segments than files may be open, against plain lists: random reads, opens,
//! closes, rolls, cuts, deletions, passes of the cleaner, mended damage and deaths, while readers hold what they were given.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::few_cases;
use crate::lazy_model::{Bounds, Model};
use crate::lazy_steps::{Death, Step, a_step};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::file_system::{OpenMode, read_exact_at};
use fastlog_log::{
    AppendOptions, CleanerLimits, FileSystem, LastStop, Log, LogConfig, LogError, LogOptions, Slice, Storage,
    Unpaced, file_name,
};
use fastlog_protocol::batch::BatchHeader;
use proptest::prelude::*;
use uuid::Uuid;

const LOGS: usize = 3;
const DIRECTORY: &str = "/data";
/// Fewer than the files of three segments.
const OPEN_FILES_MAX: usize = 8;
/// A segment older than this is rolled by the next append.
const SEGMENT_MS: i64 = 3_600_000;

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1_100,
        segment_ms: SEGMENT_MS,
        index_interval_bytes: 200,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

/// The byte of a batch where its checksum is; a cleaner leaves batches that are nothing but their headers.
const CRC_AT: usize = 17;

/// A slice and what it holds.
struct Held {
    log: usize,
    slice: Slice,
    bytes: Vec<u8>,
}

/// A byte of a batch that was turned over, and what was there.
struct Damage {
    offset: i64,
    good: Vec<u8>,
}

/// A slice from offset `from` on, read. `None` = the process died in it.
fn hold(number: usize, log: &Log, from: i64, max_bytes: usize, end: i64) -> Option<Option<Held>> {
    let Some(slice) = log.read(from, max_bytes, end, true).ok()? else { return Some(None) };
    let bytes = read(&slice)?;
    Some(Some(Held { log: number, slice, bytes }))
}

fn read(slice: &Slice) -> Option<Vec<u8>> {
    let mut bytes = vec![0; slice.length];
    read_exact_at(&*slice.file, &mut bytes, slice.position).ok()?;
    Some(bytes)
}

struct Run {
    file_system: MemoryFileSystem,
    storage: Arc<Storage>,
    logs: [Option<Log>; LOGS],
    models: [Model; LOGS],
    held: Vec<Held>,
    /// Of each log what is not mended yet.
    damages: [Option<Damage>; LOGS],
    now_ms: i64,
    /// What comes when the process dies.
    death: Death,
    idle_calls: usize,
}

fn storage_of(file_system: &MemoryFileSystem) -> Arc<Storage> {
    Storage::new(Arc::new(file_system.clone()), PathBuf::from(DIRECTORY), OPEN_FILES_MAX)
}

impl Run {
    fn new(seed: u64) -> Self {
        let file_system = MemoryFileSystem::new(seed);
        Self {
            storage: storage_of(&file_system),
            file_system,
            logs: Default::default(),
            models: Default::default(),
            held: Vec::new(),
            damages: Default::default(),
            now_ms: NOW_MS,
            death: Death::Process,
            idle_calls: 0,
        }
    }

    /// Opens the log if it is closed; reads nothing that stays open. `None` = the process died in it.
    fn open(&mut self, number: usize, last_stop: LastStop) -> Option<()> {
        if self.logs[number].is_some() {
            return Some(());
        }
        let model = &self.models[number];
        let options = LogOptions {
            recovery_point: model.recovery_point,
            log_start_offset: model.start_checkpoint,
            topic_id: Some(Uuid::from_u128(1 + model.incarnation)),
            config: Arc::new(small()),
            ..LogOptions::new("t", number as i32, last_stop)
        };
        let open_before = self.file_system.open_count();
        let opened = match Log::open(&self.storage, options.clone(), self.now_ms) {
            // one whose deletion was not synced before the machine died; who knows the topics deletes it again
            Err(LogError::InconsistentTopicId { path, .. }) if last_stop == LastStop::MachineDied => {
                self.file_system.remove_directory(&path).ok()?;
                Log::open(&self.storage, options, self.now_ms)
            }
            opened => opened,
        };
        let is_dead = self.file_system.is_dead();
        let (log, report) = opened.inspect_err(|error| assert!(is_dead, "{number}: {error}")).ok()?;
        assert!(report.damages.is_empty() || self.damages[number].is_some(), "{report:?}");
        assert!(last_stop != LastStop::Clean || report.cut.is_none(), "{report:?}");
        assert!(self.file_system.open_count() <= open_before, "opening a log left files open");
        self.logs[number] = Some(log);
        Some(())
    }

    /// Does one step. `None` = the process died in it; the model then allows for both outcomes.
    fn step(&mut self, number: usize, step: &Step) -> Option<()> {
        match step {
            Step::CloseIdle => {
                self.storage.open_files.close_idle();
                self.idle_calls += 1;
                return Some(());
            }
            Step::Release => return self.release(),
            Step::Die { death, after } => {
                self.death = *death;
                let at = self.file_system.calls() + after;
                self.file_system.set_faults(Faults { die_at_call: Some(at), ..Faults::default() });
                return Some(());
            }
            _ => self.idle_calls = 0,
        }
        self.open(number, LastStop::Clean)?;
        if let Step::Mend { from } = step {
            let from = self.models[number].place(*from);
            self.damage(number, from)?;
            return self.mend(number);
        }
        let (model, log) = (&mut self.models[number], self.logs[number].as_ref()?);
        match step {
            Step::Append { records, bytes } => {
                self.now_ms += *records as i64;
                let sent = model.next_batch(number, *records, *bytes, self.now_ms);
                log.append(&sent, 0, self.now_ms, AppendOptions::default()).ok()?;
            }
            Step::Roll => {
                self.now_ms += SEGMENT_MS + 1;
                let sent = model.next_batch(number, 1, 10, self.now_ms);
                log.append(&sent, 0, self.now_ms, AppendOptions::default()).ok()?;
            }
            Step::Flush => {
                assert_eq!(log.flush().ok()?, model.end());
                model.flushed();
            }
            Step::DeleteRecords { .. } | Step::Retain { .. } | Step::Truncate { .. } | Step::Clean => {
                self.take_away(number, step)?;
            }
            Step::Close => {
                log.close(true).ok()?;
                model.flushed();
                self.logs[number] = None;
            }
            Step::Recreate => {
                model.may_be_gone = true;
                let path = log.mark_deleted().ok()?;
                // as whoever deletes many does once for all of them
                self.file_system.sync_directory(Path::new(DIRECTORY)).ok()?;
                model.recreated();
                self.logs[number] = None;
                self.file_system.remove_directory(&path).ok()?;
            }
            _ => self.look(number, step)?,
        }
        self.models[number].settle();
        Some(())
    }

    /// The steps that take records away.
    fn take_away(&mut self, number: usize, step: &Step) -> Option<()> {
        let (model, log) = (&mut self.models[number], self.logs[number].as_ref()?);
        match step {
            Step::DeleteRecords { to } => {
                log.advance_high_watermark(model.end());
                let to = model.place(*to);
                model.start.1 = to;
                assert_eq!(log.delete_records(to).ok()?, to);
                model.starts_at(to);
            }
            Step::Retain { purge } => {
                log.advance_high_watermark(model.end());
                let half = LogConfig { retention_bytes: log.size_bytes() as i64 / 2, ..small() };
                model.start.1 = model.end();
                log.set_config(Arc::new(half));
                log.enforce_retention(self.now_ms).ok()?;
                if *purge {
                    log.purge_deleted(self.now_ms + 60_000).ok()?;
                }
                log.set_config(Arc::new(small()));
                model.starts_at(log.log_start_offset());
            }
            Step::Truncate { to } => {
                // what is read of a batch that is cut is whatever comes there
                self.held.retain(|held| held.log != number);
                let to = model.cut(*to);
                model.begins_cut(to);
                let checkpoint = || {
                    model.lower_checkpoints(to);
                    Ok(())
                };
                log.truncate_to(to, self.now_ms, checkpoint).ok()?;
                model.is_cut(log.log_end_offset());
            }
            Step::Clean => {
                log.advance_high_watermark(model.end());
                model.begins_cleaning();
                log.clean(model.start.0, CleanerLimits::default(), &Unpaced, self.now_ms).ok()?;
            }
            _ => {}
        }
        Some(())
    }

    /// The steps that change nothing.
    fn look(&mut self, number: usize, step: &Step) -> Option<()> {
        let (model, log) = (&self.models[number], self.logs[number].as_ref()?);
        match step {
            Step::Read { from, bytes } => {
                let mut next = model.place(*from);
                while let Some(held) = hold(number, log, next, *bytes, model.end())? {
                    let (beyond, found) = values_in(&held.bytes, next);
                    model.check(&found, next, beyond);
                    next = beyond;
                }
                model.check(&[], next, model.end());
            }
            Step::Seek { to } => {
                let time = model.time(*to);
                let found = log.offset_for_timestamp(time, model.end()).ok()?;
                model.check_first_since(time, found.map(|found| (found.offset, found.timestamp)));
            }
            Step::Hold { from } => {
                self.held.extend(hold(number, log, model.place(*from), 500, model.end())?);
            }
            _ => {}
        }
        Some(())
    }

    /// Turns a byte of the first batch from `from` on over, if another one follows, on the disk too. All is synced before:
    /// what is not may be cut where it is damaged.
    fn damage(&mut self, number: usize, from: i64) -> Option<()> {
        let (model, log) = (&mut self.models[number], self.logs[number].as_ref()?);
        log.flush().ok()?;
        model.flushed();
        log.advance_high_watermark(model.end());
        let Some(held) = hold(number, log, from, 1, model.end())? else { return Some(()) };
        let (beyond, _) = values_in(&held.bytes, 0);
        if hold(number, log, beyond, 1, model.end())?.is_none() {
            // damage at the very end is not mended: nobody knows what was behind it
            return Some(());
        }
        // what is held would show it
        self.held.retain(|held| held.log != number);
        let first = BatchHeader::parse(&held.bytes).unwrap().base_offset;
        let name = file_name::of_offset(held.slice.segment_base_offset, file_name::LOG);
        let path = log.directory().join(name);
        assert!(self.file_system.corrupt(&path, held.slice.position as usize + CRC_AT));
        self.damages[number] = Some(Damage { offset: first, good: held.bytes });
        Some(())
    }

    /// Mends what was damaged, found by the scrub or before.
    fn mend(&mut self, number: usize) -> Option<()> {
        let Some(Damage { offset, good }) = &self.damages[number] else { return Some(()) };
        let log = self.logs[number].as_ref()?;
        log.advance_high_watermark(self.models[number].end());
        log.scrub_segment_of(*offset, &Unpaced).ok()?;
        for range in log.damaged_ranges().ok()? {
            // before it a cleaner may have left nothing
            assert!((range.offset..range.next_offset).contains(offset), "{}", range.reason);
            let mended = log.mend(range.offset, good, self.now_ms);
            mended.inspect_err(|error| assert!(self.file_system.is_dead(), "{error}")).ok()?;
        }
        assert_eq!(log.damaged_ranges().ok()?, []);
        self.damages[number] = None;
        Some(())
    }

    /// Whatever became of log, segment and file meanwhile, who holds a slice can read it.
    fn release(&mut self) -> Option<()> {
        for Held { log, slice, bytes } in std::mem::take(&mut self.held) {
            assert!(read(&slice)? == bytes, "{log}: a slice at {} changed while it was held", slice.position);
        }
        Some(())
    }

    /// No more files are open than may be, those apart that are held, and of a roll one of each of its two segments; when
    /// nobody used one for two looks, a quarter of that, of full segments that are not synced.
    fn check_open_files(&self) {
        let held: BTreeSet<_> = self.held.iter().map(|it| Arc::as_ptr(&it.slice.file).addr()).collect();
        let max = if self.idle_calls >= 2 { OPEN_FILES_MAX / 4 } else { OPEN_FILES_MAX + 2 };
        let open = self.file_system.open_count();
        assert!(open <= max + held.len(), "{open} files are open, {} of them held", held.len());
    }

    /// Starts again after the death and compares all logs.
    fn recover(&mut self) {
        self.logs = Default::default();
        self.held.clear();
        let last_stop = match self.death {
            Death::Process => {
                self.file_system.restart_process();
                LastStop::ProcessDied
            }
            Death::Machine => {
                self.file_system.restart_machine();
                self.models.iter_mut().for_each(Model::lost_power);
                for number in (0..LOGS).filter(|number| self.models[*number].start_checkpoint > 0) {
                    // whoever wrote it synced the data directory, and so the name of the partition's
                    let directory = Path::new(DIRECTORY).join(file_name::of_partition("t", number as i32));
                    self.file_system.create_directory(&directory).unwrap();
                }
                LastStop::MachineDied
            }
        };
        self.storage = storage_of(&self.file_system);
        for number in 0..LOGS {
            self.open(number, last_stop).unwrap();
            let log = self.logs[number].as_ref().unwrap();
            let found = Bounds { start: log.log_start_offset(), end: log.log_end_offset() };
            self.models[number].recovered(found);
            if self.models[number].may_be_gone {
                self.damages[number] = None;
                self.step(number, &Step::Recreate).unwrap();
            }
            self.mend(number).unwrap();
        }
        self.compare();
    }

    /// The system writes a log's files back by itself before the machine dies too. What a process was just cutting when it
    /// died might come back else: it was not committed, and a replica whose machine died is compared with its leader.
    fn write_back(&self, number: usize) {
        let directory = self.logs[number].as_ref().unwrap().directory();
        for entry in self.file_system.list(&directory).unwrap() {
            let file = self.file_system.open(&directory.join(entry.name), OpenMode::Read).unwrap();
            file.sync_data().unwrap();
        }
        self.file_system.sync_directory(&directory).unwrap();
    }

    /// All that the logs hold, to the last record.
    fn compare(&mut self) {
        self.idle_calls = 0;
        for number in 0..LOGS {
            self.open(number, LastStop::Clean).unwrap();
            let (log, model) = (self.logs[number].as_ref().unwrap(), &self.models[number]);
            assert_eq!((log.log_start_offset(), log.log_end_offset()), (model.start.0, model.end()));
            model.check(&values(log), model.start.0, model.end());
        }
    }

    fn run(&mut self, steps: &[(usize, Step)]) {
        for (number, step) in steps {
            let done = self.step(*number, step);
            assert!(done.is_some() || self.file_system.is_dead(), "{step:?} failed without a fault");
            if self.file_system.is_dead() {
                self.recover();
                if self.death == Death::Process && matches!(step, Step::Truncate { .. }) {
                    self.write_back(*number);
                }
            }
            self.check_open_files();
        }
        self.file_system.set_faults(Faults::default());
        self.release().unwrap();
        self.compare();
        self.check_open_files();
    }
}

proptest! {
    #![proptest_config(few_cases(96))]

    #[test]
    fn logs_that_open_their_segments_when_needed_are_lists(
        steps in proptest::collection::vec((0..LOGS, a_step()), 20..160),
        seed in any::<u64>(),
    ) {
        Run::new(seed).run(&steps);
    }
}
