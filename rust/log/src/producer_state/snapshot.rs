//! `.snapshot`: the producers' state at the offset in the file's name, so that opening need not read the whole log.
//!
//! Kafka's version 1, big-endian: version 2 | CRC-32C of what follows 4 | count 4, then for each producer id 8 |
//! epoch 2 | last sequence 4 | last offset 8 | offset delta 4 | timestamp 8 | coordinator epoch 4 | first offset of the
//! open transaction 8. Kafka keeps the last batch of a producer only, so that after a restart it answers a duplicate of
//! an older one with an error. Here a producer has an entry for each batch that is remembered, oldest first, of which
//! Kafka's reader keeps the last.

use std::path::Path;

use fastlog_protocol::crc::crc32c;

use super::entry::{BatchEntry, NO_SEQUENCE};
use super::{ProducerEntry, ProducerState};
use crate::error::{During, LogError};
use crate::file_system::{FileSystem, atomic_file};

const VERSION: i16 = 1;
const ENTRY_BYTES: usize = 46;
/// Stands for a producer of which no batch is remembered.
const NO_BATCH: BatchEntry =
    BatchEntry { last_sequence: NO_SEQUENCE, last_offset: -1, offset_delta: 0, timestamp_ms: -1 };

/// Writes the state to `path`. The death of the machine may tear it, which its CRC then tells.
pub(crate) fn write(
    file_system: &dyn FileSystem,
    path: &Path,
    state: &ProducerState,
) -> Result<(), LogError> {
    let written = atomic_file::replace_unsynced(file_system, path, &encode(state));
    written.during("write the producer snapshot", path)
}

/// The state in `path`; an error when the file is missing or anything in it is wrong.
pub(crate) fn read(file_system: &dyn FileSystem, path: &Path) -> Result<ProducerState, LogError> {
    let bytes = atomic_file::read(file_system, path).during("read the producer snapshot", path)?;
    let bad = |reason: &str| LogError::BadFile { path: path.to_owned(), reason: reason.to_owned() };
    decode(&bytes.ok_or_else(|| bad("it is not there"))?).map_err(bad)
}

/// The state as a file has it.
pub(crate) fn encode(state: &ProducerState) -> Vec<u8> {
    let mut producers: Vec<_> = state.entries.iter().collect();
    producers.sort_unstable_by_key(|(producer_id, _)| **producer_id);
    let mut entries = Vec::with_capacity(producers.len() * ENTRY_BYTES);
    for (producer_id, producer) in producers {
        if producer.batches.is_empty() {
            encode_entry(&mut entries, *producer_id, producer, &NO_BATCH);
        }
        for batch in &producer.batches {
            encode_entry(&mut entries, *producer_id, producer, batch);
        }
    }
    let count = (entries.len() / ENTRY_BYTES) as i32;
    let body = [&count.to_be_bytes(), entries.as_slice()].concat();
    [&VERSION.to_be_bytes()[..], &crc32c(&body).to_be_bytes(), &body].concat()
}

fn encode_entry(out: &mut Vec<u8>, producer_id: i64, producer: &ProducerEntry, batch: &BatchEntry) {
    out.extend_from_slice(&producer_id.to_be_bytes());
    out.extend_from_slice(&producer.producer_epoch.to_be_bytes());
    out.extend_from_slice(&batch.last_sequence.to_be_bytes());
    out.extend_from_slice(&batch.last_offset.to_be_bytes());
    out.extend_from_slice(&batch.offset_delta.to_be_bytes());
    out.extend_from_slice(&producer.last_timestamp_ms.to_be_bytes());
    out.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
    out.extend_from_slice(&producer.txn_first_offset.unwrap_or(-1).to_be_bytes());
}

fn decode(bytes: &[u8]) -> Result<ProducerState, &'static str> {
    let mut rest = bytes;
    if take(&mut rest).map(i16::from_be_bytes) != Some(VERSION) {
        return Err("its version is not 1");
    }
    let crc = take(&mut rest).map(u32::from_be_bytes).ok_or("it is cut short")?;
    if crc32c(rest) != crc {
        return Err("its CRC does not fit");
    }
    let count = take(&mut rest).map(i32::from_be_bytes).ok_or("it is cut short")?;
    let (entries, left) = rest.as_chunks::<ENTRY_BYTES>();
    if !left.is_empty() || usize::try_from(count) != Ok(entries.len()) {
        return Err("its length does not fit its count");
    }
    let mut state = ProducerState::default();
    for entry in entries {
        let (producer_id, mut entry) = decode_entry(entry).ok_or("it is cut short")?;
        if let Some(first_offset) = entry.txn_first_offset {
            state.open.insert(first_offset, producer_id);
        }
        if let Some(older) = state.entries.remove(&producer_id) {
            entry.put_before(older);
        }
        state.entries.insert(producer_id, entry);
    }
    Ok(state)
}

fn decode_entry(bytes: &[u8; ENTRY_BYTES]) -> Option<(i64, ProducerEntry)> {
    let mut rest = bytes.as_slice();
    let rest = &mut rest;
    let producer_id = i64::from_be_bytes(take(rest)?);
    let mut entry = ProducerEntry::new(i16::from_be_bytes(take(rest)?));
    let mut last = BatchEntry {
        last_sequence: i32::from_be_bytes(take(rest)?),
        last_offset: i64::from_be_bytes(take(rest)?),
        offset_delta: i32::from_be_bytes(take(rest)?),
        timestamp_ms: -1,
    };
    entry.last_timestamp_ms = i64::from_be_bytes(take(rest)?);
    last.timestamp_ms = entry.last_timestamp_ms;
    entry.coordinator_epoch = i32::from_be_bytes(take(rest)?);
    entry.txn_first_offset = Some(i64::from_be_bytes(take(rest)?)).filter(|offset| *offset >= 0);
    if last.last_offset >= 0 {
        entry.batches.push_back(last);
    }
    Some((producer_id, entry))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}
