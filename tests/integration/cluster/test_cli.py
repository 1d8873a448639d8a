"""`fastlog cluster` on a real cluster."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as KafkaPartition

from fastlog.testing import Cluster
from tests.support.cli import Run
from tests.support.cli import fastlog as run

Place = tuple[str, int]
"""Topic and partition."""


def command(cluster: Cluster, *arguments: str) -> Run:
    return run("cluster", *arguments, "--bootstrap", cluster.bootstrap)


@pytest.fixture
def moved(cluster: Cluster, topic: str) -> Iterator[str]:
    """A topic of two partitions on the brokers 1 and 2."""
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=2, replication_factor=2)
        admin.reassign({(topic, 0): (1, 2), (topic, 1): (2, 1)})
    settled(cluster, topic, [(1, 2), (2, 1)])
    yield topic
    with cluster.admin() as admin:
        admin.delete_topic(topic)


def settled(cluster: Cluster, topic: str, replicas: list[tuple[int, ...]]) -> None:
    def is_so() -> bool:
        with cluster.admin() as admin:
            partitions = admin.describe_topic(topic).partitions
            return [it.replicas for it in partitions] == replicas and not admin.reassignments()

    cluster.wait_until(f"the replicas of {topic} are {replicas}", is_so)


def test_the_status_names_brokers_and_what_they_hold(cluster: Cluster, moved: str) -> None:
    cluster.wait_in_sync(moved, 2)

    def is_whole() -> bool:
        return command(cluster, "status").status == 0

    cluster.wait_until("all is in sync", is_whole)
    said = command(cluster, "status").out.decode().splitlines()
    assert said[0].split() == ["broker", "address", "rack", "controller", "leads", "holds", "behind"]
    assert [line.split()[0] for line in said[1:4]] == ["1", "2", "3"]
    assert sum("yes" in line for line in said[1:4]) == 1
    document: Any = json.loads(command(cluster, "status", "--json").out)
    assert document["without_leader"] == document["out_of_sync"] == []
    assert [it["rack"] for it in document["brokers"]] == ["a", "b", "c"]


def test_partitions_are_moved_and_given_back(cluster: Cluster, moved: str) -> None:
    assert command(cluster, "reassign", f"{moved}:0=3,1").out == b"moving 1 partition\n"
    settled(cluster, moved, [(3, 1), (2, 1)])
    elected = command(cluster, "elect-leaders", f"{moved}:0")
    assert elected.status == 0
    assert cluster.leader_of(moved).broker_id == 3
    nothing = command(cluster, "reassign", "--cancel", f"{moved}:0")
    assert (nothing.status, "no reassignment" in nothing.err) == (1, True)
    assert command(cluster, "reassign", "--list").status == 0


@pytest.fixture
def offsets(cluster: Cluster, moved: str) -> Iterator[dict[Place, tuple[int, ...]]]:
    """The replicas of the groups' offsets, which lie on all three; no topics but these and `moved`."""
    commit(cluster, moved)
    with cluster.admin() as admin:
        for it in admin.list_topics():
            if it.name != moved:
                admin.delete_topic(it.name)
        (internal,) = (it for it in admin.describe_topics() if it.is_internal)
    before = {(internal.name, it.partition): it.replicas for it in internal.partitions}
    assert {len(it) for it in before.values()} == {3}
    yield before
    with cluster.admin() as admin:
        admin.reassign(before)
    wait_settled(cluster)


def commit(cluster: Cluster, topic: str) -> None:
    """An offset of a group, whose coordinator may still have to be made."""
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": topic})
    consumer.commit(offsets=[KafkaPartition(topic, 0, 0)], asynchronous=False)
    consumer.close()


def wait_settled(cluster: Cluster) -> None:
    def is_so() -> bool:
        with cluster.admin() as admin:
            return not admin.reassignments()

    cluster.wait_until("nothing is being moved", is_so)


def test_a_broker_is_decommissioned(
    cluster: Cluster, moved: str, offsets: dict[Place, tuple[int, ...]]
) -> None:
    # three replicas of three brokers have nowhere to go
    refused = command(cluster, "decommission", "2")
    assert refused.status == 1
    assert "add one, or lower its replication factor first" in refused.err
    with cluster.admin() as admin:
        admin.reassign({place: tuple(it for it in on if it != 2) for place, on in offsets.items()})
    wait_settled(cluster)
    assert command(cluster, "decommission", "2").out == b"moved 2 partitions\n"
    with cluster.admin() as admin:
        assert [it.replicas for it in admin.describe_topic(moved).partitions] == [(1, 3), (3, 1)]


def test_who_is_not_there_is_not_decommissioned(cluster: Cluster) -> None:
    said = command(cluster, "decommission", "77")
    assert said.status == 1
    assert "broker 77 is not in the cluster and holds nothing; there are [1, 2, 3]" in said.err


