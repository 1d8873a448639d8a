"""A disk fails while a replica is moved to it, or after one was moved away: nothing is lost, the move goes on later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fault.conftest import BrokerOn, MakeDisk
from tests.integration.test_data_directories import ask_to_move, described, moving
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.loop_disk import LoopDisk, set_earlier_boot
from tests.support.faults.witness import Witness, read_all

RATE = "replica.alter.log.dirs.io.max.bytes.per.second"
TOPIC = "orders"
DISK_MEBIBYTES = 256
# for any one thing: each record waits for a sync of a loop disk, which others write to too
WAIT_SECONDS = 180


def written_broker(
    make_disk: MakeDisk, broker_on: BrokerOn, second: Path
) -> tuple[LoopDisk, BrokerProcess, Witness]:
    """A broker with a synced topic on its first disk, and a second directory that has nothing."""
    first = make_disk("first", mebibytes=DISK_MEBIBYTES)
    broker = broker_on(first)
    config = {"fastlog.durability": "fsync", "segment.bytes": str(1 << 20)}
    witness = Witness(create_topic(broker.bootstrap, TOPIC, config=config))
    run(witness, broker, 6_000)
    witness.stop()
    assert broker.stop() == 0, broker.log()
    broker.arguments = ("--data-dir", str(second))
    return first, broker, witness


def run(witness: Witness, broker: BrokerProcess, records: int) -> None:
    goal = len(witness.acknowledged) + records
    witness.start(broker.bootstrap)
    wait_until("records are acknowledged", lambda: len(witness.acknowledged) >= goal, seconds=WAIT_SECONDS)


def begin(broker: BrokerProcess, second: Path, witness: Witness) -> None:
    """Starts it, with clients, and a move that takes its time and is under way when this returns."""
    broker.settings[RATE] = "300000"
    broker.start()
    assert (TOPIC, 0) in described(broker)[str(broker.data_dir)]
    run(witness, broker, 100)
    assert ask_to_move(broker, TOPIC, 0, second) == 0
    wait_until("the copy grows", lambda: any(second.glob(f"{TOPIC}-0.*-future/*.log")), seconds=WAIT_SECONDS)


def check_it_goes_on(broker: BrokerProcess, second: Path, witness: Witness) -> None:
    broker.settings.pop(RATE)
    broker.start()
    wait_until("it was moved", lambda: described(broker)[str(second)] == [(TOPIC, 0)], seconds=WAIT_SECONDS)
    assert moving(broker) == []
    witness.check(read_all(broker.bootstrap, TOPIC))
    assert not list(second.glob("*-future"))
    assert broker.stop() == 0, broker.log()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("fail", [LoopDisk.fail, LoopDisk.make_read_only], ids=["EIO", "read-only"])
def test_the_target_fails_under_the_move(
    make_disk: MakeDisk, broker_on: BrokerOn, fail: Callable[[LoopDisk], None]
) -> None:
    target = make_disk("second", mebibytes=DISK_MEBIBYTES)
    second = target.path / "data"
    _first, broker, witness = written_broker(make_disk, broker_on, second)
    begin(broker, second, witness)
    fail(target)
    told = "a replica could not be moved, a disk failed: it goes on where it is"
    wait_until("it is told", lambda: told in broker.log(), seconds=WAIT_SECONDS)
    goal = len(witness.acknowledged) + 500
    wait_until("the replica is served", lambda: len(witness.acknowledged) >= goal, seconds=WAIT_SECONDS)
    witness.stop()
    witness.check(read_all(broker.bootstrap, TOPIC))
    broker.kill()

    # without the disk, and with it
    broker.start()
    assert "a replica is to be in a data directory that failed" in broker.log()
    witness.check(read_all(broker.bootstrap, TOPIC))
    assert broker.stop() == 0, broker.log()
    target.restore_power()
    check_it_goes_on(broker, second, witness)


@pytest.mark.timeout(600)
def test_the_power_is_cut_under_the_move(make_disk: MakeDisk, broker_on: BrokerOn) -> None:
    target = make_disk("second", mebibytes=DISK_MEBIBYTES)
    second = target.path / "data"
    first, broker, witness = written_broker(make_disk, broker_on, second)
    begin(broker, second, witness)
    broker.kill()
    for disk in (first, target):
        disk.cut_power()
    witness.stop()
    for disk in (first, target):
        disk.restore_power()
        set_earlier_boot(disk.path / "data")
    check_it_goes_on(broker, second, witness)


@pytest.mark.timeout(600)
def test_the_source_fails_after_the_replica_was_handed_over(
    make_disk: MakeDisk, broker_on: BrokerOn, tmp_path: Path
) -> None:
    second = tmp_path / "elsewhere"
    source, broker, witness = written_broker(make_disk, broker_on, second)
    broker.start()
    run(witness, broker, 100)
    assert ask_to_move(broker, TOPIC, 0, second) == 0
    wait_until("it was moved", lambda: described(broker)[str(second)] == [(TOPIC, 0)], seconds=WAIT_SECONDS)
    source.fail()
    goal = len(witness.acknowledged) + 500
    wait_until("the replica is served", lambda: len(witness.acknowledged) >= goal, seconds=WAIT_SECONDS)
    witness.stop()
    witness.check(read_all(broker.bootstrap, TOPIC))
    broker.kill()
    source.restore_power()
    broker.start()
    assert described(broker)[str(second)] == [(TOPIC, 0)]
    witness.check(read_all(broker.bootstrap, TOPIC))
    assert broker.stop() == 0, broker.log()
