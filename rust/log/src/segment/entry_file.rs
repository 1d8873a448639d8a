//! A file of entries of one size in ascending order: what offset and time index have in common.
//!
//! New entries wait in memory and reach the file some hundred at a time, so an append costs the index no system call;
//! those that a dead process had not written are found again by the scan that follows an unclean stop. Files are read by
//! pread and not mapped: a broker may have far more indexes than a process may have maps, and a lookup, a dozen
//! reads of cached pages, is rare because the log remembers the positions of its tail.
//!
//! Unlike Kafka, an active index is not extended to `segment.index.bytes` with zeros: its size is always its entries,
//! as Kafka leaves it after a roll or a close. Kafka and its tools accept that, a crash leaves no zeros to be told from
//! entries, and 10,000 partitions do not look like 200 GB.

use std::io::{self, IoSlice};

use parking_lot::Mutex;

use crate::file_system::{LazyFile, is_disk_full, read_exact_at, waiting, write_all_at};

/// Entries that a lookup reads at once instead of halving on: 4 KiB cost no more than 8 bytes.
const PAGE_ENTRIES: u64 = 512;
/// Entries read at a time when all are checked.
const CHECK_CHUNK: u64 = 4096;

/// The entries of one index file; `N` bytes each.
#[derive(Debug)]
pub(crate) struct EntryFile<const N: usize> {
    file: LazyFile,
    state: Mutex<State<N>>,
}

#[derive(Debug)]
struct State<const N: usize> {
    written: u64,
    pending: Vec<[u8; N]>,
    last: Option<[u8; N]>,
    /// The file was changed since it was last synced.
    unsynced: bool,
}

impl<const N: usize> State<N> {
    fn new() -> Self {
        Self { written: 0, pending: Vec::new(), last: None, unsynced: false }
    }
}

impl<const N: usize> EntryFile<N> {
    pub(crate) fn new(file: LazyFile) -> Self {
        Self { file, state: Mutex::new(State::new()) }
    }

    pub(crate) fn file(&self) -> &LazyFile {
        &self.file
    }

