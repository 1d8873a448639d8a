//! One connection: reads frames, hands them in, queues answers, writes them.

use crate::cold::{ColdReads, Lent, Scan, Sent};
use crate::config::ServerConfig;
use crate::handler::Handler;
use crate::limits::ConnectionPermit;
use crate::mailbox::{Accepted, ConnectionReply, Mailbox, ReplyAddress};
use crate::read_buffer::{
    Next, Read, ReadBuffer, SCRATCH_BYTES, next_frame, peek_into, read_again, read_into,
};
use crate::write_queue::{WriteQueue, Written};
use fastlog_broker::{Answer, FileRange, Level, Outcome, Reply, RequestContext};
use mio::net::TcpStream;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Reads of one turn of the I/O thread; then other connections have theirs.
const TURN_READS: usize = 8;
/// The slowest sender that a large frame's deadline is stretched for.
const FRAME_BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// What the connection needs from its I/O thread.
pub(crate) struct Surroundings<'a> {
    pub(crate) handler: &'a dyn Handler,
    pub(crate) config: &'a ServerConfig,
    pub(crate) mailbox: &'a Arc<Mailbox>,
    pub(crate) cold: &'a ColdReads,
    /// Filled and emptied within one read.
    pub(crate) scratch: &'a mut Vec<u8>,
    pub(crate) now: Instant,
}

/// What the I/O thread is to do with a connection after its turn.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Wait for an event or an answer.
    Wait,
    /// Give it another turn after the others.
    Again,
    /// Have a disk's thread send this before anything else is sent.
    Cold(FileRange, Option<Scan>),
    /// Try again soon: too many request bytes are held in memory.
    Starved,
    /// Close it; the text, if any, is for the log line.
    Close(Option<String>),
}

pub(crate) struct Connection {
    pub(crate) stream: Arc<TcpStream>,
    context: RequestContext,
    key: usize,
    input: ReadBuffer,
    output: WriteQueue,
    readable: bool,
    writable: bool,
    /// The peer sends no more, and what it sent is read.
    ended: bool,
    /// The peer sends no more; there may be something left to read.
    half_closed: bool,
    /// No frame is handed in before this one is answered.
    exclusive: Option<u64>,
    /// A disk's thread writes to the socket, and nobody else does.
    lent: Option<Lent>,
    last_progress: Instant,
    /// When the first byte of a frame that is half there was seen.
    frame_began: Option<Instant>,
    open: Arc<AtomicBool>,
    _permit: ConnectionPermit,
}

impl Connection {
    pub(crate) fn new(accepted: Accepted, key: usize, handler: &dyn Handler, now: Instant) -> Self {
        let context = RequestContext {
            listener: accepted.listener,
            principal: ANONYMOUS.into(),
            client_address: Some(accepted.client_address),
            local_address: Some(accepted.local_address),
            connection_id: accepted.connection_id,
        };
        Self {
            stream: Arc::new(accepted.stream),
            context,
            key,
            input: ReadBuffer::new(handler.budget()),
            output: WriteQueue::new(handler.budget()),
            // an edge may have passed before the registration; the first read or write finds out
            readable: true,
            writable: true,
            ended: false,
            half_closed: false,
            exclusive: None,
            lent: None,
            last_progress: now,
            frame_began: None,
            open: Arc::new(AtomicBool::new(true)),
            _permit: accepted.permit,
        }
    }

    pub(crate) fn connection_id(&self) -> u64 {
        self.context.connection_id
    }

    /// Notes what epoll said.
    pub(crate) fn note(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed();
        self.writable |= event.is_writable();
        self.half_closed |= event.is_read_closed();
    }

    /// As if epoll said that it can be read and written.
    #[cfg(feature = "fuzzing")]
    pub(crate) fn set_ready(&mut self) {
        (self.readable, self.writable) = (true, true);
    }

    /// A disk's thread is to write to the socket.
    pub(crate) fn lend(&mut self, lent: Lent) {
        self.lent = Some(lent);
    }

    /// A disk's thread has sent what it was to send; why the connection ends now, if it does.
    pub(crate) fn take_back(&mut self, sent: Sent, now: Instant) -> Result<(), Option<String>> {
        self.lent = None;
        self.last_progress = now;
        match self.output.sent(sent) {
            Written::Close(reason) => return Err(reason),
            // it may have become writable again meanwhile, and that was noted
            Written::Blocked => {}
            _ => self.writable = true,
        }
        Ok(())
    }

    /// Puts a delayed answer in its place.
    pub(crate) fn take_answer(&mut self, sequence: u64, answer: Answer) {
        match answer {
            Answer::Response(response) => self.output.answer(sequence, response),
            Answer::Nothing => self.output.skip(sequence),
            Answer::Close(reason) => self.output.close_at(sequence, reason),
        }
        if self.exclusive == Some(sequence) {
            self.exclusive = None;
        }
    }

