//! The scrub: all batches of a log are read, and their CRCs and offsets checked, before anybody needs them.
//!
//! What is bad is noted with the segment, as a reader or recovery would: from then on it is not served, and what lies
//! before and behind it is. So is what the disk cannot read. Nothing is written but the list `damaged-segments`.

use std::io;
use std::sync::Arc;

use fastlog_protocol::batch::{BatchHeader, HEADER_BYTES, crc_is_valid};

use super::Log;
use super::tail::LogPosition;
use crate::cleaner::{Pace, Unpaced};
use crate::error::{During, LogError};
use crate::file_system::{FileHandle, OpenMode, ReadablePart, UnseenFile, is_disk_bad, read_exact_at};
use crate::recovery::damaged_segments;
use crate::segment::scan::{Bad, BatchScan, Located, Step, find_good_batch};
use crate::segment::{Damage, Segment};

/// Bytes between two looks at the pace.
const PACE_BYTES: u64 = 256 << 10;
/// How often a segment is begun anew that changed meanwhile.
const TRIES: usize = 10;

/// What a look at one segment found.
#[derive(Debug)]
pub struct Scrubbed {
    /// Where the next segment starts; `None` after the last one.
    pub next: Option<i64>,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Damage that was not known before; `Corrupt` each.
    pub damages: Vec<LogError>,
}

/// One segment, and how far it is to be checked.
struct Scrub<'a> {
    log: &'a Log,
    segment: &'a Arc<Segment>,
    file: Arc<dyn FileHandle>,
    end: u64,
    /// No batch below `end` reaches beyond this: the log's end for the active segment, else where the next one starts.
    end_offset: Option<i64>,
    is_active: bool,
    /// The cleaner's count of changes, with our own since the walk began.
    changes: u64,
    /// Where batches are bad.
    bad: Vec<u64>,
    done: Scrubbed,
}

enum Went {
    Through,
    /// The log was cut or closed meanwhile: what was read may have been anything.
    Astray,
}

impl Log {
    /// Checks all batches of the first segment that starts at `from` or later, of the active one those that are there now.
    /// `None` when there is no such segment, or `pace` says stop. Blocks on the disk; appends and readers go on, and the
    /// page cache keeps what it had.
    ///
    /// # Errors
    /// `Io` where the segment cannot be read at all. Damage is no error, nor are pages that the disk cannot read: see
    /// [`Scrubbed::damages`].
    pub fn scrub_segment(&self, from: i64, pace: &dyn Pace) -> Result<Option<Scrubbed>, LogError> {
        for _ in 0..TRIES {
            let changes = self.cleaner().changes();
            // the tail before the list: whatever it names is then in the list
            let tail = self.tail.lock().end();
            let list = self.segments();
            let found = list.with_next().find(|(segment, _)| segment.base_offset >= from);
            let Some((segment, next)) = found else { return Ok(None) };
            match self.scrub_one(segment, next, tail, changes, pace) {
                Ok(None) => return Ok(None),
                Ok(Some((Went::Through, done))) => return Ok(Some(done)),
                Ok(Some((Went::Astray, _))) => {}
                // it was deleted, replaced by a copy, or cut
                Err(LogError::Io { .. }) if !self.has(segment) || self.was_changed_since(changes) => {}
                Err(error) => return Err(error),
            }
            if !pace.go_on(0) {
                return Ok(None);
            }
        }
        // a log that is cut all the time has its turn later
        Ok(self.next_segment(from).map(|next| Scrubbed { next, bytes: 0, damages: Vec::new() }))
    }

    /// The same of the segment that holds an offset.
    pub fn scrub_segment_of(&self, offset: i64, pace: &dyn Pace) -> Result<Option<Scrubbed>, LogError> {
        self.segment_of(offset).map_or(Ok(None), |base_offset| self.scrub_segment(base_offset, pace))
    }

    /// Where the segment starts that holds an offset.
    pub fn segment_of(&self, offset: i64) -> Option<i64> {
        self.segments().holding(offset).next().map(|(segment, _)| segment.base_offset)
    }

