//! The answers of a connection, in the order of its requests, and how they are written.

use crate::cold::{ColdReads, PIECE_BYTES, Scan, Sent};
use fastlog_broker::{ByteBudget, BytePermit, FileRange, Response, Segment};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What was in memory is believed to be for so long while a socket is full: a reader that keeps up is not looked at again
/// each time (that took an eighth of the rate of fetches), and one that does not may have left it.
const WARM_FOR: Duration = Duration::from_millis(10);

/// Slices per system call; more gains nothing measurable.
const SLICES_MAX: usize = 64;
/// One connection's share of a turn of its I/O thread.
pub(crate) const TURN_BYTES: usize = 4 << 20;
/// A file range without a descriptor (file system in memory) is copied in pieces of this size.
const COPY_BYTES: usize = 64 << 10;

/// Answers of a connection are charged to the budget when they hold as much memory as this together.
const CHARGED_FROM_BYTES: usize = 64 << 10;

/// How far a write came.
#[derive(Debug)]
pub(crate) enum Written {
    /// All answers that are there are written.
    All,
    /// The socket takes no more now.
    Blocked,
    /// The turn is used up.
    TurnOver,
    /// This part of a file comes next and is not in memory: see [`WriteQueue::sent`].
    Cold(FileRange, Option<Scan>),
    /// The connection must be closed, for this reason; None is an ordinary end.
    Close(Option<String>),
}

enum Slot {
    /// The answer is not there yet.
    Pending,
    /// There is none.
    Empty,
    Ready(Outgoing),
    /// The connection ends here.
    Close(String),
}

/// An answer on its way out.
struct Outgoing {
    prefix: [u8; 4],
    segments: VecDeque<Segment>,
    /// Bytes of prefix and first segment that are written.
    prefix_written: usize,
    segment_written: usize,
    memory_bytes: usize,
}

/// Slots for answers, the first to leave at the front.
pub(crate) struct WriteQueue {
    slots: VecDeque<Slot>,
    /// Number of the request whose answer is at the front.
    front_sequence: u64,
    memory_bytes: usize,
    permit: BytePermit,
    /// Bytes written since the connection began.
    written_bytes: u64,
    /// So much of the file range at the front is known to be in memory.
    warm_bytes: usize,
    /// When the socket took no more.
    blocked_at: Option<Instant>,
    /// What a disk's thread reads and sends.
    scan: Option<Scan>,
    /// No slot is added any more.
    closed: bool,
}

impl WriteQueue {
    pub(crate) fn new(budget: &Arc<ByteBudget>) -> Self {
        Self {
            slots: VecDeque::new(),
            front_sequence: 0,
            memory_bytes: 0,
            permit: budget.charge(0),
            written_bytes: 0,
            warm_bytes: 0,
            blocked_at: None,
            scan: None,
            closed: false,
        }
    }

    /// Number of requests not wholly answered.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    /// Whether the connection will be closed at a known place.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Bytes of answers in memory, file ranges not counted.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether the answers hold so much memory that it counts.
    pub(crate) fn is_large(&self) -> bool {
        self.memory_bytes >= CHARGED_FROM_BYTES
    }

    fn set_memory_bytes(&mut self, bytes: usize) {
        self.memory_bytes = bytes;
        self.permit.set(if self.is_large() { bytes } else { 0 });
    }

    /// Bytes written since the connection began.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Whether there is something to write now.
    pub(crate) fn has_output(&self) -> bool {
        !matches!(self.slots.front(), None | Some(Slot::Pending))
    }

    /// Adds a slot for the next request and tells its sequence number.
    pub(crate) fn reserve(&mut self) -> u64 {
        self.slots.push_back(Slot::Pending);
        self.front_sequence + self.slots.len() as u64 - 1
    }

    /// Puts the answer in its slot; one for a slot that is gone is dropped.
    pub(crate) fn answer(&mut self, sequence: u64, response: Response) {
        match i32::try_from(response.size_bytes()) {
            Ok(length) => {
                let outgoing = Outgoing::new(length, response);
                self.set_memory_bytes(self.memory_bytes + outgoing.memory_bytes);
                self.put(sequence, Slot::Ready(outgoing));
            }
            Err(_) => self.close_at(sequence, "the answer is larger than a frame can be".to_owned()),
        }
    }

    /// Says that the request has no answer.
    pub(crate) fn skip(&mut self, sequence: u64) {
        self.put(sequence, Slot::Empty);
    }

