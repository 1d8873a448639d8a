"""A backup that is brought back to a cluster whose brokers die meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fastlog import Admin, Producer
from fastlog.backup.archive import DirectoryArchive
from fastlog.backup.partitions import Partitions
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.protocol.batch import read_batches
from fastlog.testing import Cluster

RECORDS = 300


def records_of(cluster: Cluster, topic: str) -> list[tuple[int, bytes]]:
    """Offset and records of each batch."""
    place = (topic, 0)
    with Partitions(cluster.bootstrap) as partitions, Admin(cluster.bootstrap) as admin:
        topic_id = admin.describe_topic(topic).topic_id
        end = partitions.stable_ends([place])[place]
        found: list[tuple[int, bytes]] = []
        position = 0
        while position < end:
            for batch in read_batches(memoryview(partitions.fetch(place, topic_id, position))):
                position = batch.last_offset + 1
                found.append((batch.base_offset, bytes(batch.data[61:])))
    return found


def test_restoring_survives_the_death_of_leaders(
    cluster: Cluster, tmp_path: Path, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastlog.backup.restoring.RUN_BYTES", 1)
    archive = DirectoryArchive(tmp_path / "archive")
    with cluster.admin() as admin:
        admin.create_topic(topic_name, replication_factor=3)
    with Producer(cluster.bootstrap, linger_ms=0) as producer:
        for number in range(RECORDS):
            producer.send(topic_name, b"%d" % number).result()
    before = records_of(cluster, topic_name)
    manifest = back_up(cluster.bootstrap, archive, topics=[topic_name], groups=[])
    with cluster.admin() as admin:
        admin.delete_topic(topic_name)
    sent = 0
    killed: list[int] = []

    def kill_leader() -> None:
        with cluster.admin() as admin:
            leader = admin.describe_topic(topic_name).partitions[0].leader
        killed.append(leader)
        cluster.brokers[leader].kill()
        cluster.brokers[leader].start()

    killers: list[threading.Thread] = []

    def noted(_bytes: int) -> None:
        nonlocal sent
        sent += 1
        if sent in (50, 150):
            for one in killers:
                one.join()
            killers.append(threading.Thread(target=kill_leader))
            killers[-1].start()

    restore(cluster.bootstrap, archive, manifest, replication_factor=3, done=noted)
    for one in killers:
        one.join()
    assert len(killed) == 2
    assert records_of(cluster, topic_name) == before
    with cluster.admin() as admin:
        entry = admin.describe_configs(topic=topic_name, keys=["fastlog.restoring"])["fastlog.restoring"]
    assert (entry.value, entry.source) == ("false", "default")
