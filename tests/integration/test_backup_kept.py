"""Chunks that are kept and go bad in their place: the next backups find them, and put them back while they can."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog import Admin
from fastlog.backup.archive import manifest_of
from fastlog.backup.manifest import Chunk, Manifest
from fastlog.backup.reading import verify
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.errors import BackupError
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog


@pytest.fixture
def archive(tmp_path: Path) -> CountingArchive:
    return CountingArchive(tmp_path / "archive")


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)


@pytest.fixture
def topic(broker: BrokerProcess, topic_name: str) -> str:
    """A topic of ten batches."""
    make_topic(broker, topic_name)
    send(broker, topic_name, 10)
    return topic_name


def save(
    broker: BrokerProcess, archive: CountingArchive, topic: str, percent: float, told: list[str]
) -> Manifest:
    told.clear()
    return back_up(
        broker.bootstrap,
        archive,
        topics=[topic],
        groups=[],
        verify_percent=percent,
        tell=told.append,
    )


def chunks(manifest: Manifest) -> tuple[Chunk, ...]:
    return manifest.topics[0].partitions[0].chunks


def turn_a_byte(archive: CountingArchive, chunk: Chunk) -> None:
    path = Path(str(archive), chunk.name)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def whole(archive: CountingArchive, manifest: Manifest) -> int:
    return verify(archive, manifest, lambda _bytes: None)


@pytest.mark.usefixtures("_small_chunks")
def test_a_byte_that_turned_is_put_back_and_earlier_backups_are_whole_again(
    broker: BrokerProcess, archive: CountingArchive, topic: str
) -> None:
    told: list[str] = []
    first = save(broker, archive, topic, 100, told)
    bad = chunks(first)[3]
    turn_a_byte(archive, bad)
    with pytest.raises(BackupError, match="is not what was kept"):
        whole(archive, first)
    archive.written.clear()
    second = save(broker, archive, topic, 100, told)
    assert told == [f"{bad.name} in {archive} is damaged; it was fetched again, and is as it was"]
    assert archive.written == [bad.name, second.object_name]
    assert second.topics == first.topics
    assert whole(archive, first) == whole(archive, second) == 10
    save(broker, archive, topic, 100, told)
    assert told == []


@pytest.mark.usefixtures("_small_chunks")
def test_a_byte_that_turned_is_found_within_a_round(
    broker: BrokerProcess, archive: CountingArchive, topic: str
) -> None:
    told: list[str] = []
    first = save(broker, archive, topic, 0, told)
    turn_a_byte(archive, chunks(first)[3])
    assert chunks(save(broker, archive, topic, 0, told)) == chunks(first)
    assert told == [], "nothing was read"
    found = []
    for _ in range(4):
        save(broker, archive, topic, 25, told)
        found += told
    assert len(found) == 1
    assert whole(archive, first) == 10


def test_what_the_cluster_no_longer_has_is_told_and_the_next_backup_is_whole(
    broker: BrokerProcess, make_broker: MakeBroker, archive: CountingArchive, topic: str
) -> None:
    told: list[str] = []
    first = save(broker, archive, topic, 100, told)
    (bad,) = chunks(first)
    turn_a_byte(archive, bad)
    with Admin(broker.bootstrap) as admin:
        admin.delete_records({(topic, 0): 4})
    second = save(broker, archive, topic, 100, told)
    (said,) = told
    assert said.startswith(f"{bad.name} in {archive} is damaged; {topic}-0 is fetched anew from there on")
    assert said.endswith("earlier backups that have it cannot be restored whole")
    with pytest.raises(BackupError, match="is not what was kept"):
        whole(archive, first)
    assert [(it.start, it.end) for it in chunks(second)] == [(4, 10)]
    other = make_broker("other")
    restore(other.bootstrap, archive, second)
    assert log_of(other, topic) == log_of(broker, topic)


def test_the_command_line_says_how_much_is_read(
    broker: BrokerProcess, archive: CountingArchive, topic: str
) -> None:
    chosen = ("--topic", topic, "--no-groups", "--bootstrap", broker.bootstrap)
    assert fastlog("backup", str(archive), *chosen).status == 0
    turn_a_byte(archive, chunks(manifest_of(archive))[0])
    done = fastlog("backup", str(archive), "--verify-kept", "100", *chosen)
    assert done.status == 0
    assert done.err.startswith("fastlog: chunks/")
    assert done.err.endswith("is damaged; it was fetched again, and is as it was\n")
    assert fastlog("restore", str(archive), "--check").status == 0
    for wrong in ("-1", "101", "all"):
        assert fastlog("backup", str(archive), "--verify-kept", wrong).status == 2