    /// Reads, hands in and writes until there is nothing to do or the turn is over. With `draining` no request
    /// is handed in any more.
    pub(crate) fn run(&mut self, around: &mut Surroundings<'_>, draining: bool) -> Turn {
        for _ in 0..TURN_READS {
            if !draining {
                self.dispatch_kept(around);
            }
            match self.write(around) {
                Written::All | Written::Blocked => {}
                Written::TurnOver => return Turn::Again,
                Written::Cold(range, scan) => {
                    // whatever epoll says from here on is news
                    self.writable = false;
                    return Turn::Cold(range, scan);
                }
                Written::Close(reason) => return Turn::Close(reason),
            }
            if draining && self.output.in_flight() == 0 {
                return Turn::Close(None);
            }
            let may_dispatch = !draining && self.may_dispatch(around.config);
            // a peer that has ended its side gets what is ready, but is not waited for
            let is_over = self.ended || (self.half_closed && !may_dispatch);
            if is_over && !self.output.has_output() {
                return Turn::Close(None);
            }
            if !may_dispatch {
                return Turn::Wait;
            }
            if self.has_whole_frame(around.config) {
                continue;
            }
            if self.ended || !self.readable {
                return Turn::Wait;
            }
            // of a peer that sends no more only the rest comes, and then its end, which frees what it holds
            if !around.handler.budget().is_exhausted() || self.half_closed {
                self.read(around);
            } else if !self.read_whole(around) {
                return Turn::Starved;
            }
        }
        Turn::Again
    }

    /// Whether another request may be handed in now.
    fn may_dispatch(&self, config: &ServerConfig) -> bool {
        self.exclusive.is_none()
            && !self.output.is_closed()
            && self.output.in_flight() < config.in_flight_max
            && self.output.memory_bytes() < config.queued_answer_bytes_max
    }

    fn has_whole_frame(&self, config: &ServerConfig) -> bool {
        !matches!(next_frame(self.input.unread(), config.request_bytes_max), Next::Partial)
    }

    fn write(&mut self, around: &Surroundings<'_>) -> Written {
        if !self.output.has_output() || !self.writable || self.lent.is_some() {
            return Written::All;
        }
        let before = self.output.written_bytes();
        let written = self.output.write(self.stream.as_fd(), around.cold, self.context.connection_id);
        if matches!(written, Written::Blocked) {
            self.writable = false;
        }
        if before != self.output.written_bytes() {
            self.last_progress = around.now;
        }
        written
    }

    /// Reads once and hands in what is whole, without a copy where it came in one piece.
    fn read(&mut self, around: &mut Surroundings<'_>) {
        let frame_bytes_max = around.config.request_bytes_max;
        let direct = self.input.is_in_use();
        let read = if direct {
            self.input.read(&*self.stream, frame_bytes_max)
        } else {
            around.scratch.clear();
            around.scratch.reserve_exact(SCRATCH_BYTES);
            read_into(&*self.stream, around.scratch)
        };
        match read {
            Read::Blocked => self.readable = false,
            Read::End => self.ended = true,
            Read::Some(_) => {
                self.last_progress = around.now;
                if !direct {
                    let scratch = std::mem::take(around.scratch);
                    let used = self.dispatch(&scratch, around);
                    let rest = scratch.get(used..).unwrap_or_default();
                    if !rest.is_empty() {
                        self.input.keep(rest, frame_bytes_max);
                    }
                    *around.scratch = scratch;
                    self.note_frame_begin(around);
                }
            }
        }
    }

    /// While memory is short: hands in the frames that lie whole in the socket, since they need none. False when
    /// there is a frame that is not, or is too large for that.
    fn read_whole(&mut self, around: &mut Surroundings<'_>) -> bool {
        self.input.release();
        if !self.input.is_empty() {
            return false;
        }
        around.scratch.clear();
        around.scratch.reserve_exact(SCRATCH_BYTES);
        match peek_into(&*self.stream, around.scratch) {
            Read::Blocked => self.readable = false,
            Read::End => self.ended = true,
            Read::Some(_) => {
                let mut scratch = std::mem::take(around.scratch);
                let used = self.dispatch(&scratch, around);
                let read = read_again(&*self.stream, scratch.get_mut(..used).unwrap_or_default());
                self.ended |= read == Read::End;
                *around.scratch = scratch;
                if used == 0 {
                    return false;
                }
                self.last_progress = around.now;
            }
        }
        true
    }

