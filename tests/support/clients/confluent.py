"""confluent-kafka (librdkafka)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, Producer, TopicPartition

from tests.support.clients import CONSUME_SECONDS
from tests.support.samples import Sample


def produce(
    bootstrap: str,
    topic: str,
    samples: Sequence[Sample],
    compression: str,
    *,
    idempotent: bool = True,
    partition: int = 0,
) -> None:
    """Sends all and returns when all are acknowledged."""
    failures: list[object] = []
    config = {
        "bootstrap.servers": bootstrap,
        "compression.type": compression,
        "enable.idempotence": idempotent,
    }
    producer = Producer({**config, "linger.ms": 20, "message.max.bytes": 1_000_000})

    def delivered(error: object, _message: object) -> None:
        if error is not None:
            failures.append(error)

    for sample in samples:
        extra = {} if sample.timestamp_ms is None else {"timestamp": sample.timestamp_ms}
        headers = list(sample.headers)
        producer.produce(
            topic, sample.value, sample.key, partition, on_delivery=delivered, headers=headers, **extra
        )
    left = producer.flush(CONSUME_SECONDS)
    assert not failures, failures[:3]
    assert left == 0, f"{left} records not delivered"


def consume(bootstrap: str, topic: str, count: int, *, offset: int = 0, partition: int = 0) -> list[Sample]:
    """The first `count` records from `offset` on."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, offset)])
    found: list[Sample] = []
    deadline = time.monotonic() + CONSUME_SECONDS
    try:
        while len(found) < count and time.monotonic() < deadline:
            for message in consumer.consume(min(500, count - len(found)), 1.0):
                assert message.error() is None, message.error()
                headers = tuple(message.headers() or ())
                found.append(Sample(message.key(), message.value(), headers, message.timestamp()[1]))
    finally:
        consumer.close()
    return found
