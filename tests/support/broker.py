"""A fastlog broker as a user runs it: a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue

from fastlog.testing.ports import free_ports

READY_SECONDS = 30.0
STOP_SECONDS = 30.0
PROGRAM = Path(sys.executable).parent / "fastlog"
#: of all brokers of tests, and of the Kafka beside them: a new group waits for nobody, by default for 3 s, and who is
#: silent may count as gone before 6 s are over
SETTINGS = {"group.initial.rebalance.delay.ms": "0", "group.min.session.timeout.ms": "1000"}


class BrokerProcess:
    """`fastlog serve` on one data directory; it can be started again after it was stopped or killed."""

    def __init__(
        self, data_dir: Path, *, settings: dict[str, str] | None = None, arguments: tuple[str, ...] = ()
    ) -> None:
        self.data_dir = data_dir
        self.log_file = data_dir.parent / f"{data_dir.name}.stderr"
        self.settings = SETTINGS | (settings or {})
        self.arguments = arguments
        #: beside that of the tests
        self.environment: dict[str, str] = {}
        self.tcp_port = 0
        self.zmq_port = 0
        self.process: subprocess.Popen[str] | None = None
        self.ready_line = ""
        self._lines: Queue[str] = Queue()

    @property
    def bootstrap(self) -> str:
        """The Kafka listener's HOST:PORT."""
        return f"127.0.0.1:{self.tcp_port}"

    @property
    def zmq_endpoint(self) -> str:
        """The ZeroMQ listener's address in ZeroMQ's own form."""
        return f"tcp://127.0.0.1:{self.zmq_port}"

    @property
    def pid(self) -> int:
        """The process id of the running broker."""
        assert self.process is not None
        return self.process.pid

    def command(self) -> list[str]:
        """The command line; a broker that is started again takes the same ports."""
        words = [str(PROGRAM), "serve", "--data-dir", str(self.data_dir)]
        words += [
            "--listen",
            f"PLAINTEXT://127.0.0.1:{self.tcp_port}",
            "--listen",
            f"ZMQ://127.0.0.1:{self.zmq_port}",
        ]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        return [*words, *self.arguments]

    def start(self) -> BrokerProcess:
        """Starts the broker and returns when it said that it is ready."""
        if not self.tcp_port:
            self.tcp_port, self.zmq_port = free_ports(2)
        with self.log_file.open("a") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | self.environment,
            )
        self._lines = Queue()
        threading.Thread(target=self._read, args=(self.process, self._lines), daemon=True).start()
        try:
            self.ready_line = self._lines.get(timeout=READY_SECONDS)
        except Empty:
            self.kill()
            raise AssertionError(
                f"no ready line within {READY_SECONDS} s; standard error:\n{self.log()}"
            ) from None
        ports = dict(re.findall(r"(\w+)://[^ ]*:(\d+)", self.ready_line))
        if not self.ready_line.startswith("ready ") or not {"PLAINTEXT", "ZMQ"} <= ports.keys():
            self.kill()
            raise AssertionError(f"not a ready line: {self.ready_line!r}; standard error:\n{self.log()}")
        self.tcp_port, self.zmq_port = int(ports["PLAINTEXT"]), int(ports["ZMQ"])
        return self

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: Queue[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put("")

    def more_output(self) -> list[str]:
        """Lines on standard output after the ready line; there should never be any."""
        return [line for line in list(self._lines.queue) if line]

    def log(self) -> str:
        """The end of standard error."""
        return self.log_file.read_text(errors="replace")[-100_000:] if self.log_file.exists() else ""

    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"no end within {STOP_SECONDS} s of SIGTERM; standard error:\n{self.log()}"
            ) from None

    def kill(self) -> None:
        """SIGKILL: no farewell."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Not one thread of it runs inside of the `with`, and each has ended the system call that it was in."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        # told when the last thread stands
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def rss_bytes(self) -> int:
        """Resident memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def wait_until(what: str, condition: object, *, seconds: float = 10.0) -> None:
    """Polls the callable `condition` until it is true; `what` names it when it never is."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
