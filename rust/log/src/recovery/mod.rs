//! Opening a log whose end nobody vouches for.
//!
//! What was synced (below the recovery point) is never cut. Above it, what may be cut depends on how the last run ended:
//!
//! | last stop | first bad batch above the recovery point |
//! |---|---|
//! | clean | damage: nothing is cut (and little is scanned, since the recovery point is the log's end) |
//! | process died | the kernel wrote all that was appended: only a torn last batch is cut, anything else is damage |
//! | machine died | write-back has no order: the log is cut there, even if good batches follow |
//!
//! Damage deletes nothing. The log opens, serves what is readable, and answers KAFKA_STORAGE_ERROR at the damage; where
//! nothing good follows, the end of the log is not known and nothing is appended.
//!
//! Segments in which an earlier start found damage are looked at in full, also below the recovery point.
//!
//! Crash points: a cut removes later segments newest first and shortens the file last, so a crash in between is followed
//! by the same decision.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use fastlog_protocol::batch::BatchHeader;

use crate::epoch_cache::EpochCache;
use crate::error::{During, LogError};
use crate::file_system::FileSystem;
use crate::segment::rescan::Rescan;
use crate::segment::scan::{Bad, Located, find_good_batch};
use crate::segment::{Segment, Trust};

pub(crate) mod damaged_segments;
pub(crate) mod producers;
pub mod report;

pub use report::{Cut, LastStop, RecoveryReport};

/// Of a segment with damage: no batch by its header alone, and no index entry.
const EVERYTHING_CHECKED: Trust = Trust::BatchesBelow(i64::MIN);

/// What is recovered, and by which rules.
pub(crate) struct Recovery<'a> {
    pub(crate) last_stop: LastStop,
    pub(crate) recovery_point: i64,
    pub(crate) interval_bytes: u64,
    pub(crate) file_system: &'a dyn FileSystem,
    pub(crate) directory: &'a Path,
    /// The names in the directory.
    pub(crate) names: &'a [String],
    pub(crate) epochs: &'a mut EpochCache,
    pub(crate) epochs_changed: bool,
    /// The last good batch of those that were walked over.
    pub(crate) last: Option<BatchHeader>,
    /// The offset of the first marker of those; `i64::MAX` without one.
    pub(crate) first_marker: i64,
    pub(crate) report: RecoveryReport,
}

/// The log after recovery.
pub(crate) struct Recovered {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) log_end_offset: i64,
    /// Leader epoch of the last batch; −1 where none was read.
    pub(crate) last_epoch: i32,
    /// The last batch, where it was read.
    pub(crate) last: Option<BatchHeader>,
    /// From where on indexes of aborted transactions may lack entries.
    pub(crate) unsure_from: i64,
    /// Bytes since the active segment's last index entry.
    pub(crate) since_entry: u64,
    /// Why nothing may be appended: the end is damaged.
    pub(crate) sealed: Option<LogError>,
    pub(crate) epochs_changed: bool,
    pub(crate) report: RecoveryReport,
}

/// One segment after its scan.
struct Scanned {
    segment: Arc<Segment>,
    rescan: Rescan,
    /// Why the log is to end where the scan did.
    cut: Option<String>,
    sealed: Option<LogError>,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Cut,
    /// Nothing is deleted; reading goes on at the position and offset.
    Damage(Option<(u64, i64)>),
}

