//! `.txnindex`: the aborted transactions that ended in a segment. Made when the first one does.
//!
//! Unlike the other indexes it is no hint: without an entry a read-committed reader takes what was aborted for committed.
//! So it is synced with the batches, and completed from them where those were not synced when the machine died. What is made
//! from the batches waits in memory where the disk has no room for it: nothing of it may be vouched for until it is written.
//!
//! 34 bytes an entry, big-endian: version 2 (0) | producer id 8 | first offset 8 | last offset 8 | last stable offset
//! when it ended 8.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use fastlog_protocol::crc::crc32c;
use parking_lot::Mutex;

use crate::file_system::{LazyFile, is_disk_full, read_up_to_at, waiting, write_all_at};
use crate::txn_index_checkpoint::Summary;

const ENTRY_BYTES: usize = 34;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Its producer.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of its marker, inclusive.
    pub last_offset: i64,
    /// The last stable offset after it had ended.
    pub last_stable_offset: i64,
}

#[derive(Debug)]
pub(crate) struct TxnIndex {
    file: LazyFile,
    /// `None` until first used.
    entries: Mutex<Option<Entries>>,
    /// Written to since it was last synced, perhaps by an earlier run.
    unsynced: AtomicBool,
    /// Known to be right: made in this run, or compared.
    checked: AtomicBool,
}

#[derive(Debug)]
struct Entries {
    all: Vec<AbortedTxn>,
    /// How many of them, from the first on, are in the file.
    written: usize,
}

impl Entries {
    fn as_written(all: Vec<AbortedTxn>) -> Self {
        Self { written: all.len(), all }
    }

    fn waiting(&self) -> &[AbortedTxn] {
        self.all.get(self.written..).unwrap_or_default()
    }

    /// Writes what waits.
    fn write(&mut self, index: &TxnIndex) -> io::Result<()> {
        let bytes: Vec<u8> = self.waiting().iter().flat_map(encode).collect();
        let position = (self.written * ENTRY_BYTES) as u64;
        write_all_at(&*index.file.create()?, &mut [IoSlice::new(&bytes)], position)?;
        index.unsynced.store(true, Release);
        self.written = self.all.len();
        Ok(())
    }

    /// The same, where what is made from the batches may go on waiting for room.
    fn write_if_room(&mut self, index: &TxnIndex) -> io::Result<()> {
        match self.write(index) {
            Err(error) if is_disk_full(&error) => {
                let (index, waiting) = (index.file.path(), self.waiting().len());
                tracing::warn!(index = %index.display(), waiting, %error, "aborted transactions wait for room");
                Ok(())
            }
            result => result,
        }
    }
}

impl TxnIndex {
    pub(crate) fn new(file: LazyFile) -> Self {
        Self {
            file,
            entries: Mutex::new(None),
            unsynced: AtomicBool::new(true),
            checked: AtomicBool::new(false),
        }
    }

    pub(crate) fn file(&self) -> &LazyFile {
        &self.file
    }

    /// Whether it is known to be right.
    pub(crate) fn is_checked(&self) -> bool {
        self.checked.load(Acquire)
    }

    /// Notes that it is.
    pub(crate) fn set_checked(&self) {
        self.checked.store(true, Release);
    }

    /// Whether it was read or written to in this run.
    pub(crate) fn is_in_use(&self) -> bool {
        self.entries.lock().is_some()
    }

    /// What it holds, in the file's format.
    pub(crate) fn encoded(&self) -> io::Result<Vec<u8>> {
        self.with(|entries| Ok(entries.all.iter().flat_map(encode).collect()))
    }

    /// The same of transactions that ended in `[from, until)`.
    pub(crate) fn encoded_within(&self, from: i64, until: i64) -> io::Result<Vec<u8>> {
        let is_within = |txn: &&AbortedTxn| (from..until).contains(&txn.last_offset);
        self.with(|entries| Ok(entries.all.iter().filter(is_within).flat_map(encode).collect()))
    }

    /// What it holds, to be noted.
    pub(crate) fn summary(&self) -> io::Result<Summary> {
        self.with(|entries| {
            let bytes: Vec<u8> = entries.all.iter().flat_map(encode).collect();
            let crc = if bytes.is_empty() { 0 } else { crc32c(&bytes) };
            Ok(Summary { count: entries.all.len(), crc })
        })
    }

    /// All that it holds.
    pub(crate) fn all(&self) -> io::Result<Vec<AbortedTxn>> {
        self.with(|entries| Ok(entries.all.clone()))
    }

    /// Has it hold `aborted` in memory only: its file is on its way out.
    pub(crate) fn set(&self, aborted: Vec<AbortedTxn>) {
        *self.entries.lock() = Some(Entries::as_written(aborted));
    }

    /// Has it hold nothing but `aborted`, in memory only where there is no room.
    pub(crate) fn replace(&self, aborted: Vec<AbortedTxn>) -> io::Result<()> {
        self.with(|entries| {
            // first, so that nothing stays behind the new entries if those have to wait
            self.shorten((aborted.len() * ENTRY_BYTES) as u64)?;
            *entries = Entries { all: aborted, written: 0 };
            entries.write_if_room(self)
        })
    }

