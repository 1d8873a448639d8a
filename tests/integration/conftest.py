"""A real Kafka for the tests that compare with it, and clusters of broker doubles for those of the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
from tests.support.fake_broker import FakeBroker, FakeCluster, Fault, MakeCluster
from tests.support.pair import Pair


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One Apache Kafka broker; the first use takes some seconds."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def pair(kafka: KafkaServer, broker: BrokerProcess) -> Iterator[Pair]:
    """A real Kafka and our broker, both with their defaults, to be asked the same."""
    both = Pair(int(kafka.bootstrap.rsplit(":", 1)[1]), broker.tcp_port)
    yield both
    both.close()


@pytest.fixture
def make_cluster() -> Iterator[MakeCluster]:
    """Makes clusters with the topic `t`; they are gone at the end of the test."""
    made: list[FakeCluster] = []

    def make(
        *,
        brokers: int = 1,
        partitions: int = 1,
        zmq: bool = False,
        fault: Callable[[int], Fault] | None = None,
    ) -> FakeCluster:
        cluster = FakeCluster({"t": partitions})
        made.append(cluster)
        for _ in range(brokers):
            FakeBroker(cluster, zmq_listener=zmq, fault=fault)
        return cluster

    yield make
    for cluster in made:
        for broker in cluster.brokers:
            broker.stop()
