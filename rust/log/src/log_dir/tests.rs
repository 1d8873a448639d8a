//! Who may use a data directory, and how it tells the way the last run ended.

use std::fs;
use std::path::Path;

use super::*;
use crate::identity;

const NOW_MS: i64 = 1_700_000_000_000;

fn identity() -> Identity {
    Identity { cluster_id: "cluster-a".to_owned(), node_id: 1 }
}

fn open(path: &Path) -> Result<LogDir, LogError> {
    LogDir::open(Storage::real(path), &identity())
}

fn refusal(result: Result<LogDir, LogError>) -> String {
    match result {
        Err(LogError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

fn make_log(directory: &LogDir, topic: &str, topic_id: Option<Uuid>) -> crate::Log {
    let options = LogOptions { topic_id, ..directory.log_options(topic, 0) };
    crate::Log::open(directory.storage(), options, NOW_MS).unwrap().0
}

#[test]
fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path()).unwrap();
    assert!(refusal(open(directory.path())).contains("a running broker has it"));
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn a_directory_of_another_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap().close_clean().unwrap();
    // as in one that was copied from elsewhere
    fs::remove_file(directory.path().join(".lock")).unwrap();
    let before = listing(directory.path());
    let other = |cluster_id: &str, node_id| {
        let identity = Identity { cluster_id: cluster_id.to_owned(), node_id };
        refusal(LogDir::open(Storage::real(directory.path()), &identity))
    };
    assert!(other("cluster-b", 1).contains("it belongs to cluster cluster-a"));
    assert!(other("cluster-a", 2).contains("it belongs to node 1"));
    let meta = directory.path().join(meta_properties::FILE_NAME);
    let ours = fs::read_to_string(&meta).unwrap();
    fs::write(&meta, ours.replace("version=1", "version=2")).unwrap();
    assert!(refusal(open(directory.path())).contains("version \"2\""));
    fs::write(&meta, ours).unwrap();
    let run = directory.path().join("fastlog.run");
    let ours = fs::read_to_string(&run).unwrap();
    fs::write(&run, ours.replace("version: 0", "version: 1")).unwrap();
    assert!(refusal(open(directory.path())).contains("fastlog.run has version \"1\""));
    fs::write(&run, ours).unwrap();
    assert_eq!(listing(directory.path()), before);
    assert_eq!(open(directory.path()).unwrap().last_stop(), LastStop::Clean);
}

fn listing(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap_or_default()))
        .collect();
    found.sort();
    found
}

#[test]
fn the_three_ways_to_stop_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = open(path).unwrap();
    assert_eq!(first.last_stop(), LastStop::Clean, "a new directory");
    drop(first);
    let second = open(path).unwrap();
    assert_eq!(second.last_stop(), LastStop::ProcessDied);
    second.close_clean().unwrap();
    assert_eq!(open(path).unwrap().last_stop(), LastStop::Clean);
    assert_eq!(open(path).unwrap().last_stop(), LastStop::ProcessDied, "the marker counts once");
    pretend_the_machine_restarted(path);
    assert_eq!(open(path).unwrap().last_stop(), LastStop::MachineDied);
    // killed again before all logs were recovered: the same rules
    let again = open(path).unwrap();
    assert_eq!(again.last_stop(), LastStop::MachineDied);
    again.mark_recovered().unwrap();
    drop(again);
    assert_eq!(open(path).unwrap().last_stop(), LastStop::ProcessDied);
}

fn pretend_the_machine_restarted(path: &Path) {
    let file = path.join("fastlog.run");
    let text = fs::read_to_string(&file).unwrap();
    let lines = text.lines().map(|line| if line.starts_with("boot_id") { "boot_id: earlier" } else { line });
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
}

#[test]
fn a_marker_of_an_earlier_run_proves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path()).unwrap().close_clean().unwrap();
    let marker = directory.path().join(run_marker::CLEAN_FILE);
    let stale = fs::read(&marker).unwrap();
    drop(open(directory.path()).unwrap());
    fs::write(&marker, stale).unwrap();
    assert_eq!(open(directory.path()).unwrap().last_stop(), LastStop::ProcessDied);
}

