"""What the tests of faulty disks share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.faults.loop_disk import LoopDisk

MakeDisk = Callable[..., LoopDisk]


def require(condition: bool, lack: str) -> None:
    """Where a test cannot run it is named in the summary; in CI everything must run, so there it fails."""
    if not condition:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"not run: {lack}")


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes file systems for one test; it must be asked for before `make_broker`, so that brokers end first."""
    require(os.geteuid() == 0, "only root may mount a file system")
    require(shutil.which("mkfs.ext4") is not None, "mkfs.ext4 is missing (apt-get install e2fsprogs)")
    made: list[LoopDisk] = []

    def make(name: str = "disk", *, mebibytes: int = 64) -> LoopDisk:
        made.append(LoopDisk(tmp_path / name, mebibytes=mebibytes))
        return made[-1]

    yield make
    for disk in made:
        disk.close()
