"""The coordinator of a consumer group dies: its offsets are kept by others, and its members go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

import fastlog
from fastlog.protocol.messages.find_coordinator import FindCoordinatorRequest
from fastlog.testing import Cluster
from tests.support.faults.cluster_witness import PARTITIONS, ClusterWitness
from tests.support.raw import RawTcp

GROUP = "readers"
SECONDS = 60.0

pytestmark = pytest.mark.timeout(150)


CLASSIC, CONSUMER = "classic", "consumer"


class Member(threading.Thread):
    """Reads as a member of the group and commits what it has read, until it is over."""

    def __init__(self, cluster: Cluster, topic: str, protocol: str = CLASSIC) -> None:
        super().__init__(daemon=True)
        self._protocol = protocol
        self.read: list[tuple[int, int]] = []
        """Partition and offset, as they came."""
        self.is_over = threading.Event()
        self._cluster = cluster
        self._topic = topic

    def run(self) -> None:
        consumer = Consumer(settings(self._cluster, self._protocol))
        consumer.subscribe([self._topic])
        while not self.is_over.is_set():
            messages: list[Any] = consumer.consume(100, 0.1)
            for message in messages:
                if message.error() is None:
                    self.read.append((message.partition(), message.offset()))
        consumer.close()


class OurMember(Member):
    """The same with our SDK."""

    def run(self) -> None:
        with fastlog.Consumer(
            self._cluster.bootstrap,
            topics=self._topic,
            group_id=GROUP,
            group_protocol=self._protocol,
            auto_offset_reset="earliest",
            auto_commit_interval_ms=100,
        ) as consumer:
            while not self.is_over.is_set():
                self.read += [(it.partition, it.offset) for it in consumer.poll(100, timeout=0.1)]


def settings(cluster: Cluster, protocol: str = CLASSIC) -> dict[str, object]:
    of_protocol: dict[str, object] = (
        {"group.protocol": CONSUMER}
        if protocol == CONSUMER
        else {"session.timeout.ms": 10_000, "heartbeat.interval.ms": 500}
    )
    return {
        "bootstrap.servers": cluster.bootstrap,
        "group.id": GROUP,
        "auto.offset.reset": "earliest",
        "auto.commit.interval.ms": 100,
        **of_protocol,
        "reconnect.backoff.max.ms": 200,
        "log_level": 0,
    }


def coordinator(cluster: Cluster) -> int:
    """The broker that has the group, waited for."""
    found: list[int] = []

    def is_there() -> bool:
        some = cluster.running()[0]
        with RawTcp("127.0.0.1", some.ports["PLAINTEXT"]) as connection:
            answer = connection.ask(FindCoordinatorRequest(key=GROUP), 3)
        found[:] = [answer.node_id]
        return answer.error_code == 0 and cluster[answer.node_id].is_running

    cluster.wait_until("the group has a coordinator", is_there)
    return found[0]


def committed(cluster: Cluster, topic: str) -> dict[int, int]:
    consumer = Consumer(settings(cluster))
    try:
        wanted = [TopicPartition(topic, it) for it in range(PARTITIONS)]
        return {it.partition: it.offset for it in consumer.committed(wanted, timeout=SECONDS)}
    finally:
        consumer.close()


@pytest.mark.parametrize("protocol", [CLASSIC, CONSUMER])
def test_members_go_on_when_their_coordinator_dies(
    cluster: Cluster, witness: ClusterWitness, protocol: str
) -> None:
    """It leads some of what they read too."""
    with witness:
        members = [Member(cluster, witness.topic, protocol), OurMember(cluster, witness.topic, protocol)]
        for each in members:
            each.start()

        def more(count: int) -> Callable[[], bool]:
            goal = sum(len(it.read) for it in members) + count
            return lambda: sum(len(it.read) for it in members) >= goal

        try:
            cluster.wait_until("the members read", more(300), SECONDS)
            cluster.wait_until(
                "each partition has a position",
                lambda: all(it > 0 for it in committed(cluster, witness.topic).values()),
                SECONDS,
            )
            before = committed(cluster, witness.topic)
            dead = cluster[coordinator(cluster)]
            dead.kill()
            died = time.monotonic()
            assert coordinator(cluster) != dead.broker_id
            cluster.wait_until("the members read on", more(300), SECONDS)
            print(f"the group has another coordinator, and reads, after {time.monotonic() - died:.2f} s")
            after = committed(cluster, witness.topic)
            assert all(after[it] >= before[it] for it in before), (before, after)
            dead.restart()
            cluster.wait_ready()
            cluster.wait_in_sync(witness.topic, 3)
        finally:
            for each in members:
                each.is_over.set()
            for each in members:
                each.join(SECONDS)
    witness.check()
    # every record at least once: nothing was committed that nobody read
    read = {place for each in members for place in each.read}
    final = committed(cluster, witness.topic)
    unread = [(it, at) for it, end in final.items() for at in range(end) if (it, at) not in read]
    assert not unread, unread[:5]


def test_groups_are_there_again_after_all_brokers_died(cluster: Cluster, witness: ClusterWitness) -> None:
    """A broker that starts hears of what the process before it led, before it leads that itself."""
    with witness:
        member = Member(cluster, witness.topic)
        member.start()
        cluster.wait_until("the member reads", lambda: len(member.read) >= 300, SECONDS)
        member.is_over.set()
        member.join(SECONDS)
        before = committed(cluster, witness.topic)
        assert all(it > 0 for it in before.values()), before
        for broker in cluster.brokers.values():
            broker.kill()
        for broker in cluster.brokers.values():
            broker.start()
        for broker in cluster.brokers.values():
            broker.wait()
        cluster.wait_ready()
        assert committed(cluster, witness.topic) == before
        complaints = [it.log_file.read_text() for it in cluster.brokers.values()]
        assert not any("groups cannot be read" in it for it in complaints)
        cluster.wait_in_sync(witness.topic, 3)
        witness.wait_for_more()
    witness.check()
