"""Which backup is the newest, and can it be read: the next one goes on from it, and a restore takes it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastlog import Admin
from fastlog.backup.archive import manifest_of, taken
from fastlog.backup.manifest import Manifest
from fastlog.backup.saving import back_up
from fastlog.errors import UnreadableBackupError
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog


@pytest.fixture
def other(make_broker: MakeBroker) -> BrokerProcess:
    """Where backups are brought back to."""
    return make_broker("other")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingArchive:
    """One with a chunk for each batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    return CountingArchive(tmp_path / "archive")


class Backups:
    """Backups of one topic, each of so many more records; what was told meanwhile."""

    def __init__(self, broker: BrokerProcess, archive: CountingArchive, topic: str) -> None:
        self.broker, self.archive, self.topic = broker, archive, topic
        self.told: list[str] = []
        self._count = 0
        make_topic(broker, topic)

    def take(self, count: int) -> Manifest:
        send(self.broker, self.topic, count, first=self._count)
        self._count += count
        self.told.clear()
        return back_up(
            self.broker.bootstrap,
            self.archive,
            topics=[self.topic],
            groups=[],
            tell=self.told.append,
        )


@pytest.fixture
def backups(broker: BrokerProcess, archive: CountingArchive, topic_name: str) -> Backups:
    return Backups(broker, archive, topic_name)


@pytest.mark.parametrize("year", [2000, 2099])
def test_a_clock_that_was_wrong_once_does_not_decide_which_backup_is_the_newest(
    backups: Backups, other: BrokerProcess, monkeypatch: pytest.MonkeyPatch, year: int
) -> None:
    archive, place, to = backups.archive, str(backups.archive), ("--bootstrap", other.bootstrap)
    first = backups.take(2)
    with monkeypatch.context() as clock:
        clock.setattr("fastlog.backup.saving.now", lambda: datetime(year, 1, 1, tzinfo=UTC))
        wrong = backups.take(2)
        assert bool(backups.told) == (year == 2000)
    last = backups.take(3)
    assert taken(archive) == [first.taken, wrong.taken, last.taken]
    assert manifest_of(archive).taken == last.taken
    assert len(archive.written) == 7 + 3, "each went on from the one before it"
    if year == 2099:
        (told,) = backups.told
        assert f"is called {wrong.taken}, later than this machine's clock" in told
        assert f"This one is called {last.taken} and is the newest; set the clock right" in told
    restored = fastlog("restore", place, *to)
    assert restored.status == 0
    assert restored.err.startswith(f"{last.taken}: taken ")
    assert " ago" in restored.err
    assert ("by the clock" in restored.err) == (year == 2099)
    assert log_of(other, backups.topic) == log_of(backups.broker, backups.topic)
    if year == 2099:
        chosen = fastlog("restore", place, "--check", "--taken", wrong.taken)
        assert chosen.status == 0
        assert "years in the future" in chosen.err


def test_one_damaged_manifest_hides_no_other_and_stops_no_backup(
    backups: Backups, other: BrokerProcess
) -> None:
    archive, place, to = backups.archive, str(backups.archive), ("--bootstrap", other.bootstrap)
    first, second = backups.take(2), backups.take(2)
    path = Path(place) / second.object_name
    path.write_bytes(path.read_bytes()[:-30])
    shown = fastlog("restore", place, "--list")
    assert shown.status == 0
    assert [line.split()[0] for line in shown.out.decode().splitlines()] == [
        "taken",
        first.taken,
        second.taken,
    ]
    assert f"fastlog: {second.taken} cannot be restored: manifests/{second.taken}.json" in shown.err
    rows = fastlog("restore", place, "--list", "--json").rows()[0]
    assert [(row["taken"], row["topics"], row["error"] is None) for row in rows] == [
        (first.taken, 1, True),
        (second.taken, None, False),
    ]
    # the older one is not taken for the newest
    refused = fastlog("restore", place, *to)
    assert refused.status == 1
    assert f"the newest one that can be read is {first.taken}: --taken {first.taken} takes it" in refused.err
    with Admin(other.bootstrap) as admin:
        assert backups.topic not in [it.name for it in admin.list_topics()]
    assert fastlog("restore", place, "--taken", first.taken, *to).status == 0
    assert log_of(other, backups.topic)[:2] == (0, 2)
    third = backups.take(1)
    (told,) = backups.told
    assert told.endswith("this backup does not go on from that one")
    assert second.taken in told
    assert len(archive.written) == 5 + 3, "chunks that only the damaged one names are found"
    assert manifest_of(archive).topics == third.topics
    assert fastlog("restore", place, "--check").status == 0


def test_a_backup_is_taken_where_no_manifest_can_be_read(backups: Backups) -> None:
    bad = Path(str(backups.archive)) / backups.take(3).object_name
    bad.write_bytes(b"")
    backups.take(1)
    assert len(backups.told) == 1
    assert manifest_of(backups.archive).topics[0].partitions[0].end == 4
    Path(str(backups.archive), manifest_of(backups.archive).object_name).write_bytes(b"")
    with pytest.raises(UnreadableBackupError, match="none of the others"):
        manifest_of(backups.archive)