#[test]
fn a_directory_that_kafka_closed_is_clean_and_one_that_it_did_not_close_is_not() {
    for (marker, expected) in
        [(Some(r#"{"version":0,"brokerEpoch":7}"#), LastStop::Clean), (None, LastStop::MachineDied)]
    {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("t-0")).unwrap();
        let meta = "#\n#Mon Nov 23 07:00:00 UTC 2026\nnode.id=1\nversion=1\ncluster.id=cluster-a\n";
        fs::write(directory.path().join("meta.properties"), meta).unwrap();
        if let Some(marker) = marker {
            fs::write(directory.path().join(".kafka_cleanshutdown"), marker).unwrap();
        }
        assert_eq!(open(directory.path()).unwrap().last_stop(), expected);
    }
}

#[test]
fn checkpoints_and_partitions_are_found_again() {
    let directory = tempfile::tempdir().unwrap();
    let topic_id = identity::random_uuid();
    let first = open(directory.path()).unwrap();
    make_log(&first, "with-dashes.and_dots", Some(topic_id));
    make_log(&first, "a", None);
    let offsets = |offset| Offsets::from([(("a".to_owned(), 0), offset)]);
    first.write_checkpoint(Checkpoint::RecoveryPoint, &offsets(5)).unwrap();
    first.write_checkpoint(Checkpoint::HighWatermark, &offsets(7)).unwrap();
    first.write_checkpoint(Checkpoint::LogStart, &offsets(3)).unwrap();
    drop(first);
    let again = open(directory.path()).unwrap();
    let options = again.log_options("a", 0);
    assert_eq!((options.recovery_point, options.high_watermark, options.log_start_offset), (5, 7, 3));
    assert_eq!(again.log_options("a", 1).recovery_point, 0);
    let found = again.partitions().unwrap();
    let names: Vec<_> =
        found.iter().map(|found| (found.topic.as_str(), found.partition, found.topic_id)).collect();
    assert_eq!(names, [("a", 0, None), ("with-dashes.and_dots", 0, Some(topic_id))]);
}

#[test]
fn a_checkpoint_that_says_the_same_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let inode = || {
        let file = fs::metadata(directory.path().join("replication-offset-checkpoint")).unwrap();
        std::os::unix::fs::MetadataExt::ino(&file)
    };
    let offsets = |offset| Offsets::from([(("a".to_owned(), 0), offset)]);
    let write = |log_dir: &LogDir, offset| {
        log_dir.write_checkpoint(Checkpoint::HighWatermark, &offsets(offset)).unwrap();
        inode()
    };
    let log_dir = open(directory.path()).unwrap();
    let first = write(&log_dir, 5);
    assert_eq!(write(&log_dir, 5), first);
    let second = write(&log_dir, 6);
    assert_ne!(second, first);
    drop(log_dir);
    // what is there may have been renamed by a process that died before it had synced the name
    assert_ne!(write(&open(directory.path()).unwrap(), 6), second);
}

#[test]
fn a_partition_is_known_to_be_in_no_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let all = [Checkpoint::RecoveryPoint, Checkpoint::LogStart, Checkpoint::HighWatermark];
    let log_dir = open(directory.path()).unwrap();
    assert!(log_dir.has_checkpointed("a", 0), "nobody knows yet");
    for checkpoint in all {
        log_dir.write_checkpoint(checkpoint, &Offsets::new()).unwrap();
    }
    assert!(!log_dir.has_checkpointed("a", 0));
    let offsets = Offsets::from([(("long-a".to_owned(), 0), 1), (("a".to_owned(), 10), 2)]);
    log_dir.write_checkpoint(Checkpoint::LogStart, &offsets).unwrap();
    let known = [("a", 10), ("long-a", 0), ("a", 0), ("a", 1), ("long-a", 1)];
    assert_eq!(
        known.map(|(topic, index)| log_dir.has_checkpointed(topic, index)),
        [true, true, false, false, false]
    );
}

#[test]
fn a_directory_of_another_incarnation_of_the_topic_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let log_dir = open(directory.path()).unwrap();
    let old = identity::random_uuid();
    drop(make_log(&log_dir, "t", Some(old)));
    let text = fs::read_to_string(directory.path().join("t-0/partition.metadata")).unwrap();
    assert_eq!(text, format!("version: 0\ntopic_id: {}", identity::to_base64(old)));
    let options = LogOptions { topic_id: Some(identity::random_uuid()), ..log_dir.log_options("t", 0) };
    let error = crate::Log::open(log_dir.storage(), options, NOW_MS).unwrap_err();
    assert_eq!(error.code(), fastlog_protocol::ErrorCode::INCONSISTENT_TOPIC_ID);
    assert_eq!(make_log(&log_dir, "t", None).topic_id(), Some(old));
}

