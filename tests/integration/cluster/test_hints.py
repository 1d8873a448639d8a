"""A broker that does not lead a partition any more names the one that does (KIP-951), and clients go there at once."""

from __future__ import annotations

from typing import Any

import pytest

from fastlog import Consumer, Producer
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.testing import Cluster
from tests.integration.cluster.conftest import RACKS, Ask
from tests.support.wire import Batch

NOT_LEADER, FENCED = 6, 74
WAIT_SECONDS = 30.0


@pytest.fixture
def led_by_1(cluster: Cluster, topic: str) -> str:
    """A topic of one partition on the brokers 1 and 2, led by 1."""
    with cluster.admin() as admin:
        admin.create_topic(topic, replication_factor=2)
    return led(cluster, topic, 1, 2)


def led(cluster: Cluster, topic: str, leader: int, follower: int) -> str:
    """Has `leader` lead the topic's partition, with `follower` in sync."""
    with cluster.admin() as admin:
        admin.reassign({(topic, 0): (leader, follower)})

        def is_so() -> bool:
            state = admin.describe_topic(topic).partitions[0]
            return state.replicas == (leader, follower) and set(state.isr) == {leader, follower}

        cluster.wait_until("the replicas are where they should be", is_so)
        admin.elect_leaders([(topic, 0)])
    for broker_id in (1, 2, 3):

        def knows(broker_id: int = broker_id) -> bool:
            with cluster.admin(broker_id) as admin:
                return admin.describe_topic(topic).partitions[0].leader == leader

        cluster.wait_until(f"broker {broker_id} knows the leader", knows)
    return topic


def state(raw: Ask, topic: str) -> tuple[bytes, int]:
    """The topic's id, and its partition's leader epoch."""
    (described,) = raw(1).ask(MetadataRequest(topics=[MetadataRequestTopic(name=topic)]), 12).topics
    return described.topic_id, described.partitions[0].leader_epoch


def told(answer: Any, partition: Any) -> tuple[int, list[tuple[int, str, int, str | None]]]:
    nodes = [(it.node_id, it.host, it.port, it.rack) for it in answer.node_endpoints]
    return partition.current_leader.leader_id, nodes


def leader_2(cluster: Cluster) -> tuple[int, list[tuple[int, str, int, str | None]]]:
    return 2, [(2, "127.0.0.1", cluster[2].ports["PLAINTEXT"], RACKS[1])]


@pytest.mark.parametrize("version", [9, 10, 12, 13])
def test_produce_names_the_leader(cluster: Cluster, raw: Ask, led_by_1: str, version: int) -> None:
    led(cluster, led_by_1, 2, 1)
    topic_id, epoch = state(raw, led_by_1)
    data = [TopicProduceData(led_by_1, topic_id, [PartitionProduceData(0, Batch().encode())])]
    for broker_id in (1, 3):
        answer = raw(broker_id).ask(ProduceRequest(None, -1, 5_000, data), version)
        (partition,) = answer.responses[0].partition_responses
        assert partition.error_code == NOT_LEADER
        assert told(answer, partition) == (leader_2(cluster) if version >= 10 else (-1, []))
        assert partition.current_leader.leader_epoch == (epoch if version >= 10 else -1)


@pytest.mark.parametrize("version", [12, 13, 15, 16, 18])
def test_fetch_names_the_leader(cluster: Cluster, raw: Ask, led_by_1: str, version: int) -> None:
    _, old = state(raw, led_by_1)
    led(cluster, led_by_1, 2, 1)
    topic_id, epoch = state(raw, led_by_1)
    for broker_id, error in ((3, NOT_LEADER), (1, FENCED), (2, FENCED)):
        part = FetchPartition(0, current_leader_epoch=old, partition_max_bytes=1000)
        request = FetchRequest(topics=[FetchTopic(led_by_1, topic_id, [part])])
        answer = raw(broker_id).ask(request, version)
        (partition,) = answer.responses[0].partitions
        assert partition.error_code == error
        assert told(answer, partition) == (leader_2(cluster) if version >= 16 else (-1, []))
        assert partition.current_leader.leader_epoch == (epoch if version >= 16 else -1)


@pytest.mark.parametrize("linger_ms", [0.0, 1.0])
def test_our_producer_follows_a_leader_that_moves(cluster: Cluster, led_by_1: str, linger_ms: float) -> None:
    with Producer(cluster.bootstrap, linger_ms=linger_ms) as producer:
        for number, leader in enumerate((2, 1, 2, 1)):
            assert producer.send(led_by_1, b"before").result(WAIT_SECONDS).offset == 2 * number
            led(cluster, led_by_1, leader, 3 - leader)
            assert producer.send(led_by_1, b"after").result(WAIT_SECONDS).offset == 2 * number + 1


def test_our_consumer_follows_a_leader_that_moves(cluster: Cluster, led_by_1: str) -> None:
    # it asks all the time, so it may come to the named leader before that one knows, and wait out a back-off then
    with (
        Producer(cluster.bootstrap) as producer,
        Consumer(cluster.bootstrap, topics=led_by_1, auto_offset_reset="earliest") as consumer,
    ):
        for number, leader in enumerate((2, 1, 2)):
            producer.send(led_by_1, b"%d" % number).result(WAIT_SECONDS)
            (record,) = consumer.poll(1, timeout=WAIT_SECONDS)
            assert record.value == b"%d" % number
            led(cluster, led_by_1, leader, 3 - leader)
