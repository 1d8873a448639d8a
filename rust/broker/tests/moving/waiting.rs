//! Replicas that wait to be moved, or to be made in a directory: over crashes, restarts, and disks that are away.

use crate::node::{FIRST, NOW_MS, Node, SECOND, THIRD};
use fastlog_broker::OpenPartition;
use fastlog_log::file_system::OpenMode;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{FileSystem, LogError};
use fastlog_protocol::ErrorCode;
use std::path::Path;
use uuid::Uuid;

const TOPICS: [&str; 3] = ["a", "b", "t"];

fn opened(topic: &str, topic_id: u128) -> OpenPartition {
    OpenPartition { topic: topic.into(), topic_id: Uuid::from_u128(topic_id), ..crate::node::wanted() }
}

fn all() -> Vec<OpenPartition> {
    TOPICS.iter().zip(10..).map(|(topic, id)| opened(topic, id)).collect()
}

fn start(disks: &[MemoryFileSystem]) -> Result<Node, LogError> {
    Node::start_with(disks, &all())
}

/// Three partitions with records that are on the disk, the first disk being the only one that has any.
fn prepared(disks: &[MemoryFileSystem]) -> Node {
    let node = start(disks.get(..1).expect("a disk")).expect("a broker");
    for topic in TOPICS {
        (0..4).for_each(|_| node.append_to(topic, 500).expect("appended"));
        node.broker.partitions().get(topic, 0).expect("open").log().flush().expect("synced");
    }
    node.logs.close().expect("closed");
    start(disks).expect("a broker")
}

fn two() -> [MemoryFileSystem; 2] {
    [1, 2].map(MemoryFileSystem::new)
}

fn places(node: &Node) -> Vec<String> {
    TOPICS.iter().map(|it| node.place_of(it).display().to_string()).collect()
}

fn is_whole(node: &Node) -> bool {
    TOPICS.iter().all(|it| node.broker.partitions().get(it, 0).expect("open").log().log_end_offset() == 4)
}

fn killed(node: Node, disks: &[MemoryFileSystem]) {
    disks.iter().for_each(MemoryFileSystem::kill_process);
    drop(node);
}

/// Kills it, and starts it again.
fn again(node: Node, disks: &[MemoryFileSystem]) -> Node {
    killed(node, disks);
    disks.iter().for_each(MemoryFileSystem::restart_process);
    start(disks).expect("a start")
}

/// A file that another run left, with these bytes.
fn leave(disk: &MemoryFileSystem, path: &str, bytes: &[u8]) {
    let file = disk.open(Path::new(path), OpenMode::Create).expect("made");
    file.set_len(0).expect("emptied");
    fastlog_log::file_system::write_all_at(&*file, &mut [std::io::IoSlice::new(bytes)], 0).expect("written");
    file.sync_data().expect("synced");
    disk.sync_directory(Path::new(path).parent().expect("a directory")).expect("synced");
}

fn told(node: &Node, what: &str) -> Option<String> {
    node.messages().into_iter().find(|it| it.contains(what))
}

#[test]
fn what_was_accepted_is_done_whenever_the_process_or_the_machine_dies() {
    for of_machine in [false, true] {
        let mut was_accepted = 0;
        for at in 0.. {
            let disk = MemoryFileSystem::new(at);
            let disks = [disk.clone(), disk.clone()];
            let node = prepared(&disks);
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at), ..Faults::default() });
            let accepted: Vec<_> =
                TOPICS.iter().filter(|it| node.ask(it, SECOND).is_ok()).map(|it| it.to_string()).collect();
            let _dies = node.move_all();
            let was_whole = !disk.is_dead();
            killed(node, &disks);
            let restart = || if of_machine { disk.restart_machine() } else { disk.restart_process() };
            restart();
            // it may die once more while it starts, or begins to move
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at % 150), ..Faults::default() });
            if let Ok(node) = start(&disks) {
                let _dies = node.move_all();
                killed(node, &disks);
            }
            if disk.is_dead() {
                restart();
            }
            disk.set_faults(Faults::default());
            let node = start(&disks).expect("a start");
            node.move_all().expect("moved");
            let what = format!("call {at}, machine: {of_machine}, accepted: {accepted:?}");
            assert!(is_whole(&node), "{what}");
            for (topic, place) in TOPICS.iter().zip(places(&node)) {
                assert!(
                    place == SECOND || !accepted.contains(&topic.to_string()),
                    "{what}: {topic} in {place}"
                );
            }
            was_accepted += usize::from(accepted.len() == 3);
            if was_whole {
                break;
            }
        }
        assert!(was_accepted > 50, "only {was_accepted}");
    }
}

