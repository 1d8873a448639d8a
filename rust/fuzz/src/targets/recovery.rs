//! A data directory after anything may have happened to its log: bytes changed, cut, added, files gone. It opens or is
//! refused; what is served with a right CRC is what was written, at its offset; and what lies before the first change
//! is all there.
//!
//! Input: how the last run ended, the recovery point, then changes: kind, file, position, bytes or a length.

use crate::input::{Input, counted};
use crate::log_files::{
    Files, NOW_MS, Opened, Opening, WRITTEN, bytes_of, on_disk, open, partition_directory,
};
use fastlog_log::{LastStop, Log, LogError};
use fastlog_protocol::batch::{BatchHeader, Builder, batches, crc_is_valid};
use fastlog_protocol::compression::Compression;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Base offset, length and leader epoch: bytes of a batch that its CRC does not cover.
const UNCHECKED_BYTES: usize = 16;
const CHANGES_MAX: usize = 8;

/// Batches by base offset.
type Served = BTreeMap<i64, Vec<u8>>;

/// What was done to the files.
#[derive(Debug, Default)]
struct Changes {
    /// Of each segment, from where on it is no longer as it was.
    first: BTreeMap<PathBuf, usize>,
    /// Bytes of any segment that were written over.
    ranges: Vec<Range<usize>>,
    /// Bytes came, went or moved, so that positions are no longer what they were.
    moved: bool,
}

impl Changes {
    fn note(&mut self, path: &Path, range: Range<usize>) {
        if is_segment(path) {
            let first = self.first.entry(path.to_owned()).or_insert(range.start);
            *first = range.start.min(*first);
            self.ranges.push(range);
        }
    }

    fn touch(&self, bytes: Range<usize>) -> bool {
        self.ranges.iter().any(|it| it.start < bytes.end && bytes.start < it.end)
    }

    /// Whether the part of a batch that has no checksum may have been changed.
    fn may_misplace(&self, position: usize) -> bool {
        self.touch(position..position + UNCHECKED_BYTES)
    }

    /// Whether all that the checksum of a batch covers came from elsewhere, as from another batch.
    fn may_replace(&self, batch: Range<usize>) -> bool {
        let checked = batch.start + UNCHECKED_BYTES..batch.end;
        self.ranges.iter().any(|it| it.start <= checked.start && checked.end <= it.end)
    }

    /// Whether that of any batch may have been changed.
    fn may_mislead(&self) -> bool {
        self.first.keys().any(|path| {
            let mut position = 0;
            batches(&WRITTEN.files[path]).map_while(Result::ok).any(|batch| {
                let start = position;
                position += batch.len();
                self.may_misplace(start)
            })
        })
    }

    /// Whether the leader epoch of the batch at an offset may be doubted: it is the first of its epoch and the last that was
    /// not changed, and the epochs of more than one behind it may have been.
    fn may_be_doubted(&self, base_offset: i64, untouched: i64) -> bool {
        let epoch = |batch: &Vec<u8>| BatchHeader::parse(batch).unwrap().partition_leader_epoch;
        let batch = &WRITTEN.batches[&base_offset];
        let before = WRITTEN.batches.range(..base_offset).next_back();
        let is_first = before.is_some_and(|(_, before)| epoch(before) != epoch(batch));
        let is_last = BatchHeader::parse(batch).unwrap().next_offset() == untouched;
        is_first && is_last && self.ranges.len() > 1
    }

    /// The offset below which nothing was changed.
    fn untouched_below(&self) -> i64 {
        let mut untouched = WRITTEN.log_end_offset;
        for (path, bytes) in &WRITTEN.files {
            let Some(first) = self.first.get(path) else { continue };
            let mut position = 0;
            for batch in batches(bytes) {
                let batch = batch.unwrap();
                position += batch.len();
                if position > *first {
                    untouched = untouched.min(BatchHeader::parse(batch).unwrap().base_offset);
                    break;
                }
            }
            if position <= *first {
                // bytes were added to the end
                let last = bytes.len().checked_sub(1).map_or(0, |_| end_of(bytes));
                untouched = untouched.min(last);
            }
        }
        untouched
    }
}

