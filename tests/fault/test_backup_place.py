"""Backups to a disk that is full, read-only, fails, or loses its power: a clear error, and what was kept stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog.backup.archive import manifest_of, taken
from fastlog.backup.directory_archive import DirectoryArchive
from fastlog.backup.reading import verify
from fastlog.backup.saving import back_up
from fastlog.errors import BackupError
from tests.fault.conftest import MakeDisk
from tests.support.backups import InterruptedHereError, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog
from tests.support.faults.loop_disk import LoopDisk

RECORDS = 20


@pytest.fixture
def topic(broker: BrokerProcess, topic_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of twenty batches, which are kept in a chunk each."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    make_topic(broker, topic_name)
    send(broker, topic_name, RECORDS)
    return topic_name


@pytest.fixture
def disk(make_disk: MakeDisk) -> LoopDisk:
    return make_disk("backups", mebibytes=16)


def place(disk: LoopDisk) -> Path:
    """Below directories that a backup has to make."""
    return disk.path / "deep" / "place"


def batches(folder: Path) -> int:
    archive = DirectoryArchive(folder)
    return verify(archive, manifest_of(archive), lambda _bytes: None)


def test_a_full_disk_is_told_and_the_backup_goes_on_when_there_is_room(
    broker: BrokerProcess, topic: str, disk: LoopDisk
) -> None:
    command = (
        "backup",
        str(place(disk)),
        "--topic",
        topic,
        "--no-groups",
        "--bootstrap",
        broker.bootstrap,
    )
    assert fastlog(*command).status == 0
    send(broker, topic, RECORDS, first=RECORDS)
    with disk.filled():
        refused = fastlog(*command)
        assert refused.status == 1
        assert "No space left on device; make room there, and give the command again" in refused.err
        assert "Traceback" not in refused.err
        assert batches(place(disk)) == RECORDS, "the backup before is whole"
    assert fastlog(*command).status == 0
    assert batches(place(disk)) == 2 * RECORDS
    assert not list(place(disk).rglob("*.partial"))


@pytest.mark.parametrize(
    ("how", "says"), [("read-only", "Read-only file system; look at"), ("fails", "Input/output error")]
)
def test_a_disk_that_takes_nothing_is_told(
    broker: BrokerProcess, topic: str, disk: LoopDisk, how: str, says: str
) -> None:
    archive = DirectoryArchive(place(disk))
    back_up(broker.bootstrap, archive, topics=[topic], groups=[])
    send(broker, topic, RECORDS, first=RECORDS)
    if how == "read-only":
        disk.make_read_only()
    else:
        disk.fail()
    with pytest.raises(BackupError, match=says):
        back_up(broker.bootstrap, archive, topics=[topic], groups=[])
    disk.restore_power()
    assert batches(place(disk)) == RECORDS
    back_up(broker.bootstrap, archive, topics=[topic], groups=[])
    assert batches(place(disk)) == 2 * RECORDS


def test_a_backup_that_was_reported_is_there_after_a_power_cut(
    broker: BrokerProcess, topic: str, disk: LoopDisk
) -> None:
    archive = DirectoryArchive(place(disk))
    first = back_up(broker.bootstrap, archive, topics=[topic], groups=[])
    disk.cut_power()
    disk.restore_power()
    assert taken(archive) == [first.taken]
    assert batches(place(disk)) == RECORDS


@pytest.mark.parametrize("kept", [1, RECORDS // 2, RECORDS])
def test_a_power_cut_in_the_middle_leaves_the_backup_before_and_what_was_kept(
    broker: BrokerProcess, topic: str, disk: LoopDisk, kept: int
) -> None:
    archive = DirectoryArchive(place(disk))
    first = back_up(broker.bootstrap, archive, topics=[topic], groups=[])
    send(broker, topic, RECORDS, first=RECORDS)
    records = 0

    def cut(count: int) -> None:
        nonlocal records
        records += count
        if records == kept:
            disk.cut_power()
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        back_up(broker.bootstrap, archive, topics=[topic], groups=[], done=cut)
    disk.restore_power()
    assert taken(archive) == [first.taken]
    assert batches(place(disk)) == RECORDS
    fetched: list[int] = []
    back_up(broker.bootstrap, archive, topics=[topic], groups=[], done=fetched.append)
    # a record is told before its chunk is kept
    assert sum(fetched) == RECORDS - (kept - 1)
    assert batches(place(disk)) == 2 * RECORDS
