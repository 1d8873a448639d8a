"""What a cluster does with few replicas, or without ZooKeeper, beside what the other files kill and stop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastlog.testing import Cluster
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
