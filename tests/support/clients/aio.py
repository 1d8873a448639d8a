"""aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.support.clients import CONSUME_SECONDS
from tests.support.samples import Sample


def produce(
    bootstrap: str, topic: str, samples: Sequence[Sample], compression: str, *, idempotent: bool = True
) -> None:
    """Sends all and returns when all are acknowledged."""

    async def run() -> None:
        kind = None if compression == "none" else compression
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, compression_type=kind, enable_idempotence=idempotent, linger_ms=20
        )
        await producer.start()
        try:
            sent = [
                await producer.send(
                    topic, s.value, s.key, partition=0, timestamp_ms=s.timestamp_ms, headers=list(s.headers)
                )
                for s in samples
            ]
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    asyncio.run(asyncio.wait_for(run(), CONSUME_SECONDS))


def consume(bootstrap: str, topic: str, count: int, *, offset: int = 0) -> list[Sample]:
    """The first `count` records from `offset` on."""

    async def run() -> list[Sample]:
        consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await consumer.start()
        found: list[Sample] = []
        try:
            partition = TopicPartition(topic, 0)
            consumer.assign([partition])
            consumer.seek(partition, offset)
            while len(found) < count:
                polled = await consumer.getmany(timeout_ms=1000, max_records=count - len(found))
                found += [
                    Sample(r.key, r.value, tuple(r.headers), r.timestamp) for r in polled.get(partition, [])
                ]
        finally:
            await consumer.stop()
        return found

    return asyncio.run(asyncio.wait_for(run(), CONSUME_SECONDS))
