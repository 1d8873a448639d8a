"""Restores that were interrupted, and go on when the same command is given again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog import Admin, Consumer
from fastlog.backup.manifest import GroupBackup, Manifest, Position
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.cli.group import run
from fastlog.client.committed_offset import CommittedOffset
from fastlog.errors import BackupError, PolicyViolationError
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, InterruptedHereError, log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.transactions import ABORT, COMMIT, Log, check, write

# a restore has a minute for each step
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def source(make_broker: MakeBroker) -> BrokerProcess:
    return make_broker("source")


@pytest.fixture
def other(make_broker: MakeBroker) -> BrokerProcess:
    """Where backups are brought back to."""
    return make_broker("other")


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingArchive:
    """Of chunks, and with runs, of one batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.restoring.RUN_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    return CountingArchive(tmp_path / "archive")


def after(count: int) -> Callable[[int], None]:
    """Interrupts when so many batches were sent."""
    left = count

    def interrupt(_bytes: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise InterruptedHereError

    return interrupt


def interrupted(other: BrokerProcess, archive: CountingArchive, manifest: Manifest, count: int) -> None:
    """Restores the first batches."""
    with pytest.raises(InterruptedHereError):
        restore(other.bootstrap, archive, manifest, done=after(count))


@pytest.mark.parametrize("count", [2, 6])
def test_a_restore_that_stopped_inside_a_transaction_goes_on(
    source: BrokerProcess, other: BrokerProcess, archive: CountingArchive, count: int
) -> None:
    log = Log()
    for number in range(3):
        log.records(b"kept %d" % number, 1)
    log.ends(1, COMMIT)
    for number in range(3):
        log.records(b"taken back %d" % number, 1)
    log.ends(1, ABORT)
    make_topic(source, "t", fastlog_restoring="true")
    write(source.tcp_port, "t", log)
    with Admin(source.bootstrap) as admin:
        admin.alter_configs({"fastlog.restoring": None}, topic="t")
    manifest = back_up(source.bootstrap, archive, topics=["t"], groups=[])
    interrupted(other, archive, manifest, count)
    sent: list[int] = []
    restore(other.bootstrap, archive, manifest, done=sent.append)
    assert len(sent) == len(log.batches) - count
    assert log_of(other, "t") == log_of(source, "t")
    check(other.bootstrap, "t", log)


TOPICS = ("one", "two")
RECORDS = 5


def positions(broker: BrokerProcess, group: str = "group") -> dict[tuple[str, int], int]:
    with Admin(broker.bootstrap) as admin:
        return {place: it.offset for place, it in admin.list_group_offsets(group).items()}


@pytest.fixture
def manifest(source: BrokerProcess, archive: CountingArchive) -> Manifest:
    """Of two topics, and a group with a position in each."""
    for name in TOPICS:
        make_topic(source, name)
        send(source, name, RECORDS)
    with Admin(source.bootstrap) as admin:
        admin.alter_group_offsets("group", {("one", 0): CommittedOffset(3), ("two", 0): CommittedOffset(2)})
    return back_up(source.bootstrap, archive)


@pytest.mark.parametrize("count", [RECORDS - 1, RECORDS, RECORDS + 2, 2 * RECORDS])
def test_a_restore_of_several_topics_goes_on_by_the_same_command(
    source: BrokerProcess, other: BrokerProcess, archive: CountingArchive, manifest: Manifest, count: int
) -> None:
    interrupted(other, archive, manifest, count)
    told: list[str] = []
    restore(other.bootstrap, archive, manifest, tell=told.append)
    for name in TOPICS:
        assert log_of(other, name) == log_of(source, name)
        send(other, name, 1)
    assert positions(other) == {("one", 0): 3, ("two", 0): 2}
    whole = f"topic 'one' was restored from {manifest.taken} before, and is left as it is"
    assert told == ([whole] if count > RECORDS else [])


@pytest.mark.parametrize("step", ["alter_group_offsets", "alter_configs"])
@pytest.mark.parametrize("takes_effect", [False, True])
def test_no_position_is_lost_to_a_restore_that_ends_between_its_last_steps(
    other: BrokerProcess,
    archive: CountingArchive,
    manifest: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    takes_effect: bool,
) -> None:
    real = getattr(Admin, step)

    def die(*args: object, **options: object) -> None:
        if takes_effect:
            real(*args, **options)
        raise InterruptedHereError

    with monkeypatch.context() as here:
        here.setattr(Admin, step, die)
        with pytest.raises(InterruptedHereError):
            restore(other.bootstrap, archive, manifest)
    restore(other.bootstrap, archive, manifest)
    assert positions(other) == {("one", 0): 3, ("two", 0): 2}
    for name in TOPICS:
        send(other, name, 1)


def test_a_topic_stays_closed_while_its_groups_have_members(
    other: BrokerProcess, archive: CountingArchive, manifest: Manifest
) -> None:
    # consumers that wait for the topic
    with Consumer(other.bootstrap, group_id="group", topics=["one", "other"]) as consumer:
        consumer.poll(timeout=1)
        with pytest.raises(
            BackupError, match="'group' in topic 'one' cannot be set while it has members; stop its"
        ):
            restore(other.bootstrap, archive, manifest)
        consumer.poll(timeout=1)
    restore(other.bootstrap, archive, manifest)
    assert positions(other) == {("one", 0): 3, ("two", 0): 2}


def test_what_groups_have_read_since_is_not_taken_back_and_what_was_left_out_is_set(
    other: BrokerProcess, archive: CountingArchive, manifest: Manifest
) -> None:
    later = GroupBackup(group_id="later", positions=(Position(topic="one", partition=0, offset=1),))
    restore(other.bootstrap, archive, manifest)
    with Admin(other.bootstrap) as admin:
        admin.alter_group_offsets("group", {("one", 0): CommittedOffset(5)})
    both = Manifest(
        taken=manifest.taken,
        cluster_id=manifest.cluster_id,
        topics=manifest.topics,
        groups=(*manifest.groups, later),
    )
    restore(other.bootstrap, archive, both)
    assert positions(other) == {("one", 0): 5, ("two", 0): 2}
    assert positions(other, "later") == {("one", 0): 1}


def test_no_other_backup_goes_on_in_a_topic_where_one_was_interrupted(
    source: BrokerProcess, other: BrokerProcess, archive: CountingArchive, manifest: Manifest
) -> None:
    interrupted(other, archive, manifest, 3)
    # as a nightly one
    newer = back_up(source.bootstrap, archive)
    assert newer.topics == manifest.topics
    refused = f"is being restored from another backup, {manifest.taken}, and this is {newer.taken}; go on with that one"
    with pytest.raises(BackupError, match=refused):
        restore(other.bootstrap, archive, newer)
    with Admin(other.bootstrap) as admin:
        assert [it.name for it in admin.list_topics()] == ["one"], "nothing was begun"
    restore(other.bootstrap, archive, manifest)
    assert log_of(other, "two") == log_of(source, "two")
    # nor in one that is whole
    for topics in ((), ("two",)):
        with pytest.raises(
            BackupError, match=f"it was restored from {manifest.taken}, with which --taken goes on"
        ):
            restore(other.bootstrap, archive, newer, topics=topics)


def test_a_restored_topic_is_backed_up_as_one_of_its_own(
    other: BrokerProcess, archive: CountingArchive, manifest: Manifest, tmp_path: Path
) -> None:
    restore(other.bootstrap, archive, manifest)
    again = back_up(other.bootstrap, CountingArchive(tmp_path / "another"))
    assert [it.configs for it in again.topics] == [it.configs for it in manifest.topics]


def test_a_restore_that_fails_tells_what_stays_and_what_mends_it(
    source: BrokerProcess,
    other: BrokerProcess,
    archive: CountingArchive,
    manifest: Manifest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damaged = Path(str(archive)) / manifest.topics[1].partitions[0].chunks[3].name
    good = damaged.read_bytes()
    damaged.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    at, of = ("--bootstrap", other.bootstrap), ("--bootstrap", source.bootstrap)
    assert run(["restore", str(archive), *at]) == 1
    told, error = capsys.readouterr().err.splitlines()[-2:]
    goes_on = ("restore", str(archive), "--taken", manifest.taken)
    assert told.startswith("fastlog: topic 'two' is not restored to its end. It stays, ")
    assert "it takes no records of others (fastlog.restoring)" in told
    assert f"--taken {manifest.taken}, which goes on in it, or delete it" in told
    assert (
        f"{damaged.name} in {archive} is not what was kept there; `fastlog backup --verify-kept 100`" in error
    )
    assert log_of(other, "two")[:2] == (0, 3), "what came before is there"
    with pytest.raises(PolicyViolationError, match="is being restored"):
        send(other, "two", 1)

    # the advice holds, also where that makes a newer backup
    assert run(["backup", str(archive), "--verify-kept", "100", *of]) == 0
    assert damaged.read_bytes() == good
    assert run([*goes_on, *at]) == 0
    for name in TOPICS:
        assert log_of(other, name) == log_of(source, name)
        send(other, name, 1)
