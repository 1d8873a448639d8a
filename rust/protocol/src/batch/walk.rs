//! Walking over the records of a batch without keeping them: what validation needs to see of each.

use super::cursor::{Fault, SliceSource, Source, StreamSource};
use super::error::{BatchError, RecordFault};
use super::quick::{Bounds, Run};
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

/// Is told of the records of a batch, in their order.
pub(super) trait Visitor {
    /// What records keep to that need not be looked at one by one.
    fn bounds(&self) -> Bounds;
    /// Some records in a row are within the bounds, and each has the offset of its place. `newest` is the greatest
    /// timestamp delta among them and the index of the first that has it.
    fn pass(&mut self, newest: (i32, i32));
    /// The record `index` may be anything but malformed.
    fn visit(&mut self, index: i32, shape: Shape);
}

/// Tells `visitor` of each of exactly `count` records; they must fill `records` to its end.
/// Compressed records are decompressed as a stream: memory stays at one piece, whatever they expand to.
pub(super) fn walk(
    compression: Compression,
    records: &[u8],
    count: i32,
    visitor: &mut impl Visitor,
) -> Result<(), BatchError> {
    match compression {
        Compression::None => walk_slice(records, count, visitor),
        compressed => walk_stream(Decompressor::new(compressed, records), count, visitor),
    }
}

fn walk_slice(records: &[u8], count: i32, visitor: &mut impl Visitor) -> Result<(), BatchError> {
    let bounds = visitor.bounds();
    let (mut at, mut index) = (0, 0);
    while index < count {
        let run = Run::from(at, index).extend(records, count, bounds);
        if run.index > index {
            visitor.pass(run.newest);
            (at, index) = (run.at, run.index);
            continue;
        }
        let mut source = SliceSource::new(records.get(at..).unwrap_or_default());
        visitor.visit(index, next_in_slice(&mut source).map_err(|fault| fault.at(index))?);
        (at, index) = (records.len() - source.left(), index + 1);
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
    visitor: &mut impl Visitor,
) -> Result<(), BatchError> {
    let bounds = visitor.bounds();
    let mut index = 0;
    while index < count {
        // most records lie whole in the piece at hand
        let piece = stream.fill().map_err(|error| Fault::from(error).at(index))?;
        let run = Run::from(0, index).extend(piece, count, bounds);
        if run.index > index {
            visitor.pass(run.newest);
            stream.advance(run.at);
            index = run.index;
            continue;
        }
        visitor.visit(index, next_in_stream(&mut stream).map_err(|fault| fault.at(index))?);
        index += 1;
    }
    if stream.fill()?.is_empty() { Ok(()) } else { Err(BatchError::Trailing(count)) }
}

fn next_in_stream(stream: &mut Decompressor<'_>) -> Result<Shape, Fault> {
    let ready = stream.fill()?;
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
