"""A real ZooKeeper for tests, and what connects to it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue

import pytest

from fastlog.cluster.zookeeper.cluster import join_cluster
from fastlog.cluster.zookeeper.connection import ZooKeeperConnection
from fastlog.cluster.zookeeper.events import ClusterEvent
from fastlog.testing.zookeeper import ZooKeeper

SESSION_MS = 2000
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
EVENT_SECONDS = 20.0

Connect = Callable[..., "Connected"]
numbers = itertools.count()


class Connected:
    """A connection and what it told, as a broker would have them."""

    def __init__(self, hosts: str, root: str, *, session_ms: int, patience_ms: int | None) -> None:
        self.events: SimpleQueue[ClusterEvent] = SimpleQueue()
        self.connection = ZooKeeperConnection(
            hosts, root, session_ms=session_ms, tell=self.events.put, patience_ms=patience_ms
        )
        self.connection.start()

    def wait_for(self, kind: type[ClusterEvent] | ClusterEvent) -> ClusterEvent:
        """The next event of a kind, or that is equal; those before it are dropped."""
        while True:
            try:
                event = self.events.get(timeout=EVENT_SECONDS)
            except Empty:
                raise AssertionError(f"{kind} was not told within {EVENT_SECONDS} s") from None
            if isinstance(event, kind) if isinstance(kind, type) else event == kind:
                return event

    def close(self) -> None:
        self.connection.close()


@pytest.fixture(scope="session")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    """One server for all tests that leave it alone."""
    with ZooKeeper(tmp_path_factory.mktemp("zookeeper")) as shared:
        yield shared


@pytest.fixture
def root() -> str:
    """A cluster's path that no other test uses."""
    return f"/tests/{next(numbers)}"


@pytest.fixture
def connect(zookeeper: ZooKeeper, root: str) -> Iterator[Connect]:
    """Opens connections to the test's cluster, which is there; they are closed at its end."""
    made: list[Connected] = []

    def connect(
        hosts: str = "", *, session_ms: int = SESSION_MS, patience_ms: int | None = None, join: bool = True
    ) -> Connected:
        hosts = hosts or zookeeper.hosts
        made.append(Connected(hosts, root, session_ms=session_ms, patience_ms=patience_ms))
        if join:
            join_cluster(made[-1].connection, None, CLUSTER_ID)
        return made[-1]

    yield connect
    for each in made:
        each.close()
