//! A file system in memory that fails as real ones do: short writes, no room, EIO, the death of the process inside a
//! system call, the death of the machine with whatever was not synced lost in any order.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use fastlog_log::file_system::DirectoryEntry;
use fastlog_log::{FileHandle, FileSystem, OpenMode};

/// What was not synced is lost by pieces of this size, as by sectors.
const PIECE: usize = 64;

/// What the next calls meet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The process dies inside this call, counted from 0: a write is done in part, later calls all fail.
    pub(crate) die_at_call: Option<u64>,
    /// A write transfers at most so many bytes.
    pub(crate) short_write: Option<usize>,
    /// Bytes that may still be added to files before the disk is full.
    pub(crate) room: Option<u64>,
    /// Writes fail with EIO.
    pub(crate) write_error: bool,
    /// fdatasync and directory syncs fail with EIO.
    pub(crate) sync_error: bool,
    /// fdatasync does not return, until the faults are others.
    pub(crate) hold_syncs: bool,
    /// fdatasync takes so long, in which other calls go on.
    pub(crate) sync_takes: Duration,
}

#[derive(Debug, Default)]
struct State {
    faults: Faults,
    calls: u64,
    syncs: u64,
    dead: bool,
    boot: u64,
    random: u64,
    inodes: Vec<Inode>,
    /// As the process sees them.
    names: BTreeMap<PathBuf, usize>,
    /// As they are on disk, and what was done since the last directory sync, in order.
    durable: BTreeMap<PathBuf, usize>,
    renames: Vec<NameChange>,
    directories: Vec<PathBuf>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// The file system; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryFileSystem {
    state: Arc<Mutex<State>>,
    faults_changed: Arc<Condvar>,
}

/// See [`MemoryFileSystem::hold_syncs`].
#[derive(Debug)]
pub(crate) struct Held(MemoryFileSystem);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.stop_holding();
    }
}

#[derive(Debug)]
struct MemoryFile {
    file_system: MemoryFileSystem,
    inode: usize,
}

fn eio() -> io::Error {
    io::Error::other("injected EIO")
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Length(length) => bytes.resize(*length, 0),
        Change::Write(position, data) => {
            bytes.resize(bytes.len().max(position + data.len()), 0);
            bytes[*position..position + data.len()].copy_from_slice(data);
        }
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Add(path, inode) => {
            names.insert(path.clone(), *inode);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            let moved: Vec<_> = names.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in moved {
                let inode = names.remove(&path).unwrap();
                let rest = path.strip_prefix(from).unwrap();
                let target = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
                names.insert(target, inode);
            }
        }
    }
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
        if self.call()? && self.chance(2) { Err(io::Error::other("died before the call")) } else { Ok(()) }
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.next_random().is_multiple_of(one_in)
    }

    /// splitmix64
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn change_names(&mut self, change: NameChange) {
        apply_name(&mut self.names, &change);
        self.renames.push(change);
    }

    /// Unsynced name changes survive up to some moment, in order (a journal); unsynced bytes piece by piece.
    fn lose_power(&mut self) {
        let changes = std::mem::take(&mut self.renames);
        let kept = self.next_random() as usize % (changes.len() + 1);
        for change in changes.iter().take(kept) {
            apply_name(&mut self.durable, change);
        }
        self.names = self.durable.clone();
        for number in 0..self.inodes.len() {
            let mut inode = std::mem::take(&mut self.inodes[number]);
            for change in std::mem::take(&mut inode.unsynced) {
                match change {
                    Change::Length(_) if self.chance(2) => apply(&mut inode.durable, &change),
                    Change::Length(_) => {}
                    Change::Write(position, data) => {
                        let all = self.chance(2);
                        for (piece, bytes) in data.chunks(PIECE).enumerate() {
                            if all || self.chance(2) {
                                let write = Change::Write(position + piece * PIECE, bytes.to_vec());
                                apply(&mut inode.durable, &write);
                            }
                        }
                    }
                }
            }
            inode.bytes = inode.durable.clone();
            self.inodes[number] = inode;
        }
        self.boot += 1;
    }
}

impl MemoryFileSystem {
    pub(crate) fn new(seed: u64) -> Self {
        let file_system = Self::default();
        file_system.state().random = seed;
        file_system
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
        self.faults_changed.notify_all();
    }

    /// No fdatasync returns until the answer is dropped, also by a test that fails: nothing must wait for ever.
    pub(crate) fn hold_syncs(&self) -> Held {
        self.state().faults.hold_syncs = true;
        Held(self.clone())
    }

