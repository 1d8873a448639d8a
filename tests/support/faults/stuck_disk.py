"""A disk that hangs: what a process asks it for does not come, for as long as one likes. Needs root.

The kernel's own throttle (the blkio controller of cgroup version 1) lets one byte a second through: whoever reads waits
in the kernel, cannot be interrupted, and gets what it asked for once the throttle is taken off.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.faults.loop_disk import LoopDisk

from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/blkio")
READ_LIMIT, WRITE_LIMIT = (f"blkio.throttle.{kind}_bps_device" for kind in ("read", "write"))


def is_possible() -> bool:
    """Whether there is such a controller."""
    return (CONTROLLER / READ_LIMIT).exists()


@contextlib.contextmanager
def stuck(disk: LoopDisk, pid: int, *, writes: bool = False) -> Iterator[None]:
    """Reads of that process from the disk hang inside of the `with`, and its syncs where `writes` do too."""
    device = disk.path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    group = CONTROLLER / f"fastlog-test-{os.getpid()}-{pid}"
    limits = [READ_LIMIT, WRITE_LIMIT] if writes else [READ_LIMIT]
    group.mkdir()
    try:
        for limit in limits:
            (group / limit).write_text(f"{number} 1")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for limit in limits:
            (group / limit).write_text(f"{number} 0")
        (CONTROLLER / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def waits_for_a_disk(pid: int, seconds: float = 0.5) -> bool:
    """Whether a thread of the process is in an uninterruptible wait, now and for as long as that."""
    waiting: set[str] | None = None
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        # the state is behind the name, which may have blanks
        now = {it.name for it in tasks if (it / "stat").read_text().rpartition(")")[2].split()[0] == "D"}
        waiting = now if waiting is None else waiting & now
        if not waiting:
            return False
        time.sleep(0.05)
    return True


def forget(folder: Path) -> None:
    """Has the page cache forget the files of a folder."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
