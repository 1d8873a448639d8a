//! A file system in memory that fails as real ones do: short writes, no room, EIO, the death of the process inside a
//! system call, the death of the machine with whatever was not synced lost in any order.
//!
//! For tests and for the simulation: it is built with Cargo's feature `memory` only. Everything left to chance comes
//! from one seed, so the same calls end the same way.

mod contents;
mod names;
mod random;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use uuid::Uuid;

use super::{DirectoryEntry, DirectoryHandle, FileHandle, FileSystem, OpenMode, Space};
use contents::{Change, Contents};
use names::{NameChange, Names};
use random::Random;

/// What it says that it has.
const TOTAL_BYTES: u64 = 1 << 40;

/// What the next calls meet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The process dies inside this call, counted from 0: a write is done in part, later calls all fail.
    pub die_at_call: Option<u64>,
    /// A write transfers at most so many bytes.
    pub short_write: Option<usize>,
    /// Bytes that may still be added to files before the disk is full.
    pub room: Option<u64>,
    /// Neither file nor directory can be opened: the process has no descriptor left.
    pub no_descriptors: bool,
    /// So many can be opened, until the process has no descriptor left.
    pub opens_left: Option<u64>,
    /// From this call on, counted from 0, the disk is full: no file grows, none is made, and nothing gets another name.
    pub full_from_call: Option<u64>,
    /// From this call on, counted from 0, none but writes begins, until the faults are others.
    pub hold_from_call: Option<u64>,
    /// Writes fail with EIO.
    pub write_error: bool,
    /// fdatasync and directory syncs fail with EIO.
    pub sync_error: bool,
    /// fdatasync does not return, until the faults are others.
    pub hold_syncs: bool,
    /// Writes do not begin, until the faults are others.
    pub hold_writes: bool,
    /// Reads of files that were opened only to be read do not begin, until the faults are others.
    pub hold_reads: bool,
    /// Renames of directories do not begin, until the faults are others.
    pub hold_directory_renames: bool,
    /// Renames of directories fail like this, and nothing is renamed.
    pub directory_rename_error: Option<io::ErrorKind>,
    /// Directory syncs fail like this after a directory was renamed, once for each.
    pub renamed_sync_error: Option<io::ErrorKind>,
    /// fdatasync takes so long, in which other calls go on.
    pub sync_takes: Duration,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    calls: u64,
    syncs: u64,
    dead: bool,
    boot: u64,
    /// Calls that are held.
    held: usize,
    /// A directory was renamed, and no directory synced since.
    has_renamed: bool,
    random: Random,
    files: Vec<Contents>,
    /// As the process sees them.
    names: Names,
    /// As they are on disk, and what was done since the last directory sync, in order.
    durable: Names,
    journal: Vec<NameChange>,
    directories: BTreeSet<String>,
    open_count: usize,
    write_backs: Vec<(u64, u64)>,
}

/// The file system; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct MemoryFileSystem {
    state: Arc<Mutex<State>>,
    faults_changed: Arc<Condvar>,
}

/// See [`MemoryFileSystem::hold_syncs`].
#[derive(Debug)]
pub struct Held(MemoryFileSystem);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop_holding();
    }
}

#[derive(Debug)]
struct MemoryFile {
    file_system: MemoryFileSystem,
    number: usize,
    mode: OpenMode,
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        self.file_system.state().open_count -= 1;
    }
}

fn eio() -> io::Error {
    io::Error::other("injected EIO")
}