/// The offset after the last batch of a segment.
fn end_of(segment: &[u8]) -> i64 {
    let last = batches(segment).last().unwrap().unwrap();
    BatchHeader::parse(last).unwrap().next_offset()
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let last_stop = [LastStop::Clean, LastStop::ProcessDied, LastStop::MachineDied][input.choice(3)];
    let recovery_point = i64::from(input.u8()).min(WRITTEN.log_end_offset);
    let mut files = WRITTEN.files.clone();
    let mut changes = Changes::default();
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        change(&mut files, &mut input, &mut changes);
    }
    let file_system = on_disk(&files);
    let opening = Opening { last_stop: Some(last_stop), recovery_point: Some(recovery_point) };
    let Ok(opened) = open(&file_system, opening) else { return };
    let before = served(&opened.log, &changes);
    check_prefix(&opened, &before, &changes);
    if last_stop != LastStop::MachineDied && recovery_point == 0 {
        check_nothing_else_is_lost(&opened, &before, &changes);
    }
    let before = certain(before, &changes);
    check_goes_on(&opened, &before, &changes);
    let Opened { directory, log, report } = opened;
    // an end that is not known cannot be closed clean
    let closed = log.close(true).is_ok();
    drop((log, directory));
    if closed {
        let opening = Opening { last_stop: Some(LastStop::Clean), recovery_point: None };
        let again = open(&file_system, opening).unwrap_or_else(|error| panic!("not opened again: {error}"));
        let after = served(&again.log, &changes);
        assert_kept(
            &before,
            &after,
            &format!("lost at the second open, after {changes:?} and {report:?}; then {:?}", again.report),
        );
    }
}

fn change(files: &mut Files, input: &mut Input<'_>, changes: &mut Changes) {
    let kind = input.u8();
    let paths: Vec<PathBuf> =
        files.keys().filter(|path| path.starts_with(partition_directory())).cloned().collect();
    if paths.is_empty() {
        return;
    }
    let path = &paths[input.choice(paths.len())];
    let file = files.get_mut(path).unwrap();
    let length = file.len();
    let place = usize::from(input.u16()) % (length + 1);
    changes.moved |= !matches!(kind % 6, 0 | 3);
    match kind % 6 {
        0 => {
            let patch = input.counted();
            changes.moved |= place + patch.len() > length;
            file.resize(length.max(place + patch.len()), 0);
            file[place..place + patch.len()].copy_from_slice(patch);
            changes.note(path, place..place + patch.len());
        }
        1 => {
            file.truncate(place);
            changes.note(path, place..length);
        }
        2 => {
            file.extend_from_slice(input.counted());
            changes.note(path, length..file.len());
        }
        3 => {
            // what was reserved and not written reads as zeros
            let end = (place + usize::from(input.u16())).min(length);
            file[place..end].fill(0);
            changes.note(path, place..end);
        }
        4 => {
            files.remove(path);
            changes.note(path, 0..length);
        }
        _ => {
            // a piece of the same file that lands elsewhere, as blocks do
            let (from, count) = (usize::from(input.u16()) % (length + 1), usize::from(input.u8()));
            let piece = file[from..(from + count).min(length)].to_vec();
            file.resize(length.max(place + piece.len()), 0);
            file[place..place + piece.len()].copy_from_slice(&piece);
            changes.note(path, place..place + piece.len());
        }
    }
}

/// What was not touched is served, up to the first change.
fn check_prefix(opened: &Opened, served: &Served, changes: &Changes) {
    // where the first segments are gone the log starts later
    let untouched = changes.untouched_below().max(opened.log.log_start_offset());
    for (base, batch) in WRITTEN.batches.range(opened.log.log_start_offset()..untouched) {
        let is_whole = BatchHeader::parse(batch).unwrap().next_offset() <= untouched;
        if is_whole && !changes.may_be_doubted(*base, untouched) {
            assert_eq!(
                served.get(base),
                Some(batch),
                "the batch at {base}, before all changes ({untouched})"
            );
        }
    }
}

/// Where every CRC was looked at and only the process may have died, the changed batches alone are not served.
fn check_nothing_else_is_lost(opened: &Opened, served: &Served, changes: &Changes) {
    if changes.moved || changes.may_mislead() {
        return;
    }
    for bytes in WRITTEN.files.iter().filter(|(path, _)| is_segment(path)).map(|(_, bytes)| bytes) {
        let mut position = 0;
        for batch in batches(bytes) {
            let batch = batch.unwrap();
            let base = BatchHeader::parse(batch).unwrap().base_offset;
            let is_touched = changes.touch(position..position + batch.len());
            position += batch.len();
            let what =
                || format!("the batch at {base}, which was not changed: {changes:?}, {:?}", opened.report);
            assert!(is_touched || served.get(&base).is_some_and(|it| it == batch), "{}", what());
        }
    }
}

fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|suffix| suffix == "log")
}

