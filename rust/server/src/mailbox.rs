//! How other threads reach an I/O thread: a list of messages and a waker.

use crate::cold::Sent;
use crate::limits::ConnectionPermit;
use fastlog_broker::{Answer, Listener, ReplySink};
use mio::Waker;
use mio::net::TcpStream;
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A message for an I/O thread.
pub(crate) enum Mail {
    /// A connection to serve from now on.
    Accepted(Box<Accepted>),
    /// An answer that comes later than its request was handled.
    Answered { address: ReplyAddress, answer: Answer },
    /// A disk's thread has sent what the connection was to send next.
    Sent { key: usize, connection_id: u64, sent: Sent },
    /// Take no more requests, answer what is in flight until the instant, then end.
    Shutdown { deadline: Instant },
}

/// A connection as the acceptor hands it over.
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) listener: Arc<Listener>,
    pub(crate) client_address: SocketAddr,
    pub(crate) local_address: SocketAddr,
    pub(crate) connection_id: u64,
    pub(crate) permit: ConnectionPermit,
}

/// Which request of which connection an answer belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyAddress {
    /// The connection's place in its I/O thread; another connection may have it by now.
    pub(crate) key: usize,
    /// Tells a place's connections apart.
    pub(crate) connection_id: u64,
    /// Number of the request in its connection.
    pub(crate) sequence: u64,
}

/// The messages that wait for one I/O thread.
pub(crate) struct Mailbox {
    mail: Mutex<Vec<Mail>>,
    waker: Waker,
}

impl Mailbox {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { mail: Mutex::default(), waker })
    }

    /// Leaves a message; wakes the thread when it is the first.
    pub(crate) fn post(&self, message: Mail) {
        let mut mail = self.mail.lock();
        mail.push(message);
        let first = mail.len() == 1;
        drop(mail);
        if first {
            // an eventfd write fails only when its counter is full, and then the thread is awake
            let _awake = self.waker.wake();
        }
    }

    /// Takes all messages, leaving `empty` in their place.
    pub(crate) fn take(&self, empty: Vec<Mail>) -> Vec<Mail> {
        std::mem::replace(&mut *self.mail.lock(), empty)
    }
}

/// The way back of one delayed answer to its connection.
pub(crate) struct ConnectionReply {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) address: ReplyAddress,
    pub(crate) open: Arc<AtomicBool>,
}

impl ReplySink for ConnectionReply {
    fn answer(&mut self, answer: Answer) {
        if self.is_open() {
            self.mailbox.post(Mail::Answered { address: self.address, answer });
        }
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }
}
