//! Readers of what is not in memory: a disk's thread reads it, hands the bytes to their sockets, and has the page cache forget
//! what all of them have passed. An I/O thread has nothing to do with such bytes, so a consumer far behind neither stalls
//! those whom that thread serves, nor pushes out what they wrote.
//!
//! Each connection has one piece at a time in the queue of its disk, so readers take turns. A socket that is full is waited
//! for a moment only; when it takes more, it is its reader's turn again.
//!
//! How far the disk works ahead of a reader is the kernel's to say (`read_ahead_kb`), which goes by what is read through an
//! open file: each reader has one of its own. To ask for it by posix_fadvise(2) took four times the processor time, since
//! that fills the page cache with single pages (0.45 s/GB, 0.115 s/GB without, Linux 6.18).

mod behind;

use crate::mailbox::{Mail, Mailbox};
use crate::write_queue::ends_early;
use behind::{Behind, Brought};
use fastlog_broker::{DiskThreads, FileHandle, FileRange};
use mio::net::TcpStream;
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// So much is sent, and looked at, at once.
pub(crate) const PIECE_BYTES: usize = 1 << 20;

/// Of so much at once is decided who sends it. The kernel reads ahead up to twice `read_ahead_kb`, 8 MiB where that is very
/// large: what it has brought here for a reader must not pass for what was in memory anyway.
const STRETCH_BYTES: u64 = 32 << 20;

/// A socket that is full is waited for so long in all, with a piece that is ready for it. A reader that takes what comes makes
/// room within this, and to go to the I/O thread and back costs as much; one that does not holds up others no longer.
const SOCKET_PATIENCE: Duration = Duration::from_millis(1);

/// Which file a range lies in; does not keep it open.
#[derive(Clone, Debug)]
struct File(Weak<dyn FileHandle>);

impl File {
    fn of(range: &FileRange) -> Self {
        Self(Arc::downgrade(&range.file))
    }
}

impl PartialEq for File {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self.0.as_ptr(), other.0.as_ptr())
    }
}

/// A stretch of a file that was not in memory when a reader came to it.
#[derive(Debug)]
pub(crate) struct Scan {
    file: File,
    /// The same file, opened for this reader alone.
    own: OwnedFd,
    end: u64,
}

impl Scan {
    /// Whether the range begins in it.
    pub(crate) fn covers(&self, range: &FileRange) -> bool {
        range.position < self.end && self.file == File::of(range)
    }

    /// Goes on to the next stretch, if the range begins there and little of it is in memory.
    pub(crate) fn go_on(&mut self, range: &FileRange) -> bool {
        if self.file != File::of(range) || range.position < self.end {
            return self.covers(range);
        }
        let length = range.file.length().unwrap_or(0).saturating_sub(range.position).min(STRETCH_BYTES);
        let in_memory = fastlog_sys::page_cache::bytes_in_memory(&self.own, range.position, length);
        let is_cold = in_memory.is_some_and(|bytes| bytes < length / 8 * 7);
        if is_cold {
            self.end = range.position + length;
        }
        is_cold
    }
}

/// A part of a file that an I/O thread does not send, and whose socket it is for.
pub(crate) struct Cold {
    /// At most [`PIECE_BYTES`].
    pub(crate) range: FileRange,
    pub(crate) stream: Arc<TcpStream>,
    /// What the connection was told with the piece before.
    pub(crate) scan: Option<Scan>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) key: usize,
    pub(crate) connection_id: u64,
}

/// A socket that is lent to a disk's thread for a piece.
pub(crate) struct Lent(Arc<Mutex<Option<Cold>>>);

