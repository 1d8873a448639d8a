//! What can be wrong with the bytes of a record batch.

use crate::compression::CompressionError;
use crate::error_code::ErrorCode;

/// What is wrong with one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordFault {
    /// A variable-length integer of more than its 32 or 64 bits.
    #[error("a variable-length integer is too long")]
    Varint,
    /// A length of the record, a key, a value or a header is negative where none may be.
    #[error("a length is negative")]
    NegativeLength,
    /// The fields need more bytes than the record, or the batch, has.
    #[error("its fields are longer than the record")]
    CutShort,
    /// The fields end before the record does.
    #[error("bytes are left over after its fields")]
    LeftOver,
    /// More headers are declared than could fit.
    #[error("its header count is impossible")]
    HeaderCount,
}

/// Why bytes are not a record batch, or not the records they claim to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the record batch is cut short: it needs {needed} bytes, {available} are there")]
    Truncated {
        /// Bytes that the batch says it has.
        needed: usize,
        /// Bytes that there are.
        available: usize,
    },
    /// The length field cannot be that of a batch.
    #[error("the record batch has an impossible length field, {0}")]
    Length(i32),
    /// Another format version.
    #[error("the record batch has magic {0}; only 2 is supported")]
    Magic(i8),
    /// The bytes were changed since the checksum was made.
    #[error("the CRC-32C of the record batch is {computed:#010x}, but its header says {stored:#010x}")]
    Crc {
        /// From the header.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A codec number that Kafka does not define.
    #[error("unknown compression codec {0}")]
    Codec(u8),
    /// The records section could not be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record that is none.
    #[error("record {index} of the batch is malformed: {fault}")]
    Record {
        /// Its place in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The declared record count cannot be.
    #[error("the record batch declares {0} records")]
    Count(i32),
    /// Bytes after the declared number of records.
    #[error("bytes follow the {0} records that the batch declares")]
    Trailing(i32),
}

impl BatchError {
    /// The error that a client is told.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Crc { .. } | Self::Length(_) => ErrorCode::CORRUPT_MESSAGE,
            // 0 and 1 are formats of the past, anything else is no batch at all (as Kafka answers)
            Self::Magic(magic) if !(0..=1).contains(magic) => ErrorCode::CORRUPT_MESSAGE,
            // a producer that splits its batch may get through
            Self::Compression(CompressionError::TooLarge { .. } | CompressionError::Output { .. }) => {
                ErrorCode::MESSAGE_TOO_LARGE
            }
            _ => ErrorCode::INVALID_RECORD,
        }
    }
}
