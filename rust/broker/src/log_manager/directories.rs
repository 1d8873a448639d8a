//! The data directories of a broker: which one has a partition, and which one gets a new one.
//!
//! A new partition goes where most room is left, counting as used what the partitions there may still write into the
//! segments that they are at: a disk is not given a thousand partitions only because none of them has records yet. Where
//! that is the same it goes where there are fewest partitions, else to the first directory of `log.dirs`.

use crate::broker::Broker;
use fastlog_log::log_dir::KnownDirectories;
use fastlog_log::{FailedDirectory, Identity, LastStop, Log, LogDir, LogError, Settled, Storage};
use parking_lot::Mutex;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// How long disks and logs are not looked at again while partitions are made; in between the promises are counted.
const LOOK_NS: i64 = 1_000_000_000;

/// The data directories that are in use, in the order of `log.dirs`; at least one.
pub(crate) struct Directories {
    all: Vec<Arc<LogDir>>,
    /// Those whose disks did not answer when the broker was started.
    failed: Vec<FailedDirectory>,
    known: KnownDirectories,
    rooms: Mutex<Rooms>,
}

/// What was seen of the disks, and what was given away since.
#[derive(Default)]
struct Rooms {
    seen_at_ns: Option<i64>,
    each: Vec<Room>,
}

/// The room of one directory.
#[derive(Clone, Copy)]
struct Room {
    /// Bytes that are free and promised to nobody; less than none where more was promised than there is.
    left: i128,
    partitions: usize,
}

impl Directories {
    pub(super) fn open(
        storages: Vec<Arc<Storage>>,
        identity: &Identity,
    ) -> Result<(Self, BTreeSet<Uuid>, Settled), LogError> {
        let opened = LogDir::open_all(storages, identity)?;
        let all = opened.directories.into_iter().map(Arc::new).collect();
        let rooms = Mutex::default();
        let opened_all = Self { all, failed: opened.failed, known: opened.known, rooms };
        Ok((opened_all, opened.deleted, opened.settled))
    }

    /// A directory whose disk fails while the run begins is done without, unless it is the first one. It is noted in the others,
    /// so that it is not trusted by the next start.
    pub(super) fn do_without(&mut self, directory: &LogDir, reason: LogError) -> Result<(), LogError> {
        let is_bad = matches!(reason, LogError::Io { .. } | LogError::Poisoned { .. })
            && !reason.is_out_of_descriptors();
        let path = directory.path().to_owned();
        if !is_bad || self.first()?.path() == path {
            return Err(reason);
        }
        directory.storage().poison(&reason);
        self.all.retain(|it| it.path() != path);
        self.failed.push(FailedDirectory { path, reason });
        Ok(())
    }

    /// Those that this run began without, since their disks failed.
    pub(super) fn failed(&self) -> &[FailedDirectory] {
        &self.failed
    }

    /// Those that can be written to.
    pub(super) fn healthy(&self) -> impl Iterator<Item = &Arc<LogDir>> {
        self.all.iter().filter(|it| it.storage().check().is_ok())
    }

    pub(crate) fn all(&self) -> &[Arc<LogDir>] {
        &self.all
    }

    /// The first one, where a broker keeps what is not of one directory.
    pub(crate) fn first(&self) -> Result<&Arc<LogDir>, LogError> {
        self.all.first().ok_or_else(|| LogError::Invalid { reason: "there is no data directory".to_owned() })
    }

    /// How the last run ended, in the directory where it ended worst.
    pub(super) fn last_stop(&self) -> LastStop {
        let rank = |stop: &LastStop| match stop {
            LastStop::Clean => 0,
            LastStop::ProcessDied => 1,
            LastStop::MachineDied => 2,
        };
        self.all.iter().map(|it| it.last_stop()).max_by_key(rank).unwrap_or(LastStop::MachineDied)
    }

    pub(super) fn has_lost(&self) -> bool {
        self.known.has_lost()
    }

    /// All logs are open, and what was lost is known.
    pub(super) fn note(&self) -> Result<(), LogError> {
        self.known.note(&self.all, &self.failed)
    }

    /// The directory that a partition's directory is in.
    pub(super) fn of_path(&self, path: &Path) -> Result<&Arc<LogDir>, LogError> {
        let found = self.all.iter().find(|it| path.parent() == Some(it.path()));
        found.ok_or_else(|| LogError::Invalid {
            reason: format!("{} is in none of the data directories", path.display()),
        })
    }

    /// The directory that has the log.
    pub(super) fn of_log(&self, log: &Log) -> Result<&Arc<LogDir>, LogError> {
        let found = self.all.iter().find(|it| has(it, log));
        found.ok_or_else(|| LogError::Gone { path: log.directory(), state: "closed" })
    }

    /// Where a new partition goes, whose segments become so large.
    pub(super) fn place(&self, broker: &Broker, segment_bytes: u64) -> Result<&Arc<LogDir>, LogError> {
        if self.all.len() == 1 {
            return self.first();
        }
        let mut rooms = self.rooms.lock();
        let now_ns = broker.clock().monotonic_ns();
        if rooms.seen_at_ns.is_none_or(|at| now_ns.saturating_sub(at) >= LOOK_NS) {
            *rooms = Rooms { seen_at_ns: Some(now_ns), each: self.look(broker) };
        }
        let usable = rooms.each.iter_mut().zip(&self.all).enumerate();
        let usable = usable.filter(|(_, (_, directory))| directory.storage().check().is_ok());
        let best = usable.max_by_key(|(number, (it, _))| (it.left, Reverse(it.partitions), Reverse(*number)));
        let Some((_, (room, directory))) = best else { return self.first() };
        room.left -= i128::from(segment_bytes);
        room.partitions += 1;
        Ok(directory)
    }

    /// Looks at all disks and logs.
    fn look(&self, broker: &Broker) -> Vec<Room> {
        let logs = broker.partitions().all();
        let each = self.all.iter().map(|directory| {
            let here = logs.iter().map(|it| it.log()).filter(|log| has(directory, log));
            let promised =
                |log: &Log| i128::from(log.config().segment_bytes.saturating_sub(log.size_bytes()));
            let (partitions, promised) =
                here.fold((0, 0), |(count, sum), log| (count + 1, sum + promised(log)));
            // a disk that says nothing is the last choice
            let usable = directory.space().map_or(i128::from(i64::MIN), |it| i128::from(it.usable));
            Room { left: usable - promised, partitions }
        });
        each.collect()
    }

    /// Gives them up.
    pub(super) fn into_all(self) -> Vec<Arc<LogDir>> {
        self.all
    }
}

/// Whether the log is in the directory.
pub(super) fn has(directory: &LogDir, log: &Log) -> bool {
    Arc::ptr_eq(directory.storage(), &log.storage())
}
