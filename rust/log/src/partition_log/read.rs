//! Reading: offset → file, position, length.
//!
//! No bytes are read but those of batch headers on the way; the caller sends the slice by sendfile or reads it. A slice
//! starts at a batch, never runs past the bound, and as a rule ends at a batch (where small batches lie between two
//! index entries it may end inside one, which Kafka's clients expect).

use std::io;
use std::sync::Arc;

use fastlog_protocol::ErrorCode;

use super::Log;
use super::tail::LogPosition;
use crate::error::{During, LogError};
use crate::file_system::{FileHandle, is_disk_bad};
use crate::segment::Segment;
use crate::segment::scan::Step;

/// Bytes of a segment that hold whole batches from `position` on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The segment, open; stays readable when the segment is deleted.
    pub file: Arc<dyn FileHandle>,
    /// The first byte, where a batch starts.
    pub position: u64,
    /// How many bytes; never 0.
    pub length: usize,
    /// The base offset of the segment.
    pub segment_base_offset: i64,
}

/// The tail as it was when a read began.
struct View {
    end: LogPosition,
    start: Option<LogPosition>,
    bound: Option<LogPosition>,
}

impl Log {
    /// The batches from the one that holds `offset` on, up to `max_bytes` and below offset `bound` (exclusive), from
    /// one segment. `at_least_one`: the first batch is given whole even when it is larger than `max_bytes`.
    ///
    /// `None` = nothing to read there yet: at or beyond the bound, or no room for the first batch. An offset below the
    /// log's start or beyond its end is `OffsetOutOfRange`; one that only the object store has is `Tiered`; damaged bytes are `Corrupt`. What cannot be read is logged,
    /// each place once.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        bound: i64,
        at_least_one: bool,
    ) -> Result<Option<Slice>, LogError> {
        match self.read_now(offset, max_bytes, bound, at_least_one) {
            Err(error) if error.is_of_the_look() => Err(error),
            // its segment was deleted and purged between the look and the open
            Err(LogError::Io { .. }) if offset < self.log_start_offset() => {
                self.check_in_range(offset, self.log_end_offset()).map(|()| None)
            }
            // the same after a copy took its place, which is there now; what else fails, fails again
            Err(LogError::Io { .. }) => self.tell(self.read_now(offset, max_bytes, bound, at_least_one)),
            result => self.tell(result),
        }
    }

    fn tell<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        result.inspect_err(|error| {
            if error.code() == ErrorCode::KAFKA_STORAGE_ERROR && !error.is_of_the_look() {
                self.storage().tell_unreadable(error);
            }
        })
    }

    fn read_now(
        &self,
        offset: i64,
        max_bytes: usize,
        bound: i64,
        at_least_one: bool,
    ) -> Result<Option<Slice>, LogError> {
        let view = self.view(offset, bound);
        self.check_in_range(offset, view.end.offset)?;
        let bound = bound.min(view.end.offset);
        if offset >= bound {
            return Ok(None);
        }
        let list = self.segments();
        if offset < list.first_base_offset() && offset < self.tiered_end_offset() {
            return Err(LogError::Tiered { offset, local_start_offset: list.first_base_offset() });
        }
        for (segment, next_base) in list.holding(offset) {
            let within = |error| {
                suspect_if_unreadable(segment, &error);
                led_on_within(error, next_base, view.end.offset)
            };
            let end = self.bound_position(segment, next_base, bound, &view).map_err(within)?;
            if let Some(start) = self.start_position(segment, offset, end, &view).map_err(within)? {
                return slice(segment, start, end, max_bytes, at_least_one).map_err(within);
            }
            // a gap: compaction took the end of this segment
        }
        Ok(None)
    }

    /// About how many bytes a read from `offset` could give below `bound`; cheap, for long polls. 0 = none.
    pub fn available_bytes(&self, offset: i64, bound: i64) -> u64 {
        let view = self.view(offset, bound);
        let bound = bound.min(view.end.offset);
        if offset >= bound || offset < self.log_start_offset() {
            return 0;
        }
        let mut bytes = 0;
        for (segment, next_base) in self.segments().holding(offset) {
            if segment.base_offset >= bound {
                break;
            }
            let end =
                self.bound_position(segment, next_base, bound, &view).unwrap_or_else(|_| segment.size());
            let start = self.start_position(segment, offset.max(segment.base_offset), end, &view);
            // damage counts as something to read: the reader is to hear of it now
            bytes += end.saturating_sub(start.ok().flatten().unwrap_or(0)).max(1);
        }
        bytes
    }

    /// The tail before the segment list: whatever the tail names is then in the list.
    fn view(&self, offset: i64, bound: i64) -> View {
        let tail = self.tail.lock();
        View { end: tail.end(), start: tail.at_or_before(offset), bound: tail.at_or_before(bound) }
    }

    pub(super) fn check_in_range(&self, offset: i64, log_end_offset: i64) -> Result<(), LogError> {
        let log_start_offset = self.log_start_offset();
        if (log_start_offset..=log_end_offset).contains(&offset) {
            return Ok(());
        }
        Err(LogError::OffsetOutOfRange { offset, log_start_offset, log_end_offset })
    }

    /// The byte of `segment` below which all batches are below `bound`.
    fn bound_position(
        &self,
        segment: &Segment,
        next_base: Option<i64>,
        bound: i64,
        view: &View,
    ) -> Result<u64, LogError> {
        if next_base.is_some_and(|next_base| bound >= next_base) {
            return Ok(segment.size());
        }
        if let Some(mark) = view.bound.filter(|mark| mark.is_in(segment)) {
            return Ok(mark.position);
        }
        let is_last = view.end.segment_base == segment.base_offset;
        let end = if is_last { view.end.position } else { segment.size() };
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        match segment.find_batch(bound, end) {
            Ok(located) => Ok(located.map_or(end, |located| located.position)),
            // the bound lies in damaged bytes: what is below it ends where they begin
            Err(LogError::Corrupt { position, .. }) => Ok(position),
            Err(error) => Err(error),
        }
    }

    /// Where the batch that holds `offset` starts, or the first one after it.
    fn start_position(
        &self,
        segment: &Segment,
        offset: i64,
        end: u64,
        view: &View,
    ) -> Result<Option<u64>, LogError> {
        let offset = offset.max(segment.base_offset);
        let is_near =
            |mark: &LogPosition| mark.is_in(segment) && mark.offset <= offset && mark.position < end;
        if let Some(mark) = view.start.filter(is_near) {
            return Ok(Some(mark.position));
        }
        segment.ensure_loaded(self.config().index_interval_bytes)?;
        Ok(segment.find_batch(offset, end)?.map(|located| located.position))
    }
}

