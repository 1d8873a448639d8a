"""Unclean elections put other records at offsets that a backup has already: it never holds records of two histories."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastlog.backup.manifest import Manifest
from fastlog.backup.restoring import restore
from fastlog.backup.saving import back_up
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.conftest import MakeBroker
from tests.support.backups import CountingArchive, InterruptedHereError, log_of, send
from tests.support.broker import BrokerProcess

#: on both replicas, and those that only the first leader has
COMMON, LOST = 10, 5

pytestmark = pytest.mark.timeout(240)


class Split:
    """A topic of two replicas, the second of which lacks the last records, and leads when the first one dies."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster, self._topic = cluster, topic
        with cluster.admin() as admin:
            configs = {"min.insync.replicas": "1", "unclean.leader.election.enable": "true"}
            admin.create_topic(topic, replication_factor=2, configs=configs)
            replicas = admin.describe_topic(topic).partitions[0].replicas
        cluster.wait_in_sync(topic, 2)
        send(cluster, topic, COMMON)
        self._leader = cluster.leader_of(topic)
        (self._behind,) = [cluster[it] for it in replicas if it != self._leader.broker_id]
        self._behind.kill()
        cluster.wait_until("it is out of sync", lambda: self._in_sync() == 1)

    def _in_sync(self) -> int:
        with self._cluster.admin(self._leader.broker_id) as admin:
            return len(admin.describe_topic(self._topic).partitions[0].isr)

    def add_to_first(self) -> None:
        """Records that only the first leader has."""
        send(self._cluster, self._topic, LOST, first=100)

    def elect_second(self, count: int) -> None:
        """The one that lacks them leads, and gets so many others."""
        self._leader.kill()
        self._behind.start()

        def leads() -> bool:
            leader: ClusterBroker = self._cluster.leader_of(self._topic)
            return leader is self._behind

        self._cluster.wait_until("the one behind leads", leads, seconds=60)
        send(self._cluster, self._topic, count, first=200)


@pytest.fixture
def archive(tmp_path: Path) -> CountingArchive:
    return CountingArchive(tmp_path / "archive")


@pytest.fixture
def other(make_broker: MakeBroker) -> BrokerProcess:
    """Where backups are brought back to."""
    return make_broker("other")


@pytest.fixture
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of one batch."""
    monkeypatch.setattr("fastlog.backup.log_saving.CHUNK_BYTES", 1)
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)


def save(cluster: Cluster, archive: CountingArchive, topic: str) -> Manifest:
    return back_up(cluster.bootstrap, archive, topics=[topic], groups=[])


@pytest.mark.usefixtures("_small_chunks")
def test_what_an_election_lost_is_fetched_anew(
    cluster: Cluster, archive: CountingArchive, other: BrokerProcess, topic_name: str
) -> None:
    split = Split(cluster, topic_name)
    split.add_to_first()
    before = save(cluster, archive, topic_name)
    old = log_of(cluster, topic_name)
    assert len(archive.written) == COMMON + LOST + 1
    split.elect_second(LOST + 2)
    now = log_of(cluster, topic_name)
    assert now[1] == COMMON + LOST + 2
    assert now[2] != old[2]
    archive.written.clear()
    after = save(cluster, archive, topic_name)
    assert len(archive.written) == LOST + 2 + 1, "what both have is not fetched again"
    restore(other.bootstrap, archive, after)
    assert log_of(other, topic_name) == now
    # each of the two has its own records, and the one from before is what it was
    for manifest, log in ((before, old), (after, now)):
        ends = [it.end for it in manifest.topics[0].partitions[0].chunks]
        assert ends == list(range(1, log[1] + 1))


@pytest.mark.usefixtures("_small_chunks")
def test_a_backup_that_was_interrupted_after_an_election_goes_on_with_the_new_records(
    cluster: Cluster, archive: CountingArchive, other: BrokerProcess, tmp_path: Path, topic_name: str
) -> None:
    split = Split(cluster, topic_name)
    split.add_to_first()
    save(cluster, archive, topic_name)
    split.elect_second(LOST + 4)
    # one new record reaches beyond the old end: it seems to go on where the last backup ended
    with pytest.raises(InterruptedHereError):
        save(cluster, CountingArchive(tmp_path / "archive", LOST + 2), topic_name)
    restore(other.bootstrap, archive, save(cluster, archive, topic_name))
    assert log_of(other, topic_name) == log_of(cluster, topic_name)


@pytest.mark.parametrize("count", [1, 20], ids=["the new leader ends before", "the new leader has more"])
def test_an_election_in_the_middle_of_a_backup(
    cluster: Cluster,
    archive: CountingArchive,
    other: BrokerProcess,
    topic_name: str,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    monkeypatch.setattr("fastlog.backup.partitions.FETCH_BYTES", 1)
    split = Split(cluster, topic_name)
    split.add_to_first()
    fetched = 0

    def note(records: int) -> None:
        nonlocal fetched
        fetched += records
        if fetched == COMMON + 3:
            split.elect_second(count)

    manifest = back_up(cluster.bootstrap, archive, topics=[topic_name], groups=[], done=note)
    assert fetched > COMMON + LOST
    restore(other.bootstrap, archive, manifest)
    assert log_of(other, topic_name) == log_of(cluster, topic_name)
