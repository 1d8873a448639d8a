//! Stores that lose what they had: no disk gives up what the store was not asked for, and what a disk has is put back.

use std::sync::Arc;

use fastlog_log::ClosedSegment;
use fastlog_tiers::memory::{Fault, MemoryStore};
use fastlog_tiers::{Entry, Tier, TierError, Writer};

use crate::common::{Broker, Closed, WRITER, expected, read_all, reader, segment};

const END: i64 = 10;

/// A broker with two segments in the store, and its tier as a new run finds it.
fn with_two() -> (Broker, Arc<MemoryStore>, Tier) {
    let segments = vec![segment(0, &[(3, 500), (4, 500)]), segment(7, &[(3, 500)])];
    let (broker, store) = (Broker { segments, ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    for closed in &broker.segments {
        broker.add(&tier, &*store, closed).unwrap();
    }
    let tier = broker.tier();
    (broker, store, tier)
}

fn key_of(store: &MemoryStore, base_offset: i64, kind: &str) -> String {
    let is_it = |key: &String| key.contains(&format!("/{base_offset:020}-")) && key.ends_with(kind);
    store.keys().into_iter().find(is_it).unwrap()
}

/// Puts back the first that is known to be lost, from segments of those offsets.
fn put_back(
    broker: &Broker,
    store: &MemoryStore,
    tier: &Tier,
    writer: Writer,
    segments: &[Closed],
) -> Result<(), TierError> {
    let lost = tier.lost().remove(0);
    let sources: Vec<ClosedSegment> = segments.iter().map(Closed::source).collect();
    broker.with(|local| tier.put_back(store, writer, (&lost, &sources), local))
}

#[test]
fn nothing_goes_from_a_disk_before_the_store_was_asked_for_just_that() {
    let (broker, store, tier) = with_two();
    assert_eq!(tier.keep_from(0), 0);
    broker.attach(&tier, &*store).unwrap();
    assert_eq!(tier.keep_from(0), 0, "a look long before says nothing of now");
    let before = store.requests();
    assert_eq!(tier.ask(&*store, 0, 7).unwrap(), None);
    assert_eq!((tier.keep_from(0), store.requests()), (7, before + 2));
    assert_eq!(tier.ask(&*store, 0, END).unwrap(), None);
    assert_eq!((tier.keep_from(0), store.requests()), (END, before + 4));
    assert_eq!(tier.ask(&*store, 0, END).unwrap(), None);
    assert_eq!(store.requests(), before + 4, "it is asked once");
    // what another history has from there on is not the disk's
    tier.cut(8);
    assert_eq!(tier.keep_from(0), 8);
    // nor does the next run know
    assert_eq!(broker.tier().keep_from(0), 0);
}

#[test]
fn what_a_store_that_is_away_has_stays_on_the_disk() {
    let (_, store, tier) = with_two();
    tier.ask(&*store, 0, 7).unwrap();
    store.set_fault(Some(Fault::Unreachable));
    assert!(tier.ask(&*store, 0, END).unwrap_err().is_of_store());
    assert_eq!(tier.keep_from(0), 7);
}

#[test]
fn what_the_store_lost_stays_on_a_disk_that_has_it_until_the_object_is_back() {
    for kind in [".log", ".indexes"] {
        let (_, store, tier) = with_two();
        let key = key_of(&store, 0, kind);
        let mut whole = Vec::new();
        store.change(&key, |bytes| {
            whole.clone_from(bytes);
            bytes.truncate(bytes.len() / 2);
        });
        let lost = tier.ask(&*store, 0, END).unwrap().unwrap();
        assert_eq!((&lost.key, lost.found), (&key, Some(whole.len() as u64 / 2)));
        assert_eq!(tier.keep_from(0), 0);
        // a disk without it gives up the rest as ever
        assert_eq!((tier.ask(&*store, 7, END).unwrap(), tier.keep_from(7)), (None, END));
        tier.note_lost(lost);
        assert_eq!(tier.lost().len(), 1);
        store.change(&key, |bytes| bytes.clone_from(&whole));
        assert_eq!((tier.ask(&*store, 0, END).unwrap(), tier.keep_from(0)), (None, END));
        assert_eq!(tier.lost(), Vec::<Entry>::new());
    }
}

#[test]
fn what_the_store_lost_is_put_back_from_the_disk_in_segments_of_other_borders_too() {
    let split = [segment(0, &[(3, 500)]), segment(3, &[(4, 500)])];
    let mut count = 0;
    for pieces in [vec![segment(0, &[(3, 500), (4, 500)])], split.to_vec()] {
        for kind in [".log", ".indexes"] {
            let (mut broker, store, tier) = with_two();
            store.lose(&key_of(&store, 0, kind));
            broker.attach(&tier, &*store).unwrap();
            broker.segments = pieces.iter().cloned().chain([segment(7, &[(3, 500)])]).collect();
            put_back(&broker, &store, &tier, WRITER, &pieces).unwrap();
            assert_eq!(tier.lost(), Vec::<Entry>::new());
            // a follower, and a later run, reads it by the manifest
            let later = broker.tier();
            assert_eq!(later.manifest().segments.len(), pieces.len() + 1);
            let whole = expected(&later.manifest(), &broker.segments);
            assert_eq!(read_all(&reader(&store, 1 << 20), &later, 0, END, 1 << 20), Some(whole));
            let objects = store.keys().iter().filter(|key| !key.contains("manifest-")).count();
            assert_eq!(objects, 2 * (pieces.len() + 1), "what was left of it stays");
            assert_eq!((later.ask(&*store, 0, END).unwrap(), later.keep_from(0)), (None, END));
            count += 1;
        }
    }
    assert_eq!(count, 4);
}

#[test]
fn what_does_not_make_up_the_lost_segment_is_not_put_in_its_place() {
    let (broker, store, tier) = with_two();
    store.lose(&key_of(&store, 0, ".log"));
    broker.attach(&tier, &*store).unwrap();
    let before = store.keys();
    for wrong in [vec![segment(0, &[(3, 500)])], vec![segment(3, &[(4, 500)])], vec![]] {
        let error = put_back(&broker, &store, &tier, WRITER, &wrong).unwrap_err();
        assert!(matches!(error, TierError::Conflict { .. }), "{error}");
    }
    assert_eq!(store.keys(), before);
    // what is deleted meanwhile needs nobody to put it back
    let lost = tier.lost().remove(0);
    broker.trim(&tier, &*store, 7).unwrap();
    assert_eq!(tier.lost(), Vec::<Entry>::new());
    let sources = [broker.segments[0].source()];
    broker.with(|local| tier.put_back(&*store, WRITER, (&lost, &sources), local)).unwrap();
    assert_eq!(tier.manifest().start_offset(), Some(7));
}

#[test]
fn dying_while_it_puts_back_leaves_the_old_name_or_the_new_one() {
    for changes in 1..20 {
        let (broker, store, tier) = with_two();
        store.lose(&key_of(&store, 0, ".log"));
        broker.attach(&tier, &*store).unwrap();
        store.die_after(Some(changes));
        let put = put_back(&broker, &store, &tier, WRITER, &broker.segments[..1]);
        let is_done = put.is_ok() && !store.is_dead();
        store.die_after(None);
        let later = broker.tier();
        broker.attach(&later, &*store).unwrap();
        if !later.lost().is_empty() {
            put_back(&broker, &store, &later, WRITER, &broker.segments[..1]).unwrap();
        }
        let whole = expected(&later.manifest(), &broker.segments);
        let read = read_all(&reader(&store, 1 << 20), &later, 0, END, 1 << 20);
        assert_eq!(read, Some(whole), "died at change {changes}");
        let objects = store.keys().iter().filter(|key| !key.contains("manifest-")).count();
        assert_eq!(objects, 4, "died at change {changes}");
        if is_done {
            return;
        }
    }
    panic!("it never came to its end");
}

#[test]
fn a_former_leader_puts_nothing_back() {
    let (broker, store, _) = with_two();
    let first = Writer { is_clustered: true, ..WRITER };
    let former = broker.tier();
    store.lose(&key_of(&store, 0, ".log"));
    broker.with(|local| former.attach(&*store, first, local)).unwrap();
    let next = Broker { segments: broker.segments.clone(), ..Broker::default() };
    let second = Writer { node_id: 2, leader_epoch: 4, ..first };
    let tier = next.tier();
    next.with(|local| tier.attach(&*store, second, local)).unwrap();
    let error = put_back(&broker, &store, &former, first, &broker.segments[..1]).unwrap_err();
    assert!(matches!(error, TierError::Fenced { .. }), "{error}");
    put_back(&next, &store, &tier, second, &next.segments[..1]).unwrap();
    let whole = expected(&tier.manifest(), &next.segments);
    assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, END, 1 << 20), Some(whole));
}
