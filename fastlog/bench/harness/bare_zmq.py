"""The limit of producing: a bare DEALER here and a bare ROUTER in a process of its own, which writes what it receives.

`python -m fastlog.bench.harness.bare_zmq DIRECTORY` is that process. It answers each message once it is written, and
ends when its standard input does, so it never outlives who started it.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Self

import zmq

from fastlog.bench.harness.open_loop import pace, shortened
from fastlog.errors import FastlogError
from fastlog.native._engine import BareFile

if TYPE_CHECKING:
    from types import TracebackType

#: from here on handing memory over is cheaper than copying it
COPY_BYTES_MAX = 64 * 1024
#: as many bytes are under way as a producer has by default: five requests of a mebibyte
WINDOW_BYTES = 5 << 20
WINDOW_MESSAGES_MIN = 5
#: the size of an answer to a Produce request for one partition
ANSWER = bytes(60)
#: the message that asks for a fresh file
FRESH = b"fresh"
FRESH_SYNCED = b"fresh, synced"
SILENCE_MS = 30_000


class BareDealer:
    """A DEALER and its ROUTER process. A context manager: both are gone at its end."""

    def __init__(self, directory: Path) -> None:
        """Starts the process, which writes below `directory`, and connects. Raises FastlogError."""
        self._context = zmq.Context()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        port = self._process.stdout.readline().strip()
        if not port:
            self.close()
            raise FastlogError(
                "starting the bare ROUTER to compare with: it ended at once, see its message above"
            )
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = SILENCE_MS
        self.socket.connect(f"tcp://127.0.0.1:{port}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends both; again is harmless."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._context.destroy(linger=0)

    def fresh_file(self, *, sync: bool = False) -> None:
        """Has the ROUTER drop what it wrote and begin anew; with `sync` it answers when a message is on the disk."""
        self.socket.send(FRESH_SYNCED if sync else FRESH)
        self.socket.recv()

    def send_times(self, message: bytes, count: int) -> None:
        """Sends `message` `count` times and waits for all answers; a window of them is under way."""
        window = max(WINDOW_MESSAGES_MIN, WINDOW_BYTES // len(message))
        copy = len(message) < COPY_BYTES_MAX
        send, receive = self.socket.send, self.socket.recv
        first = min(window, count)
        for _ in range(first):
            send(message, 0, copy)
        for _ in range(count - first):
            receive()
            send(message, 0, copy)
        for _ in range(first):
            receive()

    def send_paced(self, message: bytes, *, rate: float, count: int) -> list[int]:
        """Sends `message` in an open loop; the nanoseconds from when each was due to its answer."""
        due: deque[int] = deque()
        times: list[int] = []

        def send(_number: int, due_ns: int) -> None:
            due.append(due_ns)
            self.socket.send(message)

        def receive(seconds: float) -> None:
            try:
                while True:
                    self.socket.recv(zmq.NOBLOCK)
                    times.append(time.perf_counter_ns() - due.popleft())
            except zmq.Again:
                select.select([self.socket], [], [], shortened(seconds))

        pace(send, rate=rate, count=count, sleep=receive)
        while due:
            self.socket.recv()
            times.append(time.perf_counter_ns() - due.popleft())
        return times


class BareRouter:
    """The other side: one file, one thread."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "bare"
        self._sync = False
        self._file: BareFile | None = None
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self.port = self._socket.bind_to_random_port("tcp://127.0.0.1")

    def serve(self) -> None:
        """Serves for ever."""
        receive, send = self._socket.recv_multipart, self._socket.send_multipart
        while True:
            identity, message = receive(copy=False)
            data = message.buffer
            if self._file is None or data in (FRESH, FRESH_SYNCED):
                self._begin(sync=data == FRESH_SYNCED)
            else:
                self._file.append(data, sync=self._sync)
            send((identity, ANSWER))

    def _begin(self, *, sync: bool) -> None:
        self._path.unlink(missing_ok=True)
        self._file = BareFile(self._path)
        self._sync = sync


def end_with_standard_input() -> None:
    """Ends the process when the pipe from its starter is closed, be it by the starter's death."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Runs a ROUTER; its port is the only line on standard output."""
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    router = BareRouter(Path(sys.argv[1]))
    print(router.port, flush=True)  # the starter reads it
    router.serve()


if __name__ == "__main__":
    main()
