"""A reassignment that is throttled takes its time, and nobody who is in sync waits for it (KIP-73)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from fastlog.testing import Cluster
from tests.support.cluster_load import Load

TOPIC = "orders"
PLACE = (TOPIC, 0)
RATE = 4 << 20
TOTAL = 28 << 20
RECORD = 64 << 10
# replica.fetch.max.bytes
ANSWER = 1 << 20


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The topic has its one partition on the brokers 1 and 2, with so many bytes in it."""
    with Cluster(3, settings={"min.insync.replicas": "2"}) as started:
        with started.admin() as admin:
            admin.create_topic(TOPIC, partitions=1, replication_factor=2)
            admin.reassign({PLACE: (1, 2)})
        settled(started, (1, 2))
        producer = Producer({"bootstrap.servers": started.bootstrap, "acks": "all", "linger.ms": 5})
        for _ in range(TOTAL // RECORD):
            while True:
                try:
                    producer.produce(TOPIC, bytes(RECORD), partition=0)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(60) == 0
        yield started


def settled(cluster: Cluster, replicas: tuple[int, ...]) -> None:
    def is_so() -> bool:
        with cluster.admin() as admin:
            return admin.describe_topic(TOPIC).partitions[0].replicas == replicas

    cluster.wait_until(f"the replicas are {replicas}", is_so, 120)
    cluster.wait_in_sync(TOPIC, len(replicas))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("side", ["leader", "follower"])
def test_a_move_takes_as_long_as_either_side_says(cluster: Cluster, side: str) -> None:
    """Two replicas in sync acknowledge all the while, though they are listed too; the third gets so much a second."""
    counts: list[int] = []
    with cluster.admin() as admin:
        slow = 1 if side == "leader" else 3
        admin.alter_configs({f"{side}.replication.throttled.rate": str(RATE)}, broker=slow)
        admin.alter_configs({f"{side}.replication.throttled.replicas": "*"}, topic=TOPIC)
        with Load(cluster, TOPIC) as load:
            began = time.monotonic()
            admin.reassign({PLACE: (1, 3)})

            def has_moved() -> bool:
                counts.append(len(load.acknowledged))
                return admin.describe_topic(TOPIC).partitions[0].replicas == (1, 3)

            cluster.wait_until("it has moved", has_moved, 200)
            took = time.monotonic() - began
    # a second's worth and the last answer may pass before they are paid for
    assert took >= (TOTAL - 2 * RATE - ANSWER) / RATE
    assert took <= 10 * TOTAL / RATE
    assert counts[-1] - counts[0] >= 20, "acks=all went on"
    assert load.failed == []
