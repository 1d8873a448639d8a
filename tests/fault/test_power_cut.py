"""The power is cut under load, on a disk of the broker's own; then the machine starts again."""

from __future__ import annotations

import time

import pytest

from tests.fault.conftest import BrokerOn, MakeDisk
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot
from tests.support.faults.witness import Witness, read_all

CUTS = 3
RECORDS_BETWEEN_CUTS = 3_000


def cut_and_restart(disk: LoopDisk, broker: BrokerProcess) -> None:
    """The machine dies and comes back: the broker with it, and what was not on the disk is gone."""
    disk.cut_power()
    broker.kill()
    disk.restore_power()
    set_earlier_boot(broker.data_dir)
    broker.start()
    assert 'last_stop="machine died"' in broker.log()


def run_for(witness: Witness, broker: BrokerProcess, records: int) -> None:
    goal = len(witness.acknowledged) + records
    read = len(witness.consumed) + records // 2
    witness.start(broker.bootstrap)
    wait_until(
        "records are acknowledged and read",
        lambda: len(witness.acknowledged) >= goal and len(witness.consumed) >= read,
        seconds=40,
    )


@pytest.mark.timeout(180)
def test_an_fsync_topic_loses_nothing_that_anybody_was_told_of(
    make_disk: MakeDisk, broker_on: BrokerOn
) -> None:
    disk = make_disk()
    broker = broker_on(disk)
    # small segments, so that some are rolled, and made, before each cut
    config = {"fastlog.durability": "fsync", "segment.bytes": str(1 << 20)}
    witness = Witness(create_topic(broker.bootstrap, "synced", config=config))
    for _ in range(CUTS):
        run_for(witness, broker, RECORDS_BETWEEN_CUTS)
        cut_and_restart(disk, broker)
        witness.stop()
        witness.check(read_all(broker.bootstrap, witness.topic))
    assert "committed records are missing" not in broker.log_file.read_text()
    assert broker.stop() == 0, broker.log()