impl Recovery<'_> {
    /// Checks the segments (ascending, at least one) from the recovery point on, completes indexes and epochs, and cuts
    /// a bad end.
    pub(crate) fn run(mut self, mut segments: Vec<Arc<Segment>>) -> Result<Recovered, LogError> {
        let suspects = damaged_segments::read_listed(self.file_system, self.directory, self.names)?;
        let first = self.first_to_scan(&segments);
        for (number, segment) in segments.iter().enumerate().take(first) {
            if suspects.contains(&segment.base_offset) {
                self.segment(segment, segments.split_at(number + 1).1, true)?;
            }
        }
        let mut scanned: Option<Scanned> = None;
        let mut number = first;
        while let Some(segment) = segments.get(number).cloned() {
            if let Some(before) = &mut scanned
                && segment.base_offset > before.rescan.next_offset
                && before.rescan.next_offset >= self.recovery_point
                && self.gap(before, &segment) == Decision::Cut
            {
                break;
            }
            let later = segments.split_at(number + 1).1.to_vec();
            let is_suspect = suspects.contains(&segment.base_offset);
            let found = self.segment(&segment, &later, is_suspect)?;
            number += 1;
            let is_cut = found.cut.is_some();
            scanned = Some(found);
            if is_cut {
                break;
            }
        }
        let gone = segments.split_off(number);
        let last = scanned.ok_or_else(|| LogError::Invalid {
            reason: "a log without segments cannot be recovered".to_owned(),
        })?;
        if let Some(reason) = &last.cut {
            self.cut(&last, &gone, reason.clone())?;
        }
        let damaged = segments.iter().filter(|segment| segment.damage_after(0).is_some());
        let mut damaged: BTreeSet<_> = damaged.map(|segment| segment.base_offset).collect();
        for segment in segments.iter().filter(|it| suspects.contains(&it.base_offset)) {
            // one that was being mended when the process died may be sound in memory, and not yet on the disk
            segment.set_unsynced();
            if segment.sync().is_err() {
                damaged.insert(segment.base_offset);
            }
        }
        if let Err(error) = damaged_segments::replace(self.file_system, self.directory, &suspects, &damaged) {
            tracing::warn!(%error, "the next start will not look for the damage that this one found");
        }
        self.report.log_end_offset = last.rescan.next_offset;
        Ok(Recovered {
            segments,
            log_end_offset: last.rescan.next_offset,
            last_epoch: last.rescan.leader_epoch,
            unsure_from: self.unsure_from(),
            last: self.last,
            since_entry: last.rescan.since_entry,
            sealed: last.sealed,
            epochs_changed: self.epochs_changed,
            report: self.report,
        })
    }

    /// A machine that died lost entries that were not synced, and a process what waited in its memory for room: of markers
    /// above the recovery point, all of which were walked over.
    fn unsure_from(&self) -> i64 {
        match self.last_stop {
            LastStop::Clean => i64::MAX,
            LastStop::ProcessDied | LastStop::MachineDied => self.recovery_point.max(self.first_marker),
        }
    }

    /// The segment after `before` starts later than that ends, above the recovery point: records between them are
    /// missing.
    fn gap(&mut self, before: &mut Scanned, segment: &Segment) -> Decision {
        let end = before.rescan.next_offset;
        let reason = format!("the records up to the next segment's, {}, are missing", segment.base_offset);
        match self.last_stop {
            LastStop::MachineDied => {
                before.cut = Some(reason);
                return Decision::Cut;
            }
            LastStop::ProcessDied => {
                let position = before.rescan.end;
                let bad = Bad { position, claimed_end: None, reason, is_unreadable: false };
                let damage = before.segment.add_damage(&bad, end, None, Some(segment.base_offset));
                self.report.damages.push(before.segment.corrupt(&damage));
            }
            // where the cleaner removed the last batches of a segment
            LastStop::Clean => {}
        }
        Decision::Damage(None)
    }

    /// Segments that end at or below the recovery point are not looked at; the last one always is.
    fn first_to_scan(&self, segments: &[Arc<Segment>]) -> usize {
        let last = segments.len().saturating_sub(1);
        let bases = segments.iter().skip(1).map(|segment| segment.base_offset);
        bases.take_while(|next_base| *next_base <= self.recovery_point).count().min(last)
    }

    /// After the death of the machine indexes of a segment that was written to may be anything; those of a segment with
    /// damage, too.
    fn trust(&self, is_suspect: bool) -> Trust {
        match self.last_stop {
            _ if is_suspect => EVERYTHING_CHECKED,
            LastStop::MachineDied => Trust::BatchesBelow(self.recovery_point),
            LastStop::Clean | LastStop::ProcessDied => Trust::Below(self.recovery_point),
        }
    }

    /// Scans one segment to its end, over damage, and completes its indexes.
    fn segment(
        &mut self,
        segment: &Arc<Segment>,
        later: &[Arc<Segment>],
        is_suspect: bool,
    ) -> Result<Scanned, LogError> {
        let scanned = self.scan(segment, later, self.trust(is_suspect))?;
        if self.last_stop != LastStop::Clean && scanned.cut.is_none() && segment.size() > 0 {
            // blocks reserved for a segment that was active when the run ended; an empty one had none, or the first few
            segment.release_reserved()?;
        }
        if later.is_empty() && self.last_stop == LastStop::MachineDied && scanned.sealed.is_none() {
            // transactions whose markers the machine lost
            let cut = segment.txn_index.truncate_to(scanned.rescan.next_offset);
            cut.during("cut the transaction index of", segment.log.path())?;
        }
        if !later.is_empty() {
            segment.note_newest();
        }
        segment.flush_indexes()?;
        segment.set_loaded();
        if self.last_stop == LastStop::Clean && scanned.rescan.next_offset <= self.recovery_point {
            segment.set_synced();
        }
        Ok(scanned)
    }

    fn scan(
        &mut self,
        segment: &Arc<Segment>,
        later: &[Arc<Segment>],
        mut trust: Trust,
    ) -> Result<Scanned, LogError> {
        let Self { epochs, epochs_changed, last, first_marker, .. } = self;
        let mut observe = |located: &Located| {
            let header = &located.header;
            *last = Some(header.clone());
            if header.attributes.is_control() {
                *first_marker = header.base_offset.min(*first_marker);
            }
            *epochs_changed |= epochs.note_unsure(header.partition_leader_epoch, header.base_offset);
        };
        let mut rescan = if segment.is_loaded() {
            // made just now, or found with nothing in it
            Rescan::of_nothing(segment.base_offset)
        } else {
            segment.rescan(trust, self.interval_bytes, &mut observe)?
        };
        let scanned = |rescan, cut, sealed| Scanned { segment: Arc::clone(segment), rescan, cut, sealed };
        loop {
            let Some((bad, offset)) = rescan.bad.clone() else { return Ok(scanned(rescan, None, None)) };
            if offset < self.recovery_point && trust != EVERYTHING_CHECKED {
                // a header that was believed may have led here, over good batches
                trust = EVERYTHING_CHECKED;
                rescan = segment.rescan(trust, self.interval_bytes, &mut observe)?;
                continue;
            }
            match decide(self.last_stop, self.recovery_point, segment, later, &rescan, &bad, offset)? {
                Decision::Cut => return Ok(scanned(rescan, Some(bad.reason), None)),
                Decision::Damage(next) => {
                    let following = later.iter().find(|segment| segment.size() > 0);
                    let following = following.map(|segment| segment.base_offset);
                    let damage = segment.add_damage(&bad, offset, next, following);
                    self.report.damages.push(segment.corrupt(&damage));
                    let Some((position, offset)) = next else {
                        let sealed = following.is_none().then(|| segment.corrupt(&damage));
                        return Ok(scanned(rescan, None, sealed));
                    };
                    let verify_from = trust.verify_from();
                    rescan = segment.rescan_from(
                        position,
                        Some(offset),
                        verify_from,
                        self.interval_bytes,
                        &mut observe,
                    )?;
                }
            }
        }
    }

    /// Ends the log where the scan of `last` ended, and removes the segments after it. All of it is synced: what is cut
    /// must not come back, in part, beside what is appended from now on.
    fn cut(&mut self, last: &Scanned, gone: &[Arc<Segment>], reason: String) -> Result<(), LogError> {
        let Scanned { segment, rescan, .. } = last;
        for segment in gone.iter().rev() {
            segment.remove_files(self.file_system)?;
        }
        if !gone.is_empty() {
            self.file_system.sync_directory(self.directory).during("sync", self.directory)?;
        }
        let bytes = segment.size().saturating_sub(rescan.end);
        segment.truncate(rescan.end, rescan.next_offset)?;
        segment.sync_batches()?;
        let cut = Cut {
            file: segment.log.path(),
            position: rescan.end,
            offset: rescan.next_offset,
            bytes,
            segments_removed: gone.len(),
            reason,
        };
        tracing::warn!(
            file = %cut.file.display(),
            position = cut.position,
            offset = cut.offset,
            bytes,
            segments_removed = cut.segments_removed,
            reason = cut.reason,
            "cut the end of a log"
        );
        self.report.cut = Some(cut);
        Ok(())
    }
}

/// What to do about bad bytes where `offset` should be.
fn decide(
    last_stop: LastStop,
    recovery_point: i64,
    segment: &Segment,
    later: &[Arc<Segment>],
    rescan: &Rescan,
    bad: &Bad,
    offset: i64,
) -> Result<Decision, LogError> {
    let above = offset >= recovery_point;
    if above && last_stop == LastStop::MachineDied {
        return Ok(Decision::Cut);
    }
    let next = find_good_batch(
        &segment.file()?,
        segment.base_offset,
        bad.position + 1,
        segment.size(),
        offset,
        rescan.leader_epoch,
    )
    .during("read", segment.log.path())?;
    let is_last = next.is_none()
        && bad.claimed_end.is_none_or(|end| end >= segment.size())
        && later.iter().all(|segment| segment.size() == 0);
    if above && last_stop == LastStop::ProcessDied && is_last {
        return Ok(Decision::Cut);
    }
    Ok(Decision::Damage(next.map(|located| (located.position, located.header.base_offset))))
}
