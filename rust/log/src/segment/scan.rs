//! Walks the batches of a segment from a position on.

use std::io;
use std::sync::Arc;

use fastlog_protocol::batch::{BatchHeader, HEADER_BYTES, crc_is_valid};

use crate::file_system::{FileHandle, read_exact_at};

/// Read at first, and after a batch that ended beyond the window: headers of large batches lie far apart.
const WINDOW_BYTES_MIN: usize = 4 << 10;
/// Read when batches are small and follow one another, or all bytes are needed.
const WINDOW_BYTES_MAX: usize = 1 << 20;

/// A batch in a file.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Located {
    /// Where the next batch starts.
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.size_bytes() as u64
    }
}

/// Bytes that are no batch where one should start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) position: u64,
    /// Where the batch would end if its header could be believed; `None` when it is no header at all.
    pub(crate) claimed_end: Option<u64>,
    pub(crate) reason: String,
    /// The disk cannot read it: nothing is known of the bytes.
    pub(crate) is_unreadable: bool,
}

/// What came next.
#[derive(Debug)]
pub(crate) enum Step {
    Batch(Located),
    Bad(Bad),
    End,
}

/// A walk over `[position, end)` of one segment.
pub(crate) struct BatchScan {
    file: Arc<dyn FileHandle>,
    base_offset: i64,
    position: u64,
    end: u64,
    /// The offset that the next batch must not be below.
    offset_min: i64,
    /// Whether the next batch follows directly on `offset_min`, unless a cleaner took some between.
    follows: bool,
    leader_epoch: i32,
    window: Vec<u8>,
    window_start: u64,
    window_bytes: usize,
}

impl BatchScan {
    /// `position` must be where a batch starts; `base_offset` is the segment's.
    pub(crate) fn new(file: Arc<dyn FileHandle>, base_offset: i64, position: u64, end: u64) -> Self {
        Self {
            file,
            base_offset,
            position,
            end,
            offset_min: base_offset,
            follows: position == 0,
            leader_epoch: -1,
            window: Vec::new(),
            window_start: 0,
            window_bytes: WINDOW_BYTES_MIN,
        }
    }

    /// The offset that the next batch must not be below.
    pub(crate) fn offset_min(&self) -> i64 {
        self.offset_min
    }

    /// Says what offset the next batch must not be below, where the walk starts in the middle.
    pub(crate) fn expect_offset(&mut self, offset: i64) {
        self.offset_min = offset;
        self.follows = true;
    }

    /// The same, with the leader epoch of the batch before.
    pub(crate) fn expect(&mut self, offset: i64, leader_epoch: i32) {
        self.expect_offset(offset);
        self.leader_epoch = leader_epoch;
    }

    /// Where the next batch starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Leader epoch of the last batch, −1 before the first.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Goes to the next batch, looking at its header alone, or at all of it when it reaches offset `verify_from` or
    /// beyond (`i64::MAX`: never). After `Bad` and `End` the walk stands still.
    pub(crate) fn step(&mut self, verify_from: i64) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        if self.end - self.position < HEADER_BYTES as u64 {
            let left = self.end - self.position;
            return Ok(self.bad(None, format!("{left} bytes are fewer than a batch header")));
        }
        let position = self.position;
        let header = match BatchHeader::parse(self.bytes(position, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(error) => return Ok(self.bad(None, error.to_string())),
        };
        let located = Located { position, header };
        if let Some(reason) = self.implausible(&located.header) {
            return Ok(self.bad(None, reason));
        }
        if located.end() > self.end {
            let missing = located.end() - self.end;
            return Ok(self.bad(Some(located.end()), format!("the batch is cut short by {missing} bytes")));
        }
        let verify = located.header.last_offset() >= verify_from || self.claims_what_follows(&located)?;
        if verify && !crc_is_valid(self.bytes(position, located.header.size_bytes())?) {
            return Ok(self.bad(Some(located.end()), "the CRC of the batch does not fit".to_owned()));
        }
        let contradiction = match self.contradicted(&located)? {
            None => self.contradicted_epoch(&located)?,
            found => found,
        };
        if let Some(reason) = contradiction {
            return Ok(self.bad(Some(located.end()), reason));
        }
        self.position = located.end();
        self.follows = true;
        self.offset_min = located.header.next_offset();
        self.leader_epoch = located.header.partition_leader_epoch;
        Ok(Step::Batch(located))
    }

