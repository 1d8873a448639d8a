//! The files beside the log: indexes, producer snapshots, leader epochs, checkpoints, whose directory it is. Whatever
//! one of them holds, the directory opens or is refused, and what it then says of the log is what the log's own bytes
//! say.
//!
//! Input: which file, how it is changed and the log is opened, a position, bytes.

use crate::input::Input;
use crate::log_files::{NOW_MS, Opened, Opening, WRITTEN, Written, bytes_of, contents, on_disk, open};
use fastlog_log::{LastStop, Log, TimestampedOffset};
use fastlog_protocol::batch::BatchHeader;
use fastlog_protocol::crc::crc32c;
use std::path::{Path, PathBuf};

/// Where a producer snapshot has its CRC, and what the CRC covers begins.
const SNAPSHOT_CRC: std::ops::Range<usize> = 2..6;
const TIME_ENTRY_BYTES: usize = 12;

fn spoilable() -> Vec<&'static PathBuf> {
    WRITTEN.files.keys().filter(|path| !is(path, "log") && !path.ends_with(".lock")).collect()
}

fn is(path: &Path, suffix: &str) -> bool {
    path.extension().is_some_and(|found| found == suffix)
}

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let paths = spoilable();
    let path = paths[input.choice(paths.len())];
    let choices = input.u8();
    let last_stop = match choices & 3 {
        0 => None,
        1 => Some(LastStop::Clean),
        2 => Some(LastStop::ProcessDied),
        _ => Some(LastStop::MachineDied),
    };
    let mut files = WRITTEN.files.clone();
    let file = files.get_mut(path).unwrap();
    if choices & 4 == 0 {
        *file = input.rest().to_vec();
    } else {
        let place = usize::from(input.u16()) % (file.len() + 1);
        let patch = input.rest();
        file.resize(file.len().max(place + patch.len()), 0);
        file[place..place + patch.len()].copy_from_slice(patch);
    }
    if choices & 8 != 0 && is(path, "snapshot") && file.len() > SNAPSHOT_CRC.end {
        let crc = crc32c(&file[SNAPSHOT_CRC.end..]);
        file[SNAPSHOT_CRC].copy_from_slice(&crc.to_be_bytes());
    }
    let hides_younger = is(path, "timeindex") && hides_younger(path, &files[path]);
    let opening = Opening { last_stop, recovery_point: None };
    match open(&on_disk(&files), opening) {
        Ok(opened) => check(&opened, hides_younger),
        Err(error) => assert!(!is_hint(path), "{} is a hint, and yet: {error}", path.display()),
    }
}

/// Whether a time index ends with an entry that is true of its batch, while an older batch is younger: it would take a walk
/// over the whole segment to tell, and no index that was cut, swapped or taken from elsewhere is so. Younger records may
/// be found too late then.
fn hides_younger(path: &Path, bytes: &[u8]) -> bool {
    let (entries, _) = bytes.as_chunks::<TIME_ENTRY_BYTES>();
    let Some([t0, t1, t2, t3, t4, t5, t6, t7, offset @ ..]) = entries.last() else { return false };
    let base: i64 = path.file_stem().and_then(|name| name.to_str()).unwrap().parse().unwrap();
    let offset = base + i64::from(i32::from_be_bytes(*offset));
    let timestamp = i64::from_be_bytes([*t0, *t1, *t2, *t3, *t4, *t5, *t6, *t7]);
    let header = |batch: &Vec<u8>| BatchHeader::parse(batch).unwrap();
    let named = WRITTEN.batches.range(..=offset).next_back().map(|(_, batch)| header(batch));
    let is_true = named.is_some_and(|it| it.last_offset() >= offset && it.max_timestamp == timestamp);
    let mut before = WRITTEN.batches.range(base.min(offset)..offset).map(|(_, batch)| header(batch));
    is_true && before.any(|it| it.max_timestamp > timestamp)
}