    /// Closes the connection when all answers before this one are written.
    pub(crate) fn close_at(&mut self, sequence: u64, reason: String) {
        self.closed = true;
        self.put(sequence, Slot::Close(reason));
    }

    fn put(&mut self, sequence: u64, slot: Slot) {
        let place = sequence.checked_sub(self.front_sequence).and_then(|index| usize::try_from(index).ok());
        if let Some(waiting @ Slot::Pending) = place.and_then(|index| self.slots.get_mut(index)) {
            *waiting = slot;
        }
    }

    /// Forgets what is kept for a reader that goes on at once.
    pub(crate) fn release(&mut self) {
        self.scan = None;
    }

    /// Writes what is ready. `reader` is the number under which `cold` knows the connection.
    pub(crate) fn write(&mut self, socket: BorrowedFd<'_>, cold: &ColdReads, reader: u64) -> Written {
        let mut turn = TURN_BYTES;
        if self.blocked_at.take().is_some_and(|at| at.elapsed() > WARM_FOR) {
            self.warm_bytes = 0;
        }
        loop {
            if let Some(end) = self.settle_front() {
                return end;
            }
            if turn == 0 {
                return Written::TurnOver;
            }
            let next = self.front_range().map(|(range, written)| rest_of(range, written));
            let sent = match &next {
                Some(part) => {
                    if self.warm_bytes == 0 {
                        let piece = FileRange { length: part.length.min(PIECE_BYTES), ..part.clone() };
                        if !self.is_for_this_thread(&piece) {
                            return Written::Cold(piece, self.scan.take());
                        }
                        cold.note_reader(reader, &piece);
                        self.warm_bytes = piece.length;
                    }
                    send_range(socket, part, turn.min(self.warm_bytes))
                }
                None => self.send_slices(socket),
            };
            match sent {
                Ok(count) => {
                    if next.is_some() {
                        self.warm_bytes = self.warm_bytes.saturating_sub(count);
                    }
                    turn = turn.saturating_sub(count);
                    self.written_bytes += count as u64;
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked_at = Some(Instant::now());
                    return Written::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return failed(&error),
            }
        }
    }

    /// Whether the piece is in memory, and not because a disk's thread reads on there for this connection.
    fn is_for_this_thread(&mut self, piece: &FileRange) -> bool {
        let is_scanned = self.scan.as_mut().is_some_and(|scan| scan.go_on(piece));
        let is_ours = !is_scanned && is_in_memory(piece);
        if is_ours {
            self.scan = None;
        }
        is_ours
    }

    /// Notes what became of the part told by [`Written::Cold`], and tells how to go on: `All` where the socket takes more,
    /// or as [`WriteQueue::write`] does.
    pub(crate) fn sent(&mut self, sent: Sent) -> Written {
        self.written_bytes += sent.bytes as u64;
        self.advance(sent.bytes);
        self.scan = sent.scan;
        match sent.end {
            Ok(()) => Written::All,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Blocked,
            Err(error) => failed(&error),
        }
    }

    /// Drops finished slots; what to return when there is nothing to send.
    fn settle_front(&mut self) -> Option<Written> {
        loop {
            match self.slots.front() {
                None | Some(Slot::Pending) => return Some(Written::All),
                Some(Slot::Close(reason)) => return Some(Written::Close(Some(reason.clone()))),
                Some(Slot::Ready(outgoing)) if !outgoing.is_done() => return None,
                Some(Slot::Ready(outgoing)) => {
                    self.set_memory_bytes(self.memory_bytes - outgoing.memory_bytes);
                }
                Some(Slot::Empty) => {}
            }
            self.slots.pop_front();
            self.front_sequence += 1;
        }
    }

    /// The file range to send next, when the next bytes lie in a file.
    fn front_range(&self) -> Option<(&FileRange, usize)> {
        match self.slots.front() {
            Some(Slot::Ready(outgoing)) => outgoing.next_range(),
            _ => None,
        }
    }

    fn send_slices(&self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut slices = Vec::with_capacity(SLICES_MAX.min(3 * self.slots.len()));
        let mut range_follows = false;
        for slot in &self.slots {
            let Slot::Ready(outgoing) = slot else { break };
            range_follows = !outgoing.push_slices(&mut slices);
            if range_follows || slices.len() >= SLICES_MAX {
                break;
            }
        }
        // one packet for header and first records where they fit
        let more = if range_follows { SendFlags::MORE } else { SendFlags::empty() };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT | more;
        Ok(sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    /// Marks `count` bytes as written, from the front on.
    fn advance(&mut self, count: usize) {
        let mut count = count;
        for slot in &mut self.slots {
            let Slot::Ready(outgoing) = slot else { return };
            count = outgoing.advance(count);
            if count == 0 {
                return;
            }
        }
    }
}

impl Outgoing {
    fn new(length: i32, response: Response) -> Self {
        let segments: VecDeque<_> = response.into_segments().into();
        let memory_bytes = segments.iter().map(|segment| match segment {
            Segment::Bytes(bytes) => bytes.len(),
            Segment::File(_) => 0,
        });
        Self {
            prefix: length.to_be_bytes(),
            memory_bytes: memory_bytes.sum(),
            segments,
            prefix_written: 0,
            segment_written: 0,
        }
    }

    fn is_done(&self) -> bool {
        self.prefix_written == self.prefix.len() && self.segments.is_empty()
    }

    fn next_range(&self) -> Option<(&FileRange, usize)> {
        match self.segments.front() {
            Some(Segment::File(range)) if self.prefix_written == self.prefix.len() => {
                Some((range, self.segment_written))
            }
            _ => None,
        }
    }

    /// Adds the bytes up to the first file range; true when there is none.
    fn push_slices<'a>(&'a self, slices: &mut Vec<IoSlice<'a>>) -> bool {
        if let Some(prefix @ [_, ..]) = self.prefix.get(self.prefix_written..) {
            slices.push(IoSlice::new(prefix));
        }
        let mut skip = self.segment_written;
        for segment in &self.segments {
            let Segment::Bytes(bytes) = segment else { return false };
            slices.push(IoSlice::new(bytes.get(skip..).unwrap_or_default()));
            skip = 0;
        }
        true
    }

    /// Marks up to `count` bytes as written; what remains of the count is for the next answer.
    fn advance(&mut self, count: usize) -> usize {
        let of_prefix = count.min(self.prefix.len() - self.prefix_written);
        self.prefix_written += of_prefix;
        let mut count = count - of_prefix;
        while let Some(segment) = self.segments.front() {
            let rest = segment.size_bytes() - self.segment_written;
            if count < rest {
                self.segment_written += count;
                return 0;
            }
            count -= rest;
            self.segment_written = 0;
            self.segments.pop_front();
        }
        count
    }
}

/// What is left of a range of which so much is written.
fn rest_of(range: &FileRange, written: usize) -> FileRange {
    FileRange {
        file: range.file.clone(),
        position: range.position + written as u64,
        length: range.length - written,
    }
}

/// Whether all of a range is in the page cache.
fn is_in_memory(range: &FileRange) -> bool {
    let Some(file) = range.file.descriptor() else { return true };
    fastlog_sys::page_cache::is_in_memory(file, range.position, range.length as u64)
}

/// Sends a part of a range; an error when the file has become shorter than it.
fn send_range(socket: BorrowedFd<'_>, range: &FileRange, limit: usize) -> io::Result<usize> {
    let mut position = range.position;
    let count = range.length.min(limit);
    let sent = match range.file.descriptor() {
        Some(file) => {
            // this answer has been begun and can only break off; the next one leaves these bytes out
            let note = |error: &io::Error| range.file.note_failed_read(range.position, error);
            fastlog_sys::file::send_file(socket, file, &mut position, count).inspect_err(note)?
        }
        None => send_copy(socket, range, position, count)?,
    };
    if sent == 0 {
        return Err(ends_early(position));
    }
    Ok(sent)
}

/// The error of a file that has become shorter than what was promised of it.
pub(crate) fn ends_early(position: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the log file ends at {position}, inside the records of an answer"),
    )
}

fn send_copy(socket: BorrowedFd<'_>, range: &FileRange, position: u64, count: usize) -> io::Result<usize> {
    let mut copy = vec![0u8; count.min(COPY_BYTES)];
    let got = range.file.read_at(&mut copy, position)?;
    if got == 0 {
        return Ok(0);
    }
    let slices = [IoSlice::new(copy.get(..got).unwrap_or_default())];
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(socket, &slices, &mut SendAncillaryBuffer::default(), flags)?)
}

fn failed(error: &io::Error) -> Written {
    Written::Close((!is_disconnect(error)).then(|| error.to_string()))
}

/// Whether the error only says that the peer is gone.
fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw_os_error),
        Some(Errno::PIPE | Errno::CONNRESET | Errno::CONNABORTED | Errno::NOTCONN | Errno::TIMEDOUT)
    )
}
