//! What can be wrong with a message, or keep one from being written.

/// Why bytes are not the message they should be, or why a message has no bytes. `at` counts from the buffer's start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The buffer ends within a value, or a length reaches past the buffer's end.
    #[error("the message is cut short: {needed} bytes are needed at byte {at}, {remaining} remain")]
    Truncated {
        /// Bytes that the value needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
        /// Where the value starts.
        at: usize,
    },
    /// A length or count below -1.
    #[error("the length {length} before byte {at} is negative")]
    NegativeLength {
        /// The length that was read.
        length: i64,
        /// Where the reader stands, after the length.
        at: usize,
    },
    /// A string longer than Kafka reads, in a version whose lengths could say more.
    #[error("a string before byte {at} has {length} bytes, at most {limit} are read")]
    StringTooLong {
        /// The length that was read.
        length: usize,
        /// The most that would have been accepted.
        limit: usize,
        /// Where the reader stands, after the length.
        at: usize,
    },
    /// A null where this version allows none.
    #[error("a value before byte {at} is null, which this version does not allow")]
    Null {
        /// Where the reader stands, after the length.
        at: usize,
    },
    /// An array claims more elements than the bytes that remain could hold, or than one message may have.
    #[error("an array before byte {at} claims {count} elements, at most {limit} can follow")]
    TooManyElements {
        /// The count that was read.
        count: u64,
        /// The most that would have been accepted.
        limit: u64,
        /// Where the reader stands, after the count.
        at: usize,
    },
    /// A struct with more tagged fields than [`TAGS_MAX`](super::TAGS_MAX).
    #[error("a struct before byte {at} claims {count} tagged fields, at most {limit} are read")]
    TooManyTags {
        /// The count that was read.
        count: u32,
        /// The most that would have been accepted.
        limit: u32,
        /// Where the reader stands, after the count.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("the string before byte {at} is not UTF-8")]
    NotUtf8 {
        /// Where the reader stands, after the string.
        at: usize,
    },
    /// A variable-length number longer than its type.
    #[error("the variable-length number at byte {at} is too long")]
    VarintTooLong {
        /// Where the number starts.
        at: usize,
    },
    /// A byte that marks neither a null struct nor a present one.
    #[error("the byte {marker} before byte {at} says neither that a struct is null nor that it follows")]
    BadMarker {
        /// The byte that was read.
        marker: i8,
        /// Where the reader stands, after the byte.
        at: usize,
    },
    /// Bytes are left after the message, or after a tagged field within the size it gave.
    #[error("{remaining} bytes are left after the value that ends at byte {at}")]
    TrailingBytes {
        /// Bytes that are left.
        remaining: usize,
        /// Where the value ends.
        at: usize,
    },
    /// A version that the message does not have.
    #[error("{message} has no version {version}")]
    UnsupportedVersion {
        /// Kafka's name of the message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// Encoding: a null in a field that is not nullable in this version.
    #[error("{field} is null, which this version does not allow")]
    NullField {
        /// The field's name.
        field: &'static str,
    },
    /// Encoding: a length that its field on the wire cannot hold.
    #[error("a length of {length} does not fit its field, at most {limit} does")]
    TooLong {
        /// The length.
        length: usize,
        /// The most that fits.
        limit: usize,
    },
}
