//! Several data directories of one broker: where partitions go, and what each directory keeps for its own.

#![allow(clippy::expect_used, reason = "helpers of tests")]

use fastlog_broker::{AllowAll, Broker, BrokerConfig, LogManager, OpenPartition, SystemClock};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{AppendOptions, Checkpoint, Identity, LastStop, LogConfig, LogError, Storage};
use fastlog_protocol::ErrorCode;
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

const NOW_MS: i64 = 1_700_000_000_000;
const SEGMENT_BYTES: u64 = 1 << 20;

fn wanted(index: i32) -> OpenPartition {
    OpenPartition {
        topic: "t".into(),
        topic_id: Uuid::from_u128(1),
        index,
        leader_epoch: 0,
        config: Arc::new(LogConfig { segment_bytes: SEGMENT_BYTES, ..LogConfig::default() }),
        min_insync_replicas: 1,
    }
}

struct Node {
    broker: Arc<Broker>,
    logs: LogManager,
}

impl Node {
    fn on(storages: Vec<Arc<Storage>>) -> Result<Self, LogError> {
        let broker = Broker::new(BrokerConfig::default(), Arc::new(AllowAll), Arc::new(SystemClock))
            .expect("a broker");
        let identity = Identity { cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(), node_id: 1 };
        let logs = LogManager::open(broker.clone(), storages, &identity)?;
        Ok(Self { broker, logs })
    }

    fn start(paths: &[&Path]) -> Self {
        Self::on(Storage::all_real(paths.iter().map(|it| it.to_path_buf()))).expect("data directories")
    }

    fn open(&self, index: i32) {
        self.logs.open_partition(&wanted(index), NOW_MS).expect("a partition");
    }

    fn append(&self, index: i32, count: usize) {
        let partition = self.broker.partitions().get("t", index).expect("an open partition");
        for _ in 0..count {
            let mut builder = Builder::new();
            builder.append(NOW_MS, None, Some(&[0; 1000]));
            let batch = builder.seal(Compression::None).expect("a batch");
            partition.append(&batch, NOW_MS, AppendOptions::default()).expect("an append");
        }
    }

    fn end(&self, index: i32) -> i64 {
        self.broker.partitions().get("t", index).expect("an open partition").log().log_end_offset()
    }

    /// The directory that has each of the partitions.
    fn places(&self, count: i32) -> Vec<PathBuf> {
        let table = self.broker.partitions();
        let each =
            (0..count).map(|index| table.get("t", index).expect("an open partition").log().directory());
        each.map(|it| it.parent().expect("a data directory").to_owned()).collect()
    }

    fn kill(self) {
        self.broker.shutdown();
    }
}

fn with_room(room: u64, path: &str) -> (MemoryFileSystem, Arc<Storage>) {
    let files = MemoryFileSystem::new(1);
    files.set_faults(Faults { room: Some(room), ..Faults::default() });
    (files.clone(), Storage::new(Arc::new(files), PathBuf::from(path), 100))
}

#[test]
fn a_new_partition_goes_where_most_room_is_promised_to_nobody() {
    let (_, small) = with_room(10 * SEGMENT_BYTES, "/small");
    let (_, large) = with_room(13 * SEGMENT_BYTES - 1, "/large");
    let node = Node::on(vec![small, large]).expect("data directories");
    (0..7).for_each(|index| node.open(index));
    let places = node.places(7);
    let counted = |path: &str| places.iter().filter(|it| **it == Path::new(path)).count();
    // the larger one has room for some segments more; from there on they take turns
    assert_eq!(&places[..2], ["/large", "/large"].map(PathBuf::from));
    assert_eq!((counted("/small"), counted("/large")), (2, 5));
    node.kill();
}

#[test]
fn where_room_is_the_same_the_fewest_partitions_count_and_then_the_order() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let node = Node::start(&[first.path(), second.path()]);
    (0..4).for_each(|index| node.open(index));
    assert_eq!(node.places(4), [first.path(), second.path(), first.path(), second.path()]);
    node.kill();
}

