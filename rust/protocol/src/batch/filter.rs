//! Dropping records from a batch: what the cleaner of a compacted topic does to it.

use super::builder::put_varlong;
use super::cursor::{Fault, SliceSource, Source};
use super::error::BatchError;
use super::header::{BatchHeader, NO_TIMESTAMP};
use super::open::timestamp_of;
use super::record::{RecordView, read_record};

/// What [`filter`] kept of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// How many records.
    pub count: i32,
    /// Their largest timestamp, -1 without any.
    pub max_timestamp: i64,
    /// Whether one of them has no value.
    pub has_tombstone: bool,
}

/// Appends to `out` those records of `records` (the plain section of a batch with that header, see
/// [`super::section`]) for which `keep` holds. Offsets stay relative to the batch's base offset; timestamps become
/// relative to `base_timestamp`, where that is not the header's.
///
/// # Errors
/// A record that is malformed; `out` then holds those before it.
pub fn filter(
    header: &BatchHeader,
    records: &[u8],
    base_timestamp: i64,
    out: &mut Vec<u8>,
    mut keep: impl FnMut(&RecordView<'_>) -> bool,
) -> Result<Kept, BatchError> {
    let mut kept = Kept { count: 0, max_timestamp: NO_TIMESTAMP, has_tombstone: false };
    let mut source = SliceSource::new(records);
    for index in 0..header.record_count {
        let from = source.rest();
        let raw = read_record(&mut source).map_err(|fault| fault.at(index))?;
        let bytes = from.get(..from.len() - source.rest().len()).unwrap_or_default();
        let record = RecordView {
            offset: header.base_offset.wrapping_add(i64::from(raw.offset_delta)),
            timestamp: timestamp_of(header, raw.timestamp_delta),
            key: raw.key,
            value: raw.value,
            headers: raw.headers,
        };
        if !keep(&record) {
            continue;
        }
        kept.count += 1;
        kept.max_timestamp = kept.max_timestamp.max(record.timestamp);
        kept.has_tombstone |= record.value.is_none();
        if base_timestamp == header.base_timestamp {
            out.extend_from_slice(bytes);
        } else {
            let delta = record.timestamp.wrapping_sub(base_timestamp);
            put_with_delta(bytes, delta, out).map_err(|fault| fault.at(index))?;
        }
    }
    Ok(kept)
}

/// The same record with another timestamp delta.
fn put_with_delta(record: &[u8], delta: i64, out: &mut Vec<u8>) -> Result<(), Fault> {
    let mut source = SliceSource::new(record);
    source.length()?;
    let attributes = source.byte()?;
    source.varlong()?;
    let rest = source.rest();
    let mut coded = Vec::with_capacity(10);
    put_varlong(&mut coded, delta);
    put_varlong(out, (1 + coded.len() + rest.len()) as i64);
    out.push(attributes);
    out.extend_from_slice(&coded);
    out.extend_from_slice(rest);
    Ok(())
}