/// All batches that readers are given and whose CRC fits, by base offset. Each was written so.
fn served(log: &Log, changes: &Changes) -> Served {
    let mut served = BTreeMap::new();
    let mut offset = log.log_start_offset();
    // where a base offset leads beyond what was written there is nothing to compare with
    let end = log.log_end_offset().min(WRITTEN.log_end_offset + 1);
    while offset < end {
        match log.read(offset, 1 << 20, log.log_end_offset(), true) {
            Ok(Some(slice)) => {
                let mut position = slice.position as usize;
                let mut next = offset + 1;
                for batch in batches(&bytes_of(&slice)).map_while(Result::ok) {
                    let header = BatchHeader::parse(batch).unwrap();
                    if crc_is_valid(batch) && is_written(&header, batch, position, changes) {
                        served.insert(header.base_offset, batch.to_vec());
                        next = next.max(header.next_offset());
                    }
                    position += batch.len();
                }
                offset = next;
            }
            Ok(None) => break,
            // it need not say where reading can go on, but must not lead past what reads
            Err(LogError::Corrupt { next_readable_offset, .. }) => {
                let next = next_readable_offset.unwrap_or(offset + 1);
                assert!(next > offset, "at {offset} nothing reads, and then it does");
                // a base offset has no checksum: it may lead beyond what there is
                offset = if changes.may_mislead() { offset + 1 } else { next };
            }
            Err(error) => panic!("reading at {offset}: {error}"),
        }
    }
    served
}

/// What must be served again: all, but where batches contradict each other, since which of them is believed depends on
/// where a walk begins.
fn certain(mut served: Served, changes: &Changes) -> Served {
    if changes.moved || changes.may_mislead() {
        let untouched = changes.untouched_below();
        served.retain(|base, _| *base < untouched);
    }
    served
}

/// Whether the batch is at its place. One that is not was never written, which is a finding, or had its base offset
/// changed, which no checksum tells.
fn is_written(header: &BatchHeader, batch: &[u8], position: usize, changes: &Changes) -> bool {
    let same = |written: &Vec<u8>| written[UNCHECKED_BYTES..] == batch[UNCHECKED_BYTES..];
    if header.producer_id == OURS || WRITTEN.batches.get(&header.base_offset).is_some_and(same) {
        return true;
    }
    assert!(WRITTEN.batches.values().any(same), "{header:?} was never written");
    let may_be = changes.may_misplace(position) || changes.may_replace(position..position + batch.len());
    assert!(may_be, "{header:?} is served at another batch's offset");
    false
}

/// The producer of the record that is added after all.
const OURS: i64 = 77;

/// A record can be appended and is there, unless the end of the log is not known.
fn check_goes_on(opened: &Opened, before: &Served, changes: &Changes) {
    let Opened { log, report, .. } = opened;
    let mut builder = Builder::new().producer(OURS, 0, 0);
    builder.append(NOW_MS, None, Some(b"one more"));
    let end = log.log_end_offset();
    if end > WRITTEN.log_end_offset {
        assert!(changes.may_mislead(), "the log ends at {end}: {changes:?}");
        return;
    }
    let Ok(appended) = log.append(&builder.seal(Compression::None).unwrap(), 9, NOW_MS, Default::default())
    else {
        return;
    };
    assert_eq!(appended.base_offset, end);
    let after = served(log, changes);
    assert!(after.contains_key(&end), "what was appended at {end} is not there; {changes:?}, {report:?}");
    assert_kept(before, &after, "lost by an append");
}

fn assert_kept(before: &Served, after: &Served, when: &str) {
    for (offset, batch) in before {
        assert_eq!(after.get(offset), Some(batch), "the batch at {offset} is {when}");
    }
}

/// One change of each kind to each file, at the end and in the middle; and to each part of a batch.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let paths = WRITTEN.files.keys().filter(|path| path.starts_with(partition_directory()));
    let mut seeds = vec![vec![0, 0], vec![1, 0], vec![2, 0], vec![2, 20]];
    for (number, path) in (0..).zip(paths) {
        let bytes = &WRITTEN.files[path];
        let change = |kind: u8, place: usize, patch: &[u8]| {
            let place = (place as u16).to_be_bytes();
            [vec![kind, number, place[0], place[1]], counted(patch), vec![0; 4]].concat()
        };
        let mut changes = Vec::from_iter((0..6).map(|kind| change(kind, bytes.len() / 2, &[1, 2, 3, 4])));
        if is_segment(path) {
            let second = batches(bytes).next().unwrap().unwrap().len();
            // magic, CRC, attributes, last offset delta, count, records
            changes.extend([16, 17, 21, 23, 57, 61].map(|field| change(0, second + field, &[7])));
        }
        for change in changes {
            seeds.extend(
                [[0, 0], [1, 0], [2, 0], [0, 10], [1, 10], [2, 10]].map(|how| [&how, &*change].concat()),
            );
        }
    }
    seeds
}
