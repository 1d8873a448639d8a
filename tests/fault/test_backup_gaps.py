"""Backups of all topics while one partition cannot be read: the others are kept, and the gap is never told as whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fastlog import Admin, Producer
from fastlog.backup.archive import manifest_of
from fastlog.backup.manifest import Manifest
from fastlog.backup.partitions import Partitions
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.cli.group import run
from fastlog.client.admin.leaders import LeaderRequests
from fastlog.errors import BackupError, KafkaError
from fastlog.protocol.batch import read_batches
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, log_of, make_topic
from tests.support.broker import BrokerProcess

pytestmark = pytest.mark.timeout(300)

TOPICS = ("a", "b", "c")
#: the one that cannot be read, and for how long it is asked
BAD = ("b", 0)
PATIENCE_MS = 3_000
RECORDS = 5


def send_to(broker: BrokerProcess, topic: str, partition: int) -> None:
    with Producer(broker.bootstrap, linger_ms=0) as producer:
        for number in range(RECORDS):
            producer.send(topic, b"%d" % number, partition=partition).result()


def send_all(broker: BrokerProcess) -> None:
    """A batch for each record; `b` has two partitions."""
    for name in TOPICS:
        for partition in range(1 + (name == "b")):
            send_to(broker, name, partition)


@pytest.fixture
def source(make_broker: MakeBroker) -> BrokerProcess:
    broker = make_broker("source")
    for name in TOPICS:
        make_topic(broker, name, partitions=1 + (name == "b"))
    send_all(broker)
    return broker


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingArchive:
    """What cannot be read is not asked for a minute; the others are, however slow the machine is."""
    real = LeaderRequests.ask

    def ask(
        self: LeaderRequests,
        wanted: Mapping[Any, Any],
        build: Any,
        read: Any,
        timeout_ms: float,
        **options: Any,
    ) -> dict[Any, Any]:
        patience_ms = min(timeout_ms, PATIENCE_MS) if BAD in wanted else timeout_ms
        return real(self, wanted, build, read, patience_ms, **options)

    monkeypatch.setattr(LeaderRequests, "ask", ask)
    return CountingArchive(tmp_path / "archive")


def take_offline(broker: BrokerProcess) -> None:
    """A start that cannot open b-0."""
    assert broker.stop() == 0
    path = broker.data_dir / "b-0" / "partition.metadata"
    path.rename(path.with_suffix(".away"))
    path.write_text("version: 9\ntopic_id: x")
    broker.start()
    with Partitions(broker.bootstrap) as partitions, pytest.raises(KafkaError):
        partitions.fetch(BAD, "", 0)


def bring_back(broker: BrokerProcess) -> None:
    assert broker.stop() == 0
    path = broker.data_dir / "b-0" / "partition.metadata"
    path.with_suffix(".away").replace(path)
    broker.start()


def same_everywhere(one: BrokerProcess, other: BrokerProcess, without: tuple[str, int] | None = None) -> None:
    places = [(name, number) for name in TOPICS for number in range(1 + (name == "b"))]
    for place in places:
        if place != without:
            assert log_of(one, *place) == log_of(other, *place)


def put(path: Path, position: int, byte: int) -> None:
    """A byte in a file that a broker has open."""
    with path.open("r+b") as file:
        file.seek(position)
        file.write(bytes([byte]))


def ends(manifest: Manifest) -> dict[str, list[int]]:
    """Of each topic's partitions."""
    return {topic.name: [it.end for it in topic.partitions] for topic in manifest.topics}


@pytest.mark.parametrize("is_first", [False, True])
def test_a_partition_that_is_offline_does_not_end_the_backup_of_the_others(
    source: BrokerProcess,
    make_broker: MakeBroker,
    archive: CountingArchive,
    capsys: pytest.CaptureFixture[str],
    *,
    is_first: bool,
) -> None:
    place, at = str(archive), ("--bootstrap", source.bootstrap)
    kept = 0 if is_first else RECORDS
    if not is_first:
        assert run(["backup", place, *at]) == 0
        for name in TOPICS:
            send_to(source, name, partition=int(name == "b"))
    take_offline(source)
    capsys.readouterr()
    assert run(["backup", place, *at]) == 1
    said = f"b-0 is there {'without records' if is_first else 'from offset 0 to 5'} ("
    assert f"fastlog: {said}" in capsys.readouterr().err
    manifest = manifest_of(archive)
    assert ends(manifest) == {"a": [kept + 5], "b": [kept, kept + 5], "c": [kept + 5]}

    # it is named wherever the backup is looked at, and by versions that know no gaps it is refused
    document = json.loads(Path(place, manifest.object_name).read_text())
    assert document["format"] == 2
    assert run(["restore", place, "--check"]) == 1
    assert f"fastlog: {said}" in capsys.readouterr().err
    assert run(["restore", place, "--list"]) == 0
    assert f"{manifest.taken} does not have all of 1 partition" in capsys.readouterr().err

    # nor is it restored as a whole one
    other = make_broker("other")
    to = ("--bootstrap", other.bootstrap)
    assert run(["restore", place, *to]) == 1
    refused = capsys.readouterr().err
    assert "is not whole: b-0 is there" in refused
    assert "have what there is (--incomplete)" in refused
    with Admin(other.bootstrap) as admin:
        assert admin.list_topics() == []
    assert run(["restore", place, "--topic", "a", *to]) == 0
    assert run(["restore", place, "--incomplete", *to]) == 0
    assert "the rest is not in this backup, and is missing from what is restored" in capsys.readouterr().err
    same_everywhere(source, other, without=BAD)
    assert log_of(other, "b", 0)[:2] == (0, kept)

    # the next one has it
    bring_back(source)
    assert run(["backup", place, *at]) == 0
    assert manifest_of(archive).gaps() == []
    assert json.loads(Path(place, manifest_of(archive).object_name).read_text())["format"] == 1
    another = make_broker("another")
    assert run(["restore", place, "--bootstrap", another.bootstrap]) == 0
    same_everywhere(source, another)


def test_what_comes_before_damage_is_kept_and_the_rest_when_it_can_be_read_again(
    source: BrokerProcess, make_broker: MakeBroker, archive: CountingArchive
) -> None:
    segment = next((source.data_dir / "b-0").glob("*.log"))
    data = segment.read_bytes()
    # the last byte of the fourth batch's records
    position = [it.position for it in read_batches(memoryview(data))][4] - 1
    put(segment, position, data[position] ^ 1)
    for _ in range(2):
        # also where the gap was known before
        told: list[str] = []
        manifest = back_up(source.bootstrap, archive, groups=[], tell=told.append)
        assert ends(manifest) == {"a": [5], "b": [3, 5], "c": [5]}
        (said,) = told
        assert said.startswith("b-0 is there from offset 0 to 3 (")
    assert len(archive.written) == 4 + 2
    other = make_broker("other")
    with pytest.raises(BackupError, match="is not whole: b-0 is there from offset 0 to 3"):
        restore(other.bootstrap, archive, manifest)
    put(segment, position, data[position])
    told.clear()
    manifest = back_up(source.bootstrap, archive, groups=[], tell=told.append)
    assert told == []
    restore(other.bootstrap, archive, manifest)
    same_everywhere(source, other)


def test_a_topic_that_was_asked_for_by_name_is_backed_up_whole_or_not_at_all(
    source: BrokerProcess, archive: CountingArchive
) -> None:
    take_offline(source)
    with pytest.raises(KafkaError):
        back_up(source.bootstrap, archive, topics=["b"], groups=[])
    with pytest.raises(BackupError, match="no backup"):
        manifest_of(archive)