impl Lent {
    /// Lets go of socket and file as long as no thread is at it; false = one is. The queue of a disk that hangs does not keep
    /// them for clients that have gone.
    pub(crate) fn take_back(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

/// What became of it.
pub(crate) struct Sent {
    pub(crate) bytes: usize,
    /// Why it is not all; `WouldBlock` where the socket is full.
    pub(crate) end: io::Result<()>,
    pub(crate) scan: Option<Scan>,
}

/// What the readers of all connections share.
pub(crate) struct ColdReads {
    disks: Arc<DiskThreads>,
    behind: Mutex<Behind<File>>,
    /// There is something in `behind`.
    is_active: AtomicBool,
}

impl ColdReads {
    pub(crate) fn new(disks: Arc<DiskThreads>) -> Arc<Self> {
        Arc::new(Self { disks, behind: Mutex::new(Behind::new()), is_active: AtomicBool::new(false) })
    }

    /// Has the piece read and sent; the connection's mailbox is told. Never blocks on a disk. Fails where no thread can be
    /// started for it.
    pub(crate) fn ask(self: &Arc<Self>, cold: Cold) -> io::Result<Lent> {
        // one without a descriptor is in memory, and is not asked for
        let device = cold.range.file.descriptor().map_or(Ok(0), fastlog_sys::file::device)?;
        let piece = Arc::new(Mutex::new(Some(cold)));
        let (reads, waiting) = (self.clone(), piece.clone());
        let job = move || {
            let cold = waiting.lock().take();
            if let Some(cold) = cold {
                reads.serve(cold);
            }
        };
        self.disks.ask(device, Box::new(job))?;
        Ok(Lent(piece))
    }

    /// Notes where a reader is for whom an I/O thread sends: what it comes to is not dropped. Costs nothing as long as nobody
    /// reads what is not in memory.
    pub(crate) fn note_reader(&self, reader: u64, range: &FileRange) {
        if self.is_active.load(Ordering::Relaxed) {
            // not waited for: who holds it steps back behind I/O threads, and where a reader is is a hint
            if let Some(mut behind) = self.behind.try_lock() {
                behind.note_reader(reader, &File::of(range), range.position, Instant::now());
            }
        }
    }

    fn serve(&self, cold: Cold) {
        let Cold { range, stream, scan, mailbox, key, connection_id } = cold;
        let scan = scan_of(&range, scan);
        let (bytes, end) = match &scan {
            Ok(scan) => send(&stream, scan.own.as_fd(), &range),
            Err(error) => (0, Err(io::Error::new(error.kind(), error.to_string()))),
        };
        let was_cold = scan.as_ref().is_ok_and(|scan| scan.covers(&range));
        let file = File::of(&range);
        // others go on before this thread does what can wait
        mailbox.post(Mail::Sent { key, connection_id, sent: Sent { bytes, end, scan: scan.ok() } });
        if bytes > 0 && was_cold {
            self.is_active.store(true, Ordering::Relaxed);
            let part = Brought { file, position: range.position, length: bytes as u64 };
            self.forget_passed(connection_id, part);
        }
    }

    /// Notes what a reader has passed, and has the page cache forget what nobody is near any more.
    fn forget_passed(&self, reader: u64, part: Brought<File>) {
        let now = Instant::now();
        let passed = {
            let mut behind = self.behind.lock();
            behind.note_reader(reader, &part.file, part.position + part.length, now);
            behind.bring(part);
            behind.passed(now)
        };
        for Brought { file, position, length } in passed {
            // a file that nobody has open any more is forgotten by the kernel in its time
            if let Some(file) = file.0.upgrade()
                && let Some(descriptor) = file.descriptor()
            {
                let _hint = fastlog_sys::page_cache::drop_passed(descriptor, position, length);
            }
        }
    }
}

/// The scan that the range belongs to: the one before, or a new one.
fn scan_of(range: &FileRange, before: Option<Scan>) -> io::Result<Scan> {
    let file = File::of(range);
    let mut scan = match before.filter(|it| it.file == file) {
        Some(before) => before,
        None => Scan { own: reopen(range)?, file, end: range.position },
    };
    if !scan.go_on(range) {
        // the piece was not in memory, whatever of what follows is
        scan.end = range.position + range.length as u64;
    }
    Ok(scan)
}

fn reopen(range: &FileRange) -> io::Result<OwnedFd> {
    let descriptor = range.file.descriptor().ok_or(io::ErrorKind::Unsupported)?;
    // without a second one the first does too, for all its readers
    fastlog_sys::file::reopen(descriptor).or_else(|_| descriptor.try_clone_to_owned())
}

/// Sends a range; how much was sent, and why it is not more. Waits for the disk, and for the socket no longer than
/// `SOCKET_PATIENCE`.
fn send(stream: &TcpStream, file: BorrowedFd<'_>, range: &FileRange) -> (usize, io::Result<()>) {
    let mut sent = 0;
    let mut deadline = None;
    while sent < range.length {
        let mut position = range.position + sent as u64;
        match fastlog_sys::file::send_file(stream.as_fd(), file, &mut position, range.length - sent) {
            Ok(0) => return (sent, Err(ends_early(position))),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + SOCKET_PATIENCE);
                if !becomes_writable(stream, deadline) {
                    return (sent, Err(error));
                }
            }
            Err(error) => {
                // this answer has been begun and can only break off; the next one leaves these bytes out
                range.file.note_failed_read(range.position + sent as u64, &error);
                return (sent, Err(error));
            }
        }
    }
    (sent, Ok(()))
}

/// Waits until the socket takes more, or the time is over.
fn becomes_writable(stream: &TcpStream, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(left) = Timespec::try_from(left) else { return false };
    let mut sockets = [PollFd::new(stream, PollFlags::OUT)];
    // an interrupted wait is a short one
    poll(&mut sockets, Some(&left)).is_ok_and(|ready| ready > 0)
}
