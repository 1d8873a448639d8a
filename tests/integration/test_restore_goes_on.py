"""Restores that were interrupted, and go on when the same command is given again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fastlog import Admin
from fastlog.backup.manifest import Manifest
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, InterruptedHereError, log_of, make_topic
from tests.support.broker import BrokerProcess
from tests.support.transactions import ABORT, COMMIT, Log, check, write


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
    # a test that fails does so soon
    monkeypatch.setattr("fastlog.backup.restoring.PATIENCE_MS", 5_000)
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
    manifest = back_up(source.bootstrap, archive, topics=["t"], groups=["none"])
    interrupted(other, archive, manifest, count)
    sent: list[int] = []
    restore(other.bootstrap, archive, manifest, done=sent.append)
    assert len(sent) == len(log.batches) - count
    assert log_of(other, "t") == log_of(source, "t")
    check(other.bootstrap, "t", log)