    /// Hands in the whole frames among the bytes kept.
    fn dispatch_kept(&mut self, around: &mut Surroundings<'_>) {
        if !self.input.is_empty() {
            let (bytes, begin) = self.input.lend();
            let used = self.dispatch(bytes.get(begin..).unwrap_or_default(), around);
            self.input.give_back(bytes, used);
        }
        self.note_frame_begin(around);
    }

    /// A frame's clock runs while it is half there and we are willing to read.
    fn note_frame_begin(&mut self, around: &Surroundings<'_>) {
        let half_there = !self.input.is_empty() && self.may_dispatch(around.config);
        self.frame_began = half_there.then(|| self.frame_began.unwrap_or(around.now));
    }

    /// Hands in frames from the front of `bytes` while that is allowed; tells how many bytes are used up.
    fn dispatch(&mut self, bytes: &[u8], around: &Surroundings<'_>) -> usize {
        let mut used = 0;
        while self.may_dispatch(around.config) {
            let rest = bytes.get(used..).unwrap_or_default();
            match next_frame(rest, around.config.request_bytes_max) {
                Next::Partial => break,
                Next::Frame(frame) => {
                    used += frame.len() + 4;
                    self.frame_began = None;
                    self.hand_in(frame, around);
                }
                Next::Bad(claimed) => {
                    let sequence = self.output.reserve();
                    let limit = around.config.request_bytes_max;
                    let reason = format!(
                        "a frame claims {claimed} bytes; socket.request.max.bytes allows 0 to {limit}"
                    );
                    self.output.close_at(sequence, reason);
                    return bytes.len();
                }
            }
        }
        used
    }

    fn hand_in(&mut self, frame: &[u8], around: &Surroundings<'_>) {
        let sequence = self.output.reserve();
        let address = ReplyAddress { key: self.key, connection_id: self.context.connection_id, sequence };
        let (mailbox, open) = (around.mailbox, &self.open);
        let mut reply = || {
            Reply::new(Box::new(ConnectionReply { mailbox: mailbox.clone(), address, open: open.clone() }))
        };
        let handled = AssertUnwindSafe(|| around.handler.handle(&self.context, frame, &mut reply));
        // a bug in one request's code must not take a whole I/O thread and its connections with it
        let outcome = catch_unwind(handled)
            .unwrap_or_else(|_| Outcome::Close("the broker failed inside this request".to_owned()));
        match outcome {
            Outcome::Now(response) => self.output.answer(sequence, response),
            Outcome::NoResponse => self.output.skip(sequence),
            Outcome::Close(reason) => self.output.close_at(sequence, reason),
            Outcome::Later { exclusive } => {
                if exclusive {
                    self.exclusive = Some(sequence);
                }
            }
        }
    }

    /// Why the connection has to be closed by the clock, if it has to; also gives unused memory back.
    pub(crate) fn check_deadlines(
        &mut self,
        config: &ServerConfig,
        memory_is_short: bool,
        now: Instant,
    ) -> Option<String> {
        let quiet_for = now.duration_since(self.last_progress);
        if quiet_for > Duration::from_secs(1) {
            self.input.release();
            self.output.release();
        }
        if memory_is_short && self.output.is_large() && quiet_for > config.frame_deadline {
            return Some("large answers were not read while memory is short".to_owned());
        }
        if let Some(began) = self.frame_began {
            let arrived = self.input.unread().len() as u64;
            // while memory is short nobody is waited for longer than needs be
            let stretch = if memory_is_short { 0 } else { arrived / FRAME_BYTES_PER_SECOND_MIN };
            let stretch = Duration::from_secs(stretch);
            if now.duration_since(began) > config.frame_deadline + stretch {
                return Some(format!("a frame was not whole after {:?}", now.duration_since(began)));
            }
        }
        let waits_for_us = self.output.in_flight() > 0 && !self.output.has_output();
        if !waits_for_us && quiet_for > config.idle {
            return Some("no traffic for connections.max.idle.ms".to_owned());
        }
        None
    }

    /// Ends the connection; delayed answers are dropped from now on.
    pub(crate) fn close(&mut self, reason: Option<String>, handler: &dyn Handler) {
        self.open.store(false, Ordering::Relaxed);
        if self.lent.take().is_some_and(|lent| !lent.take_back()) {
            // a disk that hangs keeps the socket open; the peer is not to wait for that
            let _gone = self.stream.shutdown(Shutdown::Both);
        }
        if let Some(reason) = reason {
            let fields = vec![
                ("listener", self.context.listener.name.clone()),
                ("client", self.context.client()),
                ("reason", reason),
            ];
            handler.events().push(Level::Warning, "connection closed", fields);
        }
    }
}

/// Kafka's principal of a client that did not authenticate.
const ANONYMOUS: &str = "User:ANONYMOUS";