#[test]
fn what_was_given_up_or_answered_otherwise_stays_so() {
    let disks = [1, 2, 3].map(MemoryFileSystem::new);
    let node = prepared(&disks);
    for topic in TOPICS {
        node.ask(topic, SECOND).expect("asked");
    }
    node.ask("a", FIRST).expect("given up");
    node.ask("b", THIRD).expect("to be elsewhere");
    // as a start leaves it that dies before the copy of the first is removed
    let copy = format!("{SECOND}/a-0.{}-future", "0".repeat(32));
    disks[1].create_directory(Path::new(&copy)).expect("made");
    leave(&disks[1], &format!("{copy}/partition.metadata"), b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAACg");
    let node = again(node, &disks);
    node.move_all().expect("moved");
    assert_eq!(places(&node), [FIRST, THIRD, SECOND]);
    assert!(!disks[1].exists(Path::new(&copy)).expect("asked"), "it is put away");
    // what is over is over
    node.ask("b", FIRST).expect("asked");
    node.move_all().expect("moved");
    let node = again(node, &disks);
    node.move_all().expect("nothing to do");
    assert_eq!((places(&node), is_whole(&node)), (vec![FIRST.into(), FIRST.into(), SECOND.into()], true));
}

#[test]
fn where_a_partition_is_to_be_made_is_known_after_a_restart() {
    let disks = two();
    let node = prepared(&disks);
    for topic in ["later", "namesake"] {
        assert_eq!(node.ask(topic, SECOND).expect_err("not here").code, ErrorCode::REPLICA_NOT_AVAILABLE);
    }
    let node = again(node, &disks);
    // the second has the larger part of the room
    disks[1].set_faults(Faults { room: Some(1 << 20), ..Faults::default() });
    node.logs.open_partition(&opened("later", 2), NOW_MS).expect("made");
    node.logs.open_partition(&opened("namesake", 3), NOW_MS).expect("made");
    let found = ["later", "namesake"].map(|it| node.place_of(it));
    assert_eq!(found, [SECOND, FIRST].map(std::path::PathBuf::from), "a topic made anew is another one");
    node.move_all().expect("nothing to do");
    let text = read(&disks[0]);
    assert!(!text.contains("later") && !text.contains("namesake"), "{text}");
}

/// What is written of it.
fn read(disk: &MemoryFileSystem) -> String {
    read_file(disk, "/first/fastlog.wanted")
}

fn read_file(disk: &MemoryFileSystem, path: &str) -> String {
    let file = disk.open(Path::new(path), OpenMode::Read).expect("a file");
    let mut bytes = vec![0; file.length().expect("a length") as usize];
    fastlog_log::file_system::read_exact_at(&*file, &mut bytes, 0).expect("bytes");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_move_waits_for_a_disk_that_is_away() {
    let disks = two();
    let node = prepared(&disks);
    node.ask("a", SECOND).expect("asked");
    node.ask("later", SECOND).expect_err("not here");
    killed(node, &disks);
    // a start without it
    disks[0].restart_process();
    let node = start(&disks).expect("a start");
    assert!(told(&node, "a data directory that failed: it is moved by the start").is_some());
    node.move_all().expect("nothing to do");
    node.ask("b", SECOND).expect_err("it failed");
    node.logs.open_partition(&opened("later", 2), NOW_MS).expect("made elsewhere");
    assert_eq!(places(&node), [FIRST; 3]);
    let node = again(node, &disks);
    // it fails while it is given something
    disks[1].set_faults(Faults { write_error: true, ..Faults::default() });
    node.move_all().expect("told");
    assert!(told(&node, "the start at which the disk is well moves it").is_some());
    node.move_all().expect("not tried again");
    assert_eq!(told(&node, "could not be moved"), None);
    disks[1].set_faults(Faults::default());
    let node = again(node, &disks);
    node.logs.open_partition(&opened("later", 2), NOW_MS).expect("opened");
    node.move_all().expect("moved");
    assert_eq!((places(&node), is_whole(&node)), (vec![SECOND.into(), FIRST.into(), FIRST.into()], true));
    assert_eq!(node.place_of("later"), Path::new(SECOND));
}

#[test]
fn a_move_to_a_directory_that_was_given_up_is_over() {
    let disks = two();
    let node = prepared(&disks);
    node.ask("a", SECOND).expect("asked");
    killed(node, &disks);
    disks.iter().for_each(MemoryFileSystem::restart_process);
    let known = read_file(&disks[0], "/first/fastlog.directories");
    let lines = known
        .lines()
        .map(|it| if it.ends_with(SECOND) { it.replace("present", "lost") } else { it.to_owned() });
    leave(&disks[0], "/first/fastlog.directories", lines.collect::<Vec<_>>().join("\n").as_bytes());
    let node = start(disks.get(..1).expect("a disk")).expect("a start without it");
    assert!(told(&node, "a replica is not moved any more").is_some());
    assert!(!read(&disks[0]).contains("a-0"));
    node.move_all().expect("nothing to do");
    assert!(is_whole(&node));
}

#[test]
fn what_a_deleted_topic_or_replica_waited_for_goes_with_it() {
    let disks = two();
    let node = prepared(&disks);
    for topic in TOPICS {
        node.ask(topic, SECOND).expect("asked");
    }
    node.logs.delete_topics(&[("a", Uuid::from_u128(10))], NOW_MS).remove(0).expect("deleted");
    node.logs.delete_replicas("b", Uuid::from_u128(11), &[(0, 1)], false, NOW_MS).expect("put away");
    let text = read(&disks[0]);
    let lines: Vec<_> = text.lines().filter_map(|it| it.split_once("-0 ")).map(|it| it.0).collect();
    assert_eq!(lines, ["t"], "{text}");
    // they come again, and stay where they are made
    let node = again(node, &disks);
    let made = places(&node);
    node.move_all().expect("moved");
    assert_eq!((&places(&node)[..2], &*places(&node)[2]), (&made[..2], SECOND));
}

#[test]
fn a_damaged_list_costs_the_moves_that_waited_and_nothing_else() {
    let disks = two();
    let node = prepared(&disks);
    node.ask("a", SECOND).expect("asked");
    let damaged = read(&disks[0]).replace("a-0", "b-0");
    leave(&disks[0], "/first/fastlog.wanted", damaged.as_bytes());
    let node = again(node, &disks);
    let told = told(&node, "which replicas are to be moved is not known any more").expect("told");
    assert!(
        told.contains("fastlog.wanted") && told.contains("b-0") && told.contains("ask for the moves again"),
        "{told}"
    );
    node.move_all().expect("nothing to do");
    assert_eq!((places(&node), is_whole(&node)), (vec![FIRST.to_owned(); 3], true));
    node.ask("t", SECOND).expect("asked");
    let node = again(node, &disks);
    node.move_all().expect("moved");
    assert_eq!(places(&node), [FIRST, FIRST, SECOND]);
}

#[test]
fn a_move_that_cannot_be_written_down_is_refused_and_not_done() {
    let disks = two();
    let node = prepared(&disks);
    node.ask("b", SECOND).expect("asked");
    disks[0].set_faults(Faults { room: Some(0), ..Faults::default() });
    let full = node.ask("a", SECOND).expect_err("no room");
    assert_eq!(full.code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(full.message.contains("free some space"), "{}", full.message);
    assert_eq!(node.ask("later", SECOND).expect_err("no room").code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(node.ask("a", "/elsewhere").expect_err("none").code, ErrorCode::LOG_DIR_NOT_FOUND);
    disks[0].set_faults(Faults::default());
    node.move_all().expect("moved");
    assert_eq!(places(&node), [FIRST, SECOND, FIRST]);
    // a disk that fails is not asked again
    disks[0].set_faults(Faults { sync_error: true, ..Faults::default() });
    assert_eq!(node.ask("a", SECOND).expect_err("it fails").code, ErrorCode::KAFKA_STORAGE_ERROR);
    disks[0].set_faults(Faults::default());
    assert_eq!(node.ask("a", SECOND).expect_err("it failed").code, ErrorCode::KAFKA_STORAGE_ERROR);
    node.append_to("b", 500).expect("what is on the other disk is served");
}

#[test]
fn a_copy_that_kafka_left_is_made_anew_also_by_a_start_after_one_that_died() {
    let mut did_die = 0;
    for at in 0.. {
        let disks = two();
        let node = prepared(&disks);
        let copy = format!("{SECOND}/a-0.{}-future", "0".repeat(32));
        disks[1].create_directory(Path::new(&copy)).expect("made");
        leave(
            &disks[1],
            &format!("{copy}/partition.metadata"),
            b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAACg",
        );
        disks[1].sync_directory(Path::new(SECOND)).expect("synced");
        killed(node, &disks);
        disks.iter().for_each(MemoryFileSystem::restart_process);
        disks[1].set_faults(Faults { die_at_call: Some(disks[1].calls() + at), ..Faults::default() });
        let begun = start(&disks);
        let was_whole = !disks[1].is_dead();
        disks.iter().for_each(MemoryFileSystem::kill_process);
        drop(begun);
        disks.iter().for_each(MemoryFileSystem::restart_process);
        disks[1].set_faults(Faults::default());
        let node = start(&disks).expect("a start");
        node.move_all().expect("moved");
        assert_eq!(
            (places(&node), is_whole(&node)),
            (vec![SECOND.into(), FIRST.into(), FIRST.into()], true),
            "call {at}"
        );
        if was_whole {
            break;
        }
        did_die += 1;
    }
    assert!(did_die > 20, "only {did_die}");
}
