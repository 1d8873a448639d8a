//! Uploading a closed segment: its batches, then its indexes. It counts when the manifest names it.

use std::io;

use fastlog_log::{ClosedSegment, FileSystem, RealFileSystem};
use fastlog_protocol::crc::crc32c;
use uuid::Uuid;

use crate::chunks::{CHUNK_BYTES, Chunk, Scanner};
use crate::error::TierError;
use crate::indexes;
use crate::manifest::Entry;
use crate::store::{PART_BYTES, Store};

const LOG: &str = "log";

/// The objects of an upload, under the prefix of the partition.
pub(crate) fn keys(prefix: &str, base_offset: i64, id: Uuid) -> [String; 2] {
    [LOG, "indexes"].map(|kind| format!("{prefix}/{base_offset:020}-{}.{kind}", id.simple()))
}

/// Whether an object is a segment's batches.
pub(crate) fn is_log(key: &str) -> bool {
    key.rsplit_once('.').is_some_and(|(_, kind)| kind == LOG)
}

/// Uploads a segment; the entry is for the manifest. Blocks, for as long as the store takes.
///
/// Crash points: without a manifest that names the entry's id its objects are strays, whole or not.
pub(crate) fn upload(store: &dyn Store, prefix: &str, source: &ClosedSegment) -> Result<Entry, TierError> {
    let (base_offset, next_offset) = (source.base_offset, source.next_offset);
    let id = RealFileSystem.random_uuid();
    let [log_key, indexes_key] = keys(prefix, base_offset, id);
    let chunks = put_log(store, &log_key, source)?;
    let parts = [&source.txn_index, &source.offset_index, &source.time_index, &source.snapshot];
    let [txn_index, offset_index, time_index, snapshot] = parts;
    let (objects, lookup_bytes) = indexes::encode(&chunks, txn_index, offset_index, time_index, snapshot);
    let entry = Entry {
        id,
        base_offset,
        next_offset,
        object_next_offset: next_offset,
        max_timestamp: chunks.iter().map(|it| it.max_timestamp).max().unwrap_or(-1),
        log_bytes: source.size_bytes,
        lookup_bytes: length(lookup_bytes)?,
        lookup_crc: crc32c(objects.get(..lookup_bytes).unwrap_or_default()),
        indexes_bytes: length(objects.len())?,
        indexes_crc: crc32c(&objects),
        aborted_count: indexes::aborted_count(txn_index),
        epochs: source.epochs.clone(),
    };
    store.put(&indexes_key, objects.len() as u64, &mut std::iter::once(Ok(objects.into())))?;
    check_kept(store, &log_key, entry.log_bytes)?;
    check_kept(store, &indexes_key, entry.indexes_bytes.into())?;
    Ok(entry)
}

/// Asks a store that said yes whether it has all of an object: the disk's copy goes by it. That the bytes are the same S3
/// itself compares when they come, by the digest with which requests are signed.
pub(crate) fn check_kept(store: &dyn Store, key: &str, length: u64) -> Result<(), TierError> {
    let kept = store.size(key)?;
    if kept == length {
        return Ok(());
    }
    let reason = format!("the store took {length} bytes, and has {kept}");
    Err(TierError::Corrupt { object: key.to_owned(), reason })
}

fn length(bytes: usize) -> Result<u32, TierError> {
    let large = |_| TierError::Local {
        what: "upload the indexes of a segment",
        reason: format!("they are {bytes} bytes, more than 4 GiB"),
    };
    u32::try_from(bytes).map_err(large)
}

/// Puts the bytes of the segment, in parts, each checked before it is sent; a damaged segment ends the upload. What was read
/// once is not read again: pages that were not in memory before are not there afterwards.
fn put_log(store: &dyn Store, key: &str, source: &ClosedSegment) -> Result<Vec<Chunk>, TierError> {
    let (mut scanner, mut chunks, mut damage) = (Scanner::new(source), Vec::new(), None);
    let mut parts = std::iter::from_fn(|| match next_part(&mut scanner, &mut chunks) {
        Ok(part) => (!part.is_empty()).then(|| Ok(part.into())),
        Err(error) => {
            let reason = io::Error::new(io::ErrorKind::InvalidData, error.to_string());
            damage = Some(error);
            Some(Err(reason))
        }
    });
    let put = store.put(key, source.size_bytes, &mut parts);
    put.map_err(|error| damage.take().unwrap_or_else(|| error.into()))?;
    Ok(chunks)
}

/// Whole chunks of about [`PART_BYTES`]; nothing at the end.
fn next_part(scanner: &mut Scanner<'_>, chunks: &mut Vec<Chunk>) -> Result<Vec<u8>, TierError> {
    let mut part = Vec::new();
    while part.len() + CHUNK_BYTES <= PART_BYTES
        && let Some((chunk, bytes)) = scanner.next()?
    {
        part.extend_from_slice(bytes);
        chunks.push(chunk);
    }
    Ok(part)
}
