"""A disk that hangs: what a process asks it for does not come, for as long as one likes. Needs root.

The kernel's own throttle (the blkio controller of cgroup version 1) lets one byte a second through: whoever reads waits
in the kernel, cannot be interrupted, and gets what it asked for once the throttle is taken off.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.faults.loop_disk import LoopDisk

from pathlib import Path

CONTROLLER = Path("/sys/fs/cgroup/blkio")
READ_LIMIT = "blkio.throttle.read_bps_device"


def is_possible() -> bool:
    """Whether there is such a controller."""
    return (CONTROLLER / READ_LIMIT).exists()


@contextlib.contextmanager
def stuck(disk: LoopDisk, pid: int) -> Iterator[None]:
    """Reads of that process from the disk hang inside of the `with`."""
    device = disk.path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    group = CONTROLLER / f"fastlog-test-{os.getpid()}-{pid}"
    group.mkdir()
    try:
        (group / READ_LIMIT).write_text(f"{number} 1")
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        (group / READ_LIMIT).write_text(f"{number} 0")
        (CONTROLLER / "cgroup.procs").write_text(str(pid))
        group.rmdir()


def forget(folder: Path) -> None:
    """Has the page cache forget the files of a folder."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