#[test]
fn records_stay_in_their_directory_over_every_kind_of_end() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let paths = [first.path(), second.path()];
    let node = Node::start(&paths);
    (0..4).for_each(|index| node.open(index));
    let places = node.places(4);
    node.logs.finish_opening().expect("done");
    (0..4).for_each(|index| node.append(index, 3 + index as usize));
    node.logs.delete_records("t", 1, 2).expect("deleted");
    node.kill();

    let node = Node::start(&paths);
    assert_eq!(node.logs.last_stop(), LastStop::ProcessDied);
    (0..4).rev().for_each(|index| node.open(index));
    assert_eq!(node.places(4), places);
    assert_eq!((0..4).map(|index| node.end(index)).collect::<Vec<_>>(), [3, 4, 5, 6]);
    node.logs.finish_opening().expect("done");
    node.logs.close().expect("closed");
    for (path, own) in
        paths.iter().zip([["t 0 3", "t 2 5", "t  0  3", "t  2  5"], ["t 1 4", "t 3 6", "t  1  4", "t  3  6"]])
    {
        let text = std::fs::read_to_string(path.join("recovery-point-offset-checkpoint")).expect("a file");
        assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), own, "each has its own partitions alone");
    }
    let text = std::fs::read_to_string(second.path().join("log-start-offset-checkpoint")).expect("a file");
    assert_eq!(text.lines().skip(2).collect::<Vec<_>>(), ["t 1 2", "t  1  2"]);
    node.kill();

    let node = Node::start(&paths);
    assert_eq!(node.logs.last_stop(), LastStop::Clean);
    (0..4).for_each(|index| node.open(index));
    assert_eq!(node.places(4), places);
    let described = node.logs.described().expect("open");
    assert_eq!(described.iter().map(|it| &*it.path).collect::<Vec<_>>(), paths);
    assert!(
        described.iter().all(|it| it.sizes.len() == 2 && it.space.as_ref().is_ok_and(|it| it.usable > 0))
    );
    assert_eq!(node.logs.delete_topics(&[("t", Uuid::from_u128(1))], NOW_MS).remove(0).expect("deleted"), 4);
    for (number, path) in paths.iter().enumerate() {
        node.logs.purge_deleted(number, NOW_MS + 100_000).expect("purged");
        let left = std::fs::read_dir(path).expect("a directory").map(|it| it.expect("an entry").path());
        assert!(left.filter(|it| it.is_dir()).collect::<Vec<_>>().is_empty(), "nothing of the topic is left");
    }
    node.kill();
}

#[test]
fn a_directory_that_died_with_its_machine_does_not_make_the_others_so() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let paths = [first.path(), second.path()];
    let node = Node::start(&paths);
    (0..2).for_each(|index| node.open(index));
    node.logs.finish_opening().expect("done");
    node.append(1, 5);
    node.logs.close().expect("closed");
    node.kill();
    // as when one disk was mounted elsewhere meanwhile, and that machine died
    std::fs::remove_file(second.path().join(".kafka_cleanshutdown")).expect("the marker");
    let run = second.path().join("fastlog.run");
    let text = std::fs::read_to_string(&run).expect("a file");
    let changed = text.lines().map(|it| if it.starts_with("boot_id") { "boot_id: other" } else { it });
    std::fs::write(&run, changed.map(|it| format!("{it}\n")).collect::<String>()).expect("written");

    let node = Node::start(&paths);
    assert_eq!(node.logs.last_stop(), LastStop::MachineDied, "the worst of them");
    // one that is not opened keeps only its own directory from being marked
    node.open(0);
    node.logs.close().expect("closed");
    assert_eq!(paths.map(|it| it.join(".kafka_cleanshutdown").exists()), [true, false]);
    node.kill();
}

