//! Record batches (magic 2): header, records, checking, building.
//!
//! Bytes on disk are bytes on the wire: the broker checks a batch with [`validate`], patches a copy of its header
//! with [`stamp`] and appends it as it is, unless the topic wants another codec ([`recompress`]). Nothing here trusts
//! what the bytes claim.

mod attributes;
mod builder;
mod cursor;
mod error;
mod filter;
mod header;
mod open;
mod order;
mod quick;
mod record;
mod seal;
mod split;
mod validate;
mod walk;

#[cfg(test)]
mod tests;

pub use attributes::{Attributes, TimestampType};
pub use builder::Builder;
pub use error::{BatchError, RecordFault};
pub use filter::{Kept, filter};
pub use header::{
    BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, LOG_OVERHEAD, MAGIC, NO_PRODUCER_ID, NO_TIMESTAMP, check_crc,
    crc_is_valid,
};
pub use open::{open, records, section};
pub use order::{Order, epoch_order, offset_order};
pub use record::{Header, Headers, RecordView};
pub use seal::{Stamp, recompress, seal, stamp};
pub use split::{Batches, batches};
#[cfg(feature = "fuzzing")]
pub use validate::validate_carefully;
pub use validate::{Checked, Invalid, Rules, validate};