    /// Lets go what is held; the other faults stay.
    pub(crate) fn stop_holding(&self) {
        self.state().faults.hold_syncs = false;
        self.faults_changed.notify_all();
    }

    /// The process died in some call.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state().calls
    }

    /// How many times fdatasync was called.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The process is started again after it died (or as if it had), the machine ran on.
    pub(crate) fn restart_process(&self) {
        self.set_faults(Faults::default());
        self.state().dead = false;
    }

    /// The machine lost power and was started again.
    pub(crate) fn restart_machine(&self) {
        self.restart_process();
        self.state().lose_power();
    }

    fn names_under(&self, path: &Path) -> Vec<PathBuf> {
        self.state().names.keys().filter(|name| name.starts_with(path)).cloned().collect()
    }
}

impl FileHandle for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.file_system.state();
        state.atomic_call()?;
        let bytes = &state.inodes[self.inode].bytes;
        let rest = bytes.get(position as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_vectored_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        let mut state = self.file_system.state();
        let dies = state.call()?;
        if state.faults.write_error {
            return Err(eio());
        }
        let mut data: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if let Some(limit) = state.faults.short_write {
            data.truncate(limit.max(1));
        }
        if dies {
            let kept = state.next_random() as usize % (data.len() + 1);
            data.truncate(kept);
        }
        let length = state.inodes[self.inode].bytes.len();
        let growth = (position as usize + data.len()).saturating_sub(length);
        if let Some(room) = state.faults.room {
            let fits = growth.min(room as usize);
            data.truncate(data.len() - (growth - fits));
            state.faults.room = Some(room - fits as u64);
            if data.is_empty() {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let change = Change::Write(position as usize, data.clone());
        let inode = &mut state.inodes[self.inode];
        apply(&mut inode.bytes, &change);
        inode.unsynced.push(change);
        if dies { Err(io::Error::other("died in a write")) } else { Ok(data.len()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.file_system.state();
        state.atomic_call()?;
        let inode = &mut state.inodes[self.inode];
        let change = Change::Length(length as usize);
        apply(&mut inode.bytes, &change);
        inode.unsynced.push(change);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut state = self.file_system.state();
        state.atomic_call()?;
        Ok(state.inodes[self.inode].bytes.len() as u64)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.file_system.state();
        state.atomic_call()?;
        state.syncs += 1;
        // only what was written before the call is promised
        let inode = &state.inodes[self.inode];
        let (bytes, changes) = (inode.bytes.clone(), inode.unsynced.len());
        if !state.faults.sync_takes.is_zero() {
            let takes = state.faults.sync_takes;
            drop(state);
            std::thread::sleep(takes);
            state = self.file_system.state();
        }
        let held = |state: &mut State| state.faults.hold_syncs && !state.dead;
        let mut state = self.file_system.faults_changed.wait_while(state, held).unwrap();
        if state.faults.sync_error {
            return Err(eio());
        }
        let inode = &mut state.inodes[self.inode];
        inode.durable = bytes;
        inode.unsynced.drain(..changes);
        Ok(())
    }

    fn allocate(&self, _position: u64, _length: u64) -> io::Result<()> {
        self.file_system.state().atomic_call()
    }

    fn read_ahead(&self, _position: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl FileSystem for MemoryFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn FileHandle>> {
        let mut state = self.state();
        state.atomic_call()?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None if mode == OpenMode::Create => {
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.change_names(NameChange::Add(path.to_owned(), inode));
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemoryFile { file_system: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_there = !self.names_under(from).is_empty();
        let mut state = self.state();
        state.atomic_call()?;
        if !is_there {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.atomic_call()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_names(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        for name in self.names_under(path) {
            self.remove_file(&name)?;
        }
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.atomic_call()?;
        state.directories.push(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut state = self.state();
        state.atomic_call()?;
        let mut entries = Vec::new();
        for name in state.names.keys() {
            let Ok(rest) = name.strip_prefix(path) else { continue };
            let mut parts = rest.components();
            let Some(first) = parts.next() else { continue };
            let name = first.as_os_str().to_str().unwrap().to_owned();
            let entry = DirectoryEntry { name, is_directory: parts.next().is_some() };
            if !entries.contains(&entry) {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.atomic_call()?;
        let known = |name: &PathBuf| name.starts_with(path);
        Ok(state.directories.iter().any(known) || state.names.keys().any(known))
    }

    fn sync_directory(&self, _path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.atomic_call()?;
        if state.faults.sync_error {
            return Err(eio());
        }
        state.durable = state.names.clone();
        state.renames.clear();
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<Option<Box<dyn Send + Sync + Debug>>> {
        Ok(Some(Box::new(())))
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(self.state().boot.to_string())
    }
}
