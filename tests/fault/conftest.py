"""What the tests of faulty disks share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import MakeBroker
from tests.support.broker import BrokerProcess
from tests.support.faults.injection import injected
from tests.support.faults.loop_disk import LoopDisk

MakeDisk = Callable[..., LoopDisk]
BrokerOn = Callable[..., BrokerProcess]
Inject = Callable[..., AbstractContextManager[Path]]


def require(condition: bool, lack: str) -> None:
    """Where a test cannot run it is named in the summary; in CI everything must run, so there it fails."""
    if not condition:
        (pytest.fail if os.environ.get("FASTLOG_SKIP_NOTHING") else pytest.skip)(f"not run: {lack}")


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes file systems for one test."""
    require(os.geteuid() == 0, "only root may mount a file system")
    require(shutil.which("mkfs.ext4") is not None, "mkfs.ext4 is missing (apt-get install e2fsprogs)")
    made: list[LoopDisk] = []

    def make(name: str = "disk", *, mebibytes: int = 64) -> LoopDisk:
        made.append(LoopDisk(tmp_path / name, mebibytes=mebibytes))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture
def broker_on(make_disk: MakeDisk, make_broker: MakeBroker, tmp_path: Path) -> BrokerOn:
    """Starts a broker with its data directory on a disk, and its log elsewhere: where it can say what is wrong.

    It asks for `make_disk` first, so that brokers end before disks do.
    """

    def start(disk: LoopDisk, *, settings: dict[str, str] | None = None) -> BrokerProcess:
        name = str(disk.path.relative_to(tmp_path) / "data")
        broker = make_broker(name, settings=settings, start=False)
        broker.log_file = tmp_path / f"{disk.path.parent.name}.stderr"
        return broker.start()

    return start


@pytest.fixture
def inject() -> Inject:
    """Makes system calls of a running broker fail; see `injected`."""
    require(os.geteuid() == 0, "only root may trace any process")
    require(shutil.which("strace") is not None, "strace is missing (apt-get install strace)")
    return injected
