"""What an idle topic of one partition takes of a broker's heap, counted exactly: run as a program of its own.

Python's objects come from malloc here (PYTHONMALLOC), as the engine's do, and glibc tells what is in use. What it keeps
free, which a resident set has too, is not in it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from pathlib import Path

#: topics before the count begins, so that what all share is there
FIRST = 64
PER_CALL = 500
SETTLE_SECONDS = 0.5
TIMEOUT_SECONDS = 900


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def bytes_per_topic(topics: int, directory: Path | None) -> float:
    """The bytes of the heap that each of so many topics takes, in a broker in a process of its own; blocks."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", __name__, str(topics), str(directory or "")],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise FastlogError(f"counting the heap of {topics} topics failed: {done.stderr.strip()[-500:]}")
    return float(json.loads(done.stdout))


def _used() -> int:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo2
    gc.collect()
    found = libc.mallinfo2()
    return int(found.uordblks + found.hblkhd)


def _count(topics: int, directory: str) -> float:
    from fastlog import Broker
    from fastlog.client.connection import Connection
    from fastlog.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest

    with (
        tempfile.TemporaryDirectory(prefix="fastlog-bench-", dir=directory or None) as data,
        Broker(data) as broker,
    ):
        host, _, port = broker.bootstrap.rpartition(":")

        def make(start: int, end: int) -> int:
            with Connection(host, int(port), client_id="fastlog-bench") as connection:
                for first in range(start, end, PER_CALL):
                    wanted = [
                        CreatableTopic(name=f"bench-{number}", num_partitions=1, replication_factor=1)
                        for number in range(first, min(end, first + PER_CALL))
                    ]
                    request = CreateTopicsRequest(topics=wanted, timeout_ms=30_000)
                    answer = connection.request(request, version=5)
                    if any(topic.error_code for topic in answer.topics):
                        raise FastlogError(f"a topic was not made: {answer.topics}")
            del request, answer, wanted
            # the coordinator of groups is told on a thread of its own
            time.sleep(SETTLE_SECONDS)
            return _used()

        return (-make(0, FIRST) + make(FIRST, FIRST + topics)) / topics


if __name__ == "__main__":
    print(json.dumps(_count(int(sys.argv[1]), sys.argv[2])))
