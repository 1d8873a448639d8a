//! What one replica uploaded and the store lost, put back from the disk of another one whose segments end elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use crate::common::*;
use crate::compaction_model::{Model, Random};
use fastlog_log::file_system::memory::MemoryFileSystem;
use fastlog_log::{AfterTier, ClosedSegment, LastStop, Log, LogConfig, Storage};

/// A replica whose segments have so many bytes.
fn replica(segment_bytes: u64) -> (MemoryFileSystem, Log) {
    let files = MemoryFileSystem::new(segment_bytes);
    let config = LogConfig { segment_bytes, index_interval_bytes: 200, ..LogConfig::default() };
    let storage = Storage::new(Arc::new(files.clone()), PathBuf::from("/data"), 32);
    let log = Log::open(&storage, options(config, LastStop::Clean), NOW_MS).unwrap().0;
    (files, log)
}

/// Has `follower` fetch all that `leader` has.
fn replicate(leader: &Log, follower: &Log) {
    let from = follower.log_end_offset();
    while let Some(slice) =
        leader.read(follower.log_end_offset(), 4096, leader.log_end_offset(), true).unwrap()
    {
        follower.append_replica(&bytes_of(&slice), 0, NOW_MS).unwrap();
    }
    assert!(follower.log_end_offset() == leader.log_end_offset() && from < leader.log_end_offset());
    follower.advance_high_watermark(follower.log_end_offset());
}

/// Transactions, some of which span segments, and idempotent batches.
fn write(leader: &Log, seed: u64) {
    let (mut model, mut random) = (Model { compresses: false, ..Model::default() }, Random(seed));
    for round in 0..120 {
        let id = 100 + random.below(3) as i64;
        match random.below(4) {
            0 => model.batch(leader, &mut random, Some(id + 100), false),
            1 if model.is_open(id) => model.end(leader, id, round % 2 == 0, false),
            _ => model.batch(leader, &mut random, Some(id), true),
        }
    }
    for id in 100..103 {
        if model.is_open(id) {
            model.end(leader, id, id == 101, false);
        }
    }
}

fn bytes(closed: &[ClosedSegment]) -> Vec<u8> {
    let read = |it: &ClosedSegment| {
        let mut bytes = vec![0; it.size_bytes as usize];
        fastlog_log::file_system::read_exact_at(&*it.log, &mut bytes, it.position).unwrap();
        bytes
    };
    closed.iter().flat_map(read).collect()
}

/// Where the full segments of a log begin, and its end.
fn borders(log: &Log) -> Vec<i64> {
    let mut found = vec![0];
    while let Some(closed) = {
        log.set_tiered_end(found.last().copied().filter(|end| *end > 0));
        log.next_to_upload().unwrap()
    } {
        found.push(closed.next_offset);
    }
    found
}

#[test]
fn what_another_replica_uploaded_is_cut_out_of_the_segments_here_as_it_was() {
    let mut also_in_active = 0;
    for seed in 0..8 {
        let ((_one, leader), (_two, follower)) = (replica(1_500), replica(2_300));
        write(&leader, seed);
        replicate(&leader, &follower);
        let (theirs, ours) = (borders(&leader), borders(&follower));
        assert!(theirs.len() > 4 && ours.len() > 3);
        let mut cut = 0;
        for pair in theirs.windows(2) {
            let lost = leader.closed_segments(pair[0], pair[1], NOW_MS).unwrap().unwrap();
            assert_eq!(lost.len(), 1);
            let found = follower.closed_segments(pair[0], pair[1], NOW_MS).unwrap().unwrap();
            let ends: Vec<_> = found.iter().map(|it| (it.base_offset, it.next_offset)).collect();
            assert_eq!((ends[0].0, ends[ends.len() - 1].1), (pair[0], pair[1]), "{ends:?}");
            assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "{ends:?}");
            assert_eq!(bytes(&found), bytes(&lost), "{ends:?}");
            let txns: Vec<u8> = found.iter().flat_map(|it| it.txn_index.clone()).collect();
            assert_eq!(txns, lost[0].txn_index, "{ends:?}");
            let last = found.last().unwrap();
            assert_eq!(last.snapshot, lost[0].snapshot, "{ends:?}");
            cut += usize::from(!ours.contains(&pair[1]));
        }
        assert!(cut > 2, "most ends lie within a segment here");
        also_in_active += usize::from(theirs.last() > ours.last());
    }
    assert!(also_in_active > 0, "one is not full here yet");
}

/// A follower that begins behind what was put back takes the next batch of a producer, and no other.
#[test]
fn who_begins_behind_what_was_put_back_knows_the_producers() {
    let (_files, log) = replica(2_300);
    for sequence in 0..40 {
        append(&log, &idempotent(9, 0, sequence, "a value of some length, to fill segments")).unwrap();
    }
    log.advance_high_watermark(40);
    for end in [1, 17, 40] {
        let closed = log.closed_segments(0, end, NOW_MS).unwrap().unwrap();
        let (_other, begun) = replica(2_300);
        let after = AfterTier {
            offset: end,
            log_start_offset: 0,
            epochs: log.epochs(),
            snapshot: closed.last().unwrap().snapshot.clone(),
        };
        begun.restart_after_tier(&after, NOW_MS, || Ok(())).unwrap();
        let sequence = end as i32;
        assert!(append(&begun, &idempotent(9, 0, sequence + 1, "ahead")).is_err(), "{end}");
        assert!(
            append(&begun, &idempotent(9, 0, sequence - 1, "a value of some length, to fill segments"))
                .unwrap()
                .duplicate
        );
        assert_eq!(append(&begun, &idempotent(9, 0, sequence, "next")).unwrap().base_offset, end);
    }
}

#[test]
fn an_end_within_a_batch_is_none() {
    let (_files, log) = replica(2_300);
    append(&log, &batch(&["one", "two", "three"])).unwrap();
    append(&log, &batch(&["four"])).unwrap();
    log.advance_high_watermark(4);
    let is_there = |from, until| log.closed_segments(from, until, NOW_MS).unwrap().is_some();
    assert!(is_there(0, 3) && is_there(0, 4) && is_there(3, 4));
    assert!(!is_there(0, 2) && !is_there(1, 4) && !is_there(0, 5));
}