#[test]
fn only_directories_of_deleted_partitions_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let log_dir = open(directory.path()).unwrap();
    let log = make_log(&log_dir, "t", None);
    assert!(log_dir.remove_deleted(&directory.path().join("t-0")).is_err());
    assert!(log_dir.remove_deleted(Path::new("/somewhere/t-0.0-delete")).is_err());
    let path = log.mark_deleted().unwrap();
    assert_eq!(log_dir.deleted_partitions().unwrap(), std::slice::from_ref(&path));
    assert_eq!(log_dir.partitions().unwrap(), []);
    log_dir.remove_deleted(&path).unwrap();
    assert!(!path.exists());
}

#[test]
fn a_poisoned_directory_is_not_closed_clean() {
    let directory = tempfile::tempdir().unwrap();
    let log_dir = open(directory.path()).unwrap();
    log_dir.storage().poison(&"a disk died");
    assert!(log_dir.close_clean().is_err());
    assert_eq!(open(directory.path()).unwrap().last_stop(), LastStop::ProcessDied);
}

#[test]
fn a_new_brokers_cluster_is_read_from_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(read_identity(&crate::RealFileSystem, directory.path()).unwrap(), None);
    drop(open(directory.path()).unwrap());
    assert_eq!(read_identity(&crate::RealFileSystem, directory.path()).unwrap(), Some(identity()));
}

#[test]
fn the_only_directory_remembers_that_its_disk_failed_until_it_is_recovered() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (all, _known) = open_all(&[path]).unwrap();
    all[0].storage().poison(&"a disk died");
    let note = fs::read_to_string(path.join("fastlog.failed")).unwrap();
    assert!(note.ends_with(&format!("{} {}\n", all[0].id().unwrap(), path.display())), "{note}");
    drop(all);
    for _ in 0..2 {
        let (all, _known) = open_all(&[path]).unwrap();
        assert_eq!(all[0].last_stop(), LastStop::MachineDied, "until all is recovered");
        assert!(!path.join("fastlog.failed").exists());
    }
    open_all(&[path]).unwrap().0[0].mark_recovered().unwrap();
    assert_eq!(open_all(&[path]).unwrap().0[0].last_stop(), LastStop::ProcessDied);
    fs::write(path.join("fastlog.failed"), "version: 1\n").unwrap();
    assert!(refused(&[path]).contains("use the release that wrote it"));
}

#[test]
fn each_directory_remembers_which_of_them_failed() {
    let [first, second, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let paths = [first.path(), second.path(), third.path()];
    let stops = || open_all(&paths).unwrap().0.iter().map(|it| it.last_stop()).collect::<Vec<_>>();
    run(&paths);
    let (all, _known) = open_all(&paths).unwrap();
    all[1].storage().poison(&"a disk died");
    drop(all);
    // it took the file no more
    fs::remove_file(second.path().join("fastlog.failed")).unwrap();
    assert_eq!(stops(), [LastStop::ProcessDied, LastStop::MachineDied, LastStop::ProcessDied]);

    // all of them, one after the other; the last one was closed cleanly since
    let (all, _known) = open_all(&paths).unwrap();
    all.iter().for_each(|it| it.storage().poison(&"a disk died"));
    drop(all);
    let third = Storage::real(third.path());
    LogDir::open(third, &identity()).unwrap().close_clean().unwrap();
    assert_eq!(stops(), [LastStop::MachineDied, LastStop::MachineDied, LastStop::Clean]);
}

fn open_all(paths: &[&Path]) -> Result<(Vec<Arc<LogDir>>, KnownDirectories), LogError> {
    let storages = Storage::all_real(paths.iter().map(|it| it.to_path_buf()));
    let opened = LogDir::open_all(storages, &identity())?;
    assert!(opened.failed.is_empty(), "{:?}", opened.failed);
    Ok((opened.directories.into_iter().map(Arc::new).collect(), opened.known))
}

fn refused(paths: &[&Path]) -> String {
    open_all(paths).map(|_| ()).unwrap_err().to_string()
}

/// One whole run on the directories.
fn run(paths: &[&Path]) {
    let (all, known) = open_all(paths).unwrap();
    known.note(&all, &[]).unwrap();
    all.into_iter().for_each(|it| Arc::into_inner(it).unwrap().close_clean().unwrap());
}

#[test]
fn where_one_of_several_directories_is_refused_the_others_are_left_as_they_are() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run(&[first.path(), second.path()]);
    let before = listing(first.path());
    let held = open(second.path()).unwrap();
    let reason = refused(&[first.path(), second.path()]);
    assert!(
        reason.contains("a running broker has it") && reason.contains(&second.path().display().to_string())
    );
    assert_eq!(listing(first.path()), before);
    drop(held);
    let (all, known) = open_all(&[first.path(), second.path()]).unwrap();
    assert_eq!(
        all.iter().map(|it| it.last_stop()).collect::<Vec<_>>(),
        [LastStop::Clean, LastStop::ProcessDied]
    );
    assert!(!known.has_lost());
}

