//! Kafka's primitive types on the wire: a bounded reader, a writer, and what can be wrong with bytes.

mod error;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use error::ProtocolError;
pub use reader::{ELEMENTS_MAX, REQUEST_ELEMENTS_MAX, Reader, STRING_BYTES_MAX, TAGS_MAX};
pub use writer::Writer;
