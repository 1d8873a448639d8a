"""One cluster of three brokers for all tests that leave its brokers alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient

from fastlog.testing import Cluster
from tests.support.raw import RawTcp

RACKS = ("a", "b", "c")
numbers = itertools.count()

Ask = Callable[..., RawTcp]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # groups and topics of tests come and go: their files need not stay
    settings = {"group.initial.rebalance.delay.ms": "0", "log.segment.delete.delay.ms": "0"}
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(3, folder=folder, settings=settings, racks=RACKS) as started:
        yield started


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    return f"topic-{next(numbers)}"


@pytest.fixture
def confluent_admin(cluster: Cluster) -> AdminClient:
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


@pytest.fixture
def raw(cluster: Cluster) -> Iterator[Ask]:
    """Opens a connection to one broker."""
    opened: list[RawTcp] = []

    def connect(broker_id: int) -> RawTcp:
        opened.append(RawTcp("127.0.0.1", cluster[broker_id].ports["PLAINTEXT"]))
        return opened[-1]

    yield connect
    for each in opened:
        each.socket.close()