    /// Looks at the batch that holds an offset, since somebody was sent it and doubts it: `None` where its CRC is right, or
    /// where readers are told already why there is nothing. Else the damage that was not known before, `Corrupt` each, which
    /// is not served from now on; where it ends exactly, and what else is bad, a scrub of the segment finds. So it does
    /// where the disk cannot read what is there (EIO), and nothing else is known. Blocks on the disk, for one batch.
    ///
    /// # Errors
    /// `Io` where the batch cannot be read, and not since the disk is bad: nothing is known of it.
    pub fn look_at(&self, offset: i64) -> Result<Option<Vec<LogError>>, LogError> {
        let changes = self.cleaner().changes();
        let slice = match self.read(offset, 1, i64::MAX, true) {
            Ok(Some(slice)) => slice,
            Err(LogError::Io { source, .. }) if is_disk_bad(&source) => return Ok(Some(Vec::new())),
            Err(error @ LogError::Io { .. }) => return Err(error),
            Ok(None) | Err(_) => return Ok(None),
        };
        let mut batch = vec![0; slice.length];
        match read_exact_at(&*slice.file, &mut batch, slice.position) {
            Ok(()) if crc_is_valid(&batch) => return Ok(None),
            // a truncation took it
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) if !is_disk_bad(&error) => return Err(error).during("read", self.directory()),
            _ => {}
        }
        let tail = self.tail.lock().end();
        let list = self.segments();
        let found = list.with_next().find(|(it, _)| it.base_offset == slice.segment_base_offset);
        let Some((segment, next)) = found else { return Ok(None) };
        let Some(mut scrub) = self.begin_scrub(segment, next, tail, changes)? else { return Ok(None) };
        // the number has no checksum, nor has the disk to give it; whoever looks at the whole segment knows better
        let first = BatchHeader::parse(&batch).map_or(offset, |it| it.base_offset.min(offset));
        scrub.note_damage(slice.position, first, self.epoch_for_offset(offset).unwrap_or(-1))?;
        Ok(Some(scrub.done.damages))
    }

    /// Waits for who is at it now, which began before.
    fn was_changed_since(&self, changes: u64) -> bool {
        let _nobody_cuts = self.cleaner().stop();
        self.cleaner().changes() != changes + 1
    }

    /// Where the segment starts that comes after the one that [`Log::scrub_segment`] would check.
    pub fn segment_after(&self, from: i64) -> Option<i64> {
        self.next_segment(from).flatten()
    }

    fn next_segment(&self, from: i64) -> Option<Option<i64>> {
        let list = self.segments();
        list.with_next().find(|(segment, _)| segment.base_offset >= from).map(|(_, next)| next)
    }

    /// Checks those segments in which a reader or recovery came upon damage, or upon what the disk cannot read.
    pub(super) fn locate_damage(&self) -> Result<(), LogError> {
        let list = self.segments();
        let bases: Vec<_> = list.iter().filter(|it| it.is_to_be_located()).map(|it| it.base_offset).collect();
        for base_offset in bases {
            self.scrub_segment(base_offset, &Unpaced)?;
        }
        Ok(())
    }

    pub(super) fn has(&self, segment: &Arc<Segment>) -> bool {
        self.segments().iter().any(|it| Arc::ptr_eq(it, segment))
    }

    fn scrub_one(
        &self,
        segment: &Arc<Segment>,
        next: Option<i64>,
        tail: LogPosition,
        changes: u64,
        pace: &dyn Pace,
    ) -> Result<Option<(Went, Scrubbed)>, LogError> {
        let Some(mut scrub) = self.begin_scrub(segment, next, tail, changes)? else {
            return Ok(Some((Went::Through, Scrubbed { next, bytes: 0, damages: Vec::new() })));
        };
        let went = scrub.run(pace)?;
        Ok(went.map(|went| (went, scrub.done)))
    }

    /// `None` where nothing is in the segment.
    fn begin_scrub<'a>(
        &'a self,
        segment: &'a Arc<Segment>,
        next: Option<i64>,
        tail: LogPosition,
        changes: u64,
    ) -> Result<Option<Scrub<'a>>, LogError> {
        let is_active = next.is_none();
        // a roll between the two looks leaves an empty one, which the next pass checks
        let is_tail = tail.segment_base == segment.base_offset;
        let end = match is_active {
            true if is_tail => tail.position,
            true => 0,
            false => segment.size(),
        };
        if end == 0 {
            return Ok(None);
        }
        let path = segment.log.path();
        let file = self.storage().file_system.open(&path, OpenMode::Read).during("open", &path)?;
        let file: Arc<dyn FileHandle> = Arc::new(ReadablePart::new(Arc::new(UnseenFile::new(file))));
        let end_offset = if is_active { Some(tail.offset) } else { next };
        let done = Scrubbed { next, bytes: 0, damages: Vec::new() };
        let bad = Vec::new();
        Ok(Some(Scrub { log: self, segment, file, end, end_offset, is_active, changes, bad, done }))
    }

    /// Writes down which segments have damage that is known now. Under the cleaner's lock. What the disk cannot read is not
    /// among it: the next start would try, and have none of the log. (A move to another disk lists that too.)
    pub(super) fn list_damaged_segments(&self) {
        let (file_system, directory) = (&*self.storage().file_system, self.directory());
        let list = self.segments();
        let is_damaged = |segment: &&Arc<Segment>| segment.damages().iter().any(|it| !it.is_unreadable);
        let damaged = list.iter().filter(is_damaged).map(|segment| segment.base_offset).collect();
        let written = damaged_segments::read(file_system, &directory)
            .and_then(|known| damaged_segments::replace(file_system, &directory, &known, &damaged));
        if let Err(error) = written {
            tracing::warn!(%error, "the next start will not look for the damage that is known now");
        }
    }
}

