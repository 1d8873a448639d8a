"""A cluster of three for each test, in a ZooKeeper for all of them, and who writes and reads meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fastlog.testing import Cluster
from fastlog.testing.zookeeper import ZooKeeper
from tests.support.faults.cluster_witness import PARTITIONS, ClusterWitness
from tests.support.zookeeper import root, zookeeper

__all__ = ["root", "zookeeper"]

SETTINGS = {"min.insync.replicas": "2", "group.initial.rebalance.delay.ms": "0"}

Watch = Callable[..., ClusterWitness]


@pytest.fixture
def settings() -> dict[str, str]:
    """Of the brokers, beside `SETTINGS`."""
    return {}


@pytest.fixture
def cluster(zookeeper: ZooKeeper, root: str, settings: dict[str, str]) -> Iterator[Cluster]:
    # one for each test: what one leaves behind is not found by the next
    with Cluster(3, settings=SETTINGS | settings, zookeeper=f"{zookeeper.hosts}{root}") as started:
        yield started


@pytest.fixture
def witness(cluster: Cluster, topic_name: str) -> ClusterWitness:
    """librdkafka's producer and consumer on a topic of its own; to be entered."""
    return watched(cluster, topic_name)


def watched(
    cluster: Cluster,
    topic: str,
    *,
    with_sdk: bool = False,
    configs: dict[str, str] | None = None,
    digits: int = 1,
) -> ClusterWitness:
    """Makes a topic with three replicas and what watches it."""
    with cluster.admin() as admin:
        admin.create_topic(topic, partitions=PARTITIONS, replication_factor=3, configs=configs)
    return ClusterWitness(cluster, topic, with_sdk=with_sdk, digits=digits)
