//! The object of a segment's indexes. First the *lookup part*, all that reading needs: length 4 and chunks; length 4 and
//! the transaction index. Then Kafka's own files, so that a segment can be made a local one again: length 4 and the offset
//! index; the same with the time index and the snapshot of producers. The manifest has checksums of both.

use fastlog_log::AbortedTxn;

use crate::chunks::Chunk;
use crate::encoding::{Fields, count};

/// Bytes of an entry of a transaction index, in Kafka's format.
const TXN_BYTES: usize = 34;

/// What reading a segment needs.
#[derive(Debug)]
pub struct Lookup {
    /// Its chunks, ascending.
    pub chunks: Vec<Chunk>,
    /// The transactions whose abortion is in it.
    pub aborted: Vec<AbortedTxn>,
}

impl Lookup {
    /// About what it holds in memory.
    pub(crate) fn size_bytes(&self) -> usize {
        size_of_val(self.chunks.as_slice()) + size_of_val(self.aborted.as_slice())
    }

    /// The chunk that holds `offset`, or the first one behind it.
    pub(crate) fn chunk_for(&self, offset: i64) -> Option<usize> {
        let after = self.chunks.partition_point(|it| it.base_offset <= offset);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        let chunks = section(&mut fields).and_then(Chunk::decode_all)?;
        let txns = section(&mut fields)?;
        let entries = txns.chunks_exact(TXN_BYTES);
        if !fields.0.is_empty() || !entries.remainder().is_empty() {
            return None;
        }
        let aborted = entries.map(|entry| {
            let mut fields = Fields(entry);
            // a version of 0
            fields.u16()?;
            Some(AbortedTxn {
                producer_id: fields.i64()?,
                first_offset: fields.i64()?,
                last_offset: fields.i64()?,
                last_stable_offset: fields.i64()?,
            })
        });
        Some(Self { chunks, aborted: aborted.collect::<Option<_>>()? })
    }
}

fn section<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(fields.u32()?).ok()?;
    fields.bytes(length)
}

/// The snapshot of producers in an object.
pub(crate) fn snapshot(bytes: &[u8]) -> Option<&[u8]> {
    let mut fields = Fields(bytes);
    let mut last = None;
    // chunks, transactions, Kafka's two indexes, the snapshot
    for _ in 0..5 {
        last = section(&mut fields);
    }
    last.filter(|_| fields.0.is_empty())
}

/// The object, and how long its lookup part is.
pub(crate) fn encode(
    chunks: &[Chunk],
    txn_index: &[u8],
    offset_index: &[u8],
    time_index: &[u8],
    snapshot: &[u8],
) -> (Vec<u8>, usize) {
    let mut out = Vec::new();
    let mut add = |bytes: &[u8]| {
        out.extend(count(bytes.len()));
        out.extend(bytes);
        out.len()
    };
    add(&Chunk::encode_all(chunks));
    let lookup_bytes = add(txn_index);
    add(offset_index);
    add(time_index);
    add(snapshot);
    (out, lookup_bytes)
}

/// How many aborted transactions a transaction index has.
pub(crate) fn aborted_count(txn_index: &[u8]) -> u32 {
    u32::try_from(txn_index.len() / TXN_BYTES).unwrap_or(u32::MAX)
}
