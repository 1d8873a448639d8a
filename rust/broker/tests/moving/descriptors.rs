//! Moves of a process that has no descriptor left, for a while: no disk is to blame.

use crate::node::{FIRST, NOW_MS, Node, SECOND, found, restarted};
use crate::prepared;
use fastlog_broker::MoveSettings;
use fastlog_log::file_system::memory::{Faults, MemoryFileSystem};
use fastlog_log::{FileSystem, LogError};
use fastlog_protocol::ErrorCode;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// More than the move of such a partition takes.
const DESCRIPTORS_MAX: u64 = 100;

fn with(opens_left: u64) -> Faults {
    Faults { opens_left: Some(opens_left), ..Faults::default() }
}

fn is_online(node: &Node) -> bool {
    let all = node.logs.described().expect("described");
    all.len() == 2 && all.iter().all(|it| it.space.is_ok())
}

fn copies(disk: &MemoryFileSystem) -> usize {
    let all = disk.list(Path::new(SECOND)).expect("names");
    all.iter().filter(|it| it.name.ends_with("-future") || it.name.ends_with("-delete")).count()
}

/// Waits for a thread, or for something that is to come before it ends; who waits in vain frees the thread first.
fn wait(disks: &[MemoryFileSystem], is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        let is_late = began.elapsed() > Duration::from_secs(60);
        if is_late {
            disks.iter().for_each(|it| it.set_faults(Faults::default()));
        }
        assert!(!is_late, "it did not come");
        std::thread::yield_now();
    }
}

#[test]
fn a_move_waits_for_descriptors_and_is_done_and_no_directory_goes_offline() {
    for dies in [false, true] {
        let mut waited = 0;
        for left in 0..DESCRIPTORS_MAX {
            let disk = MemoryFileSystem::new(left);
            let disks = [disk.clone(), disk.clone()];
            let node = prepared(&disks);
            node.ask("t", SECOND).expect("accepted");
            disk.set_faults(with(left));
            let had_enough = std::thread::scope(|scope| {
                let mover = scope.spawn(|| {
                    let step = || node.logs.move_next(&MoveSettings::default(), NOW_MS).expect("no error");
                    while step() {}
                    // it is still the same copy
                    assert!(!step() && !step());
                });
                wait(&disks, || mover.is_finished() || node.place() == Path::new(SECOND));
                let has_waited = mover.is_finished() && node.place() == Path::new(FIRST);
                if has_waited {
                    let described = node.logs.described().expect("described");
                    assert!(described.iter().all(|it| it.space.is_ok()), "{left} descriptors");
                    assert_eq!(described[1].futures.len(), 1, "it is still to be moved");
                    let told = node
                        .messages()
                        .iter()
                        .filter(|it| it.contains("until there are descriptors"))
                        .count();
                    assert_eq!(told, 1, "{left} descriptors");
                }
                disk.set_faults(Faults::default());
                mover.join().expect("a mover");
                !has_waited
            });
            assert!(copies(&disk) <= 1, "{left} descriptors: {} copies", copies(&disk));
            let node = if dies {
                disk.kill_process();
                drop(node);
                restarted(&disks, |it| {
                    if it.is_dead() {
                        it.restart_machine()
                    }
                })
            } else {
                node
            };
            node.move_all().expect("moved");
            node.append().expect("appended");
            let (start, end) = node.check();
            assert!(start == 5 && end >= if dies { 21 } else { 25 }, "{left} descriptors: {start} to {end}");
            assert_eq!(
                (node.place(), found(&disks)),
                (PathBuf::from(SECOND), vec![SECOND]),
                "{left} descriptors"
            );
            assert!(is_online(&node));
            // what was to be written down before it was handed over is
            disk.kill_process();
            drop(node);
            let node = restarted(&disks, MemoryFileSystem::restart_process);
            assert_eq!(node.check(), (5, end), "{left} descriptors");
            waited += usize::from(!had_enough);
        }
        assert!((30..DESCRIPTORS_MAX as usize - 10).contains(&waited), "{waited} waited");
    }
}

