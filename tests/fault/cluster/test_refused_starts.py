"""Brokers that must not join: each says in one line what is wrong and what to do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from fastlog.testing.ports import free_ports
from tests.support.broker import BrokerProcess


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(1, settings={"offsets.topic.replication.factor": "1"}) as started:
        yield started


def address(cluster: Cluster) -> str:
    assert cluster.zookeeper is not None
    return cluster.zookeeper.hosts


def refusal(broker: ClusterBroker, *, seconds: float = 30.0) -> str:
    """The last line that the broker says when it ends without serving."""
    broker.start()
    try:
        with pytest.raises(RuntimeError, match="ended"):
            broker.wait(seconds)
    finally:
        broker.kill()
    return broker.log().strip().splitlines()[-1]


def test_a_node_id_that_another_broker_has(cluster: Cluster, tmp_path: Path) -> None:
    said = refusal(ClusterBroker(1, tmp_path, zookeeper=address(cluster)))
    assert "node.id 1 is in use by the broker at" in said
    assert cluster[1].bootstrap in said


def test_a_directory_of_another_cluster(cluster: Cluster, tmp_path: Path) -> None:
    first = ClusterBroker(2, tmp_path, zookeeper=f"{address(cluster)}/other")
    first.restart()
    first.stop()
    said = refusal(ClusterBroker(2, tmp_path, zookeeper=address(cluster)))
    assert "one of the two is another cluster's" in said
    empty = refusal(ClusterBroker(2, tmp_path, zookeeper=f"{address(cluster)}/empty"))
    assert "ZooKeeper has no cluster at /empty" in empty


def test_a_directory_of_another_broker(cluster: Cluster, tmp_path: Path) -> None:
    first = ClusterBroker(2, tmp_path, zookeeper=address(cluster))
    first.restart()
    first.stop()
    shutil.move(tmp_path / "broker-2", tmp_path / "broker-3")
    said = refusal(ClusterBroker(3, tmp_path, zookeeper=address(cluster)))
    assert "2" in said
    assert "node.id" in said


def test_a_directory_of_a_broker_that_is_alone(cluster: Cluster, tmp_path: Path) -> None:
    alone = BrokerProcess(tmp_path / "broker-2", settings={"node.id": "2"}).start()
    assert alone.stop() == 0
    said = refusal(ClusterBroker(2, tmp_path, zookeeper=address(cluster)))
    assert "is that of a broker which is alone" in said


def test_a_clusters_directory_without_its_cluster(cluster: Cluster, tmp_path: Path) -> None:
    broker = ClusterBroker(2, tmp_path, zookeeper=address(cluster))
    broker.restart()
    broker.stop()
    alone = BrokerProcess(tmp_path / "broker-2", settings={"node.id": "2"})
    with pytest.raises(AssertionError, match="belongs to a broker of a cluster: say where its ZooKeeper is"):
        alone.start()


def test_no_zookeeper(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    said = refusal(ClusterBroker(1, tmp_path, zookeeper=f"127.0.0.1:{port}"))
    assert (
        f"no ZooKeeper answered at 127.0.0.1:{port} within 15 s: 127.0.0.1:{port} refuses connections" in said
    )


def test_a_port_that_is_taken(cluster: Cluster, tmp_path: Path) -> None:
    for scheme in ("PLAINTEXT", "BROKER", "METADATA"):
        taken = {scheme: cluster[1].ports[scheme]}
        said = refusal(ClusterBroker(2, tmp_path / scheme, zookeeper=address(cluster), ports=taken))
        assert f"cannot listen at {scheme}://127.0.0.1:{taken[scheme]}" in said
