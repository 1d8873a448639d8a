//! Replicas that are moved between data directories, with the process, the machine or one of the disks dying inside any call.

#![allow(clippy::expect_used, reason = "helpers of tests")]

mod deleting;
mod descriptors;
mod node;
mod waiting;

use fastlog_broker::{MoveSettings, OpenPartition};
use fastlog_log::file_system::OpenMode;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{Checkpoint, FileSystem, LogConfig};
use fastlog_protocol::ErrorCode;
use node::{FIRST, NOW_MS, Node, SECOND, THIRD, found, restarted, wanted};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A partition of 24 records in the first directory, of which 20 are on the disk, and the first 5 deleted.
fn prepared(disks: &[MemoryFileSystem]) -> Node {
    let node = Node::start(disks).expect("a broker");
    assert_eq!(node.place(), Path::new(FIRST));
    (0..20).for_each(|_| node.append().expect("appended"));
    let partition = node.broker.partitions().get("t", 0).expect("an open partition");
    partition.log().flush().expect("synced");
    node.logs.write_checkpoint(Checkpoint::RecoveryPoint).expect("written");
    node.logs.delete_records("t", 0, 5).expect("deleted");
    (0..4).for_each(|_| node.append().expect("appended"));
    node
}

/// Asks for the move and does it, with appends after it; how many records were acknowledged, and whether it was done.
fn moved(node: &Node) -> (i64, bool) {
    let asked = node.ask("t", SECOND);
    let done = asked.is_ok() && node.move_all().is_ok() && node.place() == Path::new(SECOND);
    (24 + (0..3).take_while(|_| node.append().is_ok()).count() as i64, done)
}

#[test]
fn a_replica_is_moved_and_moved_back_with_all_that_it_has() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    assert_eq!(moved(&node), (27, true));
    assert_eq!((node.check(), found(&disks)), ((5, 27), vec![SECOND]));
    let told: Vec<_> = node.messages().into_iter().filter(|it| it.contains("a replica was moved")).collect();
    assert!(
        told.len() == 1 && told[0].contains(r#"("bytes", "13"#),
        "of 24 records with 500 bytes each: {told:?}"
    );
    node.ask("t", FIRST).expect("asked");
    node.move_all().expect("moved");
    assert_eq!((node.check(), found(&disks)), ((5, 27), vec![FIRST]));
    node.logs.close().expect("closed");
    let node = Node::start(&disks).expect("a broker");
    assert_eq!((node.check(), node.place()), ((5, 27), PathBuf::from(FIRST)));
    for (number, (disk, path)) in disks.iter().zip([FIRST, SECOND]).enumerate() {
        node.logs.purge_deleted(number, NOW_MS + 1).expect("purged");
        let names = disk.list(Path::new(path)).expect("names").into_iter().map(|it| it.name);
        let left: Vec<_> = names.filter(|it| it.starts_with("t-0.") || it == "fastlog.moves").collect();
        assert!(left.iter().all(|it| it == "fastlog.moves"), "{left:?}");
    }
}

#[test]
fn whenever_the_process_or_the_machine_dies_one_directory_has_all() {
    for of_machine in [false, true] {
        let mut at = 0;
        loop {
            let disk = MemoryFileSystem::new(at);
            let disks = [disk.clone(), disk.clone()];
            let node = prepared(&disks);
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at), ..Faults::default() });
            let (acknowledged, is_done) = moved(&node);
            let was_whole = !disk.is_dead();
            disk.kill_process();
            drop(node);
            let restart = |disk: &MemoryFileSystem| {
                if of_machine { disk.restart_machine() } else { disk.restart_process() }
            };
            // it may die once more while it starts
            restart(&disk);
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at % 60), ..Faults::default() });
            drop(Node::start(&disks));
            let node = restarted(&disks, |disk| {
                if disk.is_dead() {
                    restart(disk)
                }
            });
            let told = format!("call {at}, machine: {of_machine}, done: {is_done}");
            assert_eq!(found(&disks).len(), 1, "{told}");
            let (start, end) = node.check();
            let kept = match (of_machine, is_done) {
                (false, _) => acknowledged,
                (true, true) => 24,
                (true, false) => 20,
            };
            assert!(start == 5 && end >= kept, "{told}: {start} to {end} of {acknowledged}");
            // what was cut short goes on by itself
            let was_begun = node.place() == Path::new(SECOND);
            node.move_all().expect("moved");
            node.append().expect("appended");
            assert_eq!(node.check(), (5, end + 1), "{told}");
            assert!(!was_begun || node.place() == Path::new(SECOND), "{told}");
            if was_whole {
                assert!(at > 100, "only {at} calls");
                break;
            }
            at += 1;
        }
    }
}

