//! What a leader sends, with a bit that turned on its disk: no CRC covers a batch's base offset and leader epoch.

use crate::common::*;
use crate::compaction_model::open_from;
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{LastStop, Log, LogConfig};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::{BatchHeader, Builder};
use fastlog_protocol::compression::Compression;

const RECORDS: i64 = 3;
const LEADER_EPOCH: i32 = 5;
/// Of the batches of a log.
const EPOCHS: [i32; 6] = [2, 2, 2, 5, 5, 5];

/// The batch of that number; `gap`: so many offsets before it went in a cleaning.
fn sent(number: usize, gap: i64) -> Vec<u8> {
    let base_offset = number as i64 * RECORDS + gap;
    let mut builder = Builder::new().base_offset(base_offset).leader_epoch(EPOCHS[number]);
    for offset in base_offset..base_offset + RECORDS {
        builder.append(NOW_MS, None, Some(format!("value-{offset}").as_bytes()));
    }
    builder.seal(Compression::None).unwrap()
}

/// A follower that has the first batch.
fn follower() -> Log {
    let log = open_from(&MemoryFileSystem::new(0), LogConfig::default(), 0, 0, LastStop::Clean).unwrap();
    log.append_replica(&sent(0, 0), LEADER_EPOCH, NOW_MS).unwrap();
    log
}

/// All that the log holds is what the leader wrote, and the rest can be appended.
fn check_and_go_on(log: &Log, what: &str) {
    let end = log.log_end_offset();
    assert_eq!(values(log), expected(0, end), "{what}");
    let rest: Vec<u8> = ((end / RECORDS) as usize..EPOCHS.len()).flat_map(|it| sent(it, 0)).collect();
    log.append_replica(&rest, LEADER_EPOCH, NOW_MS).unwrap();
    assert_eq!(values(log), expected(0, EPOCHS.len() as i64 * RECORDS), "{what}");
    for (number, epoch) in EPOCHS.iter().enumerate() {
        assert_eq!(log.epoch_for_offset(number as i64 * RECORDS), Some(*epoch), "{what}");
    }
}

#[test]
fn no_bit_that_turned_is_appended_by_a_follower() {
    let answer: Vec<Vec<u8>> = (1..EPOCHS.len()).map(|it| sent(it, 0)).collect();
    for (number, batch) in answer.iter().enumerate() {
        for bit in 0..batch.len() * 8 {
            let mut turned = answer.clone();
            turned[number][bit / 8] ^= 1 << (bit % 8);
            let log = follower();
            let taken = log.append_replica(&turned.concat(), LEADER_EPOCH, NOW_MS);
            let what = format!("bit {bit} of batch {number}: {taken:?}");
            let whole = EPOCHS.len() as i64 * RECORDS;
            let epoch = BatchHeader::parse(&turned[number]).map_or(0, |it| it.partition_leader_epoch);
            let is_between = (3..=LEADER_EPOCH).contains(&epoch) && (12..16).contains(&(bit / 8));
            if (1..=2).contains(&number) && is_between {
                // where epoch 2 ends nobody can tell: a later one may have begun there
                assert_eq!(values(&log), expected(0, whole), "{what}");
                continue;
            }
            assert!(log.log_end_offset() < whole, "it was taken: {what}");
            check_and_go_on(&log, &what);
        }
    }
}

#[test]
fn a_base_offset_or_an_epoch_that_turned_is_told_as_a_bad_checksum_is() {
    let answer: Vec<Vec<u8>> = (1..EPOCHS.len()).map(|it| sent(it, 0)).collect();
    let code = |number: usize, byte: usize, mask: u8| {
        let mut turned = answer.clone();
        turned[number][byte] ^= mask;
        follower().append_replica(&turned.concat(), LEADER_EPOCH, NOW_MS).map_err(|error| error.code)
    };
    // up, far up, and (all but the first, which the leader looked for) down
    for number in 0..4 {
        assert_eq!(code(number, 7, 0x40), Err(ErrorCode::CORRUPT_MESSAGE), "{number}");
        assert_eq!(code(number, 1, 0x40), Err(ErrorCode::CORRUPT_MESSAGE), "{number}");
    }
    assert_eq!(code(1, 7, 0x02), Err(ErrorCode::CORRUPT_MESSAGE));
    // to one that the leader cannot have, to one between, down
    for mask in [0x08, 0x01] {
        assert_eq!(code(0, 15, mask), Err(ErrorCode::CORRUPT_MESSAGE), "{mask}");
    }
    assert_eq!(code(3, 15, 0x04), Err(ErrorCode::CORRUPT_MESSAGE));
}

#[test]
fn gaps_that_a_cleaner_left_are_taken_and_at_an_answers_end_asked_for_again() {
    let log = follower();
    let answer = [sent(1, 0), sent(2, 40), sent(3, 50), sent(4, 60)];
    let end_of = |number: i64, gap: i64| (number + 1) * RECORDS + gap;
    let taken = log.append_replica(&answer.concat(), LEADER_EPOCH, NOW_MS);
    assert_eq!(taken, Ok(end_of(3, 50)), "nothing behind the last one tells whether its offset is right");
    // as the first of an answer, which its leader found by its offset
    assert_eq!(log.append_replica(&answer[3], LEADER_EPOCH, NOW_MS), Ok(end_of(4, 60)));
}

/// In the gap, at its end, in the batch behind it: in memory the log ends where a start finds its end, and what the leader
/// has there still, since it knows of nothing newer, is taken.
#[test]
fn a_log_that_is_cut_in_or_behind_a_gap_ends_before_it() {
    const GAP: i64 = 10;
    for offset in [3 * RECORDS + 4, 3 * RECORDS + GAP, 3 * RECORDS + GAP + 1] {
        for end in ["none", "clean", "kill -9"] {
            let files = MemoryFileSystem::new(0);
            let config = LogConfig { index_interval_bytes: 100, ..LogConfig::default() };
            let log = open_from(&files, config.clone(), 0, 0, LastStop::Clean).unwrap();
            let sent_before = [sent(0, 0), sent(1, 0), sent(2, 0)].concat();
            log.append_replica(&sent_before, LEADER_EPOCH, NOW_MS).unwrap();
            log.append_replica(&sent(3, GAP), LEADER_EPOCH, NOW_MS).unwrap();
            log.flush().unwrap();

            let mut noted = None;
            let lowered = || {
                noted = Some(log.recovery_point());
                Ok(())
            };
            assert!(log.truncate_to(offset, NOW_MS, lowered).unwrap());
            assert_eq!(noted, Some(3 * RECORDS), "nothing is vouched for that is to come");
            assert_eq!(log.log_end_offset(), 3 * RECORDS, "cut at {offset}");
            let log = match end {
                "none" => log,
                how => {
                    let (last_stop, recovery_point) = match how {
                        "clean" => (LastStop::Clean, 3 * RECORDS),
                        _ => (LastStop::ProcessDied, 0),
                    };
                    log.close(how == "clean").unwrap();
                    drop(log);
                    open_from(&files, config, 0, recovery_point, last_stop).unwrap()
                }
            };
            assert_eq!(log.log_end_offset(), 3 * RECORDS, "cut at {offset}, then {end}");
            check_and_go_on(&log, &format!("cut at {offset}, then {end}"));
        }
    }
}
