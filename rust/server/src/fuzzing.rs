//! A connection without an I/O thread: the caller sends bytes into one end of a socket pair, the connection has its
//! turns on the caller's thread, and its answers come out again. Everything is the server's but the waiting.

use crate::cold::ColdReads;
use crate::config::ServerConfig;
use crate::connection::{Connection, Surroundings, Turn};
use crate::handler::Handler;
use crate::limits::ConnectionLimits;
use crate::mailbox::{Accepted, Mail, Mailbox};
use fastlog_broker::{Listener, ListenerProtocol};
use mio::net::TcpStream;
use mio::{Poll, Token, Waker};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

/// Turns that a connection may have without waiting; more would be a loop without progress.
const TURNS_MAX: usize = 10_000;

/// One connection and its peer.
pub struct Wire<'h> {
    handler: &'h dyn Handler,
    config: ServerConfig,
    mailbox: Arc<Mailbox>,
    cold: Arc<ColdReads>,
    scratch: Vec<u8>,
    /// None when the server has closed it.
    connection: Option<Connection>,
    peer: UnixStream,
    /// The mailbox's waker needs it.
    _poll: Poll,
}

impl<'h> Wire<'h> {
    /// A connection that hands its frames to `handler`. Fails when no descriptor is left.
    pub fn new(handler: &'h dyn Handler, config: ServerConfig) -> io::Result<Self> {
        let (near, peer) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        peer.set_nonblocking(true)?;
        let poll = Poll::new()?;
        let mailbox = Mailbox::new(Waker::new(poll.registry(), Token(0))?);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let permit = ConnectionLimits::new(1, 1).admit(address.ip());
        let listener = Listener {
            name: "PLAINTEXT".to_owned(),
            protocol: ListenerProtocol::Plaintext,
            inter_broker: false,
            host: "127.0.0.1".to_owned(),
            port: 0,
        };
        let accepted = Accepted {
            stream: TcpStream::from_std(std::net::TcpStream::from(OwnedFd::from(near))),
            listener: Arc::new(listener),
            client_address: address,
            local_address: address,
            connection_id: 1,
            permit: permit.map_err(|refused| io::Error::other(refused.setting()))?,
        };
        let connection = Connection::new(accepted, 0, handler, Instant::now());
        let scratch = Vec::new();
        let cold = ColdReads::new(handler.disks().clone());
        Ok(Self { handler, config, mailbox, cold, scratch, connection: Some(connection), peer, _poll: poll })
    }

    /// Whether the server has not closed the connection.
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// Sends bytes that arrive together, and lets the connection do all that it can; adds its answers to `answers`.
    /// The bytes must fit into a socket's buffer. What is sent to a closed connection is lost.
    pub fn send(&mut self, bytes: &[u8], answers: &mut Vec<u8>) -> io::Result<()> {
        if self.is_open() {
            self.peer.write_all(bytes)?;
        }
        self.run(answers)
    }

    /// Ends the sending side, as a client does that wants no more than its answers.
    pub fn finish(&mut self, answers: &mut Vec<u8>) -> io::Result<()> {
        self.peer.shutdown(Shutdown::Write)?;
        self.run(answers)
    }

    /// Delivers the answers that came later, and lets the connection do all that it can.
    pub fn run(&mut self, answers: &mut Vec<u8>) -> io::Result<()> {
        for _ in 0..TURNS_MAX {
            let turn = self.turn();
            self.receive(answers)?;
            match turn {
                Some(Turn::Again) => {}
                Some(Turn::Wait) | None => return Ok(()),
                Some(Turn::Cold(..)) => {
                    return Err(io::Error::other("files are to be in memory here"));
                }
                Some(Turn::Starved) => {
                    return Err(io::Error::other("the budget of request bytes is used up"));
                }
                Some(Turn::Close(reason)) => {
                    if let Some(mut connection) = self.connection.take() {
                        connection.close(reason, self.handler);
                    }
                }
            }
        }
        Err(io::Error::other("a connection takes turns for ever"))
    }

    fn receive(&mut self, answers: &mut Vec<u8>) -> io::Result<()> {
        match self.peer.read_to_end(answers) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // it was closed before all that was sent to it was read
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !self.is_open() => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// One turn; None when the connection is closed.
    fn turn(&mut self) -> Option<Turn> {
        let connection = self.connection.as_mut()?;
        connection.set_ready();
        for mail in self.mailbox.take(Vec::new()) {
            if let Mail::Answered { address, answer } = mail {
                connection.take_answer(address.sequence, answer);
            }
        }
        let mut around = Surroundings {
            handler: self.handler,
            config: &self.config,
            mailbox: &self.mailbox,
            cold: &self.cold,
            scratch: &mut self.scratch,
            now: Instant::now(),
        };
        Some(connection.run(&mut around, false))
    }
}
