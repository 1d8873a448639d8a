"""A real Kafka for the tests that compare with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.kafka.server import KafkaServer
from tests.support.broker import BrokerProcess
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
