"""What a tiered topic's offsets are, and what is read of it, when other brokers lead, also unclean ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.support.cluster_load import read_all
from tests.support.cluster_tiers import (
    EARLIEST,
    EARLIEST_LOCAL,
    EARLIEST_PENDING_UPLOAD,
    LATEST_TIERED,
    TOPIC,
    local_start,
    offset,
    settings,
)

pytestmark = pytest.mark.timeout(240)

VALUE_BYTES = 4_000
#: so many are some segments
COUNT = 1_000


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(3, settings=settings(str(tmp_path / "store"))) as started:
        yield started


def fill(cluster: Cluster, topic: str, name: bytes) -> list[bytes]:
    values = [(b"%s %d " % (name, number)).ljust(VALUE_BYTES, b".") for number in range(COUNT)]
    producer = Producer(
        {"bootstrap.servers": cluster.bootstrap, "linger.ms": 5, "batch.size": 100_000, "log_level": 0}
    )
    for value in values:
        producer.produce(topic, value, partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0
    return values


def check(cluster: Cluster, topic: str, values: list[bytes]) -> None:
    """Every offset has its record, and what the leader says of disk and store fits together."""
    leader = cluster.leader_of(topic)
    assert offset(leader, topic, EARLIEST) == 0
    assert read_all(cluster.bootstrap, topic, 1) == {
        (0, number): value for number, value in enumerate(values)
    }
    assert offset(leader, topic, EARLIEST_LOCAL) == local_start(leader, topic) > 0
    assert offset(leader, topic, EARLIEST_PENDING_UPLOAD) == offset(leader, topic, LATEST_TIERED) + 1


def wait_quiet(cluster: Cluster, topic: str, beyond: int) -> int:
    """All that may go to the store is there, and of that nothing is on a disk; answers the last offset in the store."""
    leader = cluster.leader_of(topic)

    def is_quiet() -> bool:
        begins = offset(leader, topic, LATEST_TIERED) + 1
        return begins > beyond and all(local_start(it, topic) == begins for it in replicas(cluster, topic))

    cluster.wait_until("every disk begins where the store ends", is_quiet, 60)
    return offset(leader, topic, LATEST_TIERED)


def replicas(cluster: Cluster, topic: str) -> list[ClusterBroker]:
    with cluster.admin() as admin:
        told = admin.describe_topic(topic).partitions[0].replicas
    return [cluster[it] for it in told if cluster[it].is_running]


def test_offsets_of_store_and_disk_are_the_same_after_a_failover(cluster: Cluster, topic_name: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, replication_factor=3, configs=TOPIC)
    values = fill(cluster, topic_name, b"before")
    tiered = wait_quiet(cluster, topic_name, 0)
    check(cluster, topic_name, values)
    leader = cluster.leader_of(topic_name)
    leader.kill()
    cluster.wait_until("another one leads", lambda: cluster.leader_of(topic_name) is not leader, 60)
    assert offset(cluster.leader_of(topic_name), topic_name, LATEST_TIERED) == tiered
    check(cluster, topic_name, values)
    values += fill(cluster, topic_name, b"after")
    assert wait_quiet(cluster, topic_name, tiered + 1) > tiered
    check(cluster, topic_name, values)


def test_an_unclean_leader_takes_from_the_store_what_it_does_not_have(
    cluster: Cluster, topic_name: str
) -> None:
    configs = {**TOPIC, "min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
    with cluster.admin() as admin:
        admin.create_topic(topic_name, replication_factor=2, configs=configs)
    cluster.wait_in_sync(topic_name, 2)
    common = fill(cluster, topic_name, b"common")
    wait_quiet(cluster, topic_name, 0)
    first = cluster.leader_of(topic_name)
    (behind,) = [it for it in replicas(cluster, topic_name) if it is not first]
    behind.kill()
    cluster.wait_in_sync(topic_name, 1)
    fill(cluster, topic_name, b"lost")
    cluster.wait_until(
        "the first leader uploads what it alone has",
        lambda: offset(first, topic_name, LATEST_TIERED) > COUNT + COUNT // 2,
        60,
    )
    first.kill()
    behind.start()
    behind.wait()
    cluster.wait_until("the one behind leads", lambda: cluster.leader_of(topic_name) is behind, 60)
    # before it has looked at the store, or after
    assert offset(behind, topic_name, LATEST_TIERED) < COUNT
    assert offset(behind, topic_name, EARLIEST_PENDING_UPLOAD) <= COUNT
    values = common + fill(cluster, topic_name, b"other")
    cluster.wait_until(
        "it uploads its own", lambda: offset(behind, topic_name, LATEST_TIERED) > COUNT + COUNT // 2, 60
    )
    cluster.wait_until("and deletes", lambda: local_start(behind, topic_name) > COUNT, 60)
    check(cluster, topic_name, values)
    first.restart()
    cluster.wait_in_sync(topic_name, 2, 60)
    cluster.wait_until("the former leader deletes", lambda: local_start(first, topic_name) > COUNT, 60)
    behind.kill()
    cluster.wait_until("the first one leads again", lambda: cluster.leader_of(topic_name) is first, 60)
    check(cluster, topic_name, values)
