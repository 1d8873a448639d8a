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

    def finish_at(self, ends: list[int]) -> None:
        """Tells where each partition ends, now that nothing more is written."""
        self._say(ends)

    def minutes(self, timeout: float = 0.0) -> list[dict[str, Any]]:
        """What it told about minutes since the last call, waiting up to `timeout` seconds; `found` may be set then.

        Raises FastlogError where the process ended without a word.
        """
        minutes = []
        try:
            while self.found is None:
                line = self._lines.get(timeout=timeout) if timeout else self._lines.get_nowait()
                if not line:
                    raise FastlogError(
                        f"the {self.kind} consumer's process ended by itself; see its message above"
                    )
                document = json.loads(line)
                if "minute" in document:
                    minutes.append(document)
                else:
                    self.found = document
        except Empty:
            pass
        return minutes

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
