//! Walking over the records of a batch without keeping them: what validation needs to see of each.

use super::cursor::{Fault, SliceSource, Source, StreamSource};
use super::error::{BatchError, RecordFault};
use super::quick::quick;
use crate::compression::{Compression, Decompressor};

/// What validation looks at in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

/// Reads a record's fields (after its length) and checks that they fill it exactly.
#[inline(always)]
fn read_shape(source: &mut impl Source) -> Result<Shape, Fault> {
    // attributes: unused by Kafka, any value is accepted
    source.byte()?;
    let timestamp_delta = source.varlong()?;
    let offset_delta = source.varint()?;
    let key = source.nullable_length()?;
    source.skip(key.unwrap_or(0))?;
    let value = source.nullable_length()?;
    source.skip(value.unwrap_or(0))?;
    for _ in 0..source.header_count()? {
        let key = source.length()?;
        source.skip(key)?;
        let value = source.nullable_length()?;
        source.skip(value.unwrap_or(0))?;
    }
    if source.left() != 0 {
        return Err(RecordFault::LeftOver.into());
    }
    Ok(Shape { timestamp_delta, offset_delta, has_key: key.is_some() })
}

/// Calls `visit(index, shape)` for each of exactly `count` records; they must fill `records` to its end.
/// Compressed records are decompressed as a stream: memory stays at one piece, whatever they expand to.
pub(super) fn walk(
    compression: Compression,
    records: &[u8],
    count: i32,
    visit: impl FnMut(i32, Shape),
) -> Result<(), BatchError> {
    match compression {
        Compression::None => walk_slice(records, count, visit),
        compressed => walk_stream(Decompressor::new(compressed, records), count, visit),
    }
}

fn walk_slice(records: &[u8], count: i32, mut visit: impl FnMut(i32, Shape)) -> Result<(), BatchError> {
    let mut at = 0;
    for index in 0..count {
        if let Some((shape, next)) = quick(records, at) {
            visit(index, shape);
            at = next;
            continue;
        }
        let mut source = SliceSource::new(records.get(at..).unwrap_or_default());
        visit(index, next_in_slice(&mut source).map_err(|fault| fault.at(index))?);
        at = records.len() - source.left();
    }
    if at == records.len() { Ok(()) } else { Err(BatchError::Trailing(count)) }
}

/// The careful way over a record: every field with its own check and its own error.
pub(super) fn next_in_slice(source: &mut SliceSource<'_>) -> Result<Shape, Fault> {
    let length = source.length()?;
    read_shape(&mut SliceSource::new(source.take(length)?))
}

fn walk_stream(
    mut stream: Decompressor<'_>,
    count: i32,
    mut visit: impl FnMut(i32, Shape),
) -> Result<(), BatchError> {
    for index in 0..count {
        let shape = next_in_stream(&mut stream).map_err(|fault| fault.at(index))?;
        visit(index, shape);
    }
    if stream.fill()?.is_empty() { Ok(()) } else { Err(BatchError::Trailing(count)) }
}

fn next_in_stream(stream: &mut Decompressor<'_>) -> Result<Shape, Fault> {
    // most records lie whole in the piece at hand
    let ready = stream.fill()?;
    if let Some((shape, read)) = quick(ready, 0) {
        stream.advance(read);
        return Ok(shape);
    }
    let mut source = SliceSource::new(ready);
    if let Ok(length) = source.length()
        && let Ok(record) = source.take(length)
    {
        let shape = read_shape(&mut SliceSource::new(record));
        let read = ready.len() - source.left();
        stream.advance(read);
        return shape;
    }
    // this one goes over the end of the piece: field by field
    let length = StreamSource { stream, limit: usize::MAX }.length()?;
    read_shape(&mut StreamSource { stream, limit: length })
}
