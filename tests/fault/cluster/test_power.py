"""The power of one machine goes, or of all at once, in both modes of durability; what was lost is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fastlog.testing import Cluster
from fastlog.testing.cluster_broker import ClusterBroker
from tests.fault.cluster.conftest import SETTINGS, watched
from tests.fault.conftest import MakeDisk
from tests.support.faults.cluster_witness import ClusterWitness
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot

RECORDS = 600

pytestmark = pytest.mark.timeout(150)


class OnDisks(Cluster):
    """A cluster of which each broker has a disk of its own."""

    def __init__(self, disks: dict[int, LoopDisk], folder: Path) -> None:
        super().__init__(3, folder=folder, settings=SETTINGS)
        self.disks = disks

    def add(self, broker_id: int, settings: Mapping[str, str] | None = None) -> ClusterBroker:
        broker = super().add(broker_id, settings)
        broker.data_dir = self.disks[broker_id].path / "data"
        return broker

    def lose_power(self, *broker_ids: int) -> None:
        """The machines die, each with its broker, and what is not on their disks."""
        for each in broker_ids:
            self[each].kill()
        for each in broker_ids:
            self.disks[each].cut_power()

    def gain_power(self, *broker_ids: int) -> None:
        """The machines start again; returns when all brokers are ready."""
        for each in broker_ids:
            self.disks[each].restore_power()
            set_earlier_boot(self[each].data_dir)
            self[each].start()
        for each in broker_ids:
            self[each].wait()
            assert 'last_stop="machine died"' in self[each].log_file.read_text()


@pytest.fixture
def on_disks(make_disk: MakeDisk, tmp_path: Path) -> Iterator[OnDisks]:
    disks = {it: make_disk(f"machine-{it}") for it in (1, 2, 3)}
    started = OnDisks(disks, tmp_path / "cluster")
    with started:
        yield started


def counted(witness: ClusterWitness, what: str) -> int:
    lost = witness.lost()
    print(f"{what}: {len(lost)} of {len(witness.acknowledged)} acknowledged records lost")
    return len(lost)


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_of_one(on_disks: OnDisks, topic_name: str, durability: str) -> None:
    with watched(on_disks, topic_name, configs={"fastlog.durability": durability}) as witness:
        witness.wait_for_more(RECORDS)
        dead = on_disks.leader_of(topic_name).broker_id
        on_disks.lose_power(dead)
        # it comes back before its session is over: what it leads may still be its own as far as anybody knows
        on_disks.gain_power(dead)
        witness.wait_for_more()
        on_disks.wait_ready()
        on_disks.wait_in_sync(topic_name, 3)
    assert counted(witness, f"power cut of one, {durability}") == 0
    witness.check()


def test_of_all_under_load_with_fsync(on_disks: OnDisks, topic_name: str) -> None:
    """What is acknowledged in the last moment is on a disk too."""
    with watched(on_disks, topic_name, configs={"fastlog.durability": "fsync"}) as witness:
        witness.wait_for_more(RECORDS)
        lose_all(on_disks, topic_name)
        witness.wait_for_more()
    assert counted(witness, "power cut of all under load, fsync") == 0
    witness.check()


def test_of_all_with_what_the_system_had_not_written(on_disks: OnDisks, topic_name: str) -> None:
    with watched(on_disks, topic_name, configs={"fastlog.durability": "os"}) as witness:
        witness.wait_for_more(RECORDS)
    lose_all(on_disks, topic_name)
    counted(witness, "power cut of all, os")
    # what is there is a beginning of what was acknowledged, the same on all, and it goes on from there
    witness.check_beginning()
    with ClusterWitness(on_disks, topic_name, begins=witness.count) as later:
        later.wait_for_more()
    assert later.failures == []


def lose_all(on_disks: OnDisks, topic: str) -> None:
    """A cut of all machines, which are up again a moment later."""
    on_disks.lose_power(1, 2, 3)
    on_disks.gain_power(1, 2, 3)
    on_disks.wait_ready()
    on_disks.wait_in_sync(topic, 3)