    /// All bytes of a batch that `step` gave.
    pub(crate) fn batch(&mut self, located: &Located) -> io::Result<&[u8]> {
        self.bytes(located.position, located.header.size_bytes())
    }

    /// What cannot be true of a header at this place, though each field alone could be.
    fn implausible(&self, header: &BatchHeader) -> Option<String> {
        if header.base_offset < self.offset_min {
            return Some(format!("base offset {} is below {}", header.base_offset, self.offset_min));
        }
        if header.last_offset_delta < 0 {
            return Some(format!("the last offset delta is {}", header.last_offset_delta));
        }
        if header.last_offset_delta < header.record_count.saturating_sub(1) {
            let offsets = i64::from(header.last_offset_delta) + 1;
            return Some(format!("{} records are said to lie at {offsets} offsets", header.record_count));
        }
        (header.last_offset() - self.base_offset > i64::from(i32::MAX))
            .then(|| format!("offset {} does not belong in this segment", header.last_offset()))
    }

    /// Whether the next batch begins at an offset that this one claims: then its checksum tells which of them is wrong.
    /// Only where a cleaner took records, or a number is wrong, are there more offsets than records.
    fn claims_what_follows(&mut self, located: &Located) -> io::Result<bool> {
        let header = &located.header;
        let end = located.end();
        if header.last_offset_delta < header.record_count || self.end - end < HEADER_BYTES as u64 {
            return Ok(false);
        }
        let next = BatchHeader::parse(self.bytes(end, HEADER_BYTES)?);
        Ok(next.is_ok_and(|next| next.base_offset < header.next_offset()))
    }

    /// The base offset has no checksum. One that leaves a gap before it, while the next batch, if its checksum fits, lies
    /// within what it claims and would fit here without the gap, is wrong.
    fn contradicted(&mut self, located: &Located) -> io::Result<Option<String>> {
        let header = &located.header;
        let end = located.end();
        let leaves_gap = self.follows && header.base_offset > self.offset_min;
        if !leaves_gap || self.end - end < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let Ok(next) = BatchHeader::parse(self.bytes(end, HEADER_BYTES)?) else { return Ok(None) };
        let fits = self.offset_min + i64::from(header.last_offset_delta) + 1;
        let is_wrong =
            (fits..header.next_offset()).contains(&next.base_offset) && self.is_good(end, &next)?;
        Ok(is_wrong.then(|| {
            format!(
                "base offset {} does not lie between {} and the next batch's {}",
                header.base_offset, self.offset_min, next.base_offset
            )
        }))
    }

    /// Nor has the leader epoch one, which never goes down in a log: one that differs from that of the batch before, while
    /// the next batch's goes with that, is wrong. Unless the one after that has the new epoch: then the next one's is.
    fn contradicted_epoch(&mut self, located: &Located) -> io::Result<Option<String>> {
        let (before, epoch) = (self.leader_epoch, located.header.partition_leader_epoch);
        let end = located.end();
        if before < 0 || epoch == before || self.end - end < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let Ok(next) = BatchHeader::parse(self.bytes(end, HEADER_BYTES)?) else { return Ok(None) };
        let after = next.partition_leader_epoch;
        let is_contradicted = if epoch > before { (before..epoch).contains(&after) } else { after >= before };
        // an older batch may have been copied there
        let follows = next.base_offset >= located.header.next_offset();
        let is_wrong = is_contradicted
            && follows
            && self.is_good(end, &next)?
            && !(epoch > before && self.has_epoch(end + next.size_bytes() as u64, &next, epoch)?);
        Ok(is_wrong.then(|| format!("the leader epoch {epoch} does not lie between {before} and {after}")))
    }

