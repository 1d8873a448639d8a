"""What a backup or a restore goes on without, and tells: topics that are deleted meanwhile, positions in others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog import Admin, Consumer
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.client.committed_offset import CommittedOffset
from fastlog.errors import KafkaError
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog

TOPICS = ("a", "b", "c")


@pytest.fixture
def source(make_broker: MakeBroker) -> BrokerProcess:
    """A broker with three topics and nothing else."""
    broker = make_broker("source")
    for name in TOPICS:
        make_topic(broker, name)
        send(broker, name, 5)
    return broker


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountingArchive:
    """One with a chunk for each batch; what is asked for a topic that is gone is not asked for a minute."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.PATIENCE_MS", 1_000)
    return CountingArchive(tmp_path / "archive")


def deleting(broker: BrokerProcess, name: str, *, anew: bool = False) -> Callable[[int], None]:
    """Deletes a topic when the first record was kept."""
    is_done = False

    def delete(_count: int) -> None:
        nonlocal is_done
        if is_done:
            return
        is_done = True
        with Admin(broker.bootstrap) as admin:
            admin.delete_topic(name)
        if anew:
            make_topic(broker, name)

    return delete


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("deleted", ["a", "b"])
def test_a_topic_that_is_deleted_meanwhile_does_not_end_the_backup_of_the_others(
    source: BrokerProcess, make_broker: MakeBroker, archive: CountingArchive, deleted: str, *, anew: bool
) -> None:
    told: list[str] = []
    done = deleting(source, deleted, anew=anew)
    manifest = back_up(source.bootstrap, archive, groups=[], done=done, tell=told.append)
    # one that is made anew before its turn comes is a topic like others
    is_there = anew and deleted == "b"
    assert [it.name for it in manifest.topics] == [it for it in TOPICS if it != deleted or is_there]
    assert len(told) == (not is_there)
    assert all(it.startswith(f"topic '{deleted}' was deleted while the backup was taken") for it in told)
    other = make_broker("other")
    restore(other.bootstrap, archive, manifest)
    for topic in manifest.topics:
        assert log_of(other, topic.name) == log_of(source, topic.name)
    told.clear()
    again = back_up(source.bootstrap, archive, groups=[], tell=told.append)
    assert [it.name for it in again.topics] == [it for it in TOPICS if it != deleted or anew]
    assert told == []


def test_a_topic_that_was_asked_for_by_name_is_not_left_out(
    source: BrokerProcess, archive: CountingArchive
) -> None:
    told: list[str] = []
    with pytest.raises(KafkaError, match="no such topic"):
        back_up(
            source.bootstrap,
            archive,
            topics=["a", "b"],
            groups=[],
            done=deleting(source, "b"),
            tell=told.append,
        )
    assert told == []


def test_positions_in_topics_that_are_not_restored_are_told(
    source: BrokerProcess, make_broker: MakeBroker, archive: CountingArchive
) -> None:
    with Admin(source.bootstrap) as admin:
        admin.alter_group_offsets("one", {("a", 0): CommittedOffset(2, "m"), ("b", 0): CommittedOffset(3)})
        admin.alter_group_offsets("two", {("b", 0): CommittedOffset(4)})
    back_up(source.bootstrap, archive)
    other = make_broker("other")
    at = ("--bootstrap", other.bootstrap)
    part = fastlog("restore", str(archive), "--topic", "a", *at)
    assert part.status == 0
    said = "fastlog: positions of groups in topics that are not restored now are left out: b (one, two)\n"
    assert part.err.endswith(said)
    with Admin(other.bootstrap) as admin:
        assert {place: it.offset for place, it in admin.list_group_offsets("one").items()} == {("a", 0): 2}
        assert admin.list_group_offsets("two") == {}
        admin.delete_topic("a")
    whole = fastlog("restore", str(archive), *at)
    assert whole.status == 0
    assert "left out" not in whole.err
    with Admin(other.bootstrap) as admin:
        assert admin.list_group_offsets("two")["b", 0].offset == 4


def test_a_group_that_does_not_exist_ends_a_backup_before_anything_is_changed(
    source: BrokerProcess, tmp_path: Path
) -> None:
    place, at = tmp_path / "archive", ("--bootstrap", source.bootstrap)
    command = ("backup", str(place), "--group", "known", "--group", "nope", *at)
    with Admin(source.bootstrap) as admin:
        for missing in ("known", "nope"):
            run = fastlog(*command)
            assert run.status == 1
            assert f"there is no group '{missing}', and nothing was backed up" in run.err
            assert not place.exists()
            if missing == "known":
                internal = [it.name for it in admin.list_topics(include_internal=True)]
                assert internal == list(TOPICS), "nothing was made by asking"
                admin.alter_group_offsets("known", {("a", 0): 2})
    done = fastlog("backup", str(place), "--group", "known", *at)
    assert (done.status, done.err) == (0, "")
    assert done.out.endswith(b"3 topics, 1 group\n")
    without = fastlog("backup", str(place), "--no-groups", *at)
    assert without.out.endswith(b"3 topics, 0 groups\n")
    assert fastlog("backup", str(place), "--no-groups", "--group", "known", *at).status == 2


def test_a_group_that_has_no_positions_yet_is_told(source: BrokerProcess, archive: CountingArchive) -> None:
    told: list[str] = []
    with Consumer(source.bootstrap, group_id="new", topics="a", enable_auto_commit=False) as member:
        while not member.assignment():
            member.poll(timeout=0.1)
        manifest = back_up(source.bootstrap, archive, groups=["new"], tell=told.append)
    assert manifest.groups == ()
    assert told == ["group 'new' has no positions yet, and is not in this backup"]
