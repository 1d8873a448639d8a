"""A bound on a process's memory, its page cache included: a memory cgroup, of either version. Root only."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path("/sys/fs/cgroup")
VERSION_1 = ROOT / "memory"
GONE_SECONDS = 5.0


@contextmanager
def limited(limit_bytes: int) -> Iterator[Callable[[int], None]]:
    """What moves a process, by its id, below the bound; what it allocates and reads from then on counts.

    Raises OSError where there is no such controller or no right to use it. Its processes have ended before it does.
    """
    parent, name = (VERSION_1, "memory.limit_in_bytes") if VERSION_1.is_dir() else (ROOT, "memory.max")
    group = parent / f"fastlog-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        error.add_note(f"bounding memory needs root and a cgroup with the memory controller at {parent}")
        raise
    try:
        (group / name).write_text(str(limit_bytes))
        yield lambda pid: _move(group, pid)
    finally:
        _remove(group)


def _move(group: Path, pid: int) -> None:
    (group / "cgroup.procs").write_text(str(pid))


def _remove(group: Path) -> None:
    # a process that was killed is in its group a moment longer
    deadline = time.monotonic() + GONE_SECONDS
    while True:
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