#[test]
fn a_directory_that_fails_takes_its_partitions_and_no_others() {
    let (files, first) = (MemoryFileSystem::new(1), MemoryFileSystem::new(2));
    let storage = |files: &MemoryFileSystem, path: &str| {
        Storage::new(Arc::new(files.clone()), PathBuf::from(path), 100)
    };
    let node = Node::on(vec![storage(&first, "/first"), storage(&files, "/second")]).expect("directories");
    (0..4).for_each(|index| node.open(index));
    node.logs.finish_opening().expect("done");
    assert_eq!(node.places(4), ["/first", "/second", "/first", "/second"].map(PathBuf::from));
    (0..4).for_each(|index| node.append(index, 3));
    files.set_faults(Faults { write_error: true, sync_error: true, ..Faults::default() });
    let partition = |index| node.broker.partitions().get("t", index).expect("an open partition");
    for index in [1, 3] {
        let mut builder = Builder::new();
        builder.append(NOW_MS, None, Some(b"refused"));
        let batch = builder.seal(Compression::None).expect("a batch");
        let refused = partition(index).append(&batch, NOW_MS, AppendOptions::default());
        assert_eq!(refused.expect_err("a refusal").code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert_eq!(node.end(index), 3);
    }
    // the others go on, and so does what is done for all of them
    (0..3).step_by(2).for_each(|index| node.append(index, 2));
    for checkpoint in [Checkpoint::RecoveryPoint, Checkpoint::HighWatermark, Checkpoint::Cleaner] {
        node.logs.write_checkpoint(checkpoint).expect("of the one that is left");
    }
    (4..8).for_each(|index| node.open(index));
    assert!(node.places(8)[4..].iter().all(|it| it == Path::new("/first")), "new ones go elsewhere");
    let described = node.logs.described().expect("open");
    assert_eq!(described.iter().map(|it| it.space.is_ok()).collect::<Vec<_>>(), [true, false]);
    let offline = node.logs.offline().expect("open");
    assert_eq!(offline.iter().map(|it| it.2).collect::<Vec<_>>(), [1, 3]);
    // nothing is marked as clean that is not
    node.logs.close().expect_err("one directory is not whole");
    node.kill();
    files.restart_process();
    files.set_faults(Faults::default());
    let node = Node::on(vec![storage(&first, "/first"), storage(&files, "/second")]).expect("directories");
    assert_eq!(node.logs.last_stop(), LastStop::MachineDied, "what the disk did not take is not believed");
    (0..8).for_each(|index| node.open(index));
    assert_eq!((0..4).map(|index| node.end(index)).collect::<Vec<_>>(), [5, 3, 5, 3]);
    node.logs.finish_opening().expect("done");
    node.kill();
    let node = Node::on(vec![storage(&first, "/first"), storage(&files, "/second")]).expect("directories");
    assert_eq!(node.logs.last_stop(), LastStop::ProcessDied, "all was recovered");
    node.kill();
}

#[test]
fn a_disk_that_failed_and_is_back_may_have_lost_whatever_was_not_synced() {
    for seed in 0..20 {
        let (first, files) = (MemoryFileSystem::new(seed), MemoryFileSystem::new(seed));
        let on = || {
            let of = |files: &MemoryFileSystem, path| Storage::new(Arc::new(files.clone()), path, 100);
            let node = Node::on(vec![of(&first, "/first".into()), of(&files, "/second".into())]);
            let node = node.expect("directories");
            (0..2).for_each(|index| node.open(index));
            node
        };
        let node = on();
        node.logs.finish_opening().expect("done");
        assert_eq!(node.places(2)[1], Path::new("/second"));
        node.append(1, 5);
        let log = node.broker.partitions().get("t", 1).expect("an open partition");
        assert_eq!(log.log().flush().expect("a sync"), 5);
        node.append(1, 20);
        files.set_faults(Faults { sync_error: true, ..Faults::default() });
        log.log().flush().expect_err("a sync that fails");
        node.kill();
        drop(log);
        files.restart_disk();

        // the machine ran on, but a hole is no damage of what was on the disk: the log ends there, and goes on
        let node = on();
        let end = node.end(1);
        assert!((5..=25).contains(&end), "seed {seed}: it ends at {end}");
        node.append(1, 1);
        assert_eq!(node.end(1), end + 1, "seed {seed}");
        node.kill();
    }
}

#[test]
fn what_may_be_in_a_directory_that_failed_is_not_made_anew() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let paths = [first.path(), second.path()];
    let node = Node::start(&paths);
    (0..2).for_each(|index| node.open(index));
    node.logs.finish_opening().expect("done");
    node.append(1, 3);
    node.logs.close().expect("closed");
    node.kill();
    let away = second.path().with_extension("away");
    std::fs::rename(second.path(), &away).expect("renamed");
    std::fs::write(second.path(), b"no directory").expect("written");

    let node = Node::start(&paths);
    node.open(0);
    let refused = node.logs.open_partition(&wanted(1), NOW_MS).expect_err("it is elsewhere");
    assert_eq!(refused.code(), ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(refused.to_string().contains(&second.path().display().to_string()), "{refused}");
    node.logs.finish_opening().expect("done");
    node.open(2);
    assert_eq!(node.places(1), [first.path()], "what is new goes where it can");
    node.logs.open_partition(&wanted(1), NOW_MS).expect_err("it is elsewhere still");
    assert_eq!(node.logs.offline().expect("open"), [("t".to_owned(), Uuid::from_u128(1), 1)]);
    assert!(node.logs.has_lost().expect("open"));
    node.logs.close().expect("closed");
    node.kill();
    std::fs::remove_file(second.path()).expect("removed");
    std::fs::rename(&away, second.path()).expect("renamed");
    let node = Node::start(&paths);
    (0..3).for_each(|index| node.open(index));
    assert_eq!(node.end(1), 3);
    node.kill();
}

#[test]
fn whenever_a_disk_dies_in_a_start_the_other_one_serves() {
    let mut at = 0;
    loop {
        let disks = [MemoryFileSystem::new(at), MemoryFileSystem::new(at + 1)];
        let start = || {
            let paths = disks.iter().zip(["/first", "/second"]);
            let storage = |(disk, path): (&MemoryFileSystem, _)| {
                Storage::new(Arc::new(disk.clone()), PathBuf::from(path), 100)
            };
            Node::on(paths.map(storage).collect())
        };
        let node = start().expect("data directories");
        (0..4).for_each(|index| node.open(index));
        node.logs.finish_opening().expect("opened");
        (0..4).for_each(|index| node.append(index, 3));
        let places = node.places(4);
        node.kill();
        disks.iter().for_each(MemoryFileSystem::kill_process);
        disks.iter().for_each(MemoryFileSystem::restart_process);

        disks[1].set_faults(Faults { die_at_call: Some(disks[1].calls() + at), ..Faults::default() });
        let node = start().unwrap_or_else(|error| panic!("call {at}: {error}"));
        let mut offline = 0;
        for index in 0..4 {
            let opened = node.logs.open_partition(&wanted(index), NOW_MS);
            let is_first = places[index as usize] == Path::new("/first");
            assert!(opened.is_ok() || !is_first, "call {at}: {opened:?}");
            offline += usize::from(opened.is_err());
            if is_first {
                assert_eq!(node.end(index), 3);
                node.append(index, 1);
            }
        }
        node.logs.finish_opening().unwrap_or_else(|error| panic!("call {at}: {error}"));
        let is_over = !disks[1].is_dead();
        assert!(!is_over || offline == 0, "call {at}");
        node.kill();

        // the disk is well again: nothing was made anew, or lost
        disks.iter().for_each(MemoryFileSystem::kill_process);
        disks.iter().for_each(MemoryFileSystem::restart_process);
        let node = start().unwrap_or_else(|error| panic!("after call {at}: {error}"));
        (0..4).for_each(|index| node.open(index));
        assert_eq!(node.places(4), places);
        for index in 0..4 {
            let is_first = places[index as usize] == Path::new("/first");
            assert_eq!(node.end(index), 3 + i64::from(is_first), "call {at}");
        }
        node.kill();
        if is_over {
            assert!(at > 20, "only {at} calls");
            break;
        }
        at += 1;
    }
}

#[test]
fn a_topic_id_that_cannot_be_read_is_that_partitions_trouble_only() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let start = || {
        let paths = disks.iter().zip(["/first", "/second"]);
        let storage = |(disk, path): (&MemoryFileSystem, _)| {
            Storage::new(Arc::new(disk.clone()), PathBuf::from(path), 100)
        };
        Node::on(paths.map(storage).collect()).expect("data directories")
    };
    let node = start();
    (0..4).for_each(|index| node.open(index));
    (0..4).for_each(|index| node.append(index, 3));
    let place = node.broker.partitions().get("t", 1).expect("open").log().directory();
    node.kill();
    disks.iter().for_each(MemoryFileSystem::kill_process);
    disks.iter().for_each(MemoryFileSystem::restart_process);
    assert_eq!(place, Path::new("/second/t-1"));
    assert!(disks[1].make_unreadable(&place.join("partition.metadata"), 0));
    let node = start();
    let opened: Vec<_> =
        (0..4).map(|index| node.logs.open_partition(&wanted(index), NOW_MS).is_ok()).collect();
    assert_eq!(opened, [true, false, true, true]);
    node.append(3, 1);
    node.kill();
    assert!(disks[1].make_readable(&place.join("partition.metadata")));
    disks.iter().for_each(MemoryFileSystem::restart_process);
    let node = start();
    node.open(1);
    assert_eq!(node.end(1), 3);
    node.kill();
}
