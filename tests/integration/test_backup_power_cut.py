"""Backups before and after a power cut that took the log's end: each has what the leader had, and nothing of both."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from fastlog.backup.manifest import Chunk, Manifest, encode
from fastlog.backup.partitions import Partitions
from fastlog.backup.reading import verify
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.protocol.batch import read_batches
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, InterruptedHereError, log_of, make_topic, send
from tests.support.broker import BrokerProcess

TOPIC = "t"


@pytest.fixture
def source(make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch) -> BrokerProcess:
    """A broker with ten batches, whose leader epochs tell nothing."""
    monkeypatch.setattr(Partitions, "end_of_epoch", lambda _self, _where, epoch: (epoch, 1 << 60))
    broker = make_broker("source")
    make_topic(broker, TOPIC)
    send(broker, TOPIC, 10)
    return broker


def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)


def cut_the_power(broker: BrokerProcess, kept: int) -> None:
    """The disk has the first batches only."""
    broker.kill()
    segment = next((broker.data_dir / f"{TOPIC}-0").glob("*.log"))
    data = segment.read_bytes()
    ends = [it.position for it in read_batches(memoryview(data))]
    segment.write_bytes(data[: ends[kept]])
    run = broker.data_dir / "fastlog.run"
    run.write_text(re.sub(r"boot_id: .*", "boot_id: another", run.read_text()))
    broker.start()
    assert log_of(broker, TOPIC)[:2] == (0, kept)


def save(broker: BrokerProcess, archive: CountingArchive, tell: Callable[[str], None] = print) -> Manifest:
    return back_up(broker.bootstrap, archive, topics=[TOPIC], groups=[], tell=tell)


def chunks(manifest: Manifest) -> tuple[Chunk, ...]:
    return manifest.topics[0].partitions[0].chunks


def forget_checksums(archive: CountingArchive, manifest: Manifest) -> None:
    """As an earlier version has written it."""
    topic = manifest.topics[0]
    log = topic.partitions[0]
    old = tuple(msgspec.structs.replace(it, last_crc=None) for it in log.chunks)
    older = msgspec.structs.replace(topic, partitions=(msgspec.structs.replace(log, chunks=old),))
    archive.put(manifest.object_name, encode(msgspec.structs.replace(manifest, topics=(older,))))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(("is_small", "used_again"), [(True, 5), (False, 0)])
def test_the_next_backup_has_what_the_leader_has(
    source: BrokerProcess,
    make_broker: MakeBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    used_again: int,
    *,
    is_old: bool,
    is_small: bool,
) -> None:
    if is_small:
        small_chunks(monkeypatch)
    archive = CountingArchive(tmp_path / "archive")
    first = save(source, archive)
    if is_old:
        forget_checksums(archive, first)
    was = log_of(source, TOPIC)
    cut_the_power(source, 5)
    send(source, TOPIC, 10, first=500)
    told: list[str] = []
    second = save(source, archive, told.append)
    (said,) = told
    assert said.startswith("t-0 does not have the records before offset 10 that were kept")
    assert said.endswith(f"is fetched anew from offset {used_again} on")
    assert [it.name for it in chunks(second)[:used_again]] == [it.name for it in chunks(first)[:used_again]]
    other = make_broker("other")
    restore(other.bootstrap, archive, second)
    assert log_of(other, TOPIC) == log_of(source, TOPIC)
    # and the one before stays what it was
    another = make_broker("another")
    restore(another.bootstrap, archive, first)
    assert log_of(another, TOPIC) == was
    # nothing is fetched again when nothing is new
    archive.written.clear()
    told.clear()
    third = save(source, archive, told.append)
    assert (told, archive.written) == ([], [third.object_name])


@pytest.mark.parametrize("shift", range(4))
def test_what_an_interrupted_backup_kept_of_what_was_lost_is_not_used(
    source: BrokerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    small_chunks(monkeypatch)
    place = tmp_path / "archive"
    save(source, CountingArchive(place))
    cut_the_power(source, 5)
    send(source, TOPIC, 10, first=500)
    with pytest.raises(InterruptedHereError):
        save(source, CountingArchive(place, puts=6 + shift))
    cut_the_power(source, 7)
    send(source, TOPIC, 10, first=900)
    archive = CountingArchive(place)
    manifest = save(source, archive)
    assert verify(archive, manifest, lambda _bytes: None) == 17
    # offsets and bytes of the batches that the leader has
    found = [
        (it.base_offset, bytes(it.data[21:43]) + bytes(it.data[51:]))
        for chunk in chunks(manifest)
        for it in read_batches(memoryview((place / chunk.name).read_bytes()))
    ]
    assert found == log_of(source, TOPIC)[2]
