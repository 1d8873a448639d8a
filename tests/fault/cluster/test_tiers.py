"""Tiered storage in a cluster: leaders die, are stopped and replaced while they upload and delete; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.support.cluster_load import Load
from tests.support.raw import RawTcp

pytestmark = pytest.mark.timeout(240)

TOPIC = {
    "remote.storage.enable": "true",
    "segment.bytes": str(1 << 20),
    "local.retention.ms": "1",
    "file.delete.delay.ms": "0",
    "min.insync.replicas": "2",
}
DIGITS = 2_000
EARLIEST, EARLIEST_LOCAL, LATEST_TIERED = -2, -4, -5


def settings(url: str) -> dict[str, str]:
    return {
        "remote.log.storage.system.enable": "true",
        "fastlog.remote.store.url": url,
        "remote.log.manager.task.interval.ms": "200",
        "log.retention.check.interval.ms": "300",
        "log.flush.start.offset.checkpoint.interval.ms": "300",
        "group.initial.rebalance.delay.ms": "0",
    }


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cluster(store: Path) -> Iterator[Cluster]:
    with Cluster(3, settings=settings(str(store))) as started:
        yield started


def directory(broker: ClusterBroker, topic: str) -> Path:
    return broker.data_dir / f"{topic}-0"


def local_start(broker: ClusterBroker, topic: str) -> int:
    """Where a replica's disk begins; -1 where it has none."""
    names = sorted(it.stem for it in directory(broker, topic).glob("*.log"))
    return int(names[0]) if names else -1


def wait_tiered(cluster: Cluster, topic: str, beyond: int = 0) -> None:
    """All replicas have given the front of the log to the store."""
    brokers = cluster.running()
    cluster.wait_until(
        f"every disk begins beyond offset {beyond}",
        lambda: all(local_start(it, topic) > beyond for it in brokers),
        90,
    )


def offset(broker: ClusterBroker, topic: str, timestamp: int) -> int:
    request = ListOffsetsRequest(-1, 0, [ListOffsetsTopic(topic, [ListOffsetsPartition(0, -1, timestamp)])])
    with RawTcp("127.0.0.1", broker.ports["PLAINTEXT"]) as connection:
        (partition,) = connection.ask(request, 9).topics[0].partitions
    assert partition.error_code == 0
    return int(partition.offset)


def other_than(cluster: Cluster, broker: ClusterBroker) -> ClusterBroker:
    return next(it for it in cluster.brokers.values() if it is not broker)


def storms(cluster: Cluster, topic: str, load: Load) -> None:
    """The leader is killed while it uploads; the next one is stopped, and goes on when others have uploaded on."""
    wait_tiered(cluster, topic)
    leader = cluster.leader_of(topic)
    leader.kill()
    load.wait_for_more(300)
    leader.restart()
    cluster.wait_ready()
    cluster.wait_in_sync(topic, 3)
    stopped = cluster.leader_of(topic)
    stopped.pause()
    load.wait_for_more(600)
    following = next(it for it in cluster.running() if it is not stopped)
    reached = max(local_start(it, topic) for it in cluster.running() if it is not stopped)
    cluster.wait_until(
        "the next leader uploads on",
        lambda: local_start(following, topic) > reached,
        60,
    )
    stopped.resume()
    load.wait_for_more(100)
    cluster.wait_in_sync(topic, 3)
    wait_tiered(cluster, topic, reached)


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
    tiered = offset(empty, topic_name, LATEST_TIERED)
    assert 0 < offset(empty, topic_name, EARLIEST_LOCAL) <= tiered + 1
    delete_records_and_topic(cluster, topic_name, tiered, store)
    for broker in cluster.brokers.values():
        assert "Traceback" not in broker.log()


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
        cluster.wait_until(
            "the store has nothing of it", lambda: not [it for it in store.rglob("*") if it.is_file()], 60
        )
