//! TCP listeners: an acceptor, I/O threads on epoll, connections that frame requests and write answers.
//!
//! Each I/O thread owns its connections and hands every whole frame to the [`Handler`] on the spot. Answers
//! leave in the order of the requests. Bytes are written by sendmsg, file ranges by sendfile.

mod acceptor;
mod cold;
mod config;
mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handler;
mod io_thread;
mod limits;
mod mailbox;
mod read_buffer;
mod server;
mod write_queue;

pub use config::{ListenerConfig, ServerConfig};
pub use handler::Handler;
pub use server::{Server, ServerError};
