"""The two systems behind one face: three brokers, topics with chosen replicas, processor time of every process."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import cimpl
from confluent_kafka.admin import AdminClient

from benchmarks.cluster.kafka import KafkaNodes
from fastlog.bench.harness.processes import cpu_seconds
from fastlog.testing import Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

SYSTEMS = ("fastlog", "kafka")
SETTINGS = {"min.insync.replicas": "2"}
WAIT_SECONDS = 120.0
ASK_SECONDS = 5.0
LOOK_SECONDS = 0.02


class System:
    """A cluster that was made but not started. `close` takes it away with its files."""

    def __init__(self, name: str, directory: Path | None = None) -> None:
        self.name = name
        self._folder = Path(tempfile.mkdtemp(prefix=f"cluster-{name}-", dir=directory))
        self._cluster: Any = (
            Cluster(3, folder=self._folder, settings=SETTINGS)
            if name == "fastlog"
            else KafkaNodes(self._folder, SETTINGS)
        )
        self._admin: AdminClient | None = None
        self._topics = 0

    def start(self) -> float:
        """Starts all; the seconds until each broker that is asked names all three."""
        began = time.perf_counter()
        if self.name == "fastlog":
            self._cluster.start()
        else:
            for node in self.brokers.values():
                node.start()
        for node in self.brokers.values():
            wait_until(lambda node=node: self._knows_all(node.bootstrap))  # type: ignore[misc]
        return time.perf_counter() - began

    def _knows_all(self, bootstrap: str) -> bool:
        told = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0}).list_topics(timeout=1.0)
        return len(told.brokers) == len(self.brokers)

    @property
    def brokers(self) -> dict[int, Any]:
        """By id."""
        brokers: dict[int, Any] = self._cluster.brokers
        return brokers

    @property
    def bootstrap(self) -> str:
        """HOST:PORT of all."""
        return ",".join(each.bootstrap for each in self.brokers.values())

    def controller_id(self) -> int:
        """The broker that controls."""
        if self.name == "fastlog":
            return int(self._cluster.controller().broker_id)
        return int(self._cluster.controller_id())

    def pids(self) -> list[int]:
        """Every process of the system: brokers, and ZooKeeper where there is one."""
        found = [each.pid for each in self.brokers.values()]
        if self.name == "fastlog":
            found += [each.process.pid for each in self._cluster.zookeeper.servers]
        return found

    def cpu_seconds(self) -> float:
        """Processor time of all of them up to now."""
        return sum(map(cpu_seconds, self.pids()))

    def admin(self) -> AdminClient:
        """A client of all brokers; the same one each time, since what it was asked ends with it."""
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        return self._admin

    def create(self, replicas: Sequence[int]) -> str:
        """A topic of one partition with these replicas, the first of which is to lead; when all are in sync."""
        return self._create(1, len(replicas), [list(replicas)])

    def create_many(self, partitions: int, replication_factor: int) -> str:
        """A topic whose replicas the system places; returns when all are in sync."""
        return self._create(partitions, replication_factor, None)

    def _create(self, partitions: int, replication_factor: int, assignment: list[list[int]] | None) -> str:
        self._topics += 1
        name = f"bench-{self._topics}"
        # one or the other
        counts = (
            {"replica_assignment": assignment} if assignment else {"replication_factor": replication_factor}
        )
        topic: Any = cimpl.NewTopic(name, partitions, **counts)
        asked = self.admin().create_topics(
            [topic], operation_timeout=WAIT_SECONDS, request_timeout=WAIT_SECONDS
        )
        asked[name].result()
        self.wait_in_sync(name, replication_factor)
        return name

    def delete(self, topic: str) -> None:
        """Removes a topic."""
        self.admin().delete_topics([topic], request_timeout=WAIT_SECONDS)[topic].result()

    def partitions(self, topic: str) -> dict[int, Any]:
        """A topic's partitions with leader and ISR, as some broker tells."""
        told = self.admin().list_topics(topic, timeout=ASK_SECONDS)
        partitions: dict[int, Any] = told.topics[topic].partitions
        return partitions

    def wait_in_sync(self, topic: str, count: int) -> None:
        """Returns when every partition has a leader and `count` replicas in sync."""

        def is_so() -> bool:
            told = self.partitions(topic).values()
            return bool(told) and all(it.leader > 0 and len(it.isrs) == count for it in told)

        wait_until(is_so)

    def close(self) -> None:
        """Kills everything and removes the files."""
        with contextlib.suppress(Exception):
            self._cluster.close()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def running(name: str, directory: Path | None = None) -> Iterator[System]:
    """A started system."""
    system = System(name, directory)
    try:
        system.start()
        yield system
    finally:
        system.close()


def wait_until(is_so: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    """Looks again and again; a client's error counts as no. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if is_so():
                return
        time.sleep(LOOK_SECONDS)
    raise TimeoutError(f"not within {seconds:.0f} s")
