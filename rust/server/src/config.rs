//! What a server is told at its start.

use fastlog_broker::ListenerProtocol;
use std::time::Duration;

/// Limits of a server and of its connections.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Number of I/O threads (`num.network.threads`).
    pub io_threads: usize,
    /// Largest frame accepted (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// The send buffer of a connection (`socket.send.buffer.bytes`); None leaves it to the kernel. On loopback the
    /// kernel lets it grow to 4 MiB, and what it keeps for so many bytes under way falls out of the processor's cache.
    pub send_buffer_bytes: Option<usize>,
    /// Open connections in all (`max.connections`).
    pub connections_max: usize,
    /// Open connections of one peer address (`max.connections.per.ip`).
    pub connections_per_ip_max: usize,
    /// A connection without requests in flight and without traffic is closed after this long
    /// (`connections.max.idle.ms`).
    pub idle: Duration,
    /// How long a frame may take from its first byte to its last, apart from the time that its bytes need at
    /// 64 KiB a second.
    pub frame_deadline: Duration,
    /// Requests of one connection handed in and not wholly answered; above it the socket is not read.
    pub in_flight_max: usize,
    /// Bytes of answers in memory that one connection may have waiting; above it the socket is not read.
    pub queued_answer_bytes_max: usize,
}

impl Default for ServerConfig {
    /// Kafka's defaults, with limits where Kafka has none.
    fn default() -> Self {
        Self {
            io_threads: 3,
            request_bytes_max: 104_857_600,
            send_buffer_bytes: Some(102_400),
            connections_max: 10_000,
            connections_per_ip_max: 1_000,
            idle: Duration::from_secs(600),
            frame_deadline: Duration::from_secs(30),
            in_flight_max: 100,
            queued_answer_bytes_max: 4 << 20,
        }
    }
}

/// One address to listen at.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// The listener's name in `listeners`.
    pub name: String,
    /// How it talks; only plaintext is served here.
    pub protocol: ListenerProtocol,
    /// Host name or address; empty means every address.
    pub host: String,
    /// Port; 0 lets the system choose.
    pub port: u16,
    /// Whether other brokers may act as replicas here.
    pub inter_broker: bool,
}