#[test]
fn whenever_one_of_the_disks_dies_the_other_one_goes_on_with_all() {
    for failing in [0, 1] {
        let mut at = 0;
        loop {
            let disks = [MemoryFileSystem::new(at), MemoryFileSystem::new(at + 1)];
            let node = prepared(&disks);
            let disk = &disks[failing];
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at), ..Faults::default() });
            let (acknowledged, is_done) = moved(&node);
            let was_whole = !disk.is_dead();
            let place = node.place();
            if !was_whole && place == Path::new([SECOND, FIRST][failing]) {
                assert_eq!(acknowledged, 27, "call {at} of {failing}: the one that has it serves");
                assert_eq!(node.check(), (5, 27));
            }
            assert_eq!(place == Path::new(SECOND), is_done);
            disks.iter().for_each(MemoryFileSystem::kill_process);
            drop(node);
            if failing == 1 {
                // a start without the disk opens what counts here, and makes nothing anew
                disks[0].restart_process();
                match Node::start(&disks) {
                    Ok(node) => {
                        assert_eq!(node.place(), Path::new(FIRST));
                        let (start, end) = node.check();
                        assert!(start == 5 && end >= acknowledged, "call {at}, without it: {start} to {end}");
                    }
                    Err(error) => assert!(error.to_string().contains("mend its disk"), "call {at}: {error}"),
                }
                disks[0].kill_process();
            }
            let node = restarted(&disks, MemoryFileSystem::restart_process);
            assert_eq!(found(&disks).len(), 1, "call {at} of {failing}");
            let (start, end) = node.check();
            assert!(start == 5 && end >= acknowledged, "call {at} of {failing}: {start} to {end}");
            if was_whole {
                assert!(is_done && at > 20, "only {at} calls of {failing}");
                break;
            }
            at += 1;
        }
    }
}

/// What a move leaves of which the source's disk died at its call `at`; with what was acknowledged, and
/// whether the disk lives on, not having been asked so often.
fn cut_short(at: u64) -> ([MemoryFileSystem; 2], i64, bool) {
    let disks = [MemoryFileSystem::new(at), MemoryFileSystem::new(at + 1)];
    let node = prepared(&disks);
    disks[0].set_faults(Faults { die_at_call: Some(disks[0].calls() + at), ..Faults::default() });
    let (acknowledged, _) = moved(&node);
    let was_whole = !disks[0].is_dead();
    disks.iter().for_each(MemoryFileSystem::kill_process);
    drop(node);
    disks.iter().for_each(MemoryFileSystem::restart_process);
    assert!(!was_whole || acknowledged == 27);
    (disks, acknowledged, was_whole)
}

#[test]
fn whatever_fails_of_the_target_in_the_start_after_an_older_copy_is_not_served() {
    let (mut at, mut with_both) = (0, 0);
    loop {
        let (disks, _, was_whole) = cut_short(at);
        if found(&disks).len() < 2 {
            at += 1;
            if was_whole {
                break;
            }
            continue;
        }
        with_both += 1;
        for call in 0.. {
            let (disks, acknowledged, _) = cut_short(at);
            disks[1].set_faults(Faults { die_at_call: Some(disks[1].calls() + call), ..Faults::default() });
            let told = format!("call {at}, then call {call} of the start");
            if let Ok(node) = Node::start(&disks) {
                let end = node.broker.partitions().get("t", 0).expect("open").log().log_end_offset();
                assert!(end >= acknowledged, "{told}: what counts is not here, and older is served");
            }
            let was_whole = !disks[1].is_dead();
            disks.iter().for_each(MemoryFileSystem::kill_process);
            let node = restarted(&disks, MemoryFileSystem::restart_process);
            assert_eq!((node.check(), found(&disks)), ((5, acknowledged), vec![SECOND]), "{told}");
            if was_whole {
                assert!(call > 20, "only {call} calls");
                break;
            }
        }
        at += 1;
    }
    assert!(with_both > 0, "no crash left the partition in both");
}

