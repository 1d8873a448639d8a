"""Tiered storage in a cluster: leaders die, are stopped and replaced while they upload and delete; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from tests.support.cluster_load import Load
from tests.support.cluster_tiers import (
    DIGITS,
    EARLIEST,
    EARLIEST_LOCAL,
    LATEST_TIERED,
    TOPIC,
    local_start,
    offset,
    other_than,
    settings,
    storms,
    wait_tiered,
)
from tests.support.object_store import objects_in

pytestmark = pytest.mark.timeout(240)

#: segments
LOST = 3


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cluster(store: Path) -> Iterator[Cluster]:
    with Cluster(3, settings=settings(str(store))) as started:
        yield started


def test_leaders_that_die_and_are_stopped_while_they_upload(
    cluster: Cluster, topic_name: str, store: Path
) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3, configs=TOPIC)
    with Load(cluster, topic_name, digits=DIGITS) as load:
        storms(cluster, topic_name, load)
        # one that has nothing begins where the store ends, with what it needs from there
        leader = cluster.leader_of(topic_name)
        empty = other_than(cluster, leader)
        others = [it for it in cluster.brokers if it != empty.broker_id]
        with cluster.admin() as admin:
            assert set(admin.reassign({(topic_name, 0): others}).values()) == {None}
            cluster.wait_until("it has none", lambda: local_start(empty, topic_name) == -1, 60)
            assert set(admin.reassign({(topic_name, 0): [*others, empty.broker_id]}).values()) == {None}
            cluster.wait_until("all moved", lambda: not admin.reassignments(), 90)
        assert "a follower begins where the object store ends" in empty.log()
        assert list(store.rglob("*.log")), "what one replica put away is what all have"
        # and leads by it
        cluster.wait_in_sync(topic_name, 3)
        for it in others:
            cluster[it].kill()
            cluster[it].restart()
            cluster.wait_ready()
            cluster.wait_in_sync(topic_name, 3)
        with cluster.admin() as admin:
            assert set(admin.reassign({(topic_name, 0): [empty.broker_id, *others]}).values()) == {None}
            cluster.wait_until("all moved", lambda: not admin.reassignments(), 60)
            admin.elect_leaders([(topic_name, 0)])
        cluster.wait_until("it leads", lambda: cluster.leader_of(topic_name) is empty, 60)
        load.wait_for_more(100)
    load.check()
    assert offset(empty, topic_name, EARLIEST) == 0
    # in this order: it may upload and delete meanwhile
    local = offset(empty, topic_name, EARLIEST_LOCAL)
    tiered = offset(empty, topic_name, LATEST_TIERED)
    assert 0 < local <= tiered + 1
    delete_records_and_topic(cluster, topic_name, tiered, store)
    for broker in cluster.brokers.values():
        assert "Traceback" not in broker.log()


def test_no_replica_gives_up_what_the_store_lost(cluster: Cluster, topic_name: str, store: Path) -> None:
    """The leader uploads it again, and then it goes from all disks."""
    with cluster.admin() as admin:
        admin.create_topic(
            topic_name,
            partitions=1,
            replication_factor=3,
            configs={**TOPIC, "local.retention.ms": "-2"},
        )
        with Load(cluster, topic_name, digits=DIGITS) as load:
            cluster.wait_until("segments are uploaded", lambda: len(list(store.rglob("*.log"))) > LOST, 60)
            lost = sorted(store.rglob("*.log"))[:LOST]
            for path in lost:
                path.unlink()
            admin.alter_configs({"local.retention.ms": "1"}, topic=topic_name)
        # with nothing more to be uploaded, which comes before what was lost
        wait_tiered(cluster, topic_name, max(int(it.name[:20]) for it in lost))
    load.check()
    assert any("uploaded again from the disk" in it.log() for it in cluster.brokers.values())


def delete_records_and_topic(cluster: Cluster, topic: str, tiered: int, store: Path) -> None:
    """Who leads deletes in the store what is deleted; of a deleted topic nothing is left there."""
    half = tiered // 2
    with cluster.admin() as admin:
        admin.delete_records({(topic, 0): half})
        cluster.wait_until(
            "segments go from the store",
            lambda: min(int(it.name[:20]) for it in store.rglob("*.log")) > 0,
            60,
        )
        for broker in cluster.running():
            assert offset(cluster.leader_of(topic), topic, EARLIEST) == half, broker.broker_id
        admin.delete_topic(topic)
        cluster.wait_until("the store has nothing of it", lambda: not objects_in(store), 60)
