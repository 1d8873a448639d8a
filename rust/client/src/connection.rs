//! One blocking TCP connection with deadlines.
//!
//! The response buffer is reused, grows as bytes arrive and never by what a length prefix claims. Another thread may
//! end a call at once by shutting the socket down.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::error::FetchError;

/// The buffer grows by at most this much before the bytes for it have arrived.
const GROWTH_BYTES_MAX: usize = 1 << 20;
/// A buffer above this size is given back when responses have become small again.
const KEPT_BYTES_MAX: usize = 8 << 20;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A zero time-out means "for ever" to the system, so the shortest one is this.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// A connected socket and its response buffer.
#[derive(Debug)]
pub struct Connection {
    socket: Arc<Socket>,
    address: String,
    buffer: Vec<u8>,
    response_bytes_max: usize,
}

impl Connection {
    /// Connects to `host:port`, trying each address that the name has until `deadline`. Blocks; resolving the name is
    /// the system's call and not bounded by the deadline. Each socket is shown to `register` before it connects, so
    /// that another thread can shut it down; if that says no, the attempt ends.
    pub fn connect(
        host: &str,
        port: u16,
        deadline: Instant,
        response_bytes_max: usize,
        register: impl Fn(&Arc<Socket>) -> bool,
    ) -> Result<Self, FetchError> {
        let address = display_address(host, port);
        let failed = |reason: String| FetchError::Connect { address: address.clone(), reason };
        let resolved: Vec<SocketAddr> =
            (host, port).to_socket_addrs().map_err(|error| failed(error.to_string()))?.collect();
        let mut reason = String::from("the name has no address");
        for target in resolved {
            match open(target, deadline, &register) {
                Ok(socket) => return Ok(Self { socket, address, buffer: Vec::new(), response_bytes_max }),
                Err(error) => reason = error.to_string(),
            }
        }
        Err(failed(reason))
    }

    /// The peer, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends one frame (header and body, without length prefix) and returns the response frame, which lives in this
    /// connection's buffer until the next call. Blocks until `deadline`. After an error the connection is of no use.
    pub fn call(&mut self, frame: &[u8], deadline: Instant) -> Result<&[u8], FetchError> {
        self.call_impatiently(frame, deadline, Duration::MAX, &|_| {})
    }

    /// The same; `silent` is called each time that nothing has come for so long, and then waited on.
    pub fn call_impatiently(
        &mut self,
        frame: &[u8],
        deadline: Instant,
        patience: Duration,
        silent: &dyn Fn(FetchError),
    ) -> Result<&[u8], FetchError> {
        let started = Instant::now();
        let tell = || {
            let waited_ms = started.elapsed().as_millis() as u64;
            silent(FetchError::Silent { address: self.address.clone(), waited_ms });
        };
        let wait = Wait { deadline, patience, silent: &tell };
        let mut buffer = std::mem::take(&mut self.buffer);
        let exchanged = self.send(frame, deadline).and_then(|()| self.receive(&mut buffer, &wait));
        self.buffer = buffer;
        match exchanged {
            Ok(length) => {
                let address = &self.address;
                self.buffer.get(..length).ok_or_else(|| FetchError::Malformed {
                    address: address.clone(),
                    reason: String::from("the response is shorter than announced"),
                })
            }
            Err(Failure::Io(error)) => Err(self.failure(&error, started)),
            Err(Failure::Size(claimed)) => Err(FetchError::ResponseSize {
                address: self.address.clone(),
                claimed,
                allowed: self.response_bytes_max,
            }),
        }
    }

    fn send(&self, frame: &[u8], deadline: Instant) -> Result<(), Failure> {
        self.socket.set_write_timeout(Some(remaining(deadline)?))?;
        let prefix = i32::try_from(frame.len()).map_err(|_| Failure::Size(frame.len() as i64))?.to_be_bytes();
        let mut sent = 0;
        while sent < prefix.len() + frame.len() {
            let head = prefix.get(sent..).unwrap_or_default();
            let tail = frame.get(sent.saturating_sub(prefix.len())..).unwrap_or_default();
            match (&*self.socket).write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::WriteZero).into()),
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
            remaining(deadline)?;
        }
        Ok(())
    }

    fn receive(&self, buffer: &mut Vec<u8>, wait: &Wait<'_>) -> Result<usize, Failure> {
        self.socket.set_read_timeout(Some(wait.next()?))?;
        let mut prefix = [0_u8; 4];
        self.fill(&mut prefix, wait)?;
        let claimed = i32::from_be_bytes(prefix);
        let length = usize::try_from(claimed)
            .ok()
            .filter(|length| *length <= self.response_bytes_max)
            .ok_or(Failure::Size(i64::from(claimed)))?;
        if buffer.len() > KEPT_BYTES_MAX && length < buffer.len() / 8 {
            // one large response left it behind
            *buffer = Vec::new();
        }
        self.fill_growing(buffer, length, wait).map(|()| length)
    }

    fn fill_growing(&self, buffer: &mut Vec<u8>, length: usize, wait: &Wait<'_>) -> Result<(), Failure> {
        let mut filled = 0;
        while filled < length {
            let end =
                if buffer.len() > filled { buffer.len() } else { filled + GROWTH_BYTES_MAX }.min(length);
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            self.fill(buffer.get_mut(filled..end).unwrap_or_default(), wait)?;
            filled = end;
        }
        Ok(())
    }

    fn fill(&self, mut target: &mut [u8], wait: &Wait<'_>) -> Result<(), Failure> {
        while !target.is_empty() {
            match (&*self.socket).read(target) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(count) => target = target.split_at_mut_checked(count).map_or(&mut [], |(_, rest)| rest),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.socket.set_read_timeout(Some(wait.next()?))?;
                    (wait.silent)();
                }
                Err(error) => return Err(error.into()),
            }
            remaining(wait.deadline)?;
        }
        Ok(())
    }

    fn failure(&self, error: &std::io::Error, started: Instant) -> FetchError {
        let address = self.address.clone();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                FetchError::TimedOut { address, waited_ms: started.elapsed().as_millis() as u64 }
            }
            ErrorKind::UnexpectedEof => {
                FetchError::Disconnected { address, reason: String::from("the broker closed it") }
            }
            _ => FetchError::Disconnected { address, reason: error.to_string() },
        }
    }
}

/// How a response is waited for.
struct Wait<'a> {
    deadline: Instant,
    patience: Duration,
    silent: &'a dyn Fn(),
}

impl Wait<'_> {
    /// How long the next bytes may take.
    fn next(&self) -> std::io::Result<Duration> {
        remaining(self.deadline).map(|left| left.min(self.patience))
    }
}

enum Failure {
    Io(std::io::Error),
    Size(i64),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

fn display_address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn remaining(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left.max(SHORTEST_WAIT))
}

fn open(
    target: SocketAddr,
    deadline: Instant,
    register: &impl Fn(&Arc<Socket>) -> bool,
) -> std::io::Result<Arc<Socket>> {
    let socket = Arc::new(Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?);
    if !register(&socket) {
        return Err(ErrorKind::Interrupted.into());
    }
    socket.connect_timeout(&target.into(), remaining(deadline)?)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