#[test]
fn a_target_without_room_ends_the_move_and_nothing_else() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    disks[1].set_faults(Faults { room: Some(3000), ..Faults::default() });
    assert_eq!(moved(&node), (27, false));
    let messages = node.messages();
    let told = messages.iter().find(|it| it.contains("it goes on where it is")).expect("told");
    assert!(told.contains("free some space"), "{told}");
    assert_eq!((node.check(), found(&disks)), ((5, 27), vec![FIRST]));
    let names = disks[1].list(Path::new(SECOND)).expect("names");
    assert!(names.iter().all(|it| !it.name.ends_with("-future")), "{names:?}");
    // with room it works
    disks[1].set_faults(Faults::default());
    assert!(moved(&node).1);
    assert_eq!(node.check().1, 30);
}

#[test]
fn what_cannot_be_moved_is_told_and_what_is_not_here_is_made_there() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    let code = |topic: &str, path: &str| node.ask(topic, path).expect_err("a refusal").code;
    assert_eq!(code("t", "/elsewhere"), ErrorCode::LOG_DIR_NOT_FOUND);
    assert_eq!(code("later", SECOND), ErrorCode::REPLICA_NOT_AVAILABLE);
    let later = OpenPartition { topic: "later".into(), topic_id: Uuid::from_u128(2), ..wanted() };
    node.logs.open_partition(&later, NOW_MS).expect("made");
    let made = node.broker.partitions().get("later", 0).expect("open");
    assert_eq!(made.log().directory(), Path::new(SECOND).join("later-0"));

    // one that is not wanted any more
    node.ask("t", SECOND).expect("asked");
    let described = node.logs.described().expect("described");
    let futures: Vec<_> =
        described[1].futures.iter().map(|it| (&*it.topic, it.index, it.offset_lag)).collect();
    assert_eq!(futures, [("t", 0, 24)]);
    node.ask("t", FIRST).expect("cancelled");
    node.move_all().expect("nothing to do");
    assert_eq!(node.place(), Path::new(FIRST));
    // a topic that is deleted
    node.ask("t", SECOND).expect("asked");
    node.logs.delete_topics(&[("t", Uuid::from_u128(1))], NOW_MS).remove(0).expect("deleted");
    node.move_all().expect("nothing to do");
    assert!(found(&disks).is_empty());

    disks[1].set_faults(Faults { write_error: true, ..Faults::default() });
    made.log().storage().poison(&"its disk died");
    assert_eq!(code("later", FIRST), ErrorCode::KAFKA_STORAGE_ERROR);
    assert_eq!(code("t", SECOND), ErrorCode::KAFKA_STORAGE_ERROR);
}

/// A move to the second directory that fails in the last moment, when the copy is to get its name.
fn fail_at_the_name(node: &Node, disk: &MemoryFileSystem, is_renamed: bool) {
    let full = Some(ErrorKind::StorageFull);
    disk.set_faults(if is_renamed {
        Faults { renamed_sync_error: full, ..Faults::default() }
    } else {
        Faults { directory_rename_error: full, ..Faults::default() }
    });
    assert_eq!(moved(node), (27, false));
    disk.set_faults(Faults::default());
    let messages = node.messages();
    assert!(messages.iter().any(|it| it.contains("it goes on where it is")), "{messages:?}");
}