/// Whether the log does without the file, at the price of a scan.
fn is_hint(path: &Path) -> bool {
    ["index", "timeindex", "txnindex", "snapshot"].iter().any(|suffix| is(path, suffix))
        || path.ends_with("leader-epoch-checkpoint")
        || path.ends_with("aborted-transactions-checkpoint")
}

fn check(opened: &Opened, hides_younger: bool) {
    let (log, report) = (&opened.log, &opened.report);
    assert!(report.damages.is_empty() && report.cut.is_none(), "the batches are good: {report:?}");
    if log.log_start_offset() > WRITTEN.log_end_offset {
        // the checkpoint says that everything was deleted
        assert_eq!(log.log_end_offset(), log.log_start_offset());
        return;
    }
    assert_eq!(log.log_end_offset(), WRITTEN.log_end_offset);
    check_offsets(log, &WRITTEN);
    if !hides_younger {
        check_timestamps(log, &WRITTEN);
    }
    if log.log_start_offset() == 0 {
        assert_eq!(log.aborted_transactions(0, log.log_end_offset()).unwrap(), WRITTEN.aborted);
    }
    for epoch in -1..4 {
        log.end_offset_for_epoch(epoch).unwrap();
    }
    check_goes_on(log);
}

/// Every offset leads to the batch that holds it, and all that follow are there.
fn check_offsets(log: &Log, written: &Written) {
    for offset in log.log_start_offset()..written.log_end_offset {
        let slice = log.read(offset, 1, written.log_end_offset, true).unwrap().unwrap();
        let (base, expected) = written.batches.range(..=offset).next_back().unwrap();
        let header = BatchHeader::parse(&bytes_of(&slice)).unwrap();
        assert_eq!(header.base_offset, *base, "the batch that holds offset {offset}");
        assert!(bytes_of(&slice).starts_with(expected));
    }
}

fn check_timestamps(log: &Log, written: &Written) {
    let start = log.log_start_offset();
    let records = || (0..).zip(&written.timestamps).skip_while(|(offset, _)| *offset < start);
    let offset_of = |found: Option<TimestampedOffset>| found.map(|found| (found.offset, found.timestamp));
    for asked in [0, NOW_MS - 3].into_iter().chain(written.timestamps.iter().flat_map(|at| [*at, at + 1])) {
        let expected = records().find(|(_, at)| **at >= asked).map(|(offset, at)| (offset, *at));
        let found = log.offset_for_timestamp(asked, written.log_end_offset).unwrap();
        assert_eq!(offset_of(found), expected, "the first record at or after {asked}");
    }
    let newest = records().map(|(_, at)| *at).max();
    let expected = records().find(|(_, at)| Some(**at) == newest).map(|(offset, at)| (offset, *at));
    let found = log.max_timestamp(written.log_end_offset).unwrap();
    // a segment's newest record may have been deleted with those before the log's start
    assert!(start > 0 || offset_of(found) == expected, "the newest record is {expected:?}, not {found:?}");
}

/// A record can be appended, and is there.
fn check_goes_on(log: &Log) {
    let mut builder = fastlog_protocol::batch::Builder::new();
    builder.append(NOW_MS, None, Some(b"one more"));
    let batch = builder.seal(fastlog_protocol::compression::Compression::None).unwrap();
    let appended = log.append(&batch, 5, NOW_MS, Default::default()).unwrap();
    assert_eq!(appended.base_offset, WRITTEN.log_end_offset);
    if log.log_start_offset() == 0 {
        assert_eq!(contents(log).0.len(), WRITTEN.batches.len() + 1);
    }
}

/// Each file as it is, opened in each way, with a bit changed, cut, and empty.
pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, path) in (0..).zip(spoilable()) {
        let bytes = &WRITTEN.files[path];
        for choices in [0, 1, 2, 3, 8] {
            seeds.push([&[number, choices], bytes.as_slice()].concat());
            seeds.push([&[number, choices], &bytes[..bytes.len() / 2]].concat());
            seeds.push(vec![number, choices | 4, 0, 3, 1]);
            seeds.push(vec![number, choices | 4, 255, 255, 0, 0, 0, 0]);
        }
    }
    seeds
}
