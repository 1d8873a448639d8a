"""Members of other libraries in one group with ours: the partitions are shared, whoever leads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import pytest
from aiokafka import AIOKafkaConsumer
from kafka import KafkaConsumer
from kafka.coordinator.assignors.range import RangePartitionAssignor

import fastlog
from tests.integration.test_sdk_groups import produce
from tests.support.broker import wait_until
from tests.support.members import FAST

RANGE, COOPERATIVE = "range", "cooperative-sticky"
#: so long each waits for records: a rebalance is noticed by then
POLL_SECONDS = 0.1


class Foreign:
    """A member in a thread: what it has and what it read."""

    def __init__(self, run: Callable[[Foreign], None]) -> None:
        self.partitions: set[int] = set()
        self.values: list[int] = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=run, args=(self,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


def ours(bootstrap: str, topic: str, strategy: str) -> Callable[[Foreign], None]:
    def run(me: Foreign) -> None:
        with fastlog.Consumer(
            bootstrap, topics=topic, group_id=topic, partition_assignment_strategy=strategy, **FAST
        ) as consumer:
            while not me.stopping.is_set():
                me.values += [int(one.value or b"") for one in consumer.poll(timeout=POLL_SECONDS)]
                me.partitions = {tp.partition for tp in consumer.assignment()}
        me.partitions = set()

    return run


def confluent(bootstrap: str, topic: str, strategy: str) -> Callable[[Foreign], None]:
    def run(me: Foreign) -> None:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": topic,
                "partition.assignment.strategy": strategy,
                "auto.offset.reset": "earliest",
                "heartbeat.interval.ms": 200,
                "session.timeout.ms": 6000,
            }
        )
        consumer.subscribe([topic])
        while not me.stopping.is_set():
            messages = consumer.consume(100, POLL_SECONDS)
            me.values += [int(one.value()) for one in messages if one.error() is None]
            me.partitions = {one.partition for one in consumer.assignment()}
        consumer.close()
        me.partitions = set()

    return run


def kafka_python(bootstrap: str, topic: str, strategy: str) -> Callable[[Foreign], None]:
    assert strategy == RANGE

    def run(me: Foreign) -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=topic,
            auto_offset_reset="earliest",
            heartbeat_interval_ms=200,
            session_timeout_ms=6000,
            metadata_max_age_ms=2000,
            partition_assignment_strategy=[RangePartitionAssignor],
        )
        # where it leads before it knows the topic it assigns nothing, and may not look again
        while not consumer.partitions_for_topic(topic) and not me.stopping.is_set():
            time.sleep(POLL_SECONDS)
        consumer.subscribe([topic])
        while not me.stopping.is_set():
            polled = consumer.poll(timeout_ms=int(POLL_SECONDS * 1000))
            me.values += [int(one.value) for records in polled.values() for one in records]
            me.partitions = {one.partition for one in consumer.assignment()}
        consumer.close()
        me.partitions = set()

    return run


def aio(bootstrap: str, topic: str, strategy: str) -> Callable[[Foreign], None]:
    assert strategy == RANGE

    async def work(me: Foreign) -> None:
        # its default is roundrobin
        from aiokafka.coordinator.assignors.range import RangePartitionAssignor as Range

        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=topic,
            auto_offset_reset="earliest",
            heartbeat_interval_ms=200,
            session_timeout_ms=6000,
            partition_assignment_strategy=[Range],
        )
        await consumer.start()
        try:
            while not me.stopping.is_set():
                polled = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
                me.values += [int(one.value or b"") for records in polled.values() for one in records]
                me.partitions = {one.partition for one in consumer.assignment()}
        finally:
            await consumer.stop()
        me.partitions = set()

    return lambda me: asyncio.run(work(me))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("others", "strategy"),
    [
        ([confluent], RANGE),
        ([confluent], COOPERATIVE),
        ([kafka_python], RANGE),
        ([aio], RANGE),
        ([confluent, aio], RANGE),
    ],
    ids=["confluent", "confluent cooperative", "kafka-python", "aiokafka", "three libraries"],
)
@pytest.mark.parametrize("first", ["ours leads", "theirs leads"])
def test_a_mixed_group_shares_its_partitions(
    group_bootstrap: str, group_topic: str, others: list[Any], strategy: str, first: str
) -> None:
    kinds = [ours, *others] if first == "ours leads" else [*others, ours]
    members: list[Foreign] = []
    gone: list[Foreign] = []

    def shared() -> bool:
        have = [one.partitions for one in members]
        return all(have) and sorted(p for some in have for p in some) == list(range(6))

    produced = 0
    try:
        for kind in kinds:
            members.append(Foreign(kind(group_bootstrap, group_topic, strategy)))
            produce(group_bootstrap, group_topic, 120, first=produced)
            produced += 120
            wait_until("the partitions are shared", shared, seconds=30)
        gone.append(members.pop(0))
        gone[0].stop()
        wait_until("the others take over", shared, seconds=30)
        produce(group_bootstrap, group_topic, 120, first=produced)
        produced += 120

        def values() -> set[int]:
            return {value for one in (*members, *gone) for value in one.values}

        wait_until("all is read", lambda: values() == set(range(produced)), seconds=20)
    finally:
        for one in members:
            one.stop()
