//! What a fetcher is told once.

use std::time::Duration;

/// Settings of a fetcher; the names in brackets are Kafka's.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// sent with each request (`client.id`)
    pub client_id: String,
    /// where the client is, for reading from the nearest replica; empty for nowhere (`client.rack`)
    pub rack: String,
    /// a broker answers once it has this much … (`fetch.min.bytes`)
    pub fetch_bytes_min: i32,
    /// … or after this long (`fetch.max.wait.ms`)
    pub wait_max: Duration,
    /// the most that one response brings, unless its first batch is larger (`fetch.max.bytes`)
    pub fetch_bytes_max: usize,
    /// the most that it brings per partition, likewise (`max.partition.fetch.bytes`)
    pub partition_bytes_max: i32,
    /// whether records of open and aborted transactions stay hidden (`isolation.level`)
    pub read_committed: bool,
    /// whether the CRC of each batch is checked (`check.crcs`)
    pub check_crcs: bool,
    /// the bytes that may wait to be taken, over all brokers
    pub prefetch_bytes: usize,
    /// how long connecting may take (`socket.connection.setup.timeout.ms`)
    pub connect_timeout: Duration,
    /// how long an answer may take beyond `wait_max` (`request.timeout.ms`)
    pub request_timeout: Duration,
    /// how long an answer may take beyond `wait_max` before it is told that the broker is silent: a leader that is
    /// stopped or cut off cannot say that another one was elected
    pub silence: Duration,
    /// the pause after a first failure (`reconnect.backoff.ms`) …
    pub backoff: Duration,
    /// … and the longest, which doubling leads to (`reconnect.backoff.max.ms`)
    pub backoff_max: Duration,
}

/// Room in a response for a first batch above `fetch_bytes_max`, and for everything that is not records.
const RESPONSE_SLACK_BYTES: usize = 64 << 20;

impl FetchOptions {
    /// The largest response that is taken.
    pub(crate) fn response_bytes_max(&self) -> usize {
        self.fetch_bytes_max.saturating_add(RESPONSE_SLACK_BYTES)
    }

    /// The pause after so many failures in a row.
    pub(crate) fn backoff_after(&self, failures: u32) -> Duration {
        let doubled = self.backoff.saturating_mul(1_u32 << failures.saturating_sub(1).min(16));
        doubled.min(self.backoff_max)
    }
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            client_id: String::from("fastlog"),
            rack: String::new(),
            fetch_bytes_min: 1,
            wait_max: Duration::from_millis(500),
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            read_committed: false,
            check_crcs: true,
            prefetch_bytes: 32 << 20,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            silence: Duration::from_millis(1_500),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
        }
    }
}
