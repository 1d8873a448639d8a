"""What the disk itself gives: files read past the page cache by as many threads as there are readers."""

from __future__ import annotations

import mmap
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

BLOCK_BYTES = 1 << 20


def read_rate(path: Path, threads: int, seconds: float) -> float:
    """Bytes a second of O_DIRECT reads of 1 MiB, each thread in a part of its own, round and round. Blocks."""
    blocks = path.stat().st_size // BLOCK_BYTES
    read = [0] * threads
    deadline = time.perf_counter() + seconds

    def run(number: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        # O_DIRECT wants aligned memory
        with mmap.mmap(-1, BLOCK_BYTES) as block:
            at = number * blocks // threads
            while time.perf_counter() < deadline:
                read[number] += os.preadv(descriptor, [block], at * BLOCK_BYTES)
                at = (at + 1) % blocks
        os.close(descriptor)

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(read) / (time.perf_counter() - began)


def write(path: Path, size_bytes: int) -> None:
    """A file on the disk, not only in memory."""
    block = os.urandom(BLOCK_BYTES)
    with path.open("wb", buffering=0) as file:
        for _ in range(size_bytes // BLOCK_BYTES):
            file.write(block)
        os.fsync(file.fileno())
