//! Which store it is: named once, whoever comes first, and used while it is that one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use fastlog_tiers::memory::{Fault, MemoryStore};
use fastlog_tiers::{Expected, KnownStore, ObjectStore, Store, StoreError};
use uuid::Uuid;

fn expected(id: Uuid) -> Option<Expected> {
    Some(Expected { id, note: PathBuf::from("/data/fastlog.store") })
}

#[test]
fn brokers_that_come_to_a_new_store_at_once_call_it_by_one_name() {
    let directory = tempfile::tempdir().unwrap();
    let url = directory.path().join("not/there/yet").display().to_string();
    let tries = (1..9u128).map(|number| {
        let url = url.clone();
        std::thread::spawn(move || {
            let store = KnownStore::new(Arc::new(ObjectStore::open(&url).unwrap()));
            let (before, named) = (store.id().unwrap(), store.name(Uuid::from_u128(number)).unwrap());
            assert!(before.is_none_or(|id| id == named));
            named
        })
    });
    let names: BTreeSet<_> = tries.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn a_store_whose_answer_was_lost_as_it_was_named_has_that_name() {
    let memory = Arc::new(MemoryStore::default());
    let store = KnownStore::new(memory.clone());
    memory.set_fault(Some(Fault::LosesAnswers));
    assert!(store.name(Uuid::from_u128(1)).is_err());
    memory.set_fault(None);
    assert_eq!(store.name(Uuid::from_u128(2)).unwrap(), Uuid::from_u128(1));
}

#[test]
fn a_name_that_was_not_kept_whole_is_given_anew() {
    let memory = Arc::new(MemoryStore::default());
    let store = KnownStore::new(memory.clone());
    memory.set_fault(Some(Fault::HalvesPuts));
    assert!(store.name(Uuid::from_u128(1)).unwrap_err().to_string().contains("64 bytes, and has 32"));
    memory.set_fault(None);
    assert_eq!(store.name(Uuid::from_u128(2)).unwrap(), Uuid::from_u128(2));
}

#[test]
fn a_name_with_another_bit_is_no_name_and_never_replaced() {
    let memory = Arc::new(MemoryStore::default());
    let store = KnownStore::new(memory.clone());
    let id = store.name(Uuid::from_u128(1)).unwrap();
    memory.set_fault(Some(Fault::FlipsBits));
    assert!(matches!(store.id(), Err(StoreError::Failed { .. })));
    assert!(store.name(Uuid::from_u128(2)).is_err(), "somebody else may have noted it");
    memory.set_fault(None);
    assert_eq!(store.id().unwrap(), Some(id));
}

#[test]
fn nothing_is_changed_in_a_store_that_is_another_one_or_not_known() {
    let memory = Arc::new(MemoryStore::default());
    let store = KnownStore::new(memory.clone());
    let put = || store.put("a/0/x.log", 1, &mut std::iter::once(Ok("x".into())));
    let all = || [put(), store.create("a/0/manifest-1", "m".into()), store.delete("a/0/y.log")];
    memory.change("a/0/y.log", |it| it.push(1));
    assert!(all().iter().all(Result::is_err), "which one it is was not seen");
    let id = store.name(Uuid::from_u128(1)).unwrap();
    let keys = memory.keys();
    store.use_only(expected(Uuid::from_u128(2)));
    for result in all() {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(&format!("it is store {}", id.simple())), "{error}");
        assert!(error.contains("empty that file"), "{error}");
    }
    // nor does an answer of its count
    assert!(matches!(store.size("a/0/y.log"), Err(StoreError::Foreign { .. })));
    assert!(matches!(store.list("a/0"), Err(StoreError::Foreign { .. })));
    assert_eq!(memory.keys(), keys);
    store.use_only(expected(id));
    assert!(all().iter().all(Result::is_ok));
    // one look is enough for a while
    let before = memory.requests();
    assert!(store.size("a/0/x.log").is_ok() && store.list("a/0").is_ok());
    assert_eq!(memory.requests(), before + 2);
}

#[test]
fn a_directory_is_looked_at_each_time() {
    let directory = tempfile::tempdir().unwrap();
    let (mounted, away) = (directory.path().join("store"), directory.path().join("away"));
    let store = KnownStore::new(Arc::new(ObjectStore::open(&mounted.display().to_string()).unwrap()));
    assert!(!mounted.exists(), "it is made by whoever names it");
    store.use_only(expected(store.name(Uuid::from_u128(1)).unwrap()));
    store.create("a/0/manifest-1", "m".into()).unwrap();
    std::fs::rename(&mounted, &away).unwrap();
    let refused = store.create("a/0/manifest-2", "m".into()).unwrap_err();
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    assert!(!mounted.exists(), "it was made");
    std::fs::rename(&away, &mounted).unwrap();
    store.create("a/0/manifest-2", "m".into()).unwrap();
}