def test_a_cluster_is_balanced(cluster: Cluster, topic: str) -> None:
    """All that lies on two brokers is spread over the three; a second time there is nothing to do."""
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=6, replication_factor=2)
        admin.reassign({(topic, it): (1, 2) for it in range(6)})
    settled(cluster, topic, [(1, 2)] * 6)
    planned = command(cluster, "balance", "--dry-run")
    assert planned.status == 0
    assert planned.out.startswith(b"broker  holds  will hold  preferred for  will be\n")
    with cluster.admin() as admin:
        assert {it.replicas for it in admin.describe_topic(topic).partitions} == {(1, 2)}
    assert command(cluster, "balance", "--at-once", "2").status == 0
    with cluster.admin() as admin:
        topics = admin.describe_topics()
        rows = [it.replicas for each in topics for it in each.partitions]
        held = Counter(broker for row in rows for broker in row)
        assert max(held.values()) - min(held[it] for it in (1, 2, 3)) <= 1
        assert admin.balance_plan() == {}
        # each is led by whom it prefers
        assert all(it.leader == it.replicas[0] for it in admin.describe_topic(topic).partitions)
    again = command(cluster, "balance")
    assert (again.status, again.out.decode().splitlines()[-1]) == (0, "moved 0 partitions")
    with cluster.admin() as admin:
        admin.delete_topic(topic)


def throttles(cluster: Cluster, topic: str) -> set[tuple[str, str]]:
    """Value and origin of all throttle settings, of the topic and of every broker."""
    with cluster.admin() as admin:
        described = [
            admin.describe_configs(topic=topic),
            *(admin.describe_configs(broker=it) for it in (1, 2, 3)),
        ]
    entries = [it for each in described for key, it in each.items() if ".replication.throttled." in key]
    assert len(entries) == 2 * len(described)
    return {(it.value or "", it.source) for it in entries}


def test_a_throttle_is_in_force_while_partitions_move_and_not_afterwards(
    cluster: Cluster, moved: str
) -> None:
    unset = {("", "default"), (str(2**63 - 1), "default")}
    assert throttles(cluster, moved) == unset
    said = command(cluster, "reassign", f"{moved}:0=3,1", "--throttle", "1000000")
    assert (said.status, said.out) == (0, b"moved 1 partition\n")
    with cluster.admin() as admin:
        assert admin.describe_topic(moved).partitions[0].replicas == (3, 1)
    assert throttles(cluster, moved) == unset


def test_who_is_interrupted_leaves_the_throttle_and_is_told_how_to_lift_it(
    cluster: Cluster, moved: str
) -> None:
    with cluster.admin() as admin:
        admin.reassign({(moved, 0): (1,)})
    settled(cluster, moved, [(1,), (2, 1)])
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    # the first answer passes, a megabyte at most, and is paid for in weeks
    for _ in range(3_000):
        producer.produce(moved, bytes(1000), partition=0)
    assert producer.flush(60) == 0
    arguments = [f"{moved}:0=2", "--throttle", "1", "--bootstrap", cluster.bootstrap]
    process = subprocess.Popen(
        [sys.executable, "-m", "fastlog.cli", "cluster", "reassign", *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )

    def is_under_way() -> bool:
        with cluster.admin() as admin:
            return (moved, 0) in admin.reassignments()

    cluster.wait_until("it moves", is_under_way)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "1 partition under way will arrive without this command" in said
    assert "the throttle stays until `fastlog cluster reassign --lift-throttle`" in said
    assert ("0:2", "topic") in throttles(cluster, moved)
    assert command(cluster, "reassign", "--lift-throttle").status == 0
    assert {source for _, source in throttles(cluster, moved)} == {"default"}
    settled(cluster, moved, [(2,), (2, 1)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("reassign",), "name moves as"),
        (("reassign", "orders=1"), "TOPIC:PARTITION"),
        (("reassign", "orders:0=x"), "orders:0=1,2,3"),
        (("reassign", "orders:0=1,2", "orders:0=2,3"), "orders:0 is named twice"),
        (("reassign", "orders:0=1,2", "--cancel", "orders:0"), "orders:0 is named twice"),
        (("reassign", "--cancel", "orders:0", "--throttle", "5"), "--throttle is for moves"),
        (("reassign", "--list", "--lift-throttle"), "alone"),
        (("elect-leaders", "--unclean"), "name the partitions"),
    ],
)
def test_what_is_written_wrongly(cluster: Cluster, arguments: tuple[str, ...], says: str) -> None:
    said = command(cluster, *arguments)
    assert said.status == 2
    assert says in said.err


def test_settings_of_a_broker_are_asked_of_that_broker(cluster: Cluster) -> None:
    for broker_id in (1, 2, 3):
        with cluster.admin() as admin:
            found = admin.describe_configs(broker=broker_id)
            assert found["node.id"].value == str(broker_id)
            admin.alter_configs({"num.partitions": str(broker_id)}, broker=broker_id)
    for broker_id in (1, 2, 3):
        with cluster.admin() as admin:
            assert admin.describe_configs(broker=broker_id)["num.partitions"].value == str(broker_id)
            admin.alter_configs({"num.partitions": None}, broker=broker_id)
