"""One of a broker's disks fails: others lead and have in sync what was there, and the broker goes on with the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fastlog import Producer
from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import SETTINGS, watched
from tests.fault.conftest import MakeDisk
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot

pytestmark = pytest.mark.timeout(150)


class OnDisks(Cluster):
    """A cluster of which broker 1 has two disks of its own."""

    def __init__(self, disks: tuple[LoopDisk, LoopDisk], folder: Path) -> None:
        super().__init__(3, folder=folder, settings=SETTINGS)
        self._disks = disks

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        broker = super().add(broker_id, settings)
        if broker_id == 1:
            first, second = (disk.path / "data" for disk in self._disks)
            broker.data_dir, broker.other_directories = first, (second,)
        return broker


@pytest.fixture
def disks(make_disk: MakeDisk) -> tuple[LoopDisk, LoopDisk]:
    # of the same size, so that partitions go to both
    return make_disk("first", mebibytes=96), make_disk("second", mebibytes=96)


@pytest.fixture
def on_disks(disks: tuple[LoopDisk, LoopDisk], tmp_path: Path) -> Iterator[Cluster]:
    with OnDisks(disks, tmp_path / "cluster") as started:
        yield started


def members(cluster: Cluster, topic: str) -> dict[int, tuple[int, set[int]]]:
    """Leader and in-sync replicas of each partition, as another broker tells them."""
    with cluster.admin(2) as admin:
        return {it.partition: (it.leader, set(it.isr)) for it in admin.describe_topic(topic).partitions}


def test_a_disk_that_fails_takes_its_replicas_out_and_no_others(
    on_disks: Cluster, disks: tuple[LoopDisk, LoopDisk], topic_name: str
) -> None:
    broker, (_, second) = on_disks[1], disks
    with watched(on_disks, topic_name) as witness:
        witness.wait_for_more()
        data = second.path / "data"
        failed = {int(it.name.rpartition("-")[2]) for it in data.glob(f"{topic_name}-[0-9]")}
        partitions = members(on_disks, topic_name).keys()
        assert failed, "some are there"
        assert failed != partitions, "and some are not"

        def only_the_failed_are_out() -> bool:
            now = members(on_disks, topic_name)
            out = {it for it, (leader, isr) in now.items() if leader != 1 and 1 not in isr}
            return out == failed and all(leader > 0 and len(isr) >= 2 for leader, isr in now.values())

        second.fail()
        on_disks.wait_until("others have what was on the disk", only_the_failed_are_out)
        witness.wait_for_more(300)
        assert broker.is_running

        # it starts without that disk
        broker.kill()
        broker.restart()
        on_disks.wait_until("what it has elsewhere is in sync", only_the_failed_are_out)
        assert str(data) in broker.log_file.read_text()
        witness.wait_for_more(300)

        # and has it back
        broker.kill()
        second.restore_power()
        # what the kernel had not written back is gone, as after a crash of the machine
        set_earlier_boot(data)
        broker.restart()
        on_disks.wait_ready()
        on_disks.wait_in_sync(topic_name, 3)
        print(f"failed disk: {witness.gap():.2f} s without an acknowledgement")
        # nobody waits replica.lag.time.max.ms for what is on the disk that failed
        assert witness.gap() < 20
    witness.check()


def test_a_topic_of_a_disk_that_failed_is_deleted_and_made_again(
    on_disks: Cluster, disks: tuple[LoopDisk, LoopDisk], topic_name: str
) -> None:
    broker, data = on_disks[1], disks[1].path / "data"
    with on_disks.admin(2) as admin:
        admin.create_topic(topic_name, partitions=6, replication_factor=3)
        on_disks.wait_in_sync(topic_name, 3)
        old = list(data.glob(f"{topic_name}-[0-9]"))
        assert old
        disks[1].fail()
        # a disk that nobody writes to does not fail
        with Producer(on_disks.bootstrap) as producer:
            for number in range(6):
                producer.send(topic_name, b"old", partition=number).result(60)
        on_disks.wait_until(
            "its replicas are out",
            lambda: any(1 not in isr for _, isr in members(on_disks, topic_name).values()),
        )
        admin.delete_topic(topic_name)
        admin.create_topic(topic_name, partitions=6, replication_factor=3)
    # in the directory that is well, the one that failed being of no more use
    on_disks.wait_in_sync(topic_name, 3)
    with Producer(on_disks.bootstrap) as producer:
        sent = [producer.send(topic_name, b"new", partition=it) for it in range(6)]
        assert [one.result(30).offset for one in sent] == [0] * 6

    broker.kill()
    disks[1].restore_power()
    set_earlier_boot(data)
    broker.restart()
    on_disks.wait_ready()
    on_disks.wait_in_sync(topic_name, 3)
    on_disks.wait_until("what was left of it is gone", lambda: not any(it.exists() for it in old))
    assert "directory of no known topic" not in broker.log()


def test_a_replica_that_is_given_to_a_broker_without_its_disk_counts_for_nothing(
    on_disks: Cluster, disks: tuple[LoopDisk, LoopDisk], topic_name: str
) -> None:
    """Assigned while the broker was down: nobody knows whether the disk has it, so it is not begun anew, empty."""
    broker, data = on_disks[1], disks[1].path / "data"
    with on_disks.admin(2) as admin:
        # so that the directory is in use
        admin.create_topic(f"{topic_name}-before", partitions=6, replication_factor=3)
        on_disks.wait_in_sync(f"{topic_name}-before", 3)
        admin.create_topic(topic_name, partitions=1, replication_factor=2)
        admin.reassign({(topic_name, 0): (2, 3)})
        on_disks.wait_until("it has moved", lambda: members(on_disks, topic_name)[0][1] == {2, 3})
        broker.kill()
        assert admin.reassign({(topic_name, 0): (2, 3, 1)}) == {(topic_name, 0): None}
        disks[1].fail()
        broker.restart()
        on_disks.wait_until(
            "it is up again", lambda: 1 in {it.node_id for it in admin.describe_cluster().brokers}
        )
        on_disks.wait_until("it says so", lambda: "which may be in" in broker.log())
        assert members(on_disks, topic_name)[0][1] == {2, 3}

        broker.kill()
        disks[1].restore_power()
        set_earlier_boot(data)
        broker.restart()
        on_disks.wait_ready()
        on_disks.wait_until("it follows", lambda: members(on_disks, topic_name)[0][1] == {1, 2, 3}, 60)
