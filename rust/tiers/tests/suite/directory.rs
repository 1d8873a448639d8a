//! The crate behind the port: a directory.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastlog_tiers::{ObjectStore, Store, StoreError};

use crate::common::{Broker, expected, read_all, reader, segment};

fn open(directory: &std::path::Path) -> ObjectStore {
    ObjectStore::open(&format!("file://{}", directory.display())).unwrap()
}

fn put(store: &ObjectStore, key: &str, bytes: &'static [u8]) {
    store.put(key, bytes.len() as u64, &mut std::iter::once(Ok(bytes.into()))).unwrap();
}

#[test]
fn objects_are_put_read_in_ranges_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    put(&store, "a-1/0/x.log", b"0123456789");
    put(&store, "a-1/0/y", b"");
    put(&store, "a-1/10/x.log", b"other");
    assert_eq!(&*store.get("a-1/0/x.log", 3..6).unwrap(), b"345");
    assert!(store.get("a-1/0/x.log", 8..12).is_err());
    assert!(matches!(store.get("a-1/0/z", 0..1), Err(StoreError::NotFound { .. })));
    let mut listed: Vec<_> =
        store.list("a-1/0").unwrap().into_iter().map(|it| (it.key, it.size_bytes)).collect();
    listed.sort();
    assert_eq!(listed, [("a-1/0/x.log".to_owned(), 10), ("a-1/0/y".to_owned(), 0)]);
    store.delete("a-1/0/x.log").unwrap();
    store.delete("a-1/0/x.log").unwrap();
    assert_eq!(store.list("a-1/0").unwrap().len(), 1);
    assert_eq!(store.list("nothing/there").unwrap(), []);
}

#[test]
fn one_of_many_makes_an_object() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(directory.path()));
    let tries = (0..8u8).map(|number| {
        let store = Arc::clone(&store);
        std::thread::spawn(move || store.create("p/manifest-1", vec![number].into()))
    });
    let results: Vec<_> = tries.collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect();
    assert_eq!(results.iter().filter(|it| it.is_ok()).count(), 1);
    assert!(results.iter().all(|it| matches!(it, Ok(()) | Err(StoreError::Exists { .. }))));
}

#[test]
fn large_objects_go_in_parts_and_a_part_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let part = bytes::Bytes::from(vec![7; 1 << 20]);
    store.put("large", 3 << 20, &mut (0..3).map(|_| Ok(part.clone()))).unwrap();
    assert_eq!(&*store.get("large", (3 << 20) - 2..3 << 20).unwrap(), [7, 7]);
    let mut parts =
        (0..3).map(
            |number| {
                if number < 2 { Ok(part.clone()) } else { Err(std::io::Error::other("the disk failed")) }
            },
        );
    let error = store.put("failing", 3 << 20, &mut parts).unwrap_err().to_string();
    assert!(error.contains("the disk failed"), "{error}");
    let error = store.put("short", 3 << 20, &mut (0..2).map(|_| Ok(part.clone()))).unwrap_err().to_string();
    assert!(error.contains("2097152 bytes were given, not 3145728"), "{error}");
    assert!(store.get("failing", 0..1).is_err());
    assert!(store.get("short", 0..1).is_err());
}

#[test]
fn a_tier_in_a_directory_is_there_in_the_next_run() {
    let directory = tempfile::tempdir().unwrap();
    let segments = vec![segment(0, &[(30, 50_000), (40, 50_000)]), segment(70, &[(3, 500)])];
    let broker = Broker { segments, ..Broker::default() };
    {
        let (store, tier) = (open(directory.path()), broker.tier());
        broker.segments.iter().for_each(|closed| broker.add(&tier, &store, closed).unwrap());
    }
    let (store, tier) = (Arc::new(open(directory.path())), broker.tier());
    broker.attach(&tier, &*store).unwrap();
    let whole = expected(&tier.manifest(), &broker.segments);
    assert_eq!(read_all(&reader(&store, 64 << 20), &tier, 0, 73, 1 << 20), Some(whole));
    assert_eq!(broker.trim(&tier, &*store, 70).unwrap(), 1);
    assert_eq!(tier.manifest().start_offset(), Some(70));
    tier.remove_all(&*store).unwrap();
    assert_eq!(store.list(tier.prefix()).unwrap(), []);
}

#[test]
fn files_of_uploads_that_a_crash_ended_go() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker { segments: vec![segment(0, &[(3, 500)])], ..Broker::default() };
    let (store, tier) = (open(directory.path()), broker.tier());
    broker.add(&tier, &store, &broker.segments[0]).unwrap();
    let folder = directory.path().join(tier.prefix());
    let objects = std::fs::read_dir(&folder).unwrap().count();
    std::fs::write(folder.join("00000000000000000003-x.log#1"), "half").unwrap();
    broker.attach(&broker.tier(), &store).unwrap();
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), objects);
    // and a partition that is gone leaves no directories
    tier.remove_all(&store).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_store_is_said() {
    for (url, said) in
        [("relative/path", "absolute path"), ("gs://bucket", "absolute path"), ("s3://", "s3://")]
    {
        let error = ObjectStore::open(url).map(|_| ()).unwrap_err().to_string();
        assert!(error.to_lowercase().contains(said), "{url}: {error}");
    }
}

#[test]
fn a_directory_that_hangs_is_given_up_and_holds_nobody() {
    const DEADLINE: Duration = Duration::from_millis(200);
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).with_deadline(DEADLINE);
    // whoever opens a pipe that nobody writes to waits for ever, as for a server that went away
    let made = Command::new("mkfifo").arg(directory.path().join("segment")).status().unwrap();
    assert!(made.success());
    let began = Instant::now();
    // more than there are threads for files
    for _ in 0..6 {
        let error = store.get("segment", 0..1).unwrap_err().to_string();
        assert!(error.contains("no answer within 0.2 s"), "{error}");
    }
    drop(store);
    assert!(began.elapsed() < Duration::from_secs(30), "it was waited for: {:?}", began.elapsed());
}