    /// Reads the file and keeps the longest start of it whose every entry may follow the one before (`follows`);
    /// what comes after that, as zeros or half an entry, is cut off; false = there was such. A missing file counts as
    /// empty and is made with its first entry.
    pub(crate) fn load(
        &self,
        mut follows: impl FnMut(Option<&[u8; N]>, &[u8; N]) -> bool,
    ) -> io::Result<bool> {
        let file = match self.file.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                *self.state.lock() = State::new();
                return Ok(true);
            }
            result => result?,
        };
        let length = file.length()?;
        let entries = length / N as u64;
        let mut buffer = vec![0; (entries.min(CHECK_CHUNK) as usize) * N];
        let mut state = State::new();
        'all: while state.written < entries {
            let count = (entries - state.written).min(CHECK_CHUNK) as usize;
            let chunk = buffer.get_mut(..count * N).unwrap_or_default();
            read_exact_at(&*file, chunk, state.written * N as u64)?;
            let (chunk, _) = chunk.as_chunks::<N>();
            for entry in chunk {
                if !follows(state.last.as_ref(), entry) {
                    break 'all;
                }
                state.last = Some(*entry);
                state.written += 1;
            }
        }
        let is_whole = state.written * N as u64 == length;
        if !is_whole {
            file.set_len(state.written * N as u64)?;
            state.unsynced = true;
        }
        *self.state.lock() = state;
        Ok(is_whole)
    }

    /// Makes the file where there is none. Without room it is left to the first entry.
    pub(crate) fn create(&self) -> io::Result<()> {
        match self.file.create() {
            Err(error) if !is_disk_full(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// How many entries there are, those in memory included.
    pub(crate) fn len(&self) -> u64 {
        let state = self.state.lock();
        state.written + state.pending.len() as u64
    }

    pub(crate) fn last(&self) -> Option<[u8; N]> {
        self.state.lock().last
    }

    /// Adds an entry, in memory.
    pub(crate) fn push(&self, entry: [u8; N]) {
        let mut state = self.state.lock();
        state.pending.push(entry);
        state.last = Some(entry);
    }

    /// How many entries wait in memory.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().pending.len()
    }

    /// Writes the entries that wait in memory. They stay there when that fails, and are tried again.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.write_pending(&mut self.state.lock())
    }

    fn write_pending(&self, state: &mut State<N>) -> io::Result<()> {
        if state.pending.is_empty() {
            return Ok(());
        }
        let file = self.file.create()?;
        let bytes = state.pending.as_flattened();
        write_all_at(&*file, &mut [IoSlice::new(bytes)], state.written * N as u64)?;
        state.written += state.pending.len() as u64;
        state.pending.clear();
        state.unsynced = true;
        Ok(())
    }

    /// Keeps the first `count` entries.
    pub(crate) fn truncate(&self, count: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if count >= state.written {
            let kept = (count - state.written) as usize;
            state.pending.truncate(kept);
        } else {
            self.file.create()?.set_len(count * N as u64)?;
            state.unsynced = true;
            state.pending.clear();
            state.written = count;
        }
        state.last = match state.pending.last() {
            Some(entry) => Some(*entry),
            None if state.written == 0 => None,
            None => Some(self.read(state.written - 1)?),
        };
        Ok(())
    }

    /// The last entry for which `before` holds, where it holds for all entries up to some place and none after; and
    /// its number. Entries in memory are searched under the lock, those in the file without it.
    pub(crate) fn last_where(&self, before: impl Fn(&[u8; N]) -> bool) -> io::Result<Option<(u64, [u8; N])>> {
        let written = {
            let state = waiting::lock(&self.state)?;
            let count = state.pending.partition_point(&before);
            if let Some(entry) = count.checked_sub(1).and_then(|last| state.pending.get(last)) {
                return Ok(Some((state.written + count as u64 - 1, *entry)));
            }
            state.written
        };
        let (mut low, mut high) = (0, written);
        while high - low > PAGE_ENTRIES {
            let middle = low + (high - low) / 2;
            if before(&self.read(middle)?) {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.last_in_page(low, high, before)
    }

    /// An entry by its number, counted from 0.
    pub(crate) fn get(&self, number: u64) -> io::Result<Option<[u8; N]>> {
        {
            let state = waiting::lock(&self.state)?;
            if let Some(pending) = number.checked_sub(state.written) {
                let place = usize::try_from(pending).unwrap_or(usize::MAX);
                return Ok(state.pending.get(place).copied());
            }
        }
        self.read(number).map(Some)
    }

    /// The same as `last_where` among the entries `low..high`, read at once.
    fn last_in_page(
        &self,
        low: u64,
        high: u64,
        before: impl Fn(&[u8; N]) -> bool,
    ) -> io::Result<Option<(u64, [u8; N])>> {
        if low == high {
            return Ok(None);
        }
        let mut page = vec![0; (high - low) as usize * N];
        read_exact_at(&*self.file.create()?, &mut page, low * N as u64)?;
        let (entries, _) = page.as_chunks::<N>();
        let count = entries.partition_point(before);
        Ok(count.checked_sub(1).and_then(|last| Some((low + last as u64, *entries.get(last)?))))
    }

    fn read(&self, number: u64) -> io::Result<[u8; N]> {
        let mut entry = [0; N];
        read_exact_at(&*self.file.create()?, &mut entry, number * N as u64)?;
        Ok(entry)
    }

    /// fdatasync of what is written.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if !std::mem::take(&mut self.state.lock().unsynced) {
            return Ok(());
        }
        match self.file.create().and_then(|file| file.sync_data()) {
            // an index that lost its end is completed when it is next loaded
            Err(error) if is_disk_full(&error) => Ok(()),
            result => result.inspect_err(|_| self.state.lock().unsynced = true),
        }
    }
}
