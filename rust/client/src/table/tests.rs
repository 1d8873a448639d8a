use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastlog_protocol::ErrorCode;

use super::{Event, Landed, PartitionFailure, Table, Target};
use crate::chunk::{Batch, Chunk, Corrupt, Watermarks};
use crate::error::FetchError;

const WAIT: Duration = Duration::from_millis(500);
const MARKS: Watermarks = Watermarks { high_watermark: 100, last_stable_offset: 100, log_start_offset: 0 };

fn target(slot: u64, broker_id: i32) -> Target {
    Target {
        slot,
        generation: 1,
        topic: Arc::from("t"),
        topic_id: uuid::Uuid::nil(),
        partition: slot as i32,
        broker_id,
        leader_epoch: 0,
        offset: 0,
    }
}

/// What a fetch for a slot of [`table`] brings: its ticket is one more than its number.
fn data(slot: u64, next_offset: i64, size_bytes: usize) -> Landed {
    Landed::Data { ticket: slot + 1, chunk: chunk(slot, next_offset, size_bytes) }
}

fn chunk(slot: u64, next_offset: i64, size_bytes: usize) -> Chunk {
    let batch = Batch { bytes: Vec::new(), open: true, base_offset: 0, next_offset };
    Chunk {
        slot,
        generation: 1,
        fetch_offset: 0,
        batches: VecDeque::from([batch]),
        next_offset,
        leader_epoch: -1,
        corrupt: None,
        watermarks: MARKS,
        size_bytes,
    }
}

fn table(slots: u64) -> Table {
    let mut table = Table::new(8 << 20, 50 << 20, WAIT);
    (0..slots).for_each(|slot| table.set(target(slot, 1)));
    table
}

fn wanted(table: &mut Table) -> Vec<(u64, i64)> {
    table.round(1, Instant::now()).map_or_else(Vec::new, |round| {
        round.wanted.iter().map(|one| (one.target.slot, one.target.offset)).collect()
    })
}

#[test]
fn a_round_asks_for_every_partition_of_the_broker_from_where_it_stands() {
    let mut table = table(2);
    table.set(target(7, 2));
    assert_eq!(wanted(&mut table), [(0, 0), (1, 0)]);
    assert_eq!(table.land(1, vec![data(0, 10, 100)]), (true, false));
    let mut next = wanted(&mut table);
    next.sort_unstable();
    assert_eq!(next, [(0, 10), (1, 0)]);
    assert!(table.round(3, Instant::now()).is_none());
}

#[test]
fn rounds_begin_after_the_partitions_that_were_answered() {
    let mut table = table(3);
    table.land(1, vec![data(0, 10, 100), data(1, 10, 100)]);
    assert_eq!(wanted(&mut table).first().map(|first| first.0), Some(2));
}

#[test]
fn chunks_are_taken_in_turn_over_the_partitions() {
    let mut table = table(2);
    for end in [10, 20, 30] {
        table.land(1, vec![data(0, end, 100)]);
    }
    table.land(1, vec![data(1, 5, 100)]);
    let order: Vec<(u64, i64)> =
        std::iter::from_fn(|| table.take()).map(|chunk| (chunk.slot, chunk.next_offset)).collect();
    assert_eq!(order, [(0, 10), (1, 5), (0, 20), (0, 30)]);
    assert_eq!(table.buffered_bytes(), 0);
}

#[test]
fn what_arrives_for_an_older_generation_is_dropped() {
    let mut table = table(1);
    table.land(1, vec![data(0, 10, 100)]);
    table.set(Target { generation: 2, offset: 50, ..target(0, 1) });
    assert_eq!(table.take(), None);
    assert_eq!(table.buffered_bytes(), 0);
    table.land(1, vec![data(0, 20, 100)]);
    assert_eq!(table.take(), None);
    assert_eq!(wanted(&mut table), [(0, 50)]);
}

#[test]
fn a_partition_that_moves_keeps_what_waits_and_goes_on_where_it_stands() {
    let mut table = table(1);
    table.land(1, vec![data(0, 10, 100)]);
    let failure =
        PartitionFailure { code: ErrorCode(6), preferred_replica: None, diverging: None, leader: None };
    table.land(1, vec![Landed::Failed { slot: 0, ticket: 1, failure }]);
    assert!(table.move_to(0, 1, 2, 5));
    assert!(!table.move_to(0, 9, 3, 5));
    assert_eq!(wanted(&mut table), []);
    let round = table.round(2, Instant::now()).unwrap();
    assert_eq!(
        round.wanted.iter().map(|one| (one.target.offset, one.target.leader_epoch)).collect::<Vec<_>>(),
        [(10, 5)]
    );
    // what the old broker still sends is not taken twice
    table.land(1, vec![data(0, 20, 100)]);
    assert_eq!(table.take().map(|chunk| chunk.next_offset), Some(10));
    assert_eq!((table.take(), table.buffered_bytes()), (None, 0));
}

