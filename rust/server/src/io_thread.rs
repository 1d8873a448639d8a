//! An I/O thread: an epoll set, the connections in it, and its mailbox.

use crate::cold::{Cold, ColdReads, Scan};
use crate::config::ServerConfig;
use crate::connection::{Connection, Surroundings, Turn};
use crate::handler::Handler;
use crate::mailbox::{Accepted, Mail, Mailbox};
use crate::read_buffer::SCRATCH_BYTES;
use fastlog_broker::{FileRange, Level};
use fastlog_sys::panics::vital;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const WAKE: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 256;
/// How soon a connection that was refused memory for its request tries again.
const STARVED_RETRY: Duration = Duration::from_millis(10);
/// Deadlines are looked at this often at most; shorter ones make it more often.
const TICK_MAX: Duration = Duration::from_secs(1);
const TICK_MIN: Duration = Duration::from_millis(10);

/// A running I/O thread.
pub(crate) struct IoThread {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) thread: JoinHandle<()>,
}

impl IoThread {
    /// Starts the thread.
    pub(crate) fn start(
        number: usize,
        handler: Arc<dyn Handler>,
        config: Arc<ServerConfig>,
        cold: Arc<ColdReads>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mailbox = Mailbox::new(Waker::new(poll.registry(), WAKE)?);
        let tick = (config.idle.min(config.frame_deadline) / 4).clamp(TICK_MIN, TICK_MAX);
        let state = State {
            poll,
            mailbox: mailbox.clone(),
            handler,
            config,
            cold,
            connections: Slab::new(),
            again: Vec::new(),
            starved: Vec::new(),
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            tick,
            next_tick: Instant::now() + tick,
            draining_until: None,
        };
        let thread = std::thread::Builder::new()
            .name(format!("fastlog-io-{number}"))
            .spawn(vital(move || state.run()))?;
        Ok(Self { mailbox, thread })
    }
}

struct State {
    poll: Poll,
    mailbox: Arc<Mailbox>,
    handler: Arc<dyn Handler>,
    config: Arc<ServerConfig>,
    cold: Arc<ColdReads>,
    connections: Slab<Connection>,
    /// Connections with more to do.
    again: Vec<usize>,
    /// Connections that wait for memory.
    starved: Vec<usize>,
    scratch: Vec<u8>,
    tick: Duration,
    next_tick: Instant,
    draining_until: Option<Instant>,
}

impl State {
    fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut mail = Vec::new();
        loop {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                self.handler.events().push(
                    Level::Error,
                    "an I/O thread cannot poll its sockets and ends",
                    vec![("error", error.to_string())],
                );
                return;
            }
            let now = Instant::now();
            for event in &events {
                if event.token() != WAKE {
                    self.note_event(event, now);
                }
            }
            mail = self.read_mail(mail, now);
            self.run_again(now);
            if now >= self.next_tick {
                self.check_deadlines(now);
            }
            if self.is_finished(now) {
                return;
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() {
            return Some(Duration::ZERO);
        }
        if !self.starved.is_empty() {
            return Some(STARVED_RETRY);
        }
        // without connections there is no deadline to look at
        let idle = self.connections.is_empty() && self.draining_until.is_none();
        (!idle).then(|| self.next_tick.saturating_duration_since(Instant::now()))
    }

    fn note_event(&mut self, event: &mio::event::Event, now: Instant) {
        let key = event.token().0;
        let Some(connection) = self.connections.get_mut(key) else { return };
        if event.is_error() || event.is_write_closed() {
            return self.close(key, None);
        }
        connection.note(event);
        self.run_connection(key, now);
    }

