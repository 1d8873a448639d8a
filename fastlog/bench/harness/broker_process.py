"""A broker of a bench's own: `fastlog serve` in a process, on a directory that goes with it."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from fastlog.bench.harness import processes
from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

READY_SECONDS = 120.0
STOP_SECONDS = 30.0
LOG_TAIL_BYTES = 2000
#: what a topic leaves goes at once, so that one round's files are not the next one's disk cache
SETTINGS = {"log.segment.delete.delay.ms": "0"}


class BrokerProcess:
    """`fastlog serve` on a fresh directory below `parent`, on loopback ports that the system picks.

    A context manager: at its end the process and the directory are gone, whatever happened.
    """

    def __init__(self, parent: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self.directory = Path(tempfile.mkdtemp(prefix="fastlog-bench-", dir=parent))
        self._process: subprocess.Popen[str] | None = None
        self._ports = {"PLAINTEXT": 0, "ZMQ": 0}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for Kafka clients and fastlog's own."""
        return f"127.0.0.1:{self._ports['PLAINTEXT']}"

    @property
    def data_dir(self) -> Path:
        """Its data directory."""
        return self.directory / "data"

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id; raises FastlogError where it does not run."""
        if self._process is None or not self.is_running:
            raise FastlogError(
                f"the bench's own broker has ended by itself; its log ends with: {self._log_tail()}"
            )
        return self._process.pid

    def start(self) -> float:
        """Starts it, again if it ran before; the seconds from exec to its ready line. Raises FastlogError."""
        began = time.perf_counter()
        with (self.directory / "broker.log").open("a") as log:
            # a session of its own: Ctrl-C is for the bench, which ends its broker in its own time
            self._process = subprocess.Popen(  # noqa: S603
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                env=environment(),
            )
        line = self._ready_line(self._process)
        seconds = time.perf_counter() - began
        self._ports.update((scheme, int(port)) for scheme, port in re.findall(r"(\w+)://\S*:(\d+)", line))
        return seconds

    def stop(self) -> None:
        """Ends it cleanly."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Ends it at once, as `kill -9` does; again is harmless."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdout is not None:
                self._process.stdout.close()

    def cpu_seconds(self) -> float:
        """Processor time up to now."""
        return processes.cpu_seconds(self.pid)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return processes.rss_bytes(self.pid)

    def descriptor_count(self) -> int:
        """Open descriptors now."""
        return processes.descriptor_count(self.pid)

    def _command(self) -> list[str]:
        words = [sys.executable, "-m", "fastlog.cli", "serve", "--data-dir", str(self.data_dir)]
        for scheme, port in self._ports.items():
            words += ["--listen", f"{scheme}://127.0.0.1:{port}"]
        for key, value in self._settings.items():
            words += ["--set", f"{key}={value}"]
        return words

    def _ready_line(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        readable, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
        line = process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            # its output is closed where it has ended, a moment before its status is there
            has_ended = bool(readable) and not line
            status = process.wait(STOP_SECONDS) if has_ended else None
            self.kill()
            why = (
                f"it ended with status {status}"
                if has_ended
                else f"it was not ready within {READY_SECONDS:.0f} s"
            )
            raise FastlogError(
                f"starting a broker for the bench on {self.data_dir}: {why}; its log ends with: {self._log_tail()}"
            )
        return line

    def _log_tail(self) -> str:
        path = self.directory / "broker.log"
        return path.read_text(errors="replace")[-LOG_TAIL_BYTES:].strip() if path.exists() else "nothing"


def environment() -> dict[str, str]:
    """Ours, but compiled Python code is kept: an installed package has it, and without a start compiles all of it."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
