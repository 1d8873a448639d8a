"""What a cluster does with few replicas, or without ZooKeeper, beside what the other files kill and stop."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from fastlog.testing import Cluster
from tests.support.broker import PROGRAM
from tests.support.cli import fastlog
from tests.support.cluster_load import Load, read_all

TOPIC = "orders"
PARTITIONS = 3


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, settings={"min.insync.replicas": "2"}) as started:
        with started.admin() as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        yield started


def back_in_sync(cluster: Cluster) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(TOPIC, 3)


@pytest.mark.timeout(180)
def test_a_partition_with_one_replica_comes_back(cluster: Cluster) -> None:
    with cluster.admin() as admin:
        admin.create_topic("lonely", configs={"min.insync.replicas": "1"})
    with Load(cluster, "lonely") as load:
        leader = cluster.leader_of("lonely")
        leader.kill()
        leader.restart()
        load.wait_for_more()
        assert cluster.leader_of("lonely") is leader
    load.check()


@pytest.mark.timeout(180)
def test_what_a_dead_broker_alone_has_is_told_and_moves_when_it_is_back(cluster: Cluster) -> None:
    with cluster.admin() as admin:
        admin.create_topic("lonely", configs={"min.insync.replicas": "1"})
    dead = cluster.leader_of("lonely")
    other = next(it for it in cluster.brokers.values() if it is not dead)
    dead.kill()
    cluster.wait_until("its session is over", lambda: dead.broker_id not in live(cluster))
    said = fastlog("cluster", "status", "--bootstrap", other.bootstrap)
    assert said.status == 1
    # one of each partition of the other topic, and what only it has
    assert (
        f"broker {dead.broker_id} is away, with {PARTITIONS + 1} replicas: start it again"
        in said.out.decode()
    )
    move = ["cluster", "reassign", f"lonely:0={other.broker_id}", "--throttle", "1000000"]
    command = subprocess.Popen(
        [PROGRAM, *move, "--bootstrap", other.bootstrap],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert command.stderr is not None
        assert command.stderr.readline() == (
            "1 partition cannot move now, lonely:0 for one: no broker leads it, so it cannot be copied: "
            f"start who has its records, of the brokers [{dead.broker_id}]\n"
        )
        dead.restart()
        assert command.communicate(timeout=120) == ("moved 1 partition\n", "")
        assert command.returncode == 0
    finally:
        command.kill()
        command.communicate()


def live(cluster: Cluster) -> set[int]:
    with cluster.admin() as admin:
        return {it.node_id for it in admin.describe_cluster().brokers}


def test_what_two_brokers_hold_is_read_without_the_third(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        load.wait_for_more(200)
    leader = cluster.leader_of(TOPIC)
    leader.kill()
    # librdkafka asks for the ends once for all whom its first metadata names
    cluster.wait_until("another one leads", lambda: cluster.leader_of(TOPIC) is not leader)
    found = read_all(cluster.bootstrap, TOPIC, PARTITIONS)
    assert set(load.acknowledged) <= set(found.values())


@pytest.mark.timeout(180)
def test_leaders_go_back_to_whom_is_preferred_by_themselves() -> None:
    settings = {"leader.imbalance.check.interval.seconds": "1"}
    with Cluster(3, settings=settings) as cluster, cluster.admin() as admin:
        admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        cluster[2].kill()

        def leaders() -> list[int]:
            return [it.leader for it in admin.describe_topic(TOPIC).partitions]

        cluster.wait_until("others lead", lambda: not {2, -1} & set(leaders()))
        cluster[2].restart()
        preferred = [it.replicas[0] for it in admin.describe_topic(TOPIC).partitions]
        assert 2 in preferred
        cluster.wait_until("the preferred lead", lambda: leaders() == preferred)


@pytest.mark.timeout(180)
def test_brokers_stop_without_zookeeper_too(cluster: Cluster) -> None:
    assert cluster.zookeeper is not None
    with Load(cluster, TOPIC, PARTITIONS) as load:
        load.wait_for_more(200)
    cluster.zookeeper.kill()
    began = time.monotonic()
    cluster.stop()
    assert time.monotonic() - began < 30
    cluster.zookeeper.restart()
    for broker in cluster.brokers.values():
        broker.start()
    for broker in cluster.brokers.values():
        broker.wait()
    back_in_sync(cluster)
    load.check()
