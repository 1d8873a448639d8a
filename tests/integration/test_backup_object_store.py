"""Backups in an object store: what holds in a directory holds there, whatever the store or the way to it does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from fastlog import Admin
from fastlog.backup.archive import manifest_of, open_archive, taken
from fastlog.backup.manifest import Chunk, Manifest
from fastlog.backup.object_archive import ObjectArchive
from fastlog.backup.reading import verify
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.errors import BackupError
from tests.conftest import MakeBroker
from tests.support.backups import log_of, make_topic, send
from tests.support.broker import BrokerProcess
from tests.support.cli import fastlog
from tests.support.object_store import BUCKET, BUSY, DENIED, FaultyStore, ObjectStore

PATIENCE = timedelta(seconds=2)
QUICK = {"patience": PATIENCE, "read_timeout": timedelta(seconds=1)}
#: nobody listens there
AWAY = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as started:
        yield started


@pytest.fixture
def store(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyStore]:
    """A proxy before the server, which the environment names."""
    with FaultyStore(server) as proxy:
        for name, value in proxy.environment().items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def other(make_broker: MakeBroker) -> BrokerProcess:
    """Where backups are brought back to."""
    return make_broker("other")


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


def url(topic: str) -> str:
    """A place of the topic's own."""
    return f"s3://{BUCKET}/of/{topic}"


def save(broker: BrokerProcess, topic: str, **options: timedelta) -> Manifest:
    return back_up(broker.bootstrap, ObjectArchive(url(topic), **options), topics=[topic], groups=[])


def chunks(manifest: Manifest) -> tuple[Chunk, ...]:
    return manifest.topics[0].partitions[0].chunks


def puts(store: FaultyStore) -> list[str]:
    return [key for method, key in store.requests if method == "PUT"]


