"""Tiered topics in a cluster: their settings, where disks and store begin and end, and leaders that die meanwhile."""

from __future__ import annotations

from pathlib import Path

from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.support.cluster_load import Load
from tests.support.raw import RawTcp

TOPIC = {
    "remote.storage.enable": "true",
    "segment.bytes": str(1 << 20),
    "local.retention.ms": "1",
    "file.delete.delay.ms": "0",
    "min.insync.replicas": "2",
}
DIGITS = 2_000
EARLIEST, EARLIEST_LOCAL, LATEST_TIERED, EARLIEST_PENDING_UPLOAD = -2, -4, -5, -6


def settings(url: str) -> dict[str, str]:
    return {
        "remote.log.storage.system.enable": "true",
        "fastlog.remote.store.url": url,
        "remote.log.manager.task.interval.ms": "200",
        "log.retention.check.interval.ms": "300",
        "log.flush.start.offset.checkpoint.interval.ms": "300",
        "group.initial.rebalance.delay.ms": "0",
    }


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
        (partition,) = connection.ask(request, 11).topics[0].partitions
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
