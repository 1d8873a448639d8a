//! The process dies at any change of the store: what the manifest named is there, and strays go.

use std::collections::HashSet;

use fastlog_tiers::memory::{Fault, MemoryStore};
use std::sync::Arc;

use crate::common::{Broker, Closed, expected, read_all, reader, segment};

fn segments() -> Vec<Closed> {
    let mut base = 0;
    (0..6)
        .map(|number| {
            let closed = segment(base, &[(3, 200), (2, 900 + number)]);
            base = closed.next_offset;
            closed
        })
        .collect()
}

/// Uploads all, and deletes the first two segments on the way; ends at the first failure. Answers the log's start.
fn run(broker: &Broker, store: &MemoryStore) -> i64 {
    let tier = broker.tier();
    let mut start = tier.manifest().log_start_offset;
    for (number, closed) in broker.segments.iter().enumerate() {
        if tier.manifest().end_offset().is_some_and(|end| end > closed.base_offset) {
            continue;
        }
        if broker.add(&tier, store, closed).is_err() {
            return start;
        }
        if number == 3 {
            start = broker.segments[2].base_offset;
            if broker.trim(&tier, store, start).is_err() {
                return start;
            }
        }
    }
    start
}

fn check(broker: &Broker, store: &Arc<MemoryStore>, context: &str) {
    let tier = broker.tier();
    broker.attach(&tier, &**store).unwrap_or_else(|error| panic!("{context}: {error}"));
    let manifest = tier.manifest();
    let reader = reader(store, 1 << 20);
    if let (Some(start), Some(end)) = (manifest.start_offset(), manifest.end_offset()) {
        let read = read_all(&reader, &tier, start, end, 1 << 20);
        assert_eq!(read, Some(expected(&manifest, &broker.segments)), "{context}");
    }
    let named: HashSet<_> = manifest.segments.iter().map(|it| it.id.simple().to_string()).collect();
    let strays: Vec<_> = store
        .keys()
        .into_iter()
        .filter(|key| !key.contains("manifest-") && !named.iter().any(|id| key.contains(id)))
        .collect();
    assert_eq!(strays, Vec::<String>::new(), "{context}");
    assert!(store.keys().iter().filter(|key| key.contains("manifest-")).count() <= 2, "{context}");
}

#[test]
fn dying_at_any_change_loses_nothing_that_was_named_and_leaves_no_strays() {
    for changes in 1..60 {
        let (broker, store) =
            (Broker { segments: segments(), ..Broker::default() }, Arc::new(MemoryStore::default()));
        store.die_after(Some(changes));
        run(&broker, &store);
        let died = store.is_dead();
        let named = broker.tier().manifest().segments.clone();
        store.die_after(None);
        let context = format!("died at change {changes}");
        check(&broker, &store, &context);
        // what the copy named, by which local segments may have been deleted, is in force still
        let now = broker.tier().manifest();
        let start = broker.segments[2].base_offset;
        let lost = named.iter().find(|it| it.base_offset >= start && !now.segments.contains(it));
        assert_eq!(lost, None, "{context}");
        // and the next run ends what this one began
        run(&broker, &store);
        check(&broker, &store, &context);
        assert_eq!(broker.tier().manifest().end_offset(), broker.segments.last().map(|it| it.next_offset));
        if !died {
            return;
        }
    }
    panic!("the script never ran to its end");
}

#[test]
fn dying_before_the_copy_is_written_is_made_up_for() {
    let (broker, store) =
        (Broker { segments: segments(), ..Broker::default() }, Arc::new(MemoryStore::default()));
    broker.add(&broker.tier(), &*store, &broker.segments[0]).unwrap();
    let before = broker.copy.lock().unwrap().clone();
    broker.add(&broker.tier(), &*store, &broker.segments[1]).unwrap();
    *broker.copy.lock().unwrap() = before;
    check(&broker, &store, "an old copy");
    assert_eq!(broker.tier().manifest().segments.len(), 2);
    // also without any copy, where the log has all that the store names
    *broker.copy.lock().unwrap() = None;
    check(&broker, &store, "no copy");
    assert_eq!(broker.tier().manifest().segments.len(), 2);
}

#[test]
fn a_lost_answer_is_found_out_later_and_nothing_is_named_twice() {
    let (broker, store) =
        (Broker { segments: segments(), ..Broker::default() }, Arc::new(MemoryStore::default()));
    let tier = broker.tier();
    store.set_fault(Some(Fault::LosesAnswers));
    assert!(broker.add(&tier, &*store, &broker.segments[0]).is_err());
    assert_eq!(tier.manifest().segments.len(), 0);
    store.set_fault(None);
    broker.add(&tier, &*store, &broker.segments[0]).unwrap();
    broker.add(&tier, &*store, &broker.segments[1]).unwrap();
    check(&broker, &store, "after lost answers");
    assert_eq!(broker.tier().manifest().segments.len(), 2);
}