impl Scrub<'_> {
    /// `None` = stopped by `pace`.
    fn run(&mut self, pace: &dyn Pace) -> Result<Option<Went>, LogError> {
        let mut scan = self.scan_from(0);
        let mut unpaced = 0;
        loop {
            let (at, offset, leader_epoch) = (scan.position(), scan.offset_min(), scan.leader_epoch());
            match self.step(&mut scan)? {
                Step::End => break,
                Step::Batch(located) => {
                    unpaced += located.header.size_bytes() as u64;
                    if unpaced >= PACE_BYTES {
                        self.done.bytes += unpaced;
                        if !pace.go_on(std::mem::take(&mut unpaced)) {
                            return Ok(None);
                        }
                    }
                }
                Step::Bad(_) => {
                    let Some(damage) = self.note_damage(at, offset, leader_epoch)? else {
                        return Ok(Some(Went::Astray));
                    };
                    self.bad.push(at);
                    let Some((position, offset)) = damage.next else { break };
                    scan = self.scan_from(position);
                    scan.expect_offset(offset);
                }
            }
        }
        self.segment.set_exact_damages(&self.bad, self.end);
        self.done.bytes += unpaced;
        Ok(pace.go_on(unpaced).then_some(Went::Through))
    }

    fn scan_from(&self, position: u64) -> BatchScan {
        BatchScan::new(Arc::clone(&self.file), self.segment.base_offset, position, self.end)
    }

    /// The next batch, all of it. Its base offset has no checksum, but has to agree with what the log knows.
    fn step(&self, scan: &mut BatchScan) -> Result<Step, LogError> {
        let step = scan.step(i64::MIN).during("read", self.segment.log.path())?;
        if let Some(bad) = self.unreadable(&step) {
            return Ok(Step::Bad(bad));
        }
        let Step::Batch(located) = &step else { return Ok(step) };
        let (header, end_offset) = (&located.header, self.end_offset.unwrap_or(i64::MAX));
        if header.next_offset() <= end_offset {
            return Ok(step);
        }
        let reason = format!("the batch reaches to offset {}, beyond {end_offset}", header.last_offset());
        let (position, claimed_end) = (located.position, Some(located.end()));
        Ok(Step::Bad(Bad { position, claimed_end, reason, is_unreadable: false }))
    }

    /// Where the disk cannot read all of a batch. The whole of it is bad then, also where zeros would do: it is mended by
    /// pages that are written whole, for a part of one has to be read before.
    fn unreadable(&self, step: &Step) -> Option<Bad> {
        let (position, claimed_end) = match step {
            Step::Batch(located) => (located.position, Some(located.end())),
            Step::Bad(bad) => (bad.position, bad.claimed_end),
            Step::End => return None,
        };
        let end = claimed_end.unwrap_or(position + HEADER_BYTES as u64);
        let byte = self.file.unreadable_in(position..end)?;
        let reason = format!("the disk could not read its byte {byte}");
        Some(Bad { position, claimed_end, reason, is_unreadable: true })
    }

    /// Looks once more at what seems bad, while nobody can cut the log, and notes it. `None` where it was cut, closed or
    /// cleaned since the walk began.
    fn note_damage(
        &mut self,
        position: u64,
        offset: i64,
        leader_epoch: i32,
    ) -> Result<Option<Damage>, LogError> {
        let _nobody_cuts = self.log.cleaner().stop();
        // one when it began, one when it will end
        let is_changed = self.log.cleaner().changes() != self.changes + 1;
        self.changes += 2;
        if is_changed || !self.log.has(self.segment) {
            return Ok(None);
        }
        let known = self.segment.damage_starting_at(position);
        if known.as_ref().is_some_and(|known| known.is_exact) {
            return Ok(known);
        }
        let mut scan = self.scan_from(position);
        scan.expect(offset, leader_epoch);
        let Step::Bad(bad) = self.step(&mut scan)? else { return Ok(None) };
        let next = self.good_after(position, offset, leader_epoch)?;
        let (next, following) = match (next, self.end_offset) {
            (Some(good), _) => (Some((good.position, good.header.base_offset)), None),
            // where the log ends, or did just now, is known whatever the batches say
            (None, Some(end_offset)) if self.is_active => (Some((self.end, end_offset)), None),
            (None, end_offset) => (None, end_offset),
        };
        if known.as_ref().is_some_and(|known| known.next == next) {
            return Ok(known);
        }
        // recovery may have taken a wrong offset behind it for a right one
        self.segment.forget_damage(position);
        let damage = self.segment.add_damage(&bad, offset, next, following);
        self.done.damages.push(self.segment.corrupt(&damage));
        self.log.list_damaged_segments();
        Ok(Some(damage))
    }

    /// The first good batch behind the bad one at `position`, where `offset` should be.
    fn good_after(&self, position: u64, offset: i64, leader_epoch: i32) -> Result<Option<Located>, LogError> {
        let (path, base_offset) = (self.segment.log.path(), self.segment.base_offset);
        let mut from = position + 1;
        loop {
            let found = find_good_batch(&self.file, base_offset, from, self.end, offset, leader_epoch);
            let Some(found) = found.during("read", &path)? else { return Ok(None) };
            let mut scan = self.scan_from(found.position);
            scan.expect(offset, leader_epoch);
            if let Step::Batch(located) = self.step(&mut scan)? {
                return Ok(Some(located));
            }
            // a right CRC, and a wrong offset
            from = found.position + 1;
        }
    }
}
