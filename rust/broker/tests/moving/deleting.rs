//! Topics that are deleted where a step of it fails, or that were moved before: nothing of them comes back.

use crate::node::{FIRST, NOW_MS, Node, SECOND, found, wanted};
use crate::prepared;
use fastlog_broker::{CleanerSettings, OpenPartition};
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::file_system::{OpenMode, read_exact_at};
use fastlog_log::{AppendOptions, Checkpoint, FileSystem, LogConfig, LogError};
use fastlog_protocol::batch::Builder;
use fastlog_protocol::compression::Compression;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

fn delete(node: &Node) -> Result<usize, LogError> {
    node.logs.delete_topics(&[("t", Uuid::from_u128(1))], NOW_MS).remove(0)
}

/// As a broker of a cluster is asked to.
fn delete_replica(node: &Node) -> Result<usize, LogError> {
    node.logs.delete_replicas("t", Uuid::from_u128(1), &[(0, 0), (1, 0)], true, NOW_MS)
}

fn text(disk: &MemoryFileSystem, path: &Path) -> String {
    if !disk.exists(path).expect("asked") {
        return String::new();
    }
    let file = disk.open(path, OpenMode::Read).expect("a file");
    let mut bytes = vec![0; file.length().expect("a length") as usize];
    read_exact_at(&*file, &mut bytes, 0).expect("bytes");
    String::from_utf8(bytes).expect("text")
}

/// What the checkpoints of a directory say of the partition.
fn told(disk: &MemoryFileSystem, directory: &str) -> Vec<&'static str> {
    let says = |it: &Checkpoint| text(disk, &Path::new(directory).join(it.file_name())).contains("\nt 0 ");
    Checkpoint::ALL.iter().filter(|it| says(it)).map(|it| it.file_name()).collect()
}

#[test]
fn a_deletion_that_was_tried_again_is_as_durable_as_one_that_went_well() {
    for ask in [delete, delete_replica] {
        let mut failures = 0;
        for left in 0.. {
            let disk = MemoryFileSystem::new(left);
            let disks = [disk.clone(), disk.clone()];
            let node = prepared(&disks);
            // of which the second may fail when the first is put away
            let second = OpenPartition { index: 1, ..wanted() };
            node.logs.open_partition(&second, NOW_MS).expect("made");
            disk.set_faults(Faults { opens_left: Some(left), ..Faults::default() });
            let first = ask(&node);
            disk.set_faults(Faults::default());
            if first.is_err() {
                ask(&node).expect("deleted");
            }
            assert_eq!(told(&disk, FIRST), Vec::<&str>::new(), "{left} descriptors");
            disk.restart_machine();
            assert_eq!(found(&disks), Vec::<&str>::new(), "{left} descriptors");
            if first.is_ok() {
                break;
            }
            failures += 1;
        }
        assert!(failures >= 2, "{failures} times it failed");
    }
}

#[test]
fn a_deletion_that_the_next_run_finishes_is_durable() {
    for left in 0.. {
        let disk = MemoryFileSystem::new(left);
        let disks = [disk.clone(), disk.clone()];
        let node = prepared(&disks);
        disk.set_faults(Faults { opens_left: Some(left), ..Faults::default() });
        let first = delete(&node);
        disk.set_faults(Faults::default());
        disk.kill_process();
        drop(node);
        disk.restart_process();
        let node = Node::start_with(&disks, &[]).expect("a start");
        delete(&node).expect("deleted");
        node.logs.purge_deleted(0, NOW_MS).expect("purged");
        disk.restart_machine();
        assert_eq!(found(&disks), Vec::<&str>::new(), "{left} descriptors");
        if first.is_ok() {
            break;
        }
    }
}

#[test]
fn a_namesake_is_cleaned_from_its_start_also_where_a_deleted_topic_was_moved_away() {
    let disk = MemoryFileSystem::new(1);
    let disks = [disk.clone(), disk.clone()];
    let config = LogConfig { segment_bytes: 1000, cleanup_compact: true, ..LogConfig::default() };
    let compacted = OpenPartition { config: Arc::new(config), ..wanted() };
    let node = Node::start_with(&disks, &[compacted]).expect("a broker");
    let partition = node.broker.partitions().get("t", 0).expect("an open partition");
    for _ in 0..20 {
        let mut builder = Builder::new();
        builder.append(NOW_MS, Some(b"key"), Some(&[b'v'; 200]));
        let batch = builder.seal(Compression::None).expect("a batch");
        partition.append(&batch, NOW_MS, AppendOptions::default()).expect("appended");
    }
    drop(partition);
    assert!(node.logs.clean_one(&CleanerSettings::default(), NOW_MS).expect("a pass"));
    assert_eq!(told(&disk, FIRST), ["cleaner-offset-checkpoint"]);
    node.ask("t", SECOND).expect("accepted");
    node.move_all().expect("moved");
    assert!(told(&disk, SECOND).contains(&"cleaner-offset-checkpoint"));
    // it may be the next run that deletes it
    disk.kill_process();
    drop(node);
    disk.restart_process();
    let node = Node::start_with(&disks, &[]).expect("a start");
    // as they are in their turn; the cleaner's has none
    for checkpoint in [Checkpoint::RecoveryPoint, Checkpoint::LogStart, Checkpoint::HighWatermark] {
        node.logs.checkpoint(0, checkpoint).expect("written");
    }
    assert_eq!(told(&disk, FIRST), ["cleaner-offset-checkpoint"]);
    assert_eq!(delete(&node).expect("deleted"), 1);
    assert_eq!((told(&disk, FIRST), told(&disk, SECOND)), (Vec::new(), Vec::new()));
}