/// The request comes while the move waits for its target in any one call, also in the last ones.
#[test]
fn a_move_that_was_given_up_is_not_done_whenever_that_was() {
    let mut at = 0;
    loop {
        let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
        let node = prepared(&disks);
        let hold_from_call = Some(disks[1].calls() + at);
        node.ask("t", SECOND).expect("asked");
        disks[1].set_faults(Faults { hold_from_call, ..Faults::default() });
        let is_over = std::thread::scope(|scope| {
            let mover = scope.spawn(|| node.move_all());
            while disks[1].held() == 0 && !mover.is_finished() {
                std::thread::yield_now();
            }
            let is_over = disks[1].held() == 0;
            node.ask("t", FIRST).expect("accepted");
            disks[1].set_faults(Faults::default());
            mover.join().expect("a mover").expect("moved");
            is_over
        });
        node.move_all().expect("moved back");
        node.append().expect("appended");
        assert_eq!((node.check(), node.place()), ((5, 25), PathBuf::from(FIRST)), "call {at}");
        if is_over {
            assert!(at > 50, "only {at} calls");
            break;
        }
        at += 1;
    }
}

#[test]
fn a_move_that_failed_does_not_count_for_a_later_topic_of_the_name() {
    for is_renamed in [false, true] {
        let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
        let node = prepared(&disks);
        fail_at_the_name(&node, &disks[1], is_renamed);
        node.logs.delete_topics(&[("t", Uuid::from_u128(1))], NOW_MS).remove(0).expect("deleted");
        node.ask("t", SECOND).expect_err("it is not here yet");
        let later = OpenPartition { topic_id: Uuid::from_u128(2), ..wanted() };
        node.logs.open_partition(&later, NOW_MS).expect("made");
        assert_eq!(node.place(), Path::new(SECOND));
        (0..3).for_each(|_| node.append().expect("appended"));
        disks.iter().for_each(MemoryFileSystem::kill_process);
        drop(node);
        disks.iter().for_each(MemoryFileSystem::restart_process);
        let node = Node::start_with(&disks, std::slice::from_ref(&later)).expect("a start");
        assert_eq!((node.check(), node.place()), ((0, 3), PathBuf::from(SECOND)), "renamed: {is_renamed}");
    }
}

#[test]
fn a_move_that_failed_does_not_count_for_a_replica_that_comes_there_another_way() {
    for is_renamed in [false, true] {
        let disks = [1, 2, 3].map(MemoryFileSystem::new);
        let node = prepared(&disks);
        fail_at_the_name(&node, &disks[1], is_renamed);
        for place in [THIRD, SECOND] {
            node.ask("t", place).expect("asked");
            node.move_all().expect("moved");
            assert_eq!(node.place(), Path::new(place));
        }
        node.append().expect("appended");
        disks.iter().for_each(MemoryFileSystem::kill_process);
        drop(node);
        let node = restarted(&disks, MemoryFileSystem::restart_process);
        assert_eq!((node.check(), found(&disks)), ((5, 28), vec![SECOND]), "renamed: {is_renamed}");
    }
}

#[test]
fn a_full_disk_without_room_for_a_longer_name_gives_a_replica_away_and_goes_on() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    disks[0].set_faults(Faults { directory_rename_error: Some(ErrorKind::StorageFull), ..Faults::default() });
    assert_eq!(moved(&node), (27, true));
    assert!(node.logs.offline().expect("asked").is_empty());
    node.logs.purge_deleted(0, i64::MAX).expect("nothing is left to be removed");
    disks[0].set_faults(Faults::default());
    // the disk is in use: it takes the replica back
    node.ask("t", FIRST).expect("asked");
    node.move_all().expect("moved");
    assert_eq!((node.check(), node.place()), ((5, 27), PathBuf::from(FIRST)));
    disks.iter().for_each(MemoryFileSystem::kill_process);
    drop(node);
    assert_eq!(restarted(&disks, MemoryFileSystem::restart_process).check(), (5, 27));
}