#[test]
fn a_directory_that_is_missing_is_not_taken_for_an_empty_one() {
    let [first, second, third] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    run(&[first.path(), second.path()]);
    for given in [vec![first.path()], vec![first.path(), third.path()]] {
        let reason = refused(&given);
        assert!(reason.contains(&second.path().display().to_string()), "{reason}");
        assert!(reason.contains("mount its disk"), "{reason}");
    }
    assert!(listing(third.path()).iter().all(|(name, _)| name.ends_with(".lock")), "it was not begun");
    // a disk that is mounted elsewhere is the same directory; a new one is taken in
    let moved = third.path().join("moved");
    fs::rename(second.path(), &moved).unwrap();
    let fourth = tempfile::tempdir().unwrap();
    run(&[first.path(), &moved, fourth.path()]);
    assert!(refused(&[first.path(), &moved]).contains(&fourth.path().display().to_string()));

    // until somebody says that it is lost, which counts once
    let list = first.path().join("fastlog.directories");
    let text = fs::read_to_string(&list).unwrap();
    let line = text.lines().find(|it| it.ends_with(&moved.display().to_string())).unwrap();
    fs::write(&list, text.replace(line, &line.replace("present", "lost"))).unwrap();
    let (all, known) = open_all(&[first.path(), fourth.path()]).unwrap();
    assert!(known.has_lost());
    drop((all, known));
    let (all, known) = open_all(&[first.path(), fourth.path()]).unwrap();
    assert!(known.has_lost(), "as long as nobody took note of it");
    known.note(&all, &[]).unwrap();
    drop((all, known));
    assert!(!open_all(&[first.path(), fourth.path()]).unwrap().1.has_lost());
}

#[test]
fn the_first_directory_stays_the_first() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run(&[first.path()]);
    assert!(!first.path().join("fastlog.directories").exists(), "one directory needs no list");
    let reason = refused(&[second.path(), first.path()]);
    assert!(reason.contains("name that one first"), "{reason}");
    run(&[first.path(), second.path()]);
    let reason = refused(&[second.path(), first.path()]);
    assert!(reason.contains(&format!("its in {}", first.path().display())), "{reason}");
    fs::write(first.path().join("fastlog.directories"), "version: 1\n").unwrap();
    assert!(refused(&[first.path(), second.path()]).contains("use the release that wrote it"));
    fs::write(first.path().join("fastlog.directories"), "version: 0\nhere x /y\n").unwrap();
    assert!(refused(&[first.path(), second.path()]).contains("\"here x /y\""));
}

#[test]
fn a_partition_in_two_directories_is_refused_with_what_each_has() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (all, known) = open_all(&[first.path(), second.path()]).unwrap();
    make_log(&all[0], "t", None).close(true).unwrap();
    fs::create_dir(second.path().join("t-0")).unwrap();
    fs::write(second.path().join("t-0/00000000000000000007.log"), b"12345").unwrap();
    drop((all, known));
    let reason = refused(&[first.path(), second.path()]);
    let told = |path: &Path, what: &str| format!("{} ({what})", path.join("t-0").display());
    assert!(reason.contains(&told(first.path(), "0 bytes, the last segment begins at offset 0")), "{reason}");
    assert!(
        reason.contains(&told(second.path(), "5 bytes, the last segment begins at offset 7")),
        "{reason}"
    );
}