/// Where the disk is to blame, who mends is to look at the segment.
fn suspect_if_unreadable(segment: &Segment, error: &LogError) {
    if matches!(error, LogError::Io { source, .. } if is_disk_bad(source)) {
        segment.suspect();
    }
}

/// A base offset has no checksum: what follows the damage may claim one that the next segment has, or beyond the log's
/// end. Reading goes on at the next segment then, if there is one.
fn led_on_within(mut error: LogError, next_base: Option<i64>, log_end_offset: i64) -> LogError {
    if let LogError::Corrupt { next_readable_offset, .. } = &mut error {
        let limit = next_base.unwrap_or(log_end_offset);
        *next_readable_offset = next_readable_offset.filter(|next| *next < limit).or(next_base);
    }
    error
}

fn slice(
    segment: &Segment,
    position: u64,
    end: u64,
    max_bytes: usize,
    at_least_one: bool,
) -> Result<Option<Slice>, LogError> {
    let end = match segment.damage_after(position) {
        // a place that is remembered of the last batches leads here too
        Some(damage) if damage.position <= position => return Err(segment.corrupt(&damage)),
        Some(damage) => end.min(damage.position),
        None => end,
    };
    let end = readable_end(segment, position, end)?;
    let available = end.saturating_sub(position);
    let length = if available <= max_bytes as u64 {
        available
    } else {
        let first = first_batch_bytes(segment, position, end)?;
        match first {
            first if first <= max_bytes as u64 => whole_batches(segment, position, first, max_bytes as u64)?,
            first if at_least_one => first,
            _ => return Ok(None),
        }
    };
    if length == 0 {
        return Ok(None);
    }
    Ok(Some(Slice {
        file: segment.file()?,
        position,
        length: usize::try_from(length).unwrap_or(usize::MAX),
        segment_base_offset: segment.base_offset,
    }))
}

/// Where bytes begin that the disk could not read before, or `end`; an error where the first batch has some of them. Else
/// whoever asks for this partition lost its connection at each answer, and with it the answers of all other partitions.
fn readable_end(segment: &Segment, position: u64, end: u64) -> Result<u64, LogError> {
    let Some(unreadable) = segment.file()?.unreadable_in(position..end) else { return Ok(end) };
    segment.suspect();
    if position + first_batch_bytes(segment, position, end)? <= unreadable {
        return Ok(unreadable);
    }
    let source = io::Error::other(format!("the disk could not read its byte {unreadable}"));
    Err(LogError::io("read", segment.log.path(), source))
}

fn first_batch_bytes(segment: &Segment, position: u64, end: u64) -> Result<u64, LogError> {
    match segment.scan_from(position, end)?.step(i64::MAX).during("read", segment.log.path())? {
        Step::Batch(located) => Ok(located.header.size_bytes() as u64),
        // the bytes changed since they were indexed; let the client see and judge them
        Step::Bad(_) | Step::End => Ok(end - position),
    }
}

/// Cuts at the last batch start that the index knows, so that no half batch is sent only to be thrown away; where the
/// index knows none in range, at the limit itself. Never within the first batch, of `first` bytes: without a whole one
/// a consumer gets nowhere, and an index may be wrong.
fn whole_batches(segment: &Segment, position: u64, first: u64, max_bytes: u64) -> Result<u64, LogError> {
    let cut = segment.offset_index.batch_start_before(position + max_bytes);
    let cut = cut.during("read the index of", segment.log.path())?;
    Ok(if cut >= position + first { cut - position } else { max_bytes })
}
