//! The acceptor: takes connections from all listeners and deals them out to the I/O threads in turn.

use crate::handler::Handler;
use crate::limits::ConnectionLimits;
use crate::mailbox::{Accepted, Mail, Mailbox};
use fastlog_broker::{Level, Listener};
use fastlog_sys::panics::vital;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WAKE: Token = Token(usize::MAX);
/// How long to wait when the process has no descriptors left: the listener stays readable all the while.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(500);
/// Connections taken from one listener before the others have their turn.
const BURST_MAX: usize = 256;

/// A running acceptor.
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    /// Listeners to add.
    added: Mutex<Vec<(TcpListener, Arc<Listener>)>>,
    stopping: AtomicBool,
    waker: Waker,
}

impl Acceptor {
    pub(crate) fn start(
        handler: Arc<dyn Handler>,
        limits: Arc<ConnectionLimits>,
        io_threads: Vec<Arc<Mailbox>>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Arc::new(Shared { added: Mutex::default(), stopping: AtomicBool::new(false), waker });
        let state = State {
            poll,
            shared: shared.clone(),
            handler,
            limits,
            io_threads,
            listeners: Vec::new(),
            connection_count: 0,
        };
        let thread = std::thread::Builder::new()
            .name("fastlog-acceptor".to_owned())
            .spawn(vital(move || state.run()))?;
        Ok(Self { shared, thread })
    }

    /// Accepts from one more listener.
    pub(crate) fn add(&self, socket: TcpListener, listener: Arc<Listener>) -> io::Result<()> {
        self.shared.added.lock().push((socket, listener));
        self.shared.waker.wake()
    }

    /// Closes the listeners and ends the thread.
    pub(crate) fn stop(self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _awake = self.shared.waker.wake();
        let _ended = self.thread.join();
    }
}

struct State {
    poll: Poll,
    shared: Arc<Shared>,
    handler: Arc<dyn Handler>,
    limits: Arc<ConnectionLimits>,
    io_threads: Vec<Arc<Mailbox>>,
    listeners: Vec<Listening>,
    connection_count: u64,
}

struct Listening {
    socket: TcpListener,
    listener: Arc<Listener>,
    /// There may be connections waiting that no event will tell of again.
    pending: bool,
}

impl State {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        let mut timeout = None;
        while !self.shared.stopping.load(Ordering::Relaxed) {
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.log("the acceptor cannot poll and ends", &error),
            }
            for event in &events {
                if let Some(listening) = self.listeners.get_mut(event.token().0) {
                    listening.pending = true;
                }
            }
            self.take_added();
            timeout = self.accept_all();
        }
    }

    fn take_added(&mut self) {
        let added = std::mem::take(&mut *self.shared.added.lock());
        for (mut socket, listener) in added {
            let token = Token(self.listeners.len());
            match self.poll.registry().register(&mut socket, token, Interest::READABLE) {
                Ok(()) => self.listeners.push(Listening { socket, listener, pending: true }),
                Err(error) => self.log("a listener cannot be polled and is closed", &error),
            }
        }
    }

    /// Accepts what waits; tells how long to wait before the next look.
    fn accept_all(&mut self) -> Option<Duration> {
        let mut timeout = None;
        for index in 0..self.listeners.len() {
            match self.accept_burst(index) {
                Ok(true) => timeout = timeout.or(Some(Duration::ZERO)),
                Ok(false) => {}
                Err(error) => {
                    self.log("cannot accept a connection", &error);
                    timeout = Some(OUT_OF_DESCRIPTORS_PAUSE);
                }
            }
        }
        timeout
    }

    /// Accepts from one listener; true when there may be more.
    fn accept_burst(&mut self, index: usize) -> io::Result<bool> {
        for _ in 0..BURST_MAX {
            let Some(listening) = self.listeners.get_mut(index).filter(|it| it.pending) else {
                return Ok(false);
            };
            match listening.socket.accept() {
                Ok((stream, client_address)) => {
                    let listener = listening.listener.clone();
                    self.hand_over(stream, client_address, listener);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => listening.pending = false,
                // the peer went away between its connect and our accept
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn hand_over(&mut self, stream: TcpStream, client_address: SocketAddr, listener: Arc<Listener>) {
        let permit = match self.limits.admit(client_address.ip()) {
            Ok(permit) => permit,
            Err(refused) => {
                let fields = vec![
                    ("listener", listener.name.clone()),
                    ("client", client_address.to_string()),
                    ("limit", refused.setting().to_owned()),
                ];
                return self.handler.events().push(Level::Warning, "connection refused", fields);
            }
        };
        // answers are written whole; waiting for more would only delay them
        let _best_effort = stream.set_nodelay(true);
        let Ok(local_address) = stream.local_addr() else { return };
        self.connection_count += 1;
        let connection_id = self.connection_count;
        let accepted = Accepted { stream, listener, client_address, local_address, connection_id, permit };
        let turn = usize::try_from(connection_id).unwrap_or_default() % self.io_threads.len().max(1);
        if let Some(mailbox) = self.io_threads.get(turn) {
            mailbox.post(Mail::Accepted(Box::new(accepted)));
        }
    }

    fn log(&self, message: &'static str, error: &io::Error) {
        self.handler.events().push(Level::Error, message, vec![("error", error.to_string())]);
    }
}
