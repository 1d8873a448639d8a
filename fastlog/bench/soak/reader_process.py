"""A reader's process, as the soak sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from types import TracebackType

    from fastlog.bench.soak.reader import Job

READY_SECONDS = 60.0
MODULE = "fastlog.bench.soak.reader"


class ReaderProcess:
    """Runs one job. A context manager: the process is gone at its end."""

    def __init__(self, job: Job) -> None:
        self.kind = job.kind
        #: what it found at its end; None while it reads
        self.found: dict[str, Any] | None = None
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._say(asdict(job))
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def wait_until_ready(self) -> None:
        """Waits until it reads. Raises FastlogError where it does not come to that."""
        try:
            line = self._lines.get(timeout=READY_SECONDS)
        except Empty:
            line = ""
        if not line:
            raise FastlogError(
                f"the {self.kind} consumer's process did not begin to read within {READY_SECONDS:.0f} s, "
                "or ended; see its message above"
            )

    def finish_at(self, ends: list[int]) -> None:
        """Tells where each partition ends, now that nothing more is written."""
        self._say(ends)

    def windows(self, timeout: float = 0.0) -> list[dict[str, Any]]:
        """What it told about windows since the last call, waiting up to `timeout` seconds; `found` may be set then.

        Raises FastlogError where the process ended without a word.
        """
        windows = []
        try:
            while self.found is None:
                line = self._lines.get(timeout=timeout) if timeout else self._lines.get_nowait()
                if not line:
                    raise FastlogError(
                        f"the {self.kind} consumer's process ended by itself; see its message above"
                    )
                document = json.loads(line)
                if "window" in document:
                    windows.append(document)
                else:
                    self.found = document
        except Empty:
            pass
        return windows

    def _say(self, document: object) -> None:
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        try:
            self._process.stdin.write(json.dumps(document) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # the end of its output tells that it is gone
            pass

    def _listen(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")
