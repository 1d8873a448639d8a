"""Brokers that die, stop, hang and come back while records are produced: it goes on, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from fastlog.testing import Cluster
from tests.support.cluster_load import Load, read_all

TOPIC = "orders"
PARTITIONS = 3
SESSION_SECONDS = 4.0


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, settings={"min.insync.replicas": "2"}) as started:
        with started.admin() as admin:
            admin.create_topic(TOPIC, partitions=PARTITIONS, replication_factor=3)
        yield started


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    with Load(cluster, TOPIC, PARTITIONS) as producing:
        yield producing


def back_in_sync(cluster: Cluster) -> None:
    cluster.wait_ready()
    cluster.wait_in_sync(TOPIC, 3)


@pytest.mark.timeout(180)
def test_a_killed_leader(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        for _ in range(2):
            leader = cluster.leader_of(TOPIC)
            leader.kill()
            load.wait_for_more()
            assert cluster.leader_of(TOPIC) is not leader
            leader.restart()
            back_in_sync(cluster)
    load.check()


@pytest.mark.timeout(180)
def test_a_killed_controller(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        controller = cluster.controller()
        controller.kill()
        load.wait_for_more()
        # the others have another one, and it acts
        cluster.wait_until("another one controls", lambda: cluster.controller() is not controller)
        with cluster.admin() as admin:
            cluster.wait_until(
                "topics can be made again",
                lambda: admin.create_topic("more", replication_factor=2) is not None or True,
            )
        controller.restart()
        back_in_sync(cluster)
    load.check()


@pytest.mark.timeout(180)
def test_brokers_are_restarted_one_after_the_other(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        for broker in cluster.brokers.values():
            broker.stop()
            load.wait_for_more()
            broker.restart()
            back_in_sync(cluster)
    load.check()
    # nobody waited for a session to end
    assert load.longest_gap() < SESSION_SECONDS / 2


@pytest.mark.timeout(180)
def test_a_leader_that_hangs(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        leader = cluster.leader_of(TOPIC)
        leader.pause()
        load.wait_for_more()
        time.sleep(2 * SESSION_SECONDS)
        leader.resume()
        back_in_sync(cluster)
    load.check()


@pytest.mark.timeout(180)
def test_all_brokers_are_killed_at_once(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        for broker in cluster.brokers.values():
            broker.kill()
        for broker in cluster.brokers.values():
            broker.start()
        for broker in cluster.brokers.values():
            broker.wait()
        back_in_sync(cluster)
        load.wait_for_more()
    load.check()


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
def test_zookeeper_goes_and_comes_back(cluster: Cluster) -> None:
    assert cluster.zookeeper is not None
    with Load(cluster, TOPIC, PARTITIONS) as load:
        cluster.zookeeper.kill()
        # longer than any lease: acks=all goes on, since followers confirm it
        time.sleep(SESSION_SECONDS)
        load.wait_for_more()
        cluster.zookeeper.restart()
        load.wait_for_more()
        back_in_sync(cluster)
        cluster.leader_of(TOPIC).kill()
        load.wait_for_more()
    load.check()


def test_what_two_brokers_hold_is_read_without_the_third(cluster: Cluster) -> None:
    with Load(cluster, TOPIC, PARTITIONS) as load:
        load.wait_for_more(200)
    cluster.leader_of(TOPIC).kill()
    found = read_all(cluster.bootstrap, TOPIC, PARTITIONS)
    assert set(load.acknowledged) <= set(found.values())


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
