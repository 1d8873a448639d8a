"""`make cluster` as a user runs it, on ports of the test's own."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog import Consumer, Producer
from fastlog.testing.ports import free_ports, is_taken
from tests.support.broker import wait_until
from tests.support.cli import fastlog

SECONDS = 60.0
HOST = "127.0.0.1"

pytestmark = pytest.mark.timeout(180)


class Run:
    """The command of the Makefile's `cluster`, and what it says."""

    def __init__(self, folder: Path, port: int, zookeeper_port: int, *arguments: str) -> None:
        command = [sys.executable, "-m", "fastlog.testing.run_cluster", "--folder", str(folder)]
        command += ["--port", str(port), "--zookeeper-port", str(zookeeper_port), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        # read on, so that it never waits for us
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        self.said += iter(self.process.stderr.readline, "")

    def ready(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready "), self.said
        return line

    def wait_for(self, pattern: str) -> re.Match[str]:
        """What it says on standard error, once it does."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, "".join(self.said))):
            assert time.monotonic() < deadline, f"{pattern} was not said: {self.said}"
            time.sleep(0.02)
        return found

    def pids(self) -> list[int]:
        """The brokers' processes."""
        return [int(it) for it in re.findall(r"\d is process (\d+)", self.wait_for(r"broker 1 is .*\n")[0])]

    def end(self, number: signal.Signals | None = None) -> int:
        """The exit status, when it has ended; nothing is left then."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(SECONDS)
        self._reading.join(SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture
def ports() -> tuple[int, int]:
    """For broker 1, with its neighbour and ZeroMQ's free too; for ZooKeeper."""
    while True:
        # below those that others are given
        port = random.randrange(20_000, 32_000)
        if not any(is_taken(HOST, port + it) for it in (0, 1, 100, 101)):
            return port, free_ports(1)[0]


@pytest.fixture
def runs(tmp_path: Path, ports: tuple[int, int]) -> Iterator[list[Run]]:
    """What was started, the first in `tmp_path`; whatever is left is ended."""
    made: list[Run] = []
    yield made
    for each in made:
        if each.process.poll() is None:
            each.end(signal.SIGTERM)
    assert not is_taken(HOST, ports[0])
    assert not is_taken(HOST, ports[1])


def test_it_says_ready_once_all_are_in_and_finds_its_records_again(
    tmp_path: Path, ports: tuple[int, int], runs: list[Run]
) -> None:
    for count in (1, 2):
        runs.append(Run(tmp_path, *ports, "--brokers", "2", "--set", "offsets.topic.replication.factor=2"))
        line = runs[-1].ready()
        assert line == (
            f"ready PLAINTEXT://{HOST}:{ports[0]} ZMQ://{HOST}:{ports[0] + 100} "
            f"PLAINTEXT://{HOST}:{ports[0] + 1} ZMQ://{HOST}:{ports[0] + 101} zookeeper={HOST}:{ports[1]}\n"
        )
        bootstrap = f"{HOST}:{ports[0] + 1}"
        assert fastlog("cluster", "status", "--bootstrap", bootstrap).status == 0
        with Producer(bootstrap) as producer:
            producer.send("greetings", b"hello")
        with Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
            consumer.subscribe(["greetings"])
            found = []
            while len(found) < count:
                found += consumer.poll(max_records=10, timeout=SECONDS)
        assert [it.value for it in found] == [b"hello"] * count
        pids = runs[-1].pids()
        assert len(pids) == 2
        assert runs[-1].end(signal.SIGINT) == 0
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert f"data and logs are in {tmp_path}" in runs[-1].said[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_leaves_nothing(
    tmp_path: Path, ports: tuple[int, int], runs: list[Run], number: signal.Signals
) -> None:
    """The signal of a supervisor, and that of a terminal which is closed."""
    runs.append(Run(tmp_path, *ports, "--brokers", "1"))
    runs[-1].ready()
    assert runs[-1].end(number) == 0
    assert (tmp_path / "broker-1/.kafka_cleanshutdown").exists()


def test_kill_9_leaves_nothing_either(tmp_path: Path, ports: tuple[int, int], runs: list[Run]) -> None:
    runs.append(Run(tmp_path, *ports, "--brokers", "1"))
    runs[-1].ready()
    assert runs[-1].end(signal.SIGKILL) == -signal.SIGKILL
    # whose parent is gone may be there for a moment after its end, but serves nobody
    wait_until("nobody listens", lambda: not any(is_taken(HOST, it) for it in ports), seconds=SECONDS)
    assert (tmp_path / "broker-1/.kafka_cleanshutdown").exists()


def test_who_is_impatient_interrupts_it_twice(
    tmp_path: Path, ports: tuple[int, int], runs: list[Run]
) -> None:
    """A broker that hangs is not waited for."""
    runs.append(Run(tmp_path, *ports, "--brokers", "1"))
    runs[-1].ready()
    (pid,) = runs[-1].pids()
    os.kill(pid, signal.SIGSTOP)
    runs[-1].process.send_signal(signal.SIGINT)
    runs[-1].wait_for("Ctrl-C again kills all")
    assert runs[-1].end(signal.SIGINT) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_it_tells_of_a_broker_that_ends_and_how_to_have_it_back(
    tmp_path: Path, ports: tuple[int, int], runs: list[Run]
) -> None:
    runs.append(Run(tmp_path, *ports, "--brokers", "2"))
    runs[-1].ready()
    os.kill(runs[-1].pids()[1], signal.SIGKILL)
    told = runs[-1].wait_for(r"broker 2 was ended by SIGKILL, see (\S+);.*\n +(.+)\n")
    assert told[1] == str(tmp_path / "broker-2.log")
    back = subprocess.Popen(told[2].split(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert back.stdout is not None
        assert back.stdout.readline().startswith("ready ")
        back.terminate()
        assert back.wait(SECONDS) == 0
    finally:
        back.kill()
        back.communicate()


def test_a_second_one_says_which_runs(tmp_path: Path, ports: tuple[int, int], runs: list[Run]) -> None:
    runs.append(Run(tmp_path, *ports, "--brokers", "1"))
    runs[-1].ready()
    runs.append(Run(tmp_path, *ports, "--brokers", "1"))
    assert runs[1].end() == 1
    assert f"a cluster runs in {tmp_path} already, by process {runs[0].process.pid}:" in runs[1].said[-1]
    # another folder, the same ports: above all, the other's ZooKeeper is not taken for its own
    runs.append(Run(tmp_path / "other", *ports, "--brokers", "1"))
    assert runs[2].end() == 1
    assert (
        f"something else listens at {HOST}:{ports[1]} (ZooKeeper), {HOST}:{ports[0]} (broker 1)"
        in (runs[2].said[-1])
    )
    assert not (tmp_path / "other/zookeeper").exists()
    assert fastlog("cluster", "status", "--bootstrap", f"{HOST}:{ports[0]}").status == 0


def test_what_does_not_start_is_told_and_ends_the_rest(
    tmp_path: Path, ports: tuple[int, int], runs: list[Run]
) -> None:
    runs.append(Run(tmp_path, *ports, "--brokers", "1", "--set", "min.insync.replica=2"))
    assert runs[-1].end() == 1
    said = "".join(runs[-1].said)
    assert f"broker 1 ended with status 2; the end of {tmp_path}/broker-1.log:" in said
    assert "min.insync.replicas" in said
    assert "Traceback" not in said


def test_without_java_it_says_what_to_install(tmp_path: Path, ports: tuple[int, int]) -> None:
    environment = {**os.environ, "PATH": ""}
    command = [sys.executable, "-m", "fastlog.testing.run_cluster", "--folder", str(tmp_path)]
    command += ["--port", str(ports[0]), "--zookeeper-port", str(ports[1])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("make cluster: ZooKeeper needs Java: apt-get install")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--brokers", "0"), "--brokers 0: from 1 to 100"),
        (("--set", "min.insync.replicas"), "KEY=VALUE"),
        (("--port", "65500"), "port 65602: from 1 to 65535"),
    ],
)
def test_what_is_written_wrongly(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    command = [
        sys.executable,
        "-m",
        "fastlog.testing.run_cluster",
        "--folder",
        str(tmp_path / "data"),
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert not (tmp_path / "data").exists()
