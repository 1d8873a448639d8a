//! The bytes of a file, as the process sees them and as they are on disk.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use super::random::Random;

/// What was not synced is lost by pieces of this size, as by sectors.
const PIECE: usize = 64;
/// A disk fails to read so much at once.
const PAGE: usize = 4096;

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(position, data) => write(bytes, *position, data),
        }
    }
}

fn write(bytes: &mut Vec<u8>, position: usize, data: &[u8]) {
    let end = position + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(position..end) {
        place.copy_from_slice(data);
    }
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: VecDeque<Change>,
    /// How many changes are in `durable`.
    synced: u64,
    /// Where pages begin that cannot be read.
    unreadable: BTreeSet<usize>,
}

impl Contents {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push_back(change);
    }

    pub(super) fn make_unreadable(&mut self, position: usize) {
        self.unreadable.insert(position - position % PAGE);
    }

    /// How many bytes can be read from `position` on.
    pub(super) fn readable_from(&self, position: usize) -> usize {
        let first = self.unreadable.range(position - position % PAGE..).next();
        first.map_or(usize::MAX, |page| page.saturating_sub(position))
    }

    /// Pages that are written whole can be read again; false where a part of an unreadable one is to be written.
    pub(super) fn replace_pages(&mut self, written: Range<usize>) -> bool {
        let pages = self.unreadable.range(written.start - written.start % PAGE..written.end).copied();
        let pages: Vec<_> = pages.collect();
        if pages.iter().any(|page| *page < written.start || written.end - page < PAGE) {
            return false;
        }
        pages.iter().for_each(|page| {
            self.unreadable.remove(page);
        });
        true
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    /// The first `changes` of all are on disk from now on.
    pub(super) fn sync(&mut self, changes: u64) {
        while self.synced < changes
            && let Some(change) = self.unsynced.pop_front()
        {
            change.apply(&mut self.durable);
            self.synced += 1;
        }
    }

    /// Turns the bits of one byte over, wherever it is kept; false where there is none.
    pub(super) fn corrupt(&mut self, position: usize) -> bool {
        let unsynced = std::mem::take(&mut self.unsynced);
        for change in unsynced {
            change.apply(&mut self.durable);
            self.synced += 1;
        }
        if let Some(byte) = self.durable.get_mut(position) {
            *byte = !*byte;
        }
        self.bytes.clone_from(&self.durable);
        position < self.bytes.len()
    }

    /// What was not synced survives piece by piece, or not.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        if self.unsynced.is_empty() {
            return;
        }
        for change in std::mem::take(&mut self.unsynced) {
            self.synced += 1;
            match change {
                Change::Length(_) if random.chance(2) => change.apply(&mut self.durable),
                Change::Length(_) => {}
                Change::Write(position, data) => {
                    let all = random.chance(2);
                    for (piece, bytes) in data.chunks(PIECE).enumerate() {
                        if all || random.chance(2) {
                            write(&mut self.durable, position + piece * PIECE, bytes);
                        }
                    }
                }
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}
