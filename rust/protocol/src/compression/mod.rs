//! The four codecs of the records section of a batch, interoperable with Apache Kafka's Java classes and librdkafka.
//!
//! Compressing appends to a `Vec`, and streams from one codec into another ([`transcode`]). Decompressing streams: a [`Decompressor`] never holds more than one piece (a
//! block of the codec, or 64 KiB), and ends with [`CompressionError::TooLarge`] when its cap is passed. Nothing is
//! allocated because the input claims a size: claims are checked against what the codec could expand the present
//! bytes to. Contexts and buffers are kept per thread, since making one costs more than a small batch.

mod blocks;
mod contexts;
mod decompressor;
mod gzip;
mod lz4;
mod snappy;
mod transcode;
mod zstd;

#[cfg(test)]
mod tests;

pub use decompressor::{DECOMPRESSED_BYTES_MAX, Decompressor, cap_for, decompress};
pub use transcode::transcode;

/// A codec, with the number it has in a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum Compression {
    /// The records as they are.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Blocks of raw snappy in the framing of xerial's snappy-java; raw snappy is read too.
    Snappy = 2,
    /// The LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// Kafka's name, as in `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The codec of a number in a batch's attributes; `None` where Kafka defines none.
    #[must_use]
    pub const fn from_id(id: i16) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why bytes could not be compressed or decompressed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The input expands beyond the cap.
    #[error("{codec} data expands beyond the limit of {cap} bytes")]
    TooLarge {
        /// The codec's name.
        codec: &'static str,
        /// The limit that was passed.
        cap: usize,
    },
    /// The input is not what the codec writes.
    #[error("{codec} data is corrupt: {reason}")]
    Corrupt {
        /// The codec's name.
        codec: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What comes out is more than there is room for.
    #[error("in {codec} it has more than {max_bytes} bytes")]
    Output {
        /// The codec's name.
        codec: &'static str,
        /// The room that there is.
        max_bytes: usize,
    },
    /// The codec refused to compress.
    #[error("{codec} compression failed: {reason}")]
    Failed {
        /// The codec's name.
        codec: &'static str,
        /// The codec's own words.
        reason: String,
    },
}

/// Appends `input`, compressed, to `out`. `level` is the codec's own (gzip 1–9, zstd -7–22) and is ignored by the
/// others; `None` means gzip 6 (Kafka's default) and zstd 1 (Kafka's is 3; on small records 1 is quicker and no
/// larger).
///
/// # Errors
/// The codec failed, which none does on valid levels and inputs below 2 GiB.
pub fn compress(
    kind: Compression,
    level: Option<i32>,
    input: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    match kind {
        Compression::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Compression::Gzip => gzip::compress(level, input, out),
        Compression::Snappy => snappy::compress(input, out),
        Compression::Lz4 => lz4::compress(input, out),
        Compression::Zstd => zstd::compress(level, input, out),
    }
}
