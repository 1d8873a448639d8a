"""Records and groups of a cluster, by clients that begin at any of its brokers."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer as ConfluentConsumer
from confluent_kafka import Producer as ConfluentProducer

from fastlog import Consumer, Producer
from fastlog.testing import Cluster

BROKERS = [1, 2, 3]
COUNT = 1000
WAIT_SECONDS = 30.0


@pytest.mark.parametrize("client", ["confluent", "fastlog"])
def test_records_are_read_from_any_broker(cluster: Cluster, topic: str, client: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=6, replication_factor=3, configs={"min.insync.replicas": "3"})
    values = {b"%d" % number for number in range(COUNT)}
    if client == "confluent":
        failed: list[object] = []
        producer = ConfluentProducer({"bootstrap.servers": cluster[3].bootstrap, "acks": "all"})
        for value in values:
            producer.produce(
                topic, value, on_delivery=lambda error, _: failed.append(error) if error else None
            )
        assert producer.flush(WAIT_SECONDS) == 0
        assert failed == []
    else:
        with Producer(cluster[2].bootstrap) as own:
            for value in values:
                own.send(topic, value)
            own.flush()
    for broker_id in BROKERS:
        assert consumed(cluster[broker_id].bootstrap, topic) == sorted(values)


def consumed(bootstrap: str, topic: str) -> list[bytes]:
    found: list[bytes] = []
    deadline = time.monotonic() + WAIT_SECONDS
    with Consumer(bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([(topic, partition) for partition in range(6)])
        while len(found) < COUNT and time.monotonic() < deadline:
            found += [record.value for record in consumer.poll()]
    return sorted(found)


def test_all_replicas_have_the_same_bytes(cluster: Cluster, topic: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic, replication_factor=3)
    with Producer(cluster.bootstrap) as producer:
        for number in range(COUNT):
            producer.send(topic, b"%d" % number)
        producer.flush()

    def logs() -> list[bytes]:
        return [
            b"".join(it.read_bytes() for it in sorted((broker.data_dir / f"{topic}-0").glob("*.log")))
            for broker in cluster.brokers.values()
        ]

    cluster.wait_until("the replicas are alike", lambda: len(set(logs())) == 1)
    assert len(logs()[0]) > COUNT


@pytest.mark.parametrize("broker_id", BROKERS)
def test_a_group_is_served_wherever_its_members_begin(cluster: Cluster, topic: str, broker_id: int) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=3, replication_factor=3)
    with Producer(cluster.bootstrap) as producer:
        for number in range(30):
            producer.send(topic, b"%d" % number, partition=number % 3)
        producer.flush()
    settings = {
        "bootstrap.servers": cluster[broker_id].bootstrap,
        "group.id": f"group-of-{topic}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
    consumer = ConfluentConsumer(settings)
    consumer.subscribe([topic])
    found = set()
    deadline = time.monotonic() + WAIT_SECONDS
    while len(found) < 30 and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.add(message.value())
    assert len(found) == 30
    consumer.commit(asynchronous=False)
    consumer.close()
    # what was committed is known to who begins elsewhere
    other = cluster[broker_id % 3 + 1]
    second = ConfluentConsumer(settings | {"bootstrap.servers": other.bootstrap})
    second.subscribe([topic])
    with Producer(cluster.bootstrap) as producer:
        producer.send(topic, b"last", partition=0).result(WAIT_SECONDS)
    values = []
    while not values and time.monotonic() < deadline:
        message = second.poll(0.5)
        if message is not None and message.error() is None:
            values.append(message.value())
    second.close()
    assert values == [b"last"]
