"""A real Kafka for the tests that compare with it, and clusters of broker doubles for those of the client."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fastlog
from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess, wait_until
from tests.support.compared_tools import Both
from tests.support.fake_broker import FakeBroker, FakeCluster, Fault, MakeCluster
from tests.support.java_tools import JavaTools
from tests.support.pair import Pair

# what the tests of the SDK's groups run against
GROUP_BROKERS = ["kafka", "broker"]


@pytest.fixture(params=GROUP_BROKERS)
def group_bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of each broker that coordinates groups."""
    return str(request.getfixturevalue(request.param).bootstrap)


@pytest.fixture(params=GROUP_BROKERS)
def group_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KafkaServer | BrokerProcess]:
    """A broker of the test's own that coordinates groups, to be stopped, killed and started again."""
    server = KafkaServer(tmp_path) if request.param == "kafka" else BrokerProcess(tmp_path / "data").start()
    yield server
    assert server.process is not None
    server.process.send_signal(signal.SIGCONT)
    server.process.kill()
    server.process.wait()


@pytest.fixture
def group_topic(group_bootstrap: str, topic_name: str) -> str:
    """A topic of six partitions there, and a name that a group may have."""
    with fastlog.Admin(group_bootstrap) as admin:
        admin.create_topic(topic_name, partitions=6)
        wait_until("the topic has leaders", lambda: is_led(admin, topic_name))
    return topic_name


def is_led(admin: fastlog.Admin, topic: str) -> bool:
    """Whether all partitions of a topic can be used."""
    try:
        return all(one.leader >= 0 for one in admin.describe_topic(topic).partitions)
    except fastlog.errors.KafkaError:
        return False


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


@pytest.fixture(scope="module")
def java_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaTools]:
    """One process of Java for all of them."""
    made = JavaTools(tmp_path_factory.mktemp("tools") / "stderr")
    yield made
    made.close()


@pytest.fixture
def both(java_tools: JavaTools, kafka: KafkaServer, broker: BrokerProcess) -> Both:
    return Both(java_tools, kafka, broker)
