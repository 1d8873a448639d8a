"""Where a broker listened, one of another cluster listens next: neither cluster may take it for its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastlog.testing import Cluster
from tests.support.faults.cluster_witness import ClusterWitness

#: elections before it moves, so that its notices look newer than those of the first cluster
ELECTIONS = 3


@pytest.fixture
def other() -> Iterator[Cluster]:
    with Cluster(1) as started:
        yield started


def test_an_address_that_is_another_clusters_now(
    cluster: Cluster, other: Cluster, witness: ClusterWitness, topic_name: str
) -> None:
    for _ in range(ELECTIONS):
        other[1].stop()
        other[1].restart()
    other[1].stop()
    controller = cluster.controller().broker_id
    dead = next(it for it in cluster.brokers.values() if it.broker_id != controller)
    with witness:
        witness.wait_for_more()
        dead.kill()
        # before its session is over: the others look for it at its addresses all the while
        # not those of clients, who would write to the stranger's topic of that name
        other[1].ports |= {scheme: dead.ports[scheme] for scheme in ("BROKER", "METADATA")}
        other[1].start()
        other[1].wait()
        with other.admin() as admin:
            admin.create_topic(topic_name)
        cluster.wait_ready()
        witness.wait_for_more()
        with cluster.admin() as admin:
            admin.create_topic(f"{topic_name}-later", partitions=4, replication_factor=2)
        cluster.wait_in_sync(f"{topic_name}-later", 2)
        other[1].stop()
        dead.start()
        dead.wait()
        cluster.wait_ready()
        cluster.wait_in_sync(topic_name, 3)
    witness.check()
