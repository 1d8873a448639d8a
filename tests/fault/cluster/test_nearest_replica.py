"""A consumer that says in which rack it is reads from the replica there (KIP-392), and needs no leader for that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import TopicPartition

from fastlog import Consumer, Producer
from fastlog.testing import Cluster
from tests.fault.cluster.conftest import SETTINGS

RACKS = ("a", "b", "c")
VALUES = [b"%d" % number for number in range(100)]
SECONDS = 30.0
#: how long a consumer that depends on the leader is listened to in vain
SILENT_SECONDS = 2.0

pytestmark = pytest.mark.timeout(150)

#: reads the partition from its start until so many values are there, or the time is over
Read = Callable[[int, float], list[bytes]]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    settings = SETTINGS | {"replica.selector.class": "rack-aware"}
    with Cluster(3, settings=settings, racks=RACKS) as started:
        yield started


@contextmanager
def fastlog_reader(bootstrap: str, topic: str, rack: str) -> Iterator[Read]:
    with Consumer(bootstrap, rack=rack, auto_offset_reset="earliest") as consumer:
        consumer.assign([(topic, 0)])

        def read(count: int, seconds: float) -> list[bytes]:
            consumer.seek((topic, 0), 0)
            until = time.monotonic() + seconds
            found: list[bytes] = []
            while len(found) < count and time.monotonic() < until:
                found += [it.value for it in consumer.poll(count, timeout=0.2)]
            return found

        yield read


@contextmanager
def confluent_reader(bootstrap: str, topic: str, rack: str) -> Iterator[Read]:
    consumer = ConfluentConsumer(
        {"bootstrap.servers": bootstrap, "group.id": "none", "client.rack": rack, "log_level": 0}
    )

    def read(count: int, seconds: float) -> list[bytes]:
        if consumer.assignment():
            # assigned anew it would ask the leader first
            consumer.seek(TopicPartition(topic, 0, 0))
        else:
            consumer.assign([TopicPartition(topic, 0, 0)])
        until = time.monotonic() + seconds
        found: list[bytes] = []
        while len(found) < count and time.monotonic() < until:
            messages = consumer.consume(count, 0.2)
            found += [it.value() or b"" for it in messages if it.error() is None]
        return found

    try:
        yield read
    finally:
        consumer.close()


@pytest.mark.parametrize("reader", [confluent_reader, fastlog_reader], ids=["librdkafka", "fastlog"])
def test_a_consumer_reads_in_its_own_rack(
    cluster: Cluster, topic_name: str, reader: Callable[[str, str, str], AbstractContextManager[Read]]
) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3)
    with Producer(cluster.bootstrap) as producer:
        for value in VALUES:
            producer.send(topic_name, value)
        producer.flush()
    cluster.wait_in_sync(topic_name, 3)
    leader = cluster.leader_of(topic_name)
    near = next(it for it in cluster.brokers.values() if it is not leader)
    rack = RACKS[near.broker_id - 1]
    with (
        reader(near.bootstrap, topic_name, rack) as read,
        reader(near.bootstrap, topic_name, "") as elsewhere,
    ):
        assert read(len(VALUES), SECONDS) == elsewhere(len(VALUES), SECONDS) == VALUES
        # so that nobody else is elected while the leader hangs
        assert cluster.zookeeper is not None
        cluster.zookeeper.kill()
        leader.pause()
        assert read(len(VALUES), SECONDS) == VALUES
        assert elsewhere(1, SILENT_SECONDS) == []
        leader.resume()
        cluster.zookeeper.restart()
        assert elsewhere(len(VALUES), SECONDS) == VALUES
