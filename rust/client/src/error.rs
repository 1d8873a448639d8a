//! What can go wrong between a fetcher and one broker.

use fastlog_protocol::ErrorCode;

/// A failure of one connection or one fetch; the partitions of that broker are tried again after a back-off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No connection came about.
    #[error(
        "cannot connect to the broker at {address}: {reason}; check that it runs and that the address it advertises can be reached from here"
    )]
    Connect {
        /// `host:port`
        address: String,
        /// what the system said
        reason: String,
    },
    /// The connection ended or failed between request and response.
    #[error("the connection to the broker at {address} broke: {reason}; it is opened again")]
    Disconnected {
        /// `host:port`
        address: String,
        /// what the system said
        reason: String,
    },
    /// The response did not arrive in time.
    #[error(
        "the broker at {address} did not answer within {waited_ms} ms; the request is sent again on a new connection"
    )]
    TimedOut {
        /// `host:port`
        address: String,
        /// how long was waited
        waited_ms: u64,
    },
    /// The response has not arrived yet; it is waited for still.
    #[error("the broker at {address} has been silent for {waited_ms} ms; others are asked who leads now")]
    Silent {
        /// `host:port`
        address: String,
        /// how long was waited
        waited_ms: u64,
    },
    /// A response claims to be larger than the bound, or has a negative size.
    #[error(
        "the broker at {address} announced a response of {claimed} bytes, allowed are {allowed}; if one batch is that large, raise fetch_max_bytes"
    )]
    ResponseSize {
        /// `host:port`
        address: String,
        /// the length prefix
        claimed: i64,
        /// the bound
        allowed: usize,
    },
    /// The response does not parse.
    #[error("the broker at {address} sent a response that does not parse: {reason}; is it a Kafka broker?")]
    Malformed {
        /// `host:port`
        address: String,
        /// what did not fit
        reason: String,
    },
    /// Broker and fetcher share no version of the Fetch API.
    #[error(
        "the broker at {address} speaks Fetch versions {lowest} to {highest}, this client {our_lowest} to {our_highest}"
    )]
    UnsupportedVersion {
        /// `host:port`
        address: String,
        /// the broker's lowest
        lowest: i16,
        /// the broker's highest
        highest: i16,
        /// ours
        our_lowest: i16,
        /// ours
        our_highest: i16,
    },
    /// The whole request was refused.
    #[error("the broker at {address} refused {api} with error {code}", code = code.0)]
    Refused {
        /// `host:port`
        address: String,
        /// the API asked
        api: &'static str,
        /// Kafka's error code
        code: ErrorCode,
    },
    /// The fetcher was closed, or the broker's address changed, while the request was under way.
    #[error("the fetch was given up because the fetcher closes or moves to another address")]
    Aborted,
}

impl FetchError {
    /// Kafka's code of this failure: the broker's own, or NETWORK_EXCEPTION (13) where none arrived.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused { code, .. } => *code,
            Self::UnsupportedVersion { .. } => ErrorCode(35),
            _ => ErrorCode(13),
        }
    }
}
