//! Stores that lie, deny and forget: an error says so, and no byte of theirs is served.

use std::sync::Arc;

use fastlog_tiers::memory::{Fault, MemoryStore};
use fastlog_tiers::{TierError, Writer};
use uuid::Uuid;

use crate::common::{Broker, TOPIC_ID, WRITER, expected, place, read_all, reader, segment};

fn with_two() -> (Broker, Arc<MemoryStore>) {
    let segments = vec![segment(0, &[(3, 500), (4, 500)]), segment(7, &[(3, 500)])];
    let (broker, store) = (Broker { segments, ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    for closed in &broker.segments {
        broker.add(&tier, &*store, closed).unwrap();
    }
    (broker, store)
}

#[test]
fn wrong_bytes_are_never_served_and_right_ones_are_again() {
    for fault in [Fault::FlipsBits, Fault::ShortensReads, Fault::Unreachable] {
        let (broker, store) = with_two();
        let tier = broker.tier();
        store.set_fault(Some(fault));
        assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, 10, 1 << 20), None, "{fault:?}");
        store.set_fault(None);
        let whole = expected(&tier.manifest(), &broker.segments);
        assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, 10, 1 << 20), Some(whole));
    }
}

#[test]
fn each_changed_byte_of_an_object_is_noticed() {
    let (broker, store) = with_two();
    let tier = broker.tier();
    for key in store
        .keys()
        .into_iter()
        .filter(|key| !key.contains("manifest-") && key.contains("/00000000000000000000-"))
    {
        let mut size = 0;
        store.change(&key, |bytes| size = bytes.len());
        // of the indexes only the lookup part is read
        let size = if key.ends_with(".indexes") { 8 + 32 } else { size };
        for at in (0..size).step_by(13) {
            store.change(&key, |bytes| bytes[at] ^= 16);
            assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, 7, 1 << 20), None, "{key} byte {at}");
            store.change(&key, |bytes| bytes[at] ^= 16);
        }
    }
}

#[test]
fn each_changed_byte_of_what_a_new_follower_begins_with_is_noticed() {
    let (broker, store) = with_two();
    let tier = broker.tier();
    let is_first = |key: &String| key.ends_with(".indexes") && key.contains("/00000000000000000000-");
    let key = store.keys().into_iter().find(is_first).unwrap();
    assert_eq!(tier.after(&*store, 7).unwrap().snapshot, [3; 10]);
    let mut size = 0;
    store.change(&key, |bytes| size = bytes.len());
    for at in 0..size {
        store.change(&key, |bytes| bytes[at] ^= 1);
        let error = tier.after(&*store, 7).unwrap_err();
        assert!(matches!(error, TierError::Corrupt { .. }), "byte {at}: {error}");
        store.change(&key, |bytes| bytes[at] ^= 1);
    }
}

#[test]
fn a_segment_that_is_damaged_on_the_disk_is_not_uploaded_and_no_fault_of_the_store() {
    let mut damaged = segment(0, &[(3, 500), (4, 500)]);
    let last = damaged.bytes.len() - 1;
    damaged.bytes[last] ^= 1;
    let (broker, store) = (Broker { segments: vec![damaged], ..Broker::default() }, MemoryStore::default());
    let error = broker.add(&broker.tier(), &store, &broker.segments[0]).unwrap_err();
    assert!(matches!(error, TierError::Corrupt { .. }) && !error.is_of_store(), "{error}");
    assert!(error.to_string().contains("the local segment 0"), "{error}");
    assert_eq!(store.keys(), Vec::<String>::new());
}

#[test]
fn a_store_that_says_yes_and_keeps_half_has_nothing_until_it_keeps_all() {
    let segments = vec![segment(0, &[(3, 500), (4, 500)]), segment(7, &[(3, 500)])];
    let (broker, store) = (Broker { segments, ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    for number in 0..2 {
        store.set_fault(Some(Fault::HalvesPuts));
        let error = broker.add(&tier, &*store, &broker.segments[number]).unwrap_err();
        assert!(matches!(error, TierError::Corrupt { .. }), "{error}");
        assert_eq!(tier.manifest().segments.len(), number, "what is not there may go from the disk");
        store.set_fault(None);
        broker.add(&tier, &*store, &broker.segments[number]).unwrap();
    }
    let whole = expected(&tier.manifest(), &broker.segments);
    assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, 10, 1 << 20), Some(whole));
    assert_eq!(store.keys().iter().filter(|key| !key.contains("manifest-")).count(), 4, "strays are left");
}

#[test]
fn a_manifest_that_is_kept_by_half_does_not_count_and_stops_nobody() {
    let (broker, store) = with_two();
    let tier = broker.tier();
    broker.attach(&tier, &*store).unwrap();
    store.set_fault(Some(Fault::HalvesPuts));
    let error = broker.trim(&tier, &*store, 7).unwrap_err();
    assert!(matches!(error, TierError::Corrupt { .. }), "{error}");
    assert_eq!(tier.manifest().start_offset(), Some(0));
    store.set_fault(None);
    assert_eq!(broker.trim(&broker.tier(), &*store, 7).unwrap(), 1);
}

