//! Reading in ranges, through the cache, without waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fastlog_log::AbortedTxn;
use fastlog_tiers::memory::{Fault, MemoryStore};
use fastlog_tiers::{Found, Tier};
use proptest::prelude::*;

use crate::common::{Broker, Closed, counted, expected, read_all, reader, segment};

fn uploaded(segments: Vec<Closed>) -> (Broker, Arc<MemoryStore>, Tier) {
    let (broker, store) = (Broker { segments, ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    for closed in &broker.segments {
        broker.add(&tier, &*store, closed).unwrap();
    }
    (broker, store, tier)
}

/// Few batches are large: checksums are slow without optimisation.
fn shape() -> impl Strategy<Value = Vec<(i64, usize)>> {
    let batch = prop_oneof![9 => (1..30i64, 0..200usize), 1 => (1..3i64, 0..900_000usize)];
    proptest::collection::vec(batch, 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_is_asked_for_comes_as_it_was_uploaded(
        shapes in proptest::collection::vec(shape(), 1..4),
        max_bytes in 1..3_000_000usize,
        cache_bytes in prop_oneof![Just(1), Just(2 << 20), Just(64 << 20)],
    ) {
        let mut base = 0;
        let segments: Vec<_> = shapes.iter().map(|shape| {
            let closed = segment(base, shape);
            base = closed.next_offset;
            closed
        }).collect();
        let (broker, store, tier) = uploaded(segments);
        let reader = reader(&store, cache_bytes);
        let read = read_all(&reader, &tier, 0, base, max_bytes).unwrap();
        prop_assert!(read == expected(&tier.manifest(), &broker.segments));
    }
}

#[test]
fn nobody_waits_for_the_store_and_who_asked_is_told() {
    let (broker, store, tier) = uploaded(vec![segment(0, &[(3, 10), (3, 10)])]);
    let reader = reader(&store, 1 << 20);
    let (wake, woken) = counted();
    let requests = store.requests();
    assert!(!reader.is_ready(&tier, 1));
    for _ in 0..3 {
        assert!(matches!(reader.read(&tier, 1, 6, 100, true, &wake), Found::Coming));
    }
    assert_eq!((store.requests(), woken.load(Ordering::SeqCst)), (requests, 0));
    assert!(reader.run_one(false));
    // three times asked, told and fetched once: the lookup and the chunk
    assert_eq!((store.requests(), woken.load(Ordering::SeqCst)), (requests + 2, 1));
    assert!(reader.is_ready(&tier, 1));
    let Found::Here(Some(range)) = reader.read(&tier, 1, 6, 1 << 20, true, &wake) else { panic!() };
    assert_eq!((range.position, range.length, range.next_offset), (0, broker.segments[0].bytes.len(), 6));
    // the second batch lies at the bound
    let Found::Here(Some(range)) = reader.read(&tier, 1, 5, 1 << 20, true, &wake) else { panic!() };
    assert_eq!(range.next_offset, 3);
    assert!(matches!(reader.read(&tier, 1, 6, 10, false, &wake), Found::Here(None)));
    assert_eq!(store.requests(), requests + 2);
}

#[test]
fn what_failed_is_said_to_all_and_the_store_is_not_asked_again_at_once() {
    let (_, store, tier) = uploaded(vec![segment(0, &[(3, 10)])]);
    let reader = reader(&store, 1 << 20);
    let (wake, woken) = counted();
    store.set_fault(Some(Fault::Unreachable));
    assert!(matches!(reader.read(&tier, 0, 3, 100, true, &wake), Found::Coming));
    assert!(reader.run_one(false));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    assert!(reader.is_ready(&tier, 0));
    assert!(matches!(reader.read(&tier, 0, 3, 100, true, &wake), Found::Failed));
    assert!(!reader.run_one(false));
}

#[test]
fn the_cache_keeps_its_bound_and_what_is_used_stays() {
    let shape: Vec<_> = (0..8).map(|_| (1, 900_000)).collect();
    let (_, store, tier) = uploaded(vec![segment(0, &shape)]);
    let reader = reader(&store, 3 << 20);
    assert!(read_all(&reader, &tier, 0, 8, 1 << 20).is_some());
    while reader.run_one(false) {}
    assert!(reader.cache().size_bytes() <= 3 << 20, "{}", reader.cache().size_bytes());
    assert!(reader.is_ready(&tier, 7));
    assert!(!reader.is_ready(&tier, 0));
}

#[test]
fn chunks_are_read_ahead_of_a_reader() {
    let shape: Vec<_> = (0..8).map(|_| (1, 900_000)).collect();
    let (_, store, tier) = uploaded(vec![segment(0, &shape)]);
    let reader = reader(&store, 64 << 20);
    let (wake, _) = counted();
    assert!(matches!(reader.read(&tier, 0, 8, 1 << 20, true, &wake), Found::Coming));
    reader.run_one(false);
    assert!(matches!(reader.read(&tier, 0, 8, 1 << 20, true, &wake), Found::Here(Some(_))));
    while reader.run_one(false) {}
    assert_eq!((1..8).map(|offset| reader.is_ready(&tier, offset)).filter(|ready| *ready).count(), 4);
}

fn txn(first_offset: i64, last_offset: i64, last_stable_offset: i64) -> AbortedTxn {
    AbortedTxn { producer_id: 9, first_offset, last_offset, last_stable_offset }
}

#[test]
fn aborted_transactions_are_told_also_where_they_ended_in_a_later_segment() {
    let closed = [segment(0, &[(10, 5)]), segment(10, &[(10, 5)]), segment(20, &[(10, 5)])];
    let (broker, store) =
        (Broker { segments: closed.to_vec(), ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    let txns = [vec![], vec![txn(5, 12, 13)], vec![txn(14, 22, 23)]];
    for (closed, txns) in closed.iter().zip(&txns) {
        let encode = |it: &AbortedTxn| {
            let numbers = [it.producer_id, it.first_offset, it.last_offset, it.last_stable_offset];
            [vec![0, 0], numbers.iter().flat_map(|number| number.to_be_bytes()).collect()].concat()
        };
        let mut source = closed.source();
        source.txn_index = txns.iter().flat_map(encode).collect();
        broker.with(|local| tier.add(&*store, crate::common::WRITER, &source, local)).unwrap();
    }
    let reader = reader(&store, 1 << 20);
    let (wake, _) = counted();
    let aborted = |from, to| loop {
        match reader.aborted(&tier, from, to, &wake) {
            Found::Here(found) => return found,
            Found::Coming => assert!(reader.run_one(false)),
            Found::Failed => panic!("failed"),
        }
    };
    assert_eq!(aborted(0, 10), (vec![txn(5, 12, 13)], false));
    assert_eq!(aborted(6, 18), (vec![txn(5, 12, 13), txn(14, 22, 23)], false));
    assert_eq!(aborted(13, 29), (vec![txn(14, 22, 23)], true));
    assert_eq!(aborted(24, 29), (vec![], true));
}
