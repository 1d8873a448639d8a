"""Znodes that a hand made into what cannot be, in a cluster that runs: it goes on, names them, and deletes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from kazoo.client import KazooClient

from fastlog.testing import Cluster

SETTINGS = {
    "offsets.topic.replication.factor": "2",
    "offsets.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
}
RECORDS = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(2, settings=SETTINGS) as started:
        yield started


@pytest.fixture
def zookeeper(cluster: Cluster) -> Iterator[KazooClient]:
    assert cluster.zookeeper is not None
    client = KazooClient(cluster.zookeeper.hosts)
    client.start()
    yield client
    client.stop()
    client.close()


def create(cluster: Cluster, topic: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=2, replication_factor=2)


def other_controller(cluster: Cluster) -> None:
    """The one that controls is started again: the other one loads everything."""
    controller = cluster.controller()
    controller.stop()
    controller.restart()
    cluster.wait_ready()


def logs(cluster: Cluster) -> str:
    return "".join(Path(it.log_file).read_text() for it in cluster.brokers.values())


@pytest.mark.parametrize("port", [10**20, 70_000, 0, -1])
def test_a_registration_with_a_port_that_cannot_be_ends_no_controller(
    cluster: Cluster, zookeeper: KazooClient, topic_name: str, port: int
) -> None:
    path = "/fastlog/brokers/ids/77"
    data = json.loads(zookeeper.get("/fastlog/brokers/ids/1")[0])
    data["endpoints"]["BROKER"][1] = port
    before = cluster.controller().broker_id
    zookeeper.create(path, json.dumps(data).encode(), ephemeral=True)
    try:
        cluster.wait_until("it is named", lambda: f"path={path}" in logs(cluster))
        create(cluster, topic_name)
        assert cluster.controller().broker_id == before
        with cluster.admin() as admin:
            assert {it.node_id for it in admin.describe_cluster().brokers} == {1, 2}
        assert zookeeper.exists(path)
    finally:
        zookeeper.delete(path)
    assert "the cluster worker failed" not in logs(cluster)


def test_a_setting_that_cannot_be_stops_no_broker(
    cluster: Cluster, zookeeper: KazooClient, topic_name: str
) -> None:
    bad, good = topic_name, f"{topic_name}-good"
    create(cluster, bad)
    path = f"/fastlog/config/topics/{bad}"
    zookeeper.set(path, b'{"config":{"min.insync.replicas":"-5"}}')
    other_controller(cluster)
    create(cluster, good)
    for topic in (bad, good):
        produce(cluster, topic)
    text = logs(cluster)
    assert "the worker of the replicas failed" not in text
    assert f'resource="topic {bad}" key=min.insync.replicas value=-5' in text


@pytest.mark.parametrize("path", ["/fastlog/controller", "/fastlog/controller_epoch"])
def test_garbage_in_the_place_of_the_controller_is_named_and_replaced(
    cluster: Cluster, zookeeper: KazooClient, topic_name: str, path: str
) -> None:
    create(cluster, f"{topic_name}-before")
    zookeeper.set(path, b"garbage")
    create(cluster, topic_name)
    produce(cluster, topic_name)
    assert json.loads(zookeeper.get(path)[0])
    assert f"the znode {path} holds garbage" in logs(cluster)


@pytest.mark.parametrize("damage", ["garbage", "missing"])
def test_a_topic_that_cannot_be_read_keeps_its_records_and_the_offsets_of_its_groups(
    cluster: Cluster, zookeeper: KazooClient, topic_name: str, damage: str
) -> None:
    create(cluster, topic_name)
    produce(cluster, topic_name)
    consumer = grouped(cluster, topic_name)
    consumer.commit(offsets=[TopicPartition(topic_name, 0, 7)], asynchronous=False)
    consumer.close()
    path = f"/fastlog/brokers/topics/{topic_name}"
    whole = tree(zookeeper, path)
    if damage == "garbage":
        zookeeper.set(path, b"{" + whole[path])
    else:
        zookeeper.delete(path, recursive=True)
    directories = held(cluster, topic_name)
    assert directories
    try:
        # Every broker starts without knowing it: the controller first, since it has it in memory still and would tell
        # the other one.
        controller = cluster.controller()
        for broker in sorted(cluster.brokers.values(), key=lambda it: it is not controller):
            broker.stop()
            broker.restart()
        cluster.wait_ready()
        for broker in cluster.brokers.values():
            cluster.wait_until(
                "it is named",
                lambda broker=broker: (  # type: ignore[misc]
                    f'metadata cannot be read are left alone: mend the metadata" topic={topic_name}'
                    in broker.log_file.read_text()
                ),
            )
        assert not [
            line for line in logs(cluster).splitlines() if "no known topic" in line and topic_name in line
        ]
        assert held(cluster, topic_name) == directories
    finally:
        for each, data in whole.items():
            if zookeeper.exists(each):
                zookeeper.set(each, data)
            else:
                zookeeper.create(each, data)
    other_controller(cluster)
    other_controller(cluster)
    consumer = grouped(cluster, topic_name)
    (committed,) = consumer.committed([TopicPartition(topic_name, 0)], timeout=30)
    consumer.close()
    assert committed.offset == 7
    assert records(cluster, topic_name) == RECORDS


def tree(zookeeper: KazooClient, path: str) -> dict[str, bytes]:
    """What a znode and all below it hold, a parent before its children."""
    found = {path: zookeeper.get(path)[0]}
    for child in zookeeper.get_children(path):
        found |= tree(zookeeper, f"{path}/{child}")
    return found


def produce(cluster: Cluster, topic: str) -> None:
    failed: list[Any] = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
    for number in range(RECORDS):
        producer.produce(
            topic,
            str(number).encode(),
            partition=0,
            on_delivery=lambda error, _: error and failed.append(error),
        )
    assert producer.flush(60) == 0
    assert not failed


def grouped(cluster: Cluster, topic: str) -> Consumer:
    return Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": f"of-{topic}"})


def records(cluster: Cluster, topic: str) -> int:
    consumer = grouped(cluster, topic)
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        return int(high - low)
    finally:
        consumer.close()


def held(cluster: Cluster, topic: str) -> list[Path]:
    return sorted(path for it in cluster.brokers.values() for path in it.data_dir.glob(f"{topic}-?"))
