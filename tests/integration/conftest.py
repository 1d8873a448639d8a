"""A real Kafka for the tests that compare with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.kafka.server import KafkaServer


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """One Apache Kafka broker; the first use takes some seconds."""
    server = KafkaServer(tmp_path_factory.mktemp("kafka"))
    yield server
    server.stop()