#[test]
fn a_directory_that_has_the_name_is_left_for_a_person() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    let foreign = Path::new(SECOND).join("t-0");
    disks[1].create_directory(&foreign).expect("made");
    let file = foreign.join("00000000000000000000.log");
    disks[1].open(&file, OpenMode::Create).expect("made").set_len(100).expect("bytes");
    assert_eq!(moved(&node), (27, false));
    let messages = node.messages();
    assert!(messages.iter().any(|it| it.contains("look at it, and move it away")), "{messages:?}");
    disks.iter().for_each(MemoryFileSystem::kill_process);
    drop(node);
    disks.iter().for_each(MemoryFileSystem::restart_process);
    // whatever it is, nobody deletes it
    let refused = Node::start(&disks).err().expect("a refusal").to_string();
    assert!(refused.contains("is in two data directories"), "{refused}");
    assert!(
        disks[1].exists(&file).expect("asked")
            && disks[0].exists(&Path::new(FIRST).join("t-0")).expect("asked")
    );
}

#[test]
fn a_partition_that_is_written_fast_is_moved() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let config = LogConfig { segment_bytes: 64 << 20, ..LogConfig::default() };
    let node = Node::start_with(&disks, &[OpenPartition { config: Arc::new(config), ..wanted() }])
        .expect("a broker");
    // each sync takes long enough for more to be appended than may be missing
    for disk in &disks {
        disk.set_faults(Faults { sync_takes: Duration::from_millis(30), ..Faults::default() });
    }
    let is_over = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut count = 0;
            while !is_over.load(Ordering::Acquire) {
                count += i64::from(node.append_of(50_000).is_ok());
                // some 25 MB/s, which the copy outruns
                std::thread::sleep(Duration::from_millis(2));
            }
            count
        });
        node.ask("t", SECOND).expect("asked");
        let began = Instant::now();
        while node.logs.move_next(&MoveSettings::default(), NOW_MS).expect("a step")
            && began.elapsed() < Duration::from_secs(60)
        {}
        is_over.store(true, Ordering::Release);
        writer.join().expect("a writer")
    });
    assert_eq!((node.place(), node.check()), (PathBuf::from(SECOND), (0, acknowledged)));
}

#[test]
fn appends_do_not_wait_for_a_disk_that_hangs_when_it_gets_a_replica() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    let other = OpenPartition { topic: "other".into(), topic_id: Uuid::from_u128(2), ..wanted() };
    node.logs.open_partition(&other, NOW_MS).expect("made");
    disks[1].set_faults(Faults { hold_directory_renames: true, ..Faults::default() });
    std::thread::scope(|scope| {
        node.ask("t", SECOND).expect("asked");
        let mover = scope.spawn(|| node.move_all());
        let began = Instant::now();
        while disks[1].held() == 0 {
            assert!(began.elapsed() < Duration::from_secs(30), "the rename did not begin");
            std::thread::yield_now();
        }
        // one thread has them all to answer; the first waits a moment, in case it is soon over
        let began = Instant::now();
        let answers: Vec<_> = (0..1000)
            .map(|_| {
                node.append_to("other", 500).expect("another partition is served");
                node.append()
            })
            .collect();
        let took = began.elapsed();
        disks[1].stop_holding();
        mover.join().expect("a mover").expect("moved");
        assert!(answers.iter().all(|it| *it == Err(ErrorCode::KAFKA_STORAGE_ERROR)), "to be tried again");
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    assert_eq!((node.check(), node.place()), ((5, 24), PathBuf::from(SECOND)));
    node.append().expect("appended");
}

#[test]
fn however_much_room_the_target_has_nothing_is_lost() {
    let (mut is_done, mut room) = (false, 0);
    while !is_done {
        let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
        let node = prepared(&disks);
        disks[1].set_faults(Faults { room: Some(room), ..Faults::default() });
        let acknowledged;
        (acknowledged, is_done) = moved(&node);
        assert_eq!(node.check(), (5, acknowledged), "{room} bytes");
        assert!(is_done || acknowledged == 27, "{room} bytes: the source has room");
        disks.iter().for_each(MemoryFileSystem::kill_process);
        drop(node);
        let node = restarted(&disks, MemoryFileSystem::restart_process);
        assert_eq!((node.check(), found(&disks).len()), ((5, acknowledged), 1), "{room} bytes");
        room += 61;
    }
    assert!(room > 10_000, "it had to fail at the files beside the segments too");
}
