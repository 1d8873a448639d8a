//! The server: its threads and its listeners.

use crate::acceptor::Acceptor;
use crate::cold::ColdReads;
use crate::config::{ListenerConfig, ServerConfig};
use crate::handler::Handler;
use crate::io_thread::IoThread;
use crate::limits::ConnectionLimits;
use crate::mailbox::{Mail, Mailbox};
use fastlog_broker::Listener;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 1024;

/// Why a server or a listener did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A thread could not be started.
    #[error("cannot start the network threads: {0}; check the limits of processes and open files")]
    Threads(io::Error),
    /// The address cannot be listened at.
    #[error("cannot listen at {name}://{host}:{port}: {cause}; choose another address, or stop who uses it")]
    Listen {
        /// The listener's name.
        name: String,
        /// The host asked for.
        host: String,
        /// The port asked for.
        port: u16,
        /// What the system said.
        cause: io::Error,
    },
    /// The server was shut down.
    #[error("the server is shut down and takes no more listeners")]
    Stopped,
}

/// I/O threads and an acceptor; serves until it is shut down or dropped.
pub struct Server {
    running: Mutex<Option<Running>>,
    limits: Arc<ConnectionLimits>,
    send_buffer_bytes: Option<usize>,
}

struct Running {
    acceptor: Acceptor,
    io_threads: Vec<IoThread>,
}

impl Server {
    /// Starts the threads; there are no listeners yet.
    pub fn start(handler: Arc<dyn Handler>, config: ServerConfig) -> Result<Self, ServerError> {
        let limits = ConnectionLimits::new(config.connections_max, config.connections_per_ip_max);
        let send_buffer_bytes = config.send_buffer_bytes;
        let config = Arc::new(config);
        let cold = ColdReads::new(handler.disks().clone());
        let mut io_threads: Vec<IoThread> = Vec::new();
        let started = (0..config.io_threads.max(1)).try_for_each(|number| {
            io_threads.push(IoThread::start(number, handler.clone(), config.clone(), cold.clone())?);
            Ok(())
        });
        let mailboxes: Vec<Arc<Mailbox>> = io_threads.iter().map(|it| it.mailbox.clone()).collect();
        let acceptor = started.and_then(|()| Acceptor::start(handler, limits.clone(), mailboxes));
        match acceptor {
            Ok(acceptor) => {
                let running = Mutex::new(Some(Running { acceptor, io_threads }));
                Ok(Self { running, limits, send_buffer_bytes })
            }
            Err(error) => {
                stop_threads(io_threads, Duration::ZERO);
                Err(ServerError::Threads(error))
            }
        }
    }

    /// Starts to listen and tells the bound address. Name resolution may block.
    pub fn listen(&self, config: &ListenerConfig) -> Result<SocketAddr, ServerError> {
        let running = self.running.lock();
        let Running { acceptor, .. } = running.as_ref().ok_or(ServerError::Stopped)?;
        let refused = |cause| ServerError::Listen {
            name: config.name.clone(),
            host: config.host.clone(),
            port: config.port,
            cause,
        };
        let (socket, address) = bind(config, self.send_buffer_bytes).map_err(refused)?;
        let listener = Arc::new(Listener {
            name: config.name.clone(),
            protocol: config.protocol,
            inter_broker: config.inter_broker,
            host: config.host.clone(),
            port: address.port(),
        });
        acceptor.add(socket, listener).map_err(refused)?;
        Ok(address)
    }

    /// Other limits of connections from now on, in all and of one address; none that is open is closed.
    pub fn limit_connections(&self, total_max: usize, per_ip_max: usize) {
        self.limits.set(total_max, per_ip_max);
    }

    /// Number of open connections.
    pub fn connection_count(&self) -> usize {
        self.limits.total()
    }

    /// Stops listening, answers what is in flight for at most `grace`, and ends the threads. Blocks.
    ///
    /// Long polls are in flight too: tell the broker to finish them first.
    pub fn shutdown(&self, grace: Duration) {
        let Some(Running { acceptor, io_threads }) = self.running.lock().take() else { return };
        acceptor.stop();
        stop_threads(io_threads, grace);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

fn stop_threads(io_threads: Vec<IoThread>, grace: Duration) {
    let deadline = Instant::now() + grace;
    for io_thread in &io_threads {
        io_thread.mailbox.post(Mail::Shutdown { deadline });
    }
    for io_thread in io_threads {
        let _ended = io_thread.thread.join();
    }
}

fn bind(
    config: &ListenerConfig,
    send_buffer_bytes: Option<usize>,
) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
    let addresses: Vec<SocketAddr> = if config.host.is_empty() {
        vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), config.port)]
    } else {
        (config.host.as_str(), config.port).to_socket_addrs()?.collect()
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match bind_to(address, send_buffer_bytes) {
            Ok(bound) => return Ok(bound),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn bind_to(
    address: SocketAddr,
    send_buffer_bytes: Option<usize>,
) -> io::Result<(mio::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // a restart on the same port must not wait for old connections to time out
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = send_buffer_bytes {
        // the connections take it over
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((mio::net::TcpListener::from_std(listener), bound))
}
