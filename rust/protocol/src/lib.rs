//! Kafka's wire protocol and record batches as bytes: no files, sockets or clocks

pub mod error_code;

pub use error_code::ErrorCode;