#[test]
fn a_directory_whose_disk_fails_is_done_without_and_still_known() {
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let paths = [first.path(), second.path()];
    run(&paths);
    let list = fs::read_to_string(first.path().join("fastlog.directories")).unwrap();
    // where nothing can be read or made, as root too
    let away = second.path().with_extension("away");
    fs::rename(second.path(), &away).unwrap();
    fs::write(second.path(), b"no directory").unwrap();
    let storages = || Storage::all_real(paths.iter().map(|it| it.to_path_buf()));
    let opened = LogDir::open_all(storages(), &identity()).unwrap();
    assert_eq!(opened.directories.iter().map(LogDir::path).collect::<Vec<_>>(), [first.path()]);
    assert_eq!(opened.failed.iter().map(|it| &*it.path).collect::<Vec<_>>(), [second.path()]);
    assert!(!opened.known.has_lost());
    let all: Vec<_> = opened.directories.into_iter().map(Arc::new).collect();
    opened.known.note(&all, &opened.failed).unwrap();
    assert_eq!(fs::read_to_string(first.path().join("fastlog.directories")).unwrap(), list);
    drop(all);
    fs::remove_file(second.path()).unwrap();
    fs::rename(&away, second.path()).unwrap();
    let (all, _known) = open_all(&paths).unwrap();
    assert_eq!(all[1].last_stop(), LastStop::Clean, "nothing happened to it meanwhile");

    // the first one is not done without
    drop(all);
    let away = first.path().with_extension("away");
    fs::rename(first.path(), &away).unwrap();
    fs::write(first.path(), b"no directory").unwrap();
    let error = LogDir::open_all(storages(), &identity()).unwrap_err().to_string();
    assert!(error.contains(&first.path().display().to_string()), "{error}");
    fs::remove_file(first.path()).unwrap();
    fs::rename(&away, first.path()).unwrap();
}

#[test]
fn what_is_noted_of_a_move_is_about_one_topic_in_two_directories() {
    let (one, two) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
    // what is noted, of which topic, which ones the directories have, and where the partition is then
    for (which, noted, first_has, second_has, left) in [
        (Move::Moving, one, one, one, Some([false, true])),
        (Move::Kept, one, one, one, Some([true, false])),
        (Move::Moving, None, one, one, Some([false, true])),
        (Move::Moving, one, one, None, Some([true, false])),
        (Move::Moving, one, None, one, Some([false, true])),
        (Move::Kept, one, None, one, Some([false, true])),
        (Move::Kept, one, None, two, Some([false, true])),
        // another topic's: nobody but a person can tell
        (Move::Kept, one, one, two, None),
        (Move::Moving, one, two, one, None),
    ] {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let paths = folders.each_ref().map(tempfile::TempDir::path);
        run(&paths);
        let (all, _known) = open_all(&paths).unwrap();
        for (directory, topic_id) in all.iter().zip([first_has, second_has]) {
            topic_id.iter().for_each(|id| drop(make_log(directory, "t", Some(*id))));
        }
        all[0].note_move("t-0", noted, &all[1], which).unwrap();
        drop(all);
        let told = format!("{which:?} {noted:?}: {first_has:?} {second_has:?}");
        match left {
            Some(left) => {
                drop(open_all(&paths).unwrap());
                assert_eq!(paths.map(|path| path.join("t-0").exists()), left, "{told}");
                let note = fs::read_to_string(paths[0].join("fastlog.moves")).unwrap();
                assert_eq!(note, "version: 0\n", "{told}");
            }
            None => {
                assert!(refused(&paths).contains("is in two data directories"), "{told}");
                assert_eq!(paths.map(|path| path.join("t-0").exists()), [true; 2], "{told}");
            }
        }
    }
}

#[test]
fn lines_about_a_replica_go_with_it() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let paths = folders.each_ref().map(tempfile::TempDir::path);
    let (all, _known) = open_all(&paths).unwrap();
    for name in ["t-0", "u-1"] {
        all[0].note_move(name, Some(Uuid::from_u128(1)), &all[1], Move::Kept).unwrap();
    }
    all[0].forget_moves(&["t-0".to_owned()]).unwrap();
    let note = || fs::read_to_string(paths[0].join("fastlog.moves")).unwrap();
    let line = format!("kept u-1 {} {}\n", all[1].id().unwrap(), identity::to_base64(Uuid::from_u128(1)));
    assert_eq!(note(), format!("version: 0\n{line}"));
    all[0].forget_move("u-1", &all[1]).unwrap();
    assert_eq!(note(), "version: 0\n");
    // one that an earlier release wrote, and one that nobody did
    drop(all);
    fs::write(paths[0].join("fastlog.moves"), line.rsplit_once(' ').unwrap().0).unwrap();
    assert!(refused(&paths).contains("use the release that wrote it"), "without the version");
    fs::write(paths[0].join("fastlog.moves"), format!("version: 0\n{}x\n", line.trim_end())).unwrap();
    assert!(refused(&paths).contains("use the release that wrote it"), "with an id that is none");
}