    /// Whether the batch at `position`, behind `before`, has that leader epoch or a later one.
    fn has_epoch(&mut self, position: u64, before: &BatchHeader, epoch: i32) -> io::Result<bool> {
        if self.end.saturating_sub(position) < HEADER_BYTES as u64 {
            return Ok(false);
        }
        let Ok(header) = BatchHeader::parse(self.bytes(position, HEADER_BYTES)?) else { return Ok(false) };
        let follows = header.base_offset >= before.next_offset();
        Ok(follows && header.partition_leader_epoch >= epoch && self.is_good(position, &header)?)
    }

    /// Whether a batch lies whole at `position` and its checksum fits: garbage is no witness against the batch before it.
    fn is_good(&mut self, position: u64, header: &BatchHeader) -> io::Result<bool> {
        let bytes = header.size_bytes();
        Ok(self.end - position >= bytes as u64 && crc_is_valid(self.bytes(position, bytes)?))
    }

    fn bad(&self, claimed_end: Option<u64>, reason: String) -> Step {
        Step::Bad(Bad { position: self.position, claimed_end, reason, is_unreadable: false })
    }

    /// `count` bytes from `position` on, which must lie within the file.
    fn bytes(&mut self, position: u64, count: usize) -> io::Result<&[u8]> {
        let in_window = |scan: &Self| {
            let start = usize::try_from(position.checked_sub(scan.window_start)?).ok()?;
            (start.checked_add(count)? <= scan.window.len()).then_some(start)
        };
        let start = match in_window(self) {
            Some(start) => start,
            None => {
                self.fill(position, count)?;
                0
            }
        };
        Ok(self.window.get(start..start + count).unwrap_or_default())
    }

    fn fill(&mut self, position: u64, count: usize) -> io::Result<()> {
        let follows = position <= self.window_start + self.window.len() as u64;
        self.window_bytes =
            if follows { (self.window_bytes * 2).min(WINDOW_BYTES_MAX) } else { WINDOW_BYTES_MIN };
        let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
        self.window.resize(count.max(self.window_bytes).min(left.max(count)), 0);
        self.window_start = position;
        let mut result = read_exact_at(&*self.file, &mut self.window, position);
        if result.is_err() && self.window.len() > count {
            // the disk may be unable to read what nobody asked for yet
            self.window.truncate(count);
            result = read_exact_at(&*self.file, &mut self.window, position);
        }
        if result.is_err() {
            self.window.clear();
        }
        result
    }
}

/// The first whole batch with a right CRC that starts at `from` or later and has a base offset of at least
/// `offset_min`: where reading can go on after damage. Looks at every byte, so only after damage.
///
/// A value may hold a record batch of its own (a copy of another log): the offset and the leader epoch must be ones
/// that could follow here, which tells such a batch from ours in all but contrived cases.
pub(crate) fn find_good_batch(
    file: &Arc<dyn FileHandle>,
    base_offset: i64,
    from: u64,
    end: u64,
    offset_min: i64,
    leader_epoch_min: i32,
) -> io::Result<Option<Located>> {
    let window_bytes = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX).min(WINDOW_BYTES_MAX);
    let mut window = vec![0; window_bytes];
    let mut start = from;
    while start + HEADER_BYTES as u64 <= end {
        let count = usize::try_from(end - start).unwrap_or(usize::MAX).min(WINDOW_BYTES_MAX);
        let chunk = window.get_mut(..count).unwrap_or_default();
        read_exact_at(&**file, chunk, start)?;
        for (place, bytes) in chunk.windows(HEADER_BYTES).enumerate() {
            // the magic byte is the cheapest test
            if bytes.get(16) != Some(&2) {
                continue;
            }
            let Ok(header) = BatchHeader::parse(bytes) else { continue };
            if header.base_offset < offset_min || header.partition_leader_epoch < leader_epoch_min {
                continue;
            }
            let position = start + place as u64;
            let mut scan = BatchScan::new(Arc::clone(file), base_offset, position, end);
            if let Step::Batch(located) = scan.step(i64::MIN)? {
                return Ok(Some(located));
            }
        }
        start += (count - HEADER_BYTES + 1) as u64;
    }
    Ok(None)
}
