//! The limit of fetching: a server that sends a whole file by sendfile(2) to whoever connects, without being asked.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use fastlog_sys::file::send_file;
use rustix::net::sockopt::set_socket_send_buffer_size;

/// As much as the socket takes ahead of the reader. What the kernel keeps for the bytes under way (packets, pages held)
/// then stays in the processor's cache: with the 4 MiB that the kernel grows a loopback connection to, the same bytes
/// take 1.6 times the processor time, and go at 0.55 times the speed where both ends share a core.
const SEND_BUFFER_BYTES: usize = 256 << 10;

/// Serves one file on a loopback port, one connection after the other, until it is dropped.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    /// The connection that is being served, to be cut short at the end.
    present: Arc<Mutex<Option<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl FileServer {
    /// Listens on a free port; each sendfile is of `chunk_bytes` at most.
    pub fn start(path: &Path, chunk_bytes: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // connections inherit it
        set_socket_send_buffer_size(&listener, SEND_BUFFER_BYTES)?;
        let address = listener.local_addr()?;
        let (ending, present) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let (told, shared) = (Arc::clone(&ending), Arc::clone(&present));
        let thread = std::thread::Builder::new().name("fastlog-bench-sendfile".into()).spawn(move || {
            for connection in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(socket) = connection {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = socket.try_clone().ok();
                    // a reader that went away is the reader's affair
                    let _ = send_all(&socket, &file, chunk_bytes);
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            }
        })?;
        Ok(Self { address, ending, present, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        if let Some(socket) = self.present.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // wakes the thread where it waits for a connection
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn send_all(socket: &TcpStream, file: &File, chunk_bytes: usize) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut position = 0;
    while send_file(socket.as_fd(), file.as_fd(), &mut position, chunk_bytes)? > 0 {}
    Ok(())
}
