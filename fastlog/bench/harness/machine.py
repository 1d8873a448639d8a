"""What stands beside every figure: the machine, the versions, the file system."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

BLOCK = bytes(1 << 20)


def describe(directory: Path | None) -> dict[str, object]:
    """The settings that no option gives; `directory` is where the files of the bench lie."""
    place = Path(tempfile.gettempdir()) if directory is None else directory
    return {
        "directory": str(place),
        "file_system": file_system(place),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fastlog": version("fastlog"),
    }


def touch_memory(directory: Path, size_bytes: int) -> None:
    """Writes a file of about `size_bytes` into the page cache and removes it, so that as much memory is free and known.

    A guest that gives free memory back to its host (free page reporting, after two seconds) has to get it again page
    by page: 256 MiB then cost 0.5 s of processor time to write instead of 0.11 s. Called before each of two runs it
    lets both begin alike.
    """
    path = directory / "touched"
    with path.open("wb", buffering=0) as file:
        for _ in range(-(-size_bytes // len(BLOCK))):
            file.write(BLOCK)
    path.unlink()


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name; the architecture where the kernel does not tell."""
    try:
        rows = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.machine()


def file_system(directory: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of the file system that `directory` is on, such as ext4 or tmpfs; "unknown" where it is not told."""
    whole = directory.resolve()
    best = (-1, "unknown")
    try:
        rows = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:
        return best[1]
    for row in rows:
        mount = Path(row[1].replace("\\040", " "))
        # a later mount hides an earlier one at the same place
        if (whole == mount or mount in whole.parents) and len(mount.parts) >= best[0]:
            best = (len(mount.parts), row[2])
    return best[1]
