"""A broker of a cluster: `fastlog serve` in a process of its own, to be killed, stopped, paused and started again."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from fastlog.testing.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

READY_SECONDS = 60.0
STOP_SECONDS = 60.0
END_SECONDS = 2.0
LOG_TAIL_BYTES = 4_000
SCHEMES = ("PLAINTEXT", "ZMQ", "BROKER", "METADATA")


class ClusterBroker:
    """One broker; it keeps the ports of its first start."""

    def __init__(
        self,
        broker_id: int,
        folder: Path,
        *,
        zookeeper: str,
        ports: Mapping[str, int] | None = None,
        settings: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """`folder` gets its data and its log; `ports` by scheme, of which the others are free ones.

        `prefix` goes before the command, `ip netns exec NAME` say; it listens on `host`.
        """
        self.host = host
        self.prefix = tuple(prefix)
        self.broker_id = broker_id
        self.data_dir = folder / f"broker-{broker_id}"
        self.other_directories: tuple[Path, ...] = ()
        """Data directories beside that one, for the next start."""
        self.log_file = folder / f"broker-{broker_id}.log"
        self.settings = dict(settings or {})
        """What it is started with next time, by Kafka's keys."""
        self.ports = dict.fromkeys(SCHEMES, 0) | dict(ports or {})
        self.process: subprocess.Popen[bytes] | None = None
        self._zookeeper = zookeeper
        self._log_begins = 0
        self._is_paused = False

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for Kafka clients and fastlog's own."""
        return f"{self.host}:{self.ports['PLAINTEXT']}"

    @property
    def zmq_endpoint(self) -> str:
        """The ZeroMQ listener's address as ZeroMQ writes it."""
        return f"tcp://{self.host}:{self.ports['ZMQ']}"

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended; a paused one runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id."""
        if self.process is None:
            raise RuntimeError(f"broker {self.broker_id} does not run")
        return self.process.pid

    def command(self) -> list[str]:
        """What starts it, on the ports that it has."""
        command = [
            *self.prefix,
            sys.executable,
            "-m",
            "fastlog.cli",
            "serve",
            "--node-id",
            str(self.broker_id),
        ]
        for directory in (self.data_dir, *self.other_directories):
            command += ["--data-dir", str(directory)]
        command += ["--zookeeper", self._zookeeper]
        for scheme, port in self.ports.items():
            command += ["--listen", f"{scheme}://{self.host}:{port}"]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    def start(self) -> None:
        """Starts the process; returns at once, see `wait`."""
        wanted = [scheme for scheme, port in self.ports.items() if not port]
        self.ports |= zip(wanted, free_ports(len(wanted)), strict=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._log_begins = log.tell()
            # a session of its own: Ctrl-C is for whoever started the cluster, and ends it in order
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = READY_SECONDS) -> None:
        """Returns when the broker says that it is ready; raises RuntimeError with the end of its log."""
        line = self._line(seconds)
        if not line.startswith("ready "):
            state = (
                self.ending() if self._has_ended() else f"did not say within {seconds:.0f} s that it is ready"
            )
            raise RuntimeError(f"broker {self.broker_id} {state}; the end of {self.log_file}:\n{self.log()}")
        self.ports |= {scheme: int(port) for scheme, port in re.findall(r"(\w+)://\S*:(\d+)", line)}

    def _has_ended(self) -> bool:
        """Whether the process is gone; one whose output ended is given a moment."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS)
        return not self.is_running

    def _line(self, seconds: float) -> str:
        if self.process is None or self.process.stdout is None:
            return ""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.process.stdout], [], [], left)[0]:
                return self.process.stdout.readline().decode()
        return ""

    def restart(self) -> None:
        """Starts it where it was stopped or killed, and returns when it is ready."""
        self.start()
        self.wait()

    def stop(self) -> None:
        """Ends it as an operator would: it gives away what it leads first. Harmless where it does not run."""
        self.resume()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it without a farewell; harmless where it does not run."""
        self._end(signal.SIGKILL)

    def begin_stop(self) -> None:
        """Has it end as `stop` does, and does not wait."""
        self.resume()
        if self.is_running:
            self.send(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers when this returns. Harmless where it does not run."""
        if self.is_running:
            self.send(signal.SIGSTOP)
            # the signal is sent, but a thread of it may run for a moment still; an end is left for who waits for that
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            self._is_paused = True

    def resume(self) -> None:
        """SIGCONT; harmless where it was not paused."""
        if self._is_paused and self.is_running:
            self.send(signal.SIGCONT)
        self._is_paused = False

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        if self.process is not None:
            self.process.send_signal(number)

    def log(self) -> str:
        """The end of what it said on standard error since its last start."""
        if not self.log_file.exists():
            return ""
        said = self.log_file.read_bytes()[self._log_begins :]
        return said[-LOG_TAIL_BYTES:].decode(errors="replace")

    def ending(self) -> str:
        """How it ended, for a sentence: `ended with status 1`, `was ended by SIGKILL`."""
        status = self.process.poll() if self.process is not None else None
        if status is None:
            return "did not end by itself"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name}"
        return f"ended with status {status}"

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            self._forget()
            raise RuntimeError(
                f"broker {self.broker_id} did not end within {STOP_SECONDS} s and was killed:\n{self.log()}"
            ) from None
        # where the wait is interrupted it still runs, and may be killed
        self._forget()

    def _forget(self) -> None:
        """The process is gone."""
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None
        self._is_paused = False