/// As the kernel tells it.
fn bad_sector() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl State {
    /// Counts a call; the one to die in is told so, those after it fail.
    fn call(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        self.calls += 1;
        if self.faults.die_at_call == Some(self.calls - 1) {
            self.dead = true;
            return Ok(true);
        }
        Ok(false)
    }

    /// A call that is done whole or not at all; which, when the process dies in it, is left to chance.
    fn atomic_call(&mut self) -> io::Result<()> {
        if self.call()? && self.random.chance(2) {
            Err(io::Error::other("died before the call"))
        } else {
            Ok(())
        }
    }

    /// Fails where the process has no descriptor left.
    fn take_descriptor(&mut self) -> io::Result<()> {
        const EMFILE: i32 = 24;
        if self.faults.no_descriptors || self.faults.opens_left == Some(0) {
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.faults.opens_left = self.faults.opens_left.map(|left| left - 1);
        Ok(())
    }

    /// Fails where the disk is full by the number of calls, the present one included.
    fn check_room(&self) -> io::Result<()> {
        let is_full = self.faults.full_from_call.is_some_and(|call| self.calls > call);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn file(&mut self, number: usize) -> io::Result<&mut Contents> {
        self.files.get_mut(number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether there is such a file or directory.
    fn is_there(&self, path: &str) -> bool {
        self.directories.contains(path) || !names::of(&self.names, path).is_empty()
    }

    fn change_names(&mut self, change: NameChange) {
        self.journal.push(change.clone());
        change.apply(&mut self.names);
    }

    /// Unsynced name changes survive up to some moment, in order (a journal); unsynced bytes piece by piece.
    fn lose_power(&mut self) {
        let changes = std::mem::take(&mut self.journal);
        let kept = self.random.up_to(changes.len());
        for change in changes.into_iter().take(kept) {
            change.apply(&mut self.durable);
        }
        self.names.clone_from(&self.durable);
        // a directory that was renamed is where it was, and one without files may be nowhere
        let files = self.names.keys().map(Path::new);
        self.directories = files.flat_map(|file| file.ancestors().skip(1)).map(text).collect();
        for file in &mut self.files {
            file.lose_power(&mut self.random);
        }
    }

    /// Frees the files that have no name: whoever had them open is dead.
    fn free_unnamed(&mut self) {
        let named: BTreeSet<usize> = self.names.values().chain(self.durable.values()).copied().collect();
        for (number, file) in self.files.iter_mut().enumerate() {
            if !named.contains(&number) {
                *file = Contents::default();
            }
        }
    }

    /// How much of a write of `length` bytes that ends at `end` of a file is done, as the faults want it.
    fn writable(&mut self, number: usize, end: usize, length: usize, dies: bool) -> io::Result<usize> {
        let mut allowed = self.faults.short_write.map_or(length, |limit| length.min(limit.max(1)));
        if dies {
            allowed = self.random.up_to(allowed);
        }
        let end = end - (length - allowed);
        let growth = end.saturating_sub(self.file(number)?.bytes().len());
        if growth > 0 {
            self.check_room()?;
        }
        if let Some(room) = self.faults.room {
            let fits = growth.min(usize::try_from(room).unwrap_or(usize::MAX));
            allowed -= growth - fits;
            self.faults.room = Some(room - fits as u64);
            if allowed == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(allowed)
    }
}

impl MemoryFileSystem {
    /// An empty one whose chances come from `seed`.
    pub fn new(seed: u64) -> Self {
        let file_system = Self::default();
        file_system.state().random = Random::new(seed);
        file_system
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// What calls meet from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
        self.faults_changed.notify_all();
    }

    /// No fdatasync returns until the answer is dropped, also by a test that fails: nothing must wait for ever.
    pub fn hold_syncs(&self) -> Held {
        self.state().faults.hold_syncs = true;
        Held(self.clone())
    }

    /// Lets go what is held; the other faults stay.
    pub fn stop_holding(&self) {
        let mut state = self.state();
        state.faults.hold_from_call = None;
        state.faults.hold_syncs = false;
        state.faults.hold_writes = false;
        state.faults.hold_reads = false;
        state.faults.hold_directory_renames = false;
        self.faults_changed.notify_all();
    }

    /// How many calls are held now.
    pub fn held(&self) -> usize {
        self.state().held
    }

    /// Begins a call that is done whole or not at all.
    fn begin(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        let number = state.calls;
        self.hold(&mut state, |faults| faults.hold_from_call.is_some_and(|from| from <= number));
        state.atomic_call()?;
        Ok(state)
    }

    fn hold(&self, state: &mut MutexGuard<'_, State>, is_held: impl Fn(&Faults) -> bool) {
        state.held += 1;
        self.faults_changed.wait_while(state, |state| is_held(&state.faults) && !state.dead);
        state.held -= 1;
    }

    /// The process died in some call.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many handles of files are open.
    pub fn open_count(&self) -> usize {
        self.state().open_count
    }

    /// How many times fdatasync was called.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Position and length of what was to be written back, of all files, in order. It is no promise, so nothing is done.
    pub fn write_backs(&self) -> Vec<(u64, u64)> {
        self.state().write_backs.clone()
    }

    /// The process dies now, outside any call: all later ones fail.
    pub fn kill_process(&self) {
        self.state().dead = true;
    }

    /// The process is started again after it died (or as if it had), the machine ran on.
    pub fn restart_process(&self) {
        self.set_faults(Faults::default());
        let mut state = self.state();
        state.dead = false;
        state.free_unnamed();
    }

    /// The machine lost power and was started again.
    pub fn restart_machine(&self) {
        self.state().boot += 1;
        self.restart_disk();
    }

    /// The disk failed and is back, with as much of what was not synced as after a power cut, and the process is started again:
    /// the machine ran on.
    pub fn restart_disk(&self) {
        self.state().lose_power();
        self.restart_process();
    }

    /// Loses every file, synced or not: a disk that was replaced.
    pub fn wipe(&self) {
        let mut state = self.state();
        let (random, boot, open_count) = (std::mem::take(&mut state.random), state.boot, state.open_count);
        *state = State { random, boot, open_count, ..State::default() };
    }

    /// Reads of the page with that byte of a file fail from now on, until it is written as a whole; false where there is no
    /// such file.
    pub fn make_unreadable(&self, path: &Path, position: usize) -> bool {
        let mut state = self.state();
        let number = state.names.get(&*path.to_string_lossy()).copied();
        number.and_then(|number| state.files.get_mut(number)).is_some_and(|file| {
            file.make_unreadable(position);
            true
        })
    }

    /// All of a file can be read again; false where there is no such file.
    pub fn make_readable(&self, path: &Path) -> bool {
        let mut state = self.state();
        let number = state.names.get(&*path.to_string_lossy()).copied();
        let file = number.and_then(|number| state.files.get_mut(number));
        file.is_some_and(|file| file.replace_pages(0..usize::MAX))
    }

    /// Turns the bits of one byte of a file over, also on the disk; false where there is none.
    pub fn corrupt(&self, path: &Path, position: usize) -> bool {
        let mut state = self.state();
        let number = state.names.get(&*path.to_string_lossy()).copied();
        number.and_then(|number| state.files.get_mut(number)).is_some_and(|file| file.corrupt(position))
    }
}

impl FileHandle for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.file_system.begin()?;
        self.file_system.hold(&mut state, |faults| faults.hold_reads && self.mode == OpenMode::Read);
        let file = state.file(self.number)?;
        let readable = file.readable_from(position as usize);
        let rest = file.bytes().get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len()).min(readable);
        if readable == 0 && !rest.is_empty() {
            return Err(bad_sector());
        }
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.file_system.state();
        let dies = state.call()?;
        self.file_system.hold(&mut state, |faults| faults.hold_writes);
        if state.faults.write_error {
            return Err(eio());
        }
        let position = position as usize;
        let mut data = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.iter().for_each(|part| data.extend_from_slice(part));
        if !state.file(self.number)?.replace_pages(position..position + data.len()) {
            return Err(bad_sector());
        }
        let written = state.writable(self.number, position + data.len(), data.len(), dies)?;
        data.truncate(written);
        state.file(self.number)?.change(Change::Write(position, data));
        if dies { Err(io::Error::other("died in a write")) } else { Ok(written) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.file_system.begin()?;
        state.file(self.number)?.change(Change::Length(length as usize));
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.file_system.begin()?;
        Ok(state.file(self.number)?.bytes().len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.file_system.begin()?;
        state.syncs += 1;
        // only what was written before the call is promised
        let changes = state.file(self.number)?.changes();
        let takes = state.faults.sync_takes;
        if !takes.is_zero() {
            MutexGuard::unlocked(&mut state, || std::thread::sleep(takes));
        }
        self.file_system.hold(&mut state, |faults| faults.hold_syncs);
        if state.faults.sync_error {
            return Err(eio());
        }
        state.file(self.number)?.sync(changes);
        Ok(())
    }

    fn allocate(&self, _position: u64, _length: u64) -> io::Result<()> {
        self.file_system.begin().map(drop)
    }

    fn read_ahead(&self, _position: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn start_write_back(&self, position: u64, length: u64) -> io::Result<()> {
        self.file_system.state().write_backs.push((position, length));
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl DirectoryHandle for MemoryFileSystem {
    fn sync(&self) -> io::Result<()> {
        let mut state = self.begin()?;
        if state.faults.sync_error {
            return Err(eio());
        }
        if std::mem::take(&mut state.has_renamed)
            && let Some(kind) = state.faults.renamed_sync_error
        {
            return Err(kind.into());
        }
        let State { journal, durable, .. } = &mut *state;
        journal.drain(..).for_each(|change| change.apply(durable));
        Ok(())
    }
}

impl FileSystem for MemoryFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        let mut state = self.begin()?;
        state.take_descriptor()?;
        let number = match state.names.get(&*path.to_string_lossy()) {
            Some(number) => *number,
            None if mode == OpenMode::Create => {
                state.check_room()?;
                state.files.push(Contents::default());
                let number = state.files.len() - 1;
                state.change_names(NameChange::Add(text(path), number));
                number
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        state.open_count += 1;
        Ok(Arc::new(MemoryFile { file_system: self.clone(), number, mode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        let (from, to) = (text(from), text(to));
        if names::of(&state.names, &from).is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.check_room()?;
        if state.directories.contains(&from) {
            self.hold(&mut state, |faults| faults.hold_directory_renames);
            if let Some(kind) = state.faults.directory_rename_error {
                return Err(kind.into());
            }
            state.directories.remove(&from);
            state.directories.insert(to.clone());
            state.has_renamed = true;
        }
        state.change_names(NameChange::Rename(from, to));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        let path = text(path);
        if !state.names.contains_key(&path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove(path));
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        let files = names::of(&self.state().names, &text(path));
        if !files.is_empty() {
            self.state().take_descriptor()?;
        }
        files.iter().try_for_each(|file| self.remove_file(Path::new(file)))?;
        self.state().directories.remove(&text(path));
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.begin()?;
        state.check_room()?;
        state.directories.extend(path.ancestors().map(text));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let state = self.begin()?;
        if !state.is_there(&text(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut entries: Vec<DirectoryEntry> = Vec::new();
        for (_, rest) in names::below(&state.names, &text(path)) {
            let (name, is_directory) = rest.split_once('/').map_or((rest, false), |(first, _)| (first, true));
            // the files of one directory lie together
            if entries.last().is_none_or(|last| last.name != name) {
                entries.push(DirectoryEntry { name: name.to_owned(), is_directory });
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.begin()?;
        Ok(state.is_there(&text(path)))
    }

    fn open_directory(&self, _path: &Path) -> io::Result<Box<dyn DirectoryHandle>> {
        self.state().take_descriptor()?;
        Ok(Box::new(self.clone()))
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Send + Sync + Debug>>> {
        Ok(Some(Box::new(())))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { total: TOTAL_BYTES, usable: self.state().faults.room.unwrap_or(TOTAL_BYTES) })
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(self.state().boot.to_string())
    }

    fn random_uuid(&self) -> Uuid {
        let mut state = self.state();
        let (high, low) = (state.random.next(), state.random.next());
        uuid::Builder::from_u128(u128::from(high) << 64 | u128::from(low)).into_uuid()
    }
}