    /// Handles all messages; gives the emptied list back for the next time.
    fn read_mail(&mut self, empty: Vec<Mail>, now: Instant) -> Vec<Mail> {
        let mut mail = self.mailbox.take(empty);
        for message in mail.drain(..) {
            match message {
                Mail::Accepted(accepted) => self.add(*accepted, now),
                Mail::Sent { key, connection_id, sent } => {
                    if let Some(connection) = self.connections.get_mut(key)
                        && connection.connection_id() == connection_id
                    {
                        match connection.take_back(sent, now) {
                            Ok(()) => self.run_connection(key, now),
                            Err(reason) => self.close(key, reason),
                        }
                    }
                }
                Mail::Shutdown { deadline } => {
                    self.draining_until = Some(deadline);
                    self.again.extend(self.connections.iter().map(|(key, _)| key));
                }
                Mail::Answered { address, answer } => {
                    if let Some(connection) = self.connections.get_mut(address.key)
                        && connection.connection_id() == address.connection_id
                    {
                        connection.take_answer(address.sequence, answer);
                        self.run_connection(address.key, now);
                    }
                }
            }
        }
        mail
    }

    fn add(&mut self, accepted: Accepted, now: Instant) {
        if self.draining_until.is_some() {
            return;
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let mut connection = Connection::new(accepted, key, &*self.handler, now);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let descriptor = connection.stream.as_raw_fd();
        match self.poll.registry().register(&mut SourceFd(&descriptor), Token(key), interest) {
            Ok(()) => {
                entry.insert(connection);
                if self.connections.len() == 1 {
                    self.next_tick = now + self.tick;
                }
                self.run_connection(key, now);
            }
            Err(error) => {
                connection.close(Some(format!("epoll does not take it: {error}")), &*self.handler);
            }
        }
    }

    fn run_again(&mut self, now: Instant) {
        let again = std::mem::take(&mut self.again);
        let starved = std::mem::take(&mut self.starved);
        for key in again.into_iter().chain(starved) {
            self.run_connection(key, now);
        }
    }

    fn run_connection(&mut self, key: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let mut around = Surroundings {
            handler: &*self.handler,
            config: &self.config,
            mailbox: &self.mailbox,
            cold: &self.cold,
            scratch: &mut self.scratch,
            now,
        };
        match connection.run(&mut around, self.draining_until.is_some()) {
            Turn::Wait => {}
            Turn::Again => self.again.push(key),
            Turn::Cold(range, scan) => self.lend(key, range, scan),
            Turn::Starved => self.starved.push(key),
            Turn::Close(reason) => self.close(key, reason),
        }
    }

    /// Lends the socket to a thread of the disk that has what is to be sent.
    fn lend(&mut self, key: usize, range: FileRange, scan: Option<Scan>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let asked = self.cold.ask(Cold {
            range,
            stream: connection.stream.clone(),
            scan,
            mailbox: self.mailbox.clone(),
            key,
            connection_id: connection.connection_id(),
        });
        match asked {
            Ok(lent) => connection.lend(lent),
            Err(error) => {
                self.close(key, Some(format!("what it asked for cannot be read from the disk: {error}")));
            }
        }
    }

    fn close(&mut self, key: usize, reason: Option<String>) {
        if let Some(mut connection) = self.connections.try_remove(key) {
            // a disk's thread may have the socket, which then stays open, and would be told of under another's key
            let descriptor = connection.stream.as_raw_fd();
            let _unknown = self.poll.registry().deregister(&mut SourceFd(&descriptor));
            connection.close(reason, &*self.handler);
        }
    }

    fn check_deadlines(&mut self, now: Instant) {
        self.next_tick = now + self.tick;
        let config = &self.config;
        let memory_is_short = self.handler.budget().is_exhausted();
        let late: Vec<_> = self
            .connections
            .iter_mut()
            .filter_map(|(key, it)| {
                it.check_deadlines(config, memory_is_short, now).map(|reason| (key, reason))
            })
            .collect();
        for (key, reason) in late {
            self.close(key, Some(reason));
        }
    }

    fn is_finished(&mut self, now: Instant) -> bool {
        match self.draining_until {
            None => false,
            Some(deadline) => {
                if now >= deadline {
                    let left: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
                    for key in left {
                        self.close(key, Some("the broker stops and the answer did not come".to_owned()));
                    }
                }
                self.connections.is_empty()
            }
        }
    }
}