    fn shorten(&self, bytes_max: u64) -> io::Result<()> {
        match self.file.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => {
                let file = file?;
                if file.length()? > bytes_max { file.set_len(bytes_max) } else { Ok(()) }
            }
        }
    }

    /// Adds an entry, behind what waits. It holds nothing more where that fails.
    pub(crate) fn append(&self, aborted: AbortedTxn) -> io::Result<()> {
        self.with(|entries| {
            entries.all.push(aborted);
            entries.write(self).inspect_err(|_| _ = entries.all.pop())
        })
    }

    /// Whether it has entries.
    pub(crate) fn is_used(&self) -> io::Result<bool> {
        self.with(|entries| Ok(!entries.all.is_empty()))
    }

    /// Whether its file has entries.
    pub(crate) fn is_written(&self) -> io::Result<bool> {
        self.with(|entries| Ok(entries.written > 0))
    }

    /// The offset of the first marker whose entry waits for room.
    pub(crate) fn first_waiting(&self) -> Option<i64> {
        self.entries.lock().as_ref()?.waiting().iter().map(|txn| txn.last_offset).min()
    }

    /// What it holds, in the file's format, where a part of that waits for room.
    pub(crate) fn encoded_if_waiting(&self) -> Option<Vec<u8>> {
        let entries = self.entries.lock();
        let waits = entries.as_ref().filter(|entries| !entries.waiting().is_empty())?;
        Some(waits.all.iter().flat_map(encode).collect())
    }

    /// Writes what waits for room; whether something did.
    pub(crate) fn write_waiting(&self) -> io::Result<bool> {
        match self.entries.lock().as_mut().filter(|entries| !entries.waiting().is_empty()) {
            Some(entries) => entries.write(self).map(|()| true),
            None => Ok(false),
        }
    }

    /// Makes the file, which otherwise the first entry does.
    pub(crate) fn create(&self) -> io::Result<()> {
        self.file.create().map(|_| ())
    }

    /// Adds an entry unless it is there already: for replays of batches. It waits in memory where there is no room.
    pub(crate) fn complete(&self, aborted: AbortedTxn) -> io::Result<()> {
        self.with(|entries| {
            if entries.all.iter().any(|txn| txn.last_offset == aborted.last_offset) {
                return Ok(());
            }
            entries.all.push(aborted);
            entries.write_if_room(self)
        })
    }

    /// Transactions of which a reader of `[from, to)` may see records.
    pub(crate) fn overlapping(&self, from: i64, to: i64) -> io::Result<Vec<AbortedTxn>> {
        self.with(|entries| {
            let overlaps = |txn: &&AbortedTxn| txn.last_offset >= from && txn.first_offset < to;
            Ok(entries.all.iter().filter(overlaps).copied().collect())
        })
    }

    /// Forgets transactions that ended at `offset` or later.
    pub(crate) fn truncate_to(&self, offset: i64) -> io::Result<()> {
        self.with(|entries| {
            let kept = entries.all.iter().take_while(|txn| txn.last_offset < offset).count();
            if kept < entries.written {
                self.file.open()?.set_len((kept * ENTRY_BYTES) as u64)?;
                self.unsynced.store(true, Release);
                entries.written = kept;
            }
            entries.all.truncate(kept);
            Ok(())
        })
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        // before the sync: an entry that is written meanwhile may not be part of it
        if !self.unsynced.swap(false, AcqRel) {
            return Ok(());
        }
        match self.file.open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            file => {
                file.and_then(|file| file.sync_data()).inspect_err(|_| self.unsynced.store(true, Release))
            }
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Entries) -> io::Result<T>) -> io::Result<T> {
        let mut entries = waiting::lock(&self.entries)?;
        let loaded = match entries.take() {
            Some(loaded) => loaded,
            None => Entries::as_written(self.load()?),
        };
        work(entries.insert(loaded))
    }

    /// The entries of the file up to the first that cannot be one; none when there is no file.
    fn load(&self) -> io::Result<Vec<AbortedTxn>> {
        let file = match self.file.open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or_default()];
        let read = read_up_to_at(&*file, &mut bytes, 0)?;
        let (entries, _) = bytes.get(..read).unwrap_or_default().as_chunks::<ENTRY_BYTES>();
        Ok(entries.iter().map_while(decode).collect())
    }
}

fn encode(aborted: &AbortedTxn) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES);
    bytes.extend_from_slice(&0i16.to_be_bytes());
    for field in [aborted.producer_id, aborted.first_offset, aborted.last_offset, aborted.last_stable_offset]
    {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<AbortedTxn> {
    let (version, fields) = entry.split_first_chunk::<2>()?;
    let (fields, _) = fields.as_chunks::<8>();
    let [producer_id, first_offset, last_offset, last_stable_offset] = *fields else { return None };
    let txn = AbortedTxn {
        producer_id: i64::from_be_bytes(producer_id),
        first_offset: i64::from_be_bytes(first_offset),
        last_offset: i64::from_be_bytes(last_offset),
        last_stable_offset: i64::from_be_bytes(last_stable_offset),
    };
    // a marker comes after its records; zeros, which a machine that died may leave, are none
    (i16::from_be_bytes(*version) == 0 && txn.first_offset < txn.last_offset).then_some(txn)
}