#[test]
fn a_move_that_cannot_be_written_down_for_want_of_descriptors_is_refused_and_can_be_asked_for_again() {
    for left in 0.. {
        let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
        let node = prepared(&disks);
        disks[0].set_faults(with(left));
        let asked = node.ask("t", SECOND);
        disks[0].set_faults(Faults::default());
        if asked.is_ok() {
            assert!(left > 0, "it is not written down");
            break;
        }
        assert_eq!(asked.expect_err("refused").code, ErrorCode::KAFKA_STORAGE_ERROR);
        assert!(is_online(&node));
        node.move_all().expect("nothing to do");
        assert_eq!(node.place(), Path::new(FIRST));
        node.ask("t", SECOND).expect("accepted");
        node.move_all().expect("moved");
        assert_eq!((node.place(), node.check()), (PathBuf::from(SECOND), (5, 24)));
    }
}

#[test]
fn where_the_targets_disk_fails_at_the_name_the_source_waits_for_a_descriptor_to_note_it() {
    let disks = [MemoryFileSystem::new(1), MemoryFileSystem::new(2)];
    let node = prepared(&disks);
    node.ask("t", SECOND).expect("accepted");
    disks[1].set_faults(Faults { hold_directory_renames: true, ..Faults::default() });
    std::thread::scope(|scope| {
        let mover = scope.spawn(|| node.move_all());
        wait(&disks, || disks[1].held() > 0);
        disks[0].set_faults(with(0));
        let renamed_sync_error = Some(ErrorKind::StorageFull);
        disks[1].set_faults(Faults { renamed_sync_error, ..Faults::default() });
        assert_eq!(node.append(), Err(ErrorCode::KAFKA_STORAGE_ERROR), "it is not noted that the log stays");
        assert!(!mover.is_finished());
        disks.iter().for_each(|it| it.set_faults(Faults::default()));
        mover.join().expect("a mover").expect("it is over");
    });
    (0..3).for_each(|_| node.append().expect("appended"));
    assert!(is_online(&node));
    assert_eq!((node.check(), node.place()), ((5, 27), PathBuf::from(FIRST)));
    node.broker.partitions().get("t", 0).expect("open").log().flush().expect("synced");
    drop(node);
    let node = restarted(&disks, MemoryFileSystem::restart_machine);
    assert_eq!((node.check(), node.place()), ((5, 27), PathBuf::from(FIRST)));
}

/// Those after a move that the death of the machine cut short, when both directories had the partition's name.
#[test]
fn a_start_without_descriptors_ends_and_the_next_one_has_all_directories() {
    let (mut ended, mut was_whole) = (0, 0);
    for at in 0.. {
        let cut_short = || {
            let disk = MemoryFileSystem::new(at);
            let disks = [disk.clone(), disk.clone()];
            let node = prepared(&disks);
            node.ask("t", SECOND).expect("accepted");
            disk.set_faults(Faults { die_at_call: Some(disk.calls() + at), ..Faults::default() });
            let _dies = node.move_all();
            let is_dead = disk.is_dead();
            disk.kill_process();
            drop(node);
            disk.restart_machine();
            (is_dead, disks)
        };
        let (is_dead, disks) = cut_short();
        if !is_dead {
            break;
        }
        if found(&disks).len() < 2 {
            continue;
        }
        for left in 0.. {
            let (_, disks) = cut_short();
            disks[0].set_faults(with(left));
            let started = Node::start(&disks);
            let is_started = started.as_ref().is_ok_and(is_online);
            let is_of_descriptors = |it: &LogError| it.to_string().contains("os error 24");
            assert!(is_started || started.as_ref().is_err_and(is_of_descriptors), "{:?}", started.err());
            ended += usize::from(!is_started);
            was_whole += usize::from(is_started);
            disks[0].kill_process();
            drop(started);
            let node = restarted(&disks, |it| {
                if it.is_dead() {
                    it.restart_machine()
                }
            });
            assert_eq!(
                (found(&disks), is_online(&node)),
                (vec![SECOND], true),
                "call {at}, {left} descriptors"
            );
            assert!(node.check().1 >= 20);
            if is_started {
                break;
            }
        }
    }
    assert!(ended > 20 && was_whole > 0, "{ended} starts ended, {was_whole} did not");
}
