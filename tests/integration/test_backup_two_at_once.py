"""Two backups into one place at once, as a schedule gives them that is shorter than a backup takes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fastlog.backup.archive import Archive, manifest_of, open_archive, taken
from fastlog.backup.manifest import Manifest
from fastlog.backup.reading import verify
from fastlog.backup.saving import back_up
from fastlog.errors import BackupError
from tests.support.backups import CountingArchive, InterruptedHereError, make_topic, send
from tests.support.broker import PROGRAM, BrokerProcess, wait_until
from tests.support.cli import fastlog
from tests.support.object_store import BUCKET, FaultyStore, ObjectStore

RECORDS = 10


@pytest.fixture
def topic(broker: BrokerProcess, topic_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic of ten batches, which are kept in a chunk each."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    make_topic(broker, topic_name)
    send(broker, topic_name, RECORDS)
    return topic_name


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An object store, which the environment names."""
    with ObjectStore(tmp_path) as server, FaultyStore(server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield


def at_half_time(what: Callable[[], object]) -> Callable[[int], None]:
    """Does something when half of the records are kept."""
    records = 0

    def done(count: int) -> None:
        nonlocal records
        records += count
        if records == RECORDS // 2:
            what()

    return done


def batches(archive: Archive, name: str) -> int:
    return verify(archive, manifest_of(archive, name), lambda _bytes: None)


def test_a_directory_refuses_the_second_one(broker: BrokerProcess, tmp_path: Path, topic: str) -> None:
    archive = CountingArchive(tmp_path / "archive")
    command = ("backup", str(archive), "--topic", topic, "--no-groups", "--bootstrap", broker.bootstrap)
    refused = []
    done = at_half_time(lambda: refused.append(fastlog(*command)))
    first = back_up(broker.bootstrap, archive, topics=[topic], groups=[], done=done)
    assert [it.status for it in refused] == [1]
    assert refused[0].err == (
        f"fastlog: another backup is being taken into {archive}; give the command again when that is done\n"
    )
    assert fastlog(*command).status == 0
    assert len(taken(archive)) == 2
    assert batches(archive, first.taken) == RECORDS


def test_a_backup_that_was_killed_keeps_nobody_out(broker: BrokerProcess, tmp_path: Path, topic: str) -> None:
    place = tmp_path / "archive"
    command = [PROGRAM, "backup", place, "--topic", topic, "--no-groups", "--bootstrap", broker.bootstrap]
    # the broker stands still, so that the backup is in the middle of it
    broker_process = broker.process
    assert broker_process is not None
    broker_process.send_signal(signal.SIGSTOP)
    try:
        hangs = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until("the place is locked", (place / "lock").exists)

        def is_refused() -> bool:
            try:
                with open_archive(str(place)).claimed():
                    return False
            except BackupError:
                return True

        wait_until("it holds the lock", is_refused)
        hangs.kill()
        hangs.communicate()
    finally:
        broker_process.send_signal(signal.SIGCONT)
    manifest = back_up(broker.bootstrap, open_archive(str(place)), topics=[topic], groups=[])
    assert batches(open_archive(str(place)), manifest.taken) == RECORDS


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("first_dies", [True, False])
def test_in_an_object_store_each_of_the_two_is_whole(
    broker: BrokerProcess, topic: str, *, first_dies: bool
) -> None:
    archive = open_archive(f"s3://{BUCKET}/{topic}")
    made: list[Manifest] = []

    def second() -> None:
        made.append(back_up(broker.bootstrap, archive, topics=[topic], groups=[]))
        if first_dies:
            raise InterruptedHereError

    done = at_half_time(second)
    if first_dies:
        with pytest.raises(InterruptedHereError):
            back_up(broker.bootstrap, archive, topics=[topic], groups=[], done=done)
    else:
        made.append(back_up(broker.bootstrap, archive, topics=[topic], groups=[], done=done))
    assert taken(archive) == [it.taken for it in made]
    assert [batches(archive, it.taken) for it in made] == [RECORDS] * len(made)
