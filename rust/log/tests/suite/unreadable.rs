//! Pages that the disk cannot read: what is in them is damage as turned bytes are, and another copy mends them.

use std::path::Path;

use crate::common::*;
use crate::scrub::{Copy, fetched, scrub, value, wanted};
use fastlog_log::file_system::memory::Faults;
use fastlog_log::{LastStop, LogConfig, LogError};
use fastlog_protocol::ErrorCode;

const SEGMENT: &str = "/data/t-0/00000000000000000000.log";
const PAGE_BYTES: usize = 4096;
/// Several pages of records.
const END: i64 = 400;

fn segments_of(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, ..config() }
}

fn filled() -> Copy {
    filled_by(&segments_of(1 << 20))
}

fn filled_by(config: &LogConfig) -> Copy {
    let copy = Copy::new(config);
    while copy.log.log_end_offset() < END {
        append(&copy.log, &batch(&[&value(copy.log.log_end_offset())])).unwrap();
    }
    copy.log.advance_high_watermark(END);
    copy
}

/// A copy of which the disk cannot read a page.
fn failing(page: usize) -> Copy {
    let copy = filled();
    assert!(copy.files.make_unreadable(Path::new(SEGMENT), page * PAGE_BYTES));
    copy
}

#[test]
fn the_scrub_finds_them_and_all_around_them_is_served() {
    for page in [0, 3] {
        let copy = failing(page);
        let found = scrub(&copy.log);
        let [LogError::Corrupt { offset, next_readable_offset: Some(next), reason, .. }] = &found[..] else {
            panic!("{page}: {found:?}")
        };
        assert_eq!(*reason, format!("the disk could not read its byte {}", page * PAGE_BYTES));
        assert!(next - offset > 10, "{offset} to {next}");
        for refused in [*offset, next - 1] {
            assert_eq!(copy.refused(refused), ErrorCode::KAFKA_STORAGE_ERROR);
        }
        assert_eq!(values_below(&copy.log, 0, *offset, 700).unwrap(), wanted(0, *offset));
        assert_eq!(values_below(&copy.log, *next, END, 700).unwrap(), wanted(*next, END));
        append(&copy.log, &batch(&["more"])).unwrap();
    }
}

#[test]
fn another_copy_mends_them_by_pages_that_are_written_whole() {
    let good = filled();
    for page in [0, 3] {
        let copy = failing(page);
        // a reader comes upon it, and who mends asks for the ranges then
        let told = copy.storage.damages_found();
        let mut at = 0;
        while copy.log.read(at, 1, i64::MAX, true).is_ok() {
            at += 1;
        }
        assert!(copy.storage.damages_found() > told, "nobody would look");
        let ranges = copy.log.damaged_ranges().unwrap();
        let [range] = &ranges[..] else { panic!("{ranges:?}") };
        copy.log.mend(range.offset, &fetched(&good.log, range), NOW_MS).unwrap();
        assert_eq!(copy.log.damaged_ranges().unwrap(), []);
        assert_eq!(values(&copy.log), wanted(0, END));
    }
}

#[test]
fn what_can_be_read_when_it_is_looked_at_is_not_damaged() {
    let copy = failing(0);
    assert!(copy.log.read(0, 1, i64::MAX, true).is_err());
    let found = copy.storage.damages_found();
    assert!(copy.log.read(0, 1, i64::MAX, true).is_err());
    assert_eq!(copy.storage.damages_found(), found, "it is known that there is something to look at");
    assert!(copy.files.make_readable(Path::new(SEGMENT)));
    assert_eq!(copy.log.damaged_ranges().unwrap(), []);
    assert_eq!(values(&copy.log), wanted(0, END));
}

#[test]
fn a_start_has_the_other_segments_and_mends_it() {
    // the last segment is looked at by each start
    let config = segments_of(10_000);
    let (good, copy) = (filled_by(&config), filled_by(&config));
    assert!(copy.files.make_unreadable(Path::new(SEGMENT), PAGE_BYTES));
    assert_eq!(scrub(&copy.log).len(), 1);
    let copy = copy.reopened(&config, LastStop::Clean);
    assert_eq!(values_below(&copy.log, END - 20, END, 700).unwrap(), wanted(END - 20, END));
    assert_eq!(scrub(&copy.log).len(), 1);
    copy.log.advance_high_watermark(END);
    let range = copy.log.damaged_ranges().unwrap().remove(0);
    copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap();
    assert_eq!(values(&copy.log), wanted(0, END));
}

#[test]
fn a_disk_that_cannot_write_them_either_goes_offline() {
    let (good, copy) = (filled(), failing(3));
    scrub(&copy.log);
    let range = copy.log.damaged_ranges().unwrap().remove(0);
    copy.files.set_faults(Faults { write_error: true, ..Faults::default() });
    let error = copy.log.mend(range.offset, &fetched(&good.log, &range), NOW_MS).unwrap_err();
    assert!(error.to_string().contains("could not mend"), "{error}");
    copy.files.set_faults(Faults::default());
    let error = append(&copy.log, &batch(&["more"])).unwrap_err().to_string();
    assert!(error.contains("is offline since a write failed"), "{error}");
}