@pytest.mark.usefixtures("_small_chunks")
def test_the_next_backup_brings_only_what_is_new_and_each_of_them_is_whole(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    first = save(broker, topic)
    assert len(puts(store)) == 11
    send(broker, topic, 3, first=10)
    save(broker, topic)
    assert len(puts(store)) == 11 + 4
    archive = open_archive(url(topic))
    assert [first.taken, manifest_of(archive).taken] == taken(archive)
    restore(other.bootstrap, archive, manifest_of(archive, first.taken))
    assert log_of(other, topic)[:2] == (0, 10)
    with Admin(other.bootstrap) as admin:
        admin.delete_topic(topic)
    restore(other.bootstrap, archive, manifest_of(archive))
    assert log_of(other, topic) == log_of(broker, topic)


def test_the_command_line_takes_the_url_of_a_store(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    where = url(topic)
    none = f"fastlog: there is no backup in {where}\n"
    missing = fastlog("restore", where, "--list")
    assert (missing.status, missing.out, missing.err) == (0, b"", none)
    assert fastlog("restore", where).err == none
    done = fastlog("backup", where, "--topic", topic, "--no-groups", "--bootstrap", broker.bootstrap)
    assert (done.status, done.err) == (0, "")
    (listed,) = fastlog("restore", where, "--list", "--json").rows()[0]
    assert listed["topics"] == 1
    assert fastlog("restore", where, "--check").status == 0
    assert fastlog("restore", where, "--bootstrap", other.bootstrap).status == 0
    assert log_of(other, topic) == log_of(broker, topic)


def test_large_chunks_go_in_parts(broker: BrokerProcess, store: FaultyStore, topic: str) -> None:
    archive = ObjectArchive(url(topic))
    data = bytes(range(256)) * (48 << 10)
    archive.put("chunks/large", data)
    assert archive.get("chunks/large", 12 << 20) == data
    assert archive.sizes("chunks/") == {"chunks/large": 12 << 20}
    assert len(puts(store)) > 1


def test_what_is_no_place_for_backups_is_said() -> None:
    for place, says in (
        ("nonsense://bucket/x", "nonsense://bucket/x is no place for backups"),
        ("s3://", "is no place for backups"),
    ):
        run = fastlog("backup", place)
        assert run.status == 1
        assert says in run.err
        assert "Traceback" not in run.err


def test_a_bucket_that_is_not_there(broker: BrokerProcess, store: FaultyStore, topic: str) -> None:
    archive = ObjectArchive("s3://nowhere-to-be-found/x", **QUICK)
    with pytest.raises(BackupError, match=r"s3://nowhere-to-be-found/x.* failed"):
        back_up(broker.bootstrap, archive, topics=[topic], groups=[])


@pytest.mark.usefixtures("_small_chunks")
def test_a_store_that_goes_away_is_told_and_the_backup_goes_on_when_it_is_back(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    def away_after_five(method: str, _key: str, status: int, body: bytes) -> tuple[int, bytes, int] | None:
        # what was put is there, and nobody hears of it
        return None if len(set(puts(store))) > 5 else (status, body, len(body))

    store.fault = away_after_five
    with pytest.raises(BackupError, match=r"(writing|reading) s3://.* failed: .*give the command again"):
        save(broker, topic, **QUICK)
    with pytest.raises(BackupError, match="failed"):
        manifest_of(ObjectArchive(url(topic), **QUICK))
    store.fault = None
    with pytest.raises(BackupError, match="there is no backup"):
        manifest_of(open_archive(url(topic)))
    before = len(puts(store))
    manifest = save(broker, topic)
    assert len(puts(store)) - before == 10 - 6 + 1
    restore(other.bootstrap, open_archive(url(topic)), manifest)
    assert log_of(other, topic) == log_of(broker, topic)


def test_a_store_that_is_busy_for_a_while_is_asked_again(
    broker: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    refused = 0

    def busy(_method: str, _key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        nonlocal refused
        refused += 1
        return (503, BUSY, len(BUSY)) if refused % 3 else (status, body, len(body))

    store.fault = busy
    manifest = save(broker, topic)
    store.fault = None
    verify(open_archive(url(topic)), manifest, lambda _bytes: None)
    assert refused > 6


@pytest.mark.parametrize(
    ("tries", "says"),
    [
        (lambda archive: archive.sizes("manifests"), r"listing .*answers$"),
        (lambda archive: archive.get("manifests/x", 10), r"reading .*answers$"),
        (lambda archive: archive.put("manifests/x", b"x"), r"writing .*answers; what is kept already stays"),
    ],
)
def test_a_store_that_restarts_is_asked_again_until_the_patience_ends(
    monkeypatch: pytest.MonkeyPatch, tries: Callable[[ObjectArchive], object], says: str
) -> None:
    """A refused connection costs no time: were tries counted, they would end long before."""
    for name, value in AWAY.items():
        monkeypatch.setenv(name, value)
    begun = time.monotonic()
    with pytest.raises(BackupError, match=r"after \d+ retries: .*Connection refused") as told:
        tries(ObjectArchive("s3://bucket/x", **QUICK))
    assert PATIENCE.total_seconds() <= time.monotonic() - begun < 2 * PATIENCE.total_seconds()
    assert re.search(says, str(told.value))
    assert "max_retries" not in str(told.value)


def test_a_store_that_does_not_answer_is_told(broker: BrokerProcess, store: FaultyStore, topic: str) -> None:
    store.goes_on.clear()
    with pytest.raises(BackupError, match=r"s3://.* failed: .*give the command again when the store answers"):
        save(broker, topic, **QUICK)
    store.goes_on.set()
    assert chunks(save(broker, topic))[-1].end == 10


def test_a_store_that_denies_is_told_with_what_to_look_at(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    manifest = save(broker, topic)
    store.fault = lambda *_: (403, DENIED, len(DENIED))
    for attempt in (
        lambda: save(broker, topic),
        lambda: restore(other.bootstrap, open_archive(url(topic)), manifest),
        lambda: manifest_of(open_archive(url(topic))),
    ):
        with pytest.raises(BackupError, match="look at the credentials"):
            attempt()
    run = fastlog("restore", url(topic), "--check")
    assert run.status == 1
    assert run.err.startswith("fastlog: ")
    assert "look at the credentials" in run.err
    assert "secret" not in run.err


@pytest.mark.usefixtures("_small_chunks")
def test_a_store_that_keeps_half_of_what_it_is_given_is_found_out(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str
) -> None:
    save(broker, topic)
    send(broker, topic, 2, first=10)
    store.cuts_uploads = True
    with pytest.raises(BackupError, match=r"bytes after \d+ were written to it"):
        save(broker, topic)
    store.cuts_uploads = False
    archive = open_archive(url(topic))
    assert len(taken(archive)) == 1, "no manifest names it"
    restore(other.bootstrap, archive, save(broker, topic))
    assert log_of(other, topic) == log_of(broker, topic)


@pytest.mark.usefixtures("_small_chunks")
def test_objects_that_were_lost_or_cut_are_fetched_anew_by_the_next_backup(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, server: ObjectStore, topic: str
) -> None:
    first = save(broker, topic)
    lost, cut = (f"of/{topic}/{it.name}" for it in (chunks(first)[6], chunks(first)[8]))
    server.put(cut, server.get(cut)[:-5])
    server.delete(lost)
    with pytest.raises(BackupError, match=r"is missing; .* do objects expire"):
        verify(open_archive(url(topic)), first, lambda _bytes: None)
    second = save(broker, topic)
    assert [it.end for it in chunks(second)] == list(range(1, 11))
    restore(other.bootstrap, open_archive(url(topic)), second)
    assert log_of(other, topic) == log_of(broker, topic)


@pytest.mark.parametrize("which", ["chunks/", "manifests/"])
@pytest.mark.parametrize("how", ["a byte turned", "cut", "cut behind a length", "longer", "empty"])
def test_nothing_that_a_store_makes_up_is_restored(
    broker: BrokerProcess, other: BrokerProcess, store: FaultyStore, topic: str, which: str, how: str
) -> None:
    save(broker, topic)

    def lie(method: str, key: str, status: int, body: bytes) -> tuple[int, bytes, int]:
        if method != "GET" or f"/{which}" not in key or not key.rsplit("/", 1)[1]:
            return status, body, len(body)
        middle = len(body) // 2
        spoilt = {
            "a byte turned": body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :],
            "cut": body[:middle],
            "cut behind a length": body[:middle],
            "longer": body + body,
            "empty": b"",
        }[how]
        return status, spoilt, len(body) if how == "cut behind a length" else len(spoilt)

    store.fault = lie
    archive = ObjectArchive(url(topic), **QUICK)
    with pytest.raises(BackupError):
        verify(archive, manifest_of(archive), lambda _bytes: None)
    with pytest.raises(BackupError):
        restore(other.bootstrap, archive, manifest_of(archive))
    with Admin(other.bootstrap) as admin:
        there = [it.name for it in admin.list_topics()]
    assert topic not in there or log_of(other, topic)[:2] == (0, 0)
    store.fault = None
    restore(other.bootstrap, archive, manifest_of(archive))
    assert log_of(other, topic) == log_of(broker, topic)