#[test]
fn a_removed_partition_is_neither_asked_for_nor_delivered() {
    let mut table = table(2);
    table.land(1, vec![data(0, 10, 100), data(1, 10, 100)]);
    table.remove(0);
    assert_eq!(table.take().map(|chunk| chunk.slot), Some(1));
    assert_eq!(table.take(), None);
    assert_eq!(wanted(&mut table), [(1, 10)]);
}

#[test]
fn a_partition_with_its_share_waits_while_the_others_go_on() {
    let mut table = table(2);
    let start = Instant::now();
    table.land(1, vec![data(0, 10, 2 << 20), data(0, 20, 2 << 20)]);
    let slots = |round: super::Round| round.wanted.iter().map(|one| one.target.slot).collect::<Vec<_>>();
    let first = table.round(1, start).unwrap();
    // the long poll for the other is no longer than the full one has been full
    assert_eq!(first.wait_max, Duration::ZERO);
    assert_eq!(slots(first), [1]);
    let later = table.round(1, start + Duration::from_millis(40)).unwrap();
    assert_eq!(later.wait_max, Duration::from_millis(40));
    table.take().unwrap();
    let mut both = slots(table.round(1, start + Duration::from_millis(50)).unwrap());
    both.sort_unstable();
    assert_eq!(both, [0, 1]);
}

#[test]
fn no_round_begins_without_room_and_none_asks_for_more_than_the_room() {
    let mut table = table(1);
    table.land(1, vec![data(0, 10, 3 << 20)]);
    assert_eq!(table.round(1, Instant::now()).unwrap().bytes_max, 5 << 20);
    table.land(1, vec![data(0, 20, 5 << 20)]);
    assert!(table.round(1, Instant::now()).is_none());
    table.take().unwrap();
    table.take().unwrap();
    assert!(table.round(1, Instant::now()).is_some());
}

#[test]
fn two_brokers_share_the_room() {
    let mut table = table(1);
    table.set(target(7, 2));
    assert_eq!(table.round(1, Instant::now()).unwrap().bytes_max, 4 << 20);
}

#[test]
fn a_failed_partition_rests_and_is_told_once() {
    let mut table = table(2);
    let failure =
        PartitionFailure { code: ErrorCode(1), preferred_replica: None, diverging: None, leader: None };
    let landed = vec![Landed::Failed { slot: 0, ticket: 1, failure: failure.clone() }];
    assert_eq!(table.land(1, landed), (false, true));
    assert_eq!(wanted(&mut table), [(1, 0)]);
    assert_eq!(
        table.take_event(),
        Some(Event::Partition { slot: 0, generation: 1, offset: 0, failure: failure.clone() })
    );
    table.land(1, vec![Landed::Failed { slot: 1, ticket: 2, failure }]);
    table.set(Target { generation: 2, ..target(1, 1) });
    assert_eq!(table.take_event(), None);
    assert_eq!(wanted(&mut table), [(1, 0)]);
}

#[test]
fn a_corrupt_batch_ends_the_fetching_of_its_partition() {
    let mut table = table(1);
    let corrupt = Some(Corrupt { offset: 10, reason: String::from("CRC") });
    table.land(1, vec![Landed::Data { ticket: 1, chunk: Chunk { corrupt, ..chunk(0, 10, 100) } }]);
    assert_eq!(wanted(&mut table), []);
    assert!(table.take().unwrap().corrupt.is_some());
}

#[test]
fn a_broker_that_keeps_failing_leaves_one_event() {
    let mut table = table(1);
    for _ in 0..3 {
        table.broker_failed(1, FetchError::Aborted);
    }
    assert_eq!(table.take_event(), Some(Event::Broker { broker_id: 1, error: FetchError::Aborted }));
    assert_eq!(table.take_event(), None);
}

#[test]
fn watermarks_outlive_a_seek() {
    let mut table = table(1);
    table.land(1, vec![Landed::Nothing { slot: 0, ticket: 1, watermarks: MARKS }]);
    table.set(Target { generation: 2, ..target(0, 1) });
    assert_eq!(table.watermarks(0), Some(MARKS));
}

fn fetched_epoch(table: &mut Table) -> i32 {
    table.round(1, Instant::now()).unwrap().wanted[0].fetched_epoch
}

#[test]
fn a_round_says_in_which_epoch_what_was_fetched_last_was_written_until_the_position_is_set_anew() {
    let mut table = table(1);
    assert_eq!(fetched_epoch(&mut table), -1);
    let of_epoch = Chunk { leader_epoch: 7, ..chunk(0, 10, 100) };
    table.land(1, vec![Landed::Data { ticket: 1, chunk: of_epoch }]);
    assert_eq!(fetched_epoch(&mut table), 7);
    table.move_to(0, 1, 1, 8);
    assert_eq!(fetched_epoch(&mut table), 7, "that is what the next leader is to compare");
    table.set(Target { generation: 2, offset: 50, ..target(0, 1) });
    assert_eq!(fetched_epoch(&mut table), -1);
}
