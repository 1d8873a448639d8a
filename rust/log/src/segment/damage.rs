//! What is known of bytes that are no batches: noted by recovery, readers and the scrub, forgotten when it is mended.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

use super::Segment;
use super::scan::{self, Bad};
use crate::error::{During, LogError};
use crate::file_system::waiting::leave_unless_waiting;

/// Bytes of a segment that are no batches although batches follow, or were promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) position: u64,
    /// The offset that should be at `position`.
    pub(crate) offset: i64,
    /// The first batch after the damage; `None` when nothing readable follows in this segment.
    pub(crate) next: Option<(u64, i64)>,
    /// The first offset of the next segment, where that is known.
    pub(crate) following: Option<i64>,
    pub(crate) reason: String,
    /// Every batch before it was checked, so it starts where a batch did. A reader that believes a wrong header may see
    /// damage elsewhere.
    pub(crate) is_exact: bool,
    /// The disk cannot read it, as far as was tried.
    pub(crate) is_unreadable: bool,
}

impl Segment {
    /// Notes damage that a read came upon, looking for where reading can go on. `offset` is the one expected at the bad
    /// place.
    pub(crate) fn note_damage(&self, bad: &Bad, offset: i64, leader_epoch: i32) -> Result<Damage, LogError> {
        if let Some(known) = self.damage_starting_at(bad.position) {
            return Ok(known);
        }
        leave_unless_waiting().during("read", self.log.path())?;
        let (file, end) = (self.file()?, self.size());
        let next =
            scan::find_good_batch(&file, self.base_offset, bad.position + 1, end, offset, leader_epoch)
                .during("read", self.log.path())?;
        let next = next.map(|located| (located.position, located.header.base_offset));
        Ok(self.add_damage(bad, offset, next, None))
    }

    /// Keeps in mind that there is damage. `following` is the first offset of a later segment, where reading can go on
    /// when nothing readable follows in this one.
    pub(crate) fn add_damage(
        &self,
        bad: &Bad,
        offset: i64,
        next: Option<(u64, i64)>,
        following: Option<i64>,
    ) -> Damage {
        let damage = Damage {
            position: bad.position,
            offset,
            next,
            following,
            reason: bad.reason.clone(),
            is_exact: false,
            is_unreadable: bad.is_unreadable,
        };
        tracing::error!(error = %self.corrupt(&damage), "damaged segment");
        self.damages.lock().push(damage.clone());
        self.damage_counter.fetch_add(1, AcqRel);
        damage
    }

    /// All damage that is known, by position.
    pub(crate) fn damages(&self) -> Vec<Damage> {
        let mut all = self.damages.lock().clone();
        all.sort_by_key(|known| known.position);
        all
    }

    /// It was moved to another disk, without what the one before could not read, which is in `left_out`: there are zeros,
    /// which can be read, and are damage until they are mended.
    pub(crate) fn moved_without(&self, left_out: &[Damage]) {
        let mut damages = self.damages.lock();
        for damage in left_out {
            if damages.iter().all(|known| known.position != damage.position) {
                damages.push(damage.clone());
            }
        }
        damages.iter_mut().for_each(|known| known.is_unreadable = false);
    }

    /// What was damaged at the position is mended.
    pub(crate) fn forget_damage(&self, position: u64) {
        self.damages.lock().retain(|known| known.position != position);
    }

    /// All batches below `end` were checked, and these are the places where one is bad: there is no other damage there.
    pub(crate) fn set_exact_damages(&self, positions: &[u64], end: u64) {
        self.is_suspect.store(false, Release);
        let mut damages = self.damages.lock();
        damages.retain(|known| known.position >= end || positions.contains(&known.position));
        damages.iter_mut().for_each(|known| known.is_exact |= known.position < end);
    }

    /// The disk could not read a part of it: who mends is to look at all of it, once.
    pub(crate) fn suspect(&self) {
        if !self.is_suspect.swap(true, AcqRel) {
            self.damage_counter.fetch_add(1, AcqRel);
        }
    }

    /// Whether there is something to look at: damage that a reader or recovery came upon, who may have believed a wrong
    /// header and then it begins elsewhere, or what the disk could not read.
    pub(crate) fn is_to_be_located(&self) -> bool {
        self.is_suspect.load(Acquire) || self.damages.lock().iter().any(|damage| !damage.is_exact)
    }

    /// Known damage at a position.
    pub(crate) fn damage_starting_at(&self, position: u64) -> Option<Damage> {
        self.damages.lock().iter().find(|known| known.position == position).cloned()
    }

    /// The position, or the end of the damage in the middle of which it lies: an index leads to batches that were good.
    pub(super) fn beyond_damage(&self, position: u64) -> u64 {
        let around = self.damage_after(position).filter(|damage| damage.position < position);
        around.and_then(|damage| damage.next).map_or(position, |(end, _)| end)
    }

    /// Known damage at an offset.
    pub(super) fn damage_at(&self, offset: i64) -> Option<Damage> {
        let covers =
            |known: &&Damage| known.offset <= offset && known.next.is_none_or(|(_, next)| offset < next);
        self.damages.lock().iter().find(covers).cloned()
    }

    /// The first known damage that ends behind `position`.
    pub(crate) fn damage_after(&self, position: u64) -> Option<Damage> {
        let damages = self.damages.lock();
        let after = damages.iter().filter(|known| known.next.is_none_or(|(end, _)| end > position));
        after.min_by_key(|known| known.position).cloned()
    }

    /// An error for the first damage known, if any.
    pub(crate) fn first_damage(&self) -> Option<LogError> {
        let first = self.damages.lock().iter().min_by_key(|known| known.position).cloned();
        first.map(|damage| self.corrupt(&damage))
    }

    pub(crate) fn corrupt(&self, damage: &Damage) -> LogError {
        LogError::Corrupt {
            path: self.log.path(),
            position: damage.position,
            offset: damage.offset,
            next_readable_offset: damage.next.map(|(_, offset)| offset).or(damage.following),
            reason: damage.reason.clone(),
        }
    }
}
