"""Who reads: consumers in a process of their own, each on a connection of its own, which throw away what comes.

They stand for other machines: their process has a lower priority than broker and writer, whose time is measured.
What the kernel does for them on this machine, both ends of a connection, still is done on its processors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from benchmarks.cold.backlog import Backlog
from fastlog.bench.fetch import RESPONSE_HEADER_BYTES_MAX
from fastlog.errors import FastlogError
from fastlog.native._engine import discard_frames

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: requests of a connection; then the reader goes on with another one
CONNECTION_FETCHES = 1024
AHEAD = 2
NICE = 10


class Readers:
    """The process, which keeps where each reader is. A context manager; ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.cold.readers"]
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def start(self, backlog: Backlog, count: int, seconds: float, rate: float | None = None) -> None:
        """Begins to read with so many, for so long; with a rate, in bytes a second, they share that."""
        asked = {"backlog": asdict(backlog), "count": count, "seconds": seconds, "rate": rate}
        pipe = self._pipes()[0]
        pipe.write(json.dumps(asked) + "\n")
        pipe.flush()

    def join(self) -> list[int]:
        """Waits for them; the bytes that each had within the time. Raises FastlogError with what one of them met."""
        line = self._pipes()[1].readline()
        if not line:
            raise FastlogError("the benchmark's readers ended; their error stands above")
        return [int(count) for count in json.loads(line)]

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


class _Reader:
    def __init__(self, backlog: Backlog, first: int) -> None:
        self._backlog = backlog
        self._next = first
        self.bytes = 0
        self.error: BaseException | None = None

    def read(self, seconds: float, every: float | None) -> None:
        """For a thread."""
        self.bytes = 0
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._read_some(left, every)
        except BaseException as error:  # told by who waits for the thread
            self.error = error

    def _read_some(self, seconds: float, every: float | None) -> None:
        count = CONNECTION_FETCHES
        if every:
            count = min(count, int(seconds / every) + AHEAD)
        received, times = discard_frames(
            self._backlog.address,
            count,
            requests=self._backlog.frames(self._next, count),
            ahead=AHEAD,
            every=timedelta(seconds=every) if every else None,
            within=timedelta(seconds=seconds),
        )
        wanted = len(times) * self._backlog.fetch_bytes
        if not 0 <= received - wanted <= len(times) * RESPONSE_HEADER_BYTES_MAX:
            place = f"{self._backlog.topic}, from fetch {self._next} on"
            raise FastlogError(f"reading {place}: {received} bytes came instead of {wanted}")
        self.bytes += wanted
        self._next = (self._next + len(times)) % self._backlog.length


def main() -> None:
    """Reads what each line asks for, and answers with the bytes of each reader."""
    os.nice(NICE)
    all_readers: dict[tuple[str, int], list[_Reader]] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        backlog, count = Backlog(**asked["backlog"]), asked["count"]
        readers = all_readers.setdefault(
            (backlog.topic, count),
            [_Reader(backlog, number * backlog.length // count) for number in range(count)],
        )
        every = count * backlog.fetch_bytes / asked["rate"] if asked["rate"] else None
        threads = [threading.Thread(target=it.read, args=(asked["seconds"], every)) for it in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for reader in readers:
            if reader.error is not None:
                raise reader.error
        print(json.dumps([it.bytes for it in readers]), flush=True)


if __name__ == "__main__":
    main()
