//! The SDK's fetcher: connection, fetch, CRC and decompression without the GIL

mod aborted;
mod chunk;
mod connection;
mod error;
mod fetcher;
mod opening;
mod options;
mod session;
mod table;
mod wire;
mod worker;

pub use chunk::{Batch, Chunk, Corrupt, Watermarks};
pub use connection::Connection;
pub use error::FetchError;
pub use fetcher::{BrokerAddress, Fetcher, Next};
pub use opening::open_batch;
pub use options::FetchOptions;
pub use table::{Event, LeaderHint, PartitionFailure, Target};
