//! What all logs of one data directory share: the file system, the bound on open files, and whether it is poisoned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use super::floor::Floor;
use super::{FileSystem, OpenFiles, RealFileSystem, Space, is_disk_full};
use crate::error::{During, LogError};

/// How many places that could not be read are told: a bound on memory and on log lines.
const UNREADABLE_TOLD_MAX: usize = 1_000;

/// Who is to know that a data directory failed.
pub(crate) trait FailureWatch: std::fmt::Debug + Send + Sync {
    /// It was poisoned just now, for the first time.
    fn failed(&self, storage: &Storage);
}

/// One data directory's file system and health.
#[derive(Debug)]
pub struct Storage {
    /// The port to files.
    pub file_system: Arc<dyn FileSystem>,
    /// The bound on open files.
    pub open_files: Arc<OpenFiles>,
    directory: PathBuf,
    device: OnceLock<u64>,
    poisoned: AtomicBool,
    pub(super) floor: Floor,
    reason: Mutex<Option<String>>,
    watch: OnceLock<Arc<dyn FailureWatch>>,
    unreadable: Mutex<BTreeSet<String>>,
    damages_found: Arc<AtomicU64>,
}

impl Storage {
    /// The storage of the data directory `directory`, which keeps at most about `open_count_max` files open.
    pub fn new(file_system: Arc<dyn FileSystem>, directory: PathBuf, open_count_max: usize) -> Arc<Self> {
        let open_files = OpenFiles::new(Arc::clone(&file_system), open_count_max);
        Self::with_open_files(open_files, file_system, directory)
    }

    fn with_open_files(
        open_files: Arc<OpenFiles>,
        file_system: Arc<dyn FileSystem>,
        directory: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            file_system,
            open_files,
            directory,
            device: OnceLock::new(),
            poisoned: AtomicBool::new(false),
            floor: Floor::default(),
            reason: Mutex::new(None),
            watch: OnceLock::new(),
            unreadable: Mutex::new(BTreeSet::new()),
            damages_found: Arc::default(),
        })
    }

    /// On the machine's own file system, with half of the descriptors that this process may have: the other half is
    /// for connections.
    pub fn real(directory: impl Into<PathBuf>) -> Arc<Self> {
        Self::new(Arc::new(RealFileSystem), directory.into(), open_count_max())
    }

    /// The same for each of several data directories of one broker, which share the descriptors.
    pub fn all_real(directories: impl IntoIterator<Item = PathBuf>) -> Vec<Arc<Self>> {
        let file_system: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
        let open_files = OpenFiles::new(Arc::clone(&file_system), open_count_max());
        let each = directories.into_iter();
        each.map(|it| Self::with_open_files(Arc::clone(&open_files), Arc::clone(&file_system), it)).collect()
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The number of its disk. Reads from the disk until it is known, as it is once a log was opened; 0 where the directory
    /// cannot be looked at.
    pub fn device(&self) -> u64 {
        *self.device.get_or_init(|| self.file_system.device(&self.directory).unwrap_or_default())
    }

    /// The room that its disk has.
    pub fn space(&self) -> Result<Space, LogError> {
        self.file_system.space(&self.directory).during("ask for the room of", &self.directory)
    }

    /// Takes the directory offline for good: after a failed write or fsync nobody knows what is on disk. The first
    /// reason stays. Blocks on the disks of all data directories, which are to remember it.
    pub fn poison(&self, reason: &dyn std::fmt::Display) {
        let is_first = {
            let mut first = self.reason.lock();
            let is_first = first.is_none();
            if is_first {
                tracing::error!(directory = %self.directory.display(), %reason, "data directory offline");
                *first = Some(reason.to_string());
            }
            is_first
        };
        self.poisoned.store(true, Ordering::Release);
        if is_first && let Some(watch) = self.watch.get() {
            watch.failed(self);
        }
    }

    /// Has somebody know when the directory fails; the first one stays.
    pub(crate) fn watch_failure(&self, watch: Arc<dyn FailureWatch>) {
        let _set = self.watch.set(watch);
    }

    /// How often damage was found in a segment since the start, by recovery, a reader or the scrub. Cheap: who mends looks
    /// for places only after it grew.
    pub fn damages_found(&self) -> u64 {
        self.damages_found.load(Ordering::Acquire)
    }

    pub(crate) fn damage_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.damages_found)
    }

    /// Says in the log that something cannot be read, once for each reason: the client gets a code only, and asks again
    /// and again.
    pub(crate) fn tell_unreadable(&self, reason: &dyn std::fmt::Display) {
        let reason = reason.to_string();
        let mut told = self.unreadable.lock();
        if told.len() < UNREADABLE_TOLD_MAX && told.insert(reason.clone()) {
            tracing::error!(reason, "records cannot be read");
        }
    }

    /// What a write here that failed means: without room or a descriptor it may be tried again, anything else takes the
    /// directory offline.
    pub(crate) fn write_failed(&self, error: LogError) -> LogError {
        match error {
            LogError::Io { path, source, .. } if is_disk_full(&source) => LogError::DiskFull { path, source },
            error => {
                self.failed(&error);
                error
            }
        }
    }

    /// The same for what is in doubt on a full disk too, such as a sync. Without a descriptor it was not begun: what is on the
    /// disk is known, as long as the caller did nothing before it that it is to end.
    pub fn failed(&self, error: &LogError) {
        if !error.is_out_of_descriptors() {
            self.poison(error);
        }
    }

    /// An error once the directory is poisoned. Cheap.
    pub fn check(&self) -> Result<(), LogError> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = self.reason.lock().clone().unwrap_or_default();
        Err(LogError::Poisoned { path: self.directory.clone(), reason })
    }
}

fn open_count_max() -> usize {
    let limit = fastlog_sys::limits::open_files_max().unwrap_or(1 << 16).min(1 << 16);
    (limit / 2) as usize
}
