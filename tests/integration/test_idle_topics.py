"""What a thousand topics that nobody uses take of a broker: counts, which a loaded machine does not change. What takes
time is measured by `fastlog bench topics`.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import NewTopic

from fastlog import Producer
from fastlog.bench.harness import heap
from fastlog.bench.harness.processes import descriptor_count
from tests.fault.conftest import require
from tests.integration.test_topics import SECONDS, admin_of
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.injection import ATTACH_SECONDS, wait_until_traced

COUNT = 1_000
NAMES = [f"idle-{number}" for number in range(COUNT)]
#: looked at all the time, so that there is much to see where it costs something
SETTINGS = {"log.retention.check.interval.ms": "200", "log.cleaner.backoff.ms": "200"}
#: the directory; .log, .index, .timeindex and .snapshot; partition.metadata, leader epochs, what is tiered
OPENED_AT_START = 8
#: the three indexes
OPENED_AT_STOP = 3
#: of the broker itself, whatever it has: modules of Python above all
OPENED_BESIDES = 3_000
#: 3.9 KB with so many, 3.7 with 10,000, which are to take less than 4 KiB; another Python's objects are not as large
HEAP_TOPICS, HEAP_BYTES = 1_000, 4_500
ROUNDS = 3


class TracedBroker(BrokerProcess):
    """What it opens is noted; strace is a grandchild, so that signals reach the broker."""

    def command(self) -> list[str]:
        calls = ["-e", "trace=open,openat,creat", "-e", "signal=none"]
        return [
            "strace",
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qq",
            *calls,
            "-o",
            str(self.trace),
            *super().command(),
        ]

    @property
    def trace(self) -> Path:
        return self.data_dir.with_suffix(".trace")

    def opened(self) -> list[str]:
        """The calls so far."""
        return [
            line
            for line in self.trace.read_text(errors="replace").splitlines()
            if "open" in line and "resumed>" not in line
        ]


@dataclass
class Many:
    """A broker with the topics, and what it opened in an earlier run."""

    broker: BrokerProcess
    at_start: list[str]
    at_stop: list[str]


def made_and_stopped(broker: BrokerProcess) -> None:
    """Topics with a record each, every other one compacted."""
    admin = admin_of(broker.start())
    configs = [{"cleanup.policy": "compact"}, {}]
    topics = [NewTopic(name, 1, 1, config=configs[number % 2]) for number, name in enumerate(NAMES)]
    for future in admin.create_topics(topics, request_timeout=60).values():
        future.result(60)
    del admin
    with Producer(broker.bootstrap) as producer:
        for name in NAMES:
            producer.send(name, b"value", key=b"key")
        producer.flush()
    assert broker.stop() == 0, broker.log()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    require(shutil.which("strace") is not None, "strace is missing (apt-get install strace)")
    directory = tmp_path_factory.mktemp("many") / "data"
    broker = BrokerProcess(directory, settings=SETTINGS)
    traced = TracedBroker(directory, settings=SETTINGS)
    try:
        made_and_stopped(broker)
        at_start = traced.start().opened()
        assert traced.stop() == 0, traced.log()
        yield Many(broker.start(), at_start, traced.opened()[len(at_start) :])
        assert broker.stop() == 0, broker.log()
    finally:
        traced.kill()
        broker.kill()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path_factory.mktemp("empty") / "data", settings=SETTINGS).start()
    yield broker
    broker.kill()


@contextmanager
def calls_of(broker: BrokerProcess, notes: Path) -> Iterator[Callable[[], list[str]]]:
    """Notes every system call meanwhile; what it gives tells them once it is over."""
    command = ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(notes), "-p", str(broker.pid)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_traced(broker.pid, process)
        yield lambda: notes.read_text(errors="replace").splitlines()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=ATTACH_SECONDS)


def test_a_start_after_a_clean_stop_opens_few_files_of_each_topic(many: Many) -> None:
    of_topics = [line for line in many.at_start if "/data/idle-" in line]
    assert sum("/partition.metadata" in line for line in of_topics) == COUNT
    assert len(of_topics) <= OPENED_AT_START * COUNT
    assert len(many.at_start) - len(of_topics) < OPENED_BESIDES


def test_a_clean_stop_opens_few_files_of_each_topic(many: Many) -> None:
    of_topics = [line for line in many.at_stop if "/data/idle-" in line]
    assert len(of_topics) <= OPENED_AT_STOP * COUNT
    assert len(many.at_stop) - len(of_topics) < COUNT


def test_idle_topics_hold_no_descriptors_maps_or_threads(many: Many, empty: BrokerProcess) -> None:
    def maps(broker: BrokerProcess) -> int:
        return len(Path(f"/proc/{broker.pid}/maps").read_text().splitlines())

    def threads(broker: BrokerProcess) -> int:
        return len(list(Path(f"/proc/{broker.pid}/task").iterdir()))

    held = [str(entry.readlink()) for entry in Path(f"/proc/{many.broker.pid}/fd").iterdir()]
    assert [path for path in held if "/idle-" in path] == []
    assert descriptor_count(many.broker.pid) <= descriptor_count(empty.pid) + 8
    # the heap grows by some
    assert maps(many.broker) < maps(empty) + COUNT // 10
    assert threads(many.broker) <= threads(empty) + 2


def test_retention_and_cleaning_make_no_calls_for_idle_topics(many: Many, tmp_path: Path) -> None:
    with calls_of(many.broker, tmp_path / "calls") as calls, Producer(many.broker.bootstrap) as producer:
        for number in range(ROUNDS):
            # once its record of 1970 is gone, all topics were looked at
            old = create_topic(many.broker.bootstrap, f"old-{number}")
            first = many.broker.data_dir / f"{old}-0" / f"{0:020}.log"
            producer.send(old, b"value", timestamp_ms=1).result(SECONDS)
            wait_until("it is deleted", lambda first=first: not first.exists(), seconds=SECONDS)
    assert [line for line in calls() if "/idle-" in line] == []
    assert len(calls()) < ROUNDS * COUNT


def test_an_idle_topic_takes_a_few_kilobytes_of_heap() -> None:
    # where the names of directories are short: some are kept
    assert heap.bytes_per_topic(HEAP_TOPICS, None) < HEAP_BYTES