#[test]
fn what_could_not_be_removed_goes_in_a_later_turn_of_the_same_leader() {
    let (broker, store) = with_two();
    let tier = broker.tier();
    let objects = |store: &MemoryStore| store.keys().iter().filter(|key| !key.contains("manifest-")).count();
    // a stray, as of an upload that was broken off
    store.change(&format!("{}/00000000000000000010-{}.log", tier.prefix(), Uuid::from_u128(1)), |bytes| {
        bytes.push(1)
    });
    store.set_fault(Some(Fault::DeniesDeletes));
    broker.attach(&tier, &*store).unwrap();
    assert_eq!(broker.trim(&tier, &*store, 7).unwrap(), 1);
    tier.remove_unneeded(&*store);
    assert_eq!(objects(&store), 5);
    store.set_fault(None);
    tier.remove_unneeded(&*store);
    assert_eq!(objects(&store), 2);
    let asked = store.requests();
    tier.remove_unneeded(&*store);
    assert_eq!(store.requests(), asked, "there is nothing left to be asked for");
}

#[test]
fn an_object_that_lost_its_second_half_later_is_an_error_for_its_segment_only() {
    let (broker, store) = with_two();
    let tier = broker.tier();
    let is_first = |key: &String| key.ends_with(".log") && key.contains("/00000000000000000000-");
    let first = store.keys().into_iter().find(is_first).unwrap();
    store.change(&first, |bytes| bytes.truncate(bytes.len() / 2));
    assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 0, 7, 1 << 20), None);
    let second = broker.segments[1].bytes.clone();
    assert_eq!(read_all(&reader(&store, 1 << 20), &tier, 7, 10, 1 << 20), Some(second));
}

#[test]
fn another_store_an_older_copy_of_it_and_none_are_conflicts() {
    let (broker, store) = with_two();
    let latest = store.keys().into_iter().rfind(|key| key.contains("manifest-")).unwrap();
    let conflict = |what: &str, store: &MemoryStore| {
        let error = broker.attach(&broker.tier(), store).unwrap_err();
        assert!(matches!(error, TierError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        let objects = store.keys().len();
        assert!(broker.add(&broker.tier(), store, &segment(10, &[(1, 5)])).is_err());
        assert_eq!(store.keys().len(), objects, "something was written or removed");
    };
    conflict("put back what was deleted", &MemoryStore::default());
    store.lose(&latest);
    conflict("an older copy", &store);
}

#[test]
fn a_manifest_that_is_damaged_stops_changes_and_removes_nothing() {
    let (broker, store) = with_two();
    let latest = store.keys().into_iter().rfind(|key| key.contains("manifest-")).unwrap();
    store.change(&latest, |bytes| bytes[20] ^= 1);
    let objects = store.keys();
    let tier = broker.tier();
    let error = broker.add(&tier, &*store, &segment(10, &[(1, 5)])).unwrap_err();
    assert!(matches!(error, TierError::Corrupt { .. }), "{error}");
    assert_eq!(store.keys(), objects);
    // what is known here is read still
    assert!(read_all(&reader(&store, 1 << 20), &tier, 0, 10, 1 << 20).is_some());
}

#[test]
fn a_log_that_was_made_anew_does_not_take_over_what_the_old_one_stored() {
    let (_, store) = with_two();
    let anew = Broker { segments: vec![segment(0, &[(2, 100)])], ..Broker::default() };
    let error = anew.attach(&anew.tier(), &*store).unwrap_err().to_string();
    assert!(error.contains("which the log here never had"), "{error}");
}

#[test]
fn of_two_writers_one_is_fenced_and_another_broker_is_a_conflict() {
    let (broker, store) = with_two();
    let (one, other) = (broker.tier(), broker.tier());
    broker.attach(&one, &*store).unwrap();
    broker.attach(&other, &*store).unwrap();
    broker.add(&one, &*store, &segment(10, &[(1, 5)])).unwrap();
    let error = broker.add(&other, &*store, &segment(10, &[(2, 5)])).unwrap_err();
    assert!(matches!(error, TierError::Fenced { .. }), "{error}");
    let elsewhere = Broker { segments: broker.segments.clone(), ..Broker::default() };
    let foreign = Writer { node_id: 2, ..WRITER };
    let error = elsewhere.with(|local| elsewhere.tier().attach(&*store, foreign, local)).unwrap_err();
    assert!(error.to_string().contains("broker 1 wrote manifest"), "{error}");
}

#[test]
fn a_copy_of_another_partition_is_refused() {
    let (broker, _) = with_two();
    let copy = broker.copy.lock().unwrap().clone();
    let other = fastlog_tiers::Place { topic_id: Uuid::from_u128(8), ..place() };
    let error = fastlog_tiers::Tier::new(other, copy.as_deref()).unwrap_err().to_string();
    assert!(error.contains(&TOPIC_ID.to_string()), "{error}");
}

#[test]
fn deleting_all_goes_on_where_it_was_stopped() {
    for changes in 1..10 {
        let (broker, store) = with_two();
        store.die_after(Some(changes));
        let first = broker.tier().remove_all(&*store);
        store.die_after(None);
        broker.tier().remove_all(&*store).unwrap();
        assert_eq!(store.keys(), Vec::<String>::new());
        if first.is_ok() {
            return;
        }
    }
    panic!("never deleted at once");
}
