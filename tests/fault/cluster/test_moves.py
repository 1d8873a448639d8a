"""Replicas of a cluster change the disk while their partitions are written to with acks=all, each answer synced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import SETTINGS, watched
from tests.support.cli import Run
from tests.support.cli import fastlog as run
from tests.support.faults.cluster_witness import ClusterWitness

pytestmark = pytest.mark.timeout(180)

FSYNC = {"fastlog.durability": "fsync", "segment.ms": "2000"}


class OfTwoDirectories(Cluster):
    """A cluster each of whose brokers has two data directories."""

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        broker = super().add(broker_id, settings)
        broker.other_directories = (broker.data_dir.with_name(f"{broker.data_dir.name}-other"),)
        return broker


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with OfTwoDirectories(3, folder=tmp_path / "cluster", settings=SETTINGS) as started:
        yield started


@pytest.fixture
def witness(cluster: Cluster, topic_name: str) -> ClusterWitness:
    return watched(cluster, topic_name, configs=FSYNC)


def disks(cluster: Cluster, *arguments: str) -> Run:
    return run("disks", *arguments, "--bootstrap", cluster.bootstrap)


def place_of(cluster: Cluster, broker: ClusterBroker, topic: str) -> str:
    """The directory in which partition 0 is, as the broker says."""
    document: Any = json.loads(disks(cluster, "list", "--broker", f"{broker.broker_id}", "--json").out)
    (path,) = [
        it["path"]
        for it in document["brokers"][f"{broker.broker_id}"]
        for each in it["replicas"]
        if (each["topic"], each["partition"], each["is_future"]) == (topic, 0, False)
    ]
    return str(path)


def other_of(broker: ClusterBroker, path: str) -> str:
    (other,) = {str(broker.data_dir), *map(str, broker.other_directories)} - {path}
    return other


def test_the_leader_and_a_follower_move_while_they_are_written_to(
    cluster: Cluster, witness: ClusterWitness
) -> None:
    topic = witness.topic
    with witness:
        witness.wait_for_more(300)
        leader = cluster.leader_of(topic)
        follower = next(it for it in cluster.brokers.values() if it is not leader)
        for broker in (leader, follower, leader):
            target = other_of(broker, place_of(cluster, broker, topic))
            moved = disks(
                cluster, "move", f"{topic}:0", "--broker", f"{broker.broker_id}", "--to", target, "--wait"
            )
            assert (moved.status, moved.out) == (0, b"moved 1 partition\n"), moved.err
            assert place_of(cluster, broker, topic) == target
            assert (Path(target) / f"{topic}-0").is_dir()
            witness.wait_for_more()
        assert cluster.leader_of(topic) is leader, "a move takes nobody the lead"
        cluster.wait_in_sync(topic, 3)
    witness.check()


def test_a_broker_is_killed_in_a_move(cluster: Cluster, witness: ClusterWitness) -> None:
    """One directory has all that it had, and it catches up."""
    topic = witness.topic
    with witness:
        witness.wait_for_more(300)
        leader = cluster.leader_of(topic)
        target = other_of(leader, place_of(cluster, leader, topic))
        with cluster.admin() as admin:
            assert admin.move_replicas(leader.broker_id, {(topic, 0): target}) == {(topic, 0): None}
        leader.kill()
        witness.wait_for_more()
        leader.restart()
        cluster.wait_ready()
        cluster.wait_in_sync(topic, 3)
        place_of(cluster, leader, topic)
        witness.wait_for_more()
    witness.check()


def test_what_cannot_be_moved_is_said(cluster: Cluster, topic_name: str) -> None:
    with cluster.admin() as admin:
        admin.create_topic(topic_name, partitions=1, replication_factor=3)
    cluster.wait_in_sync(topic_name, 3)
    first = str(cluster[1].data_dir)
    nowhere = disks(cluster, "move", f"{topic_name}:0", "--broker", "1", "--to", "/nowhere")
    assert (nowhere.status, nowhere.out) == (1, b"moving 0 partitions\n")
    assert "to /nowhere" in nowhere.err
    nobody = disks(cluster, "move", f"{topic_name}:0", "--broker", "9", "--to", first)
    assert (nobody.status, "broker 9 is not there, only [1, 2, 3]" in nobody.err) == (1, True)
    no_topic = disks(cluster, "move", "nothing:0", "--broker", "1", "--to", first)
    assert (no_topic.status, "nothing:0" in no_topic.err) == (1, True)

    listed = disks(cluster, "list")
    assert listed.status == 0
    lines = listed.out.decode().splitlines()
    assert lines[0].split() == ["broker", "directory", "replicas", "bytes", "free", "of", "state"]
    assert sorted(line.split()[0] for line in lines[1:]) == ["1", "1", "2", "2", "3", "3"]
    replicas = disks(cluster, "list", "--replicas", "--broker", "1").out.decode()
    assert f"{topic_name}:0" in replicas
