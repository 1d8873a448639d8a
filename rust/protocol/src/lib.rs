//! Kafka's wire protocol and record batches as bytes: no files, sockets or clocks

pub mod api_key;
pub mod batch;
pub mod compression;
pub mod crc;
pub mod error_code;
pub mod header;
pub mod messages;
pub mod primitives;
pub mod schema;

pub use error_code::ErrorCode;
