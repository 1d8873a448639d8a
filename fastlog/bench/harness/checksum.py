"""The limit of what must look at each byte of a log: its checksum, from the page cache."""

from __future__ import annotations

import mmap
import time
from typing import TYPE_CHECKING

from fastlog.native._engine import crc32c

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "CRC of the same bytes, mapped from the page cache"
CHUNK_BYTES = 1 << 20


def crc_seconds(path: Path) -> float:
    """The seconds that the checksums of a file take, by chunks; blocks. Raises OSError, ValueError if it is empty."""
    start = time.perf_counter()
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        for position in range(0, len(view), CHUNK_BYTES):
            with view[position : position + CHUNK_BYTES] as chunk:
                crc32c(chunk)
    return time.perf_counter() - start
