"""kafka-python."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.support.clients import CONSUME_SECONDS
from tests.support.samples import Sample


def produce(
    bootstrap: str, topic: str, samples: Sequence[Sample], compression: str, *, idempotent: bool = True
) -> None:
    """Sends all and returns when all are acknowledged."""
    kind = None if compression == "none" else compression
    producer = KafkaProducer(
        bootstrap_servers=bootstrap, compression_type=kind, enable_idempotence=idempotent, linger_ms=20
    )
    try:
        sent = [
            producer.send(
                topic,
                value=sample.value,
                key=sample.key,
                headers=list(sample.headers),
                partition=0,
                timestamp_ms=sample.timestamp_ms,
            )
            for sample in samples
        ]
        for future in sent:
            future.get(CONSUME_SECONDS)
    finally:
        producer.close()


def consume(bootstrap: str, topic: str, count: int, *, offset: int = 0) -> list[Sample]:
    """The first `count` records from `offset` on."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, group_id=None, enable_auto_commit=False)
    found: list[Sample] = []
    deadline = time.monotonic() + CONSUME_SECONDS
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek(partition, offset)
        while len(found) < count and time.monotonic() < deadline:
            polled = consumer.poll(timeout_ms=1000, max_records=count - len(found))
            found += [
                Sample(r.key, r.value, tuple(r.headers), r.timestamp) for r in polled.get(partition, [])
            ]
    finally:
        consumer.close()
    return found
