"""A broker on a disk of its own, with a topic and clients for each durability."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fastlog import Consumer
from fastlog.errors import CorruptMessageError
from tests.support.admin import create_topic
from tests.support.broker import BrokerProcess, wait_until
from tests.support.faults.loop_disk import LoopDisk
from tests.support.faults.witness import Witness

DURABILITIES = ("os", "fsync")
READ_SECONDS = 20.0
OFFLINE = "data directory offline"


@dataclass(frozen=True)
class Outcome:
    """What became of one topic's records."""

    durability: str
    sent: int
    acknowledged: int
    consumed: int
    """Told to a consumer."""
    readable: int
    lost: int
    """Acknowledged, and not readable now."""
    changed: int
    """Acknowledged or consumed, and another record has the offset now: never."""


class Machine:
    """The broker, its disk and its clients, from the start of the load to the look at what is left."""

    def __init__(self, disk: LoopDisk, broker: BrokerProcess) -> None:
        self.disk = disk
        self.broker = broker
        self.witnesses = {
            name: Witness(create_topic(broker.bootstrap, name, config={"fastlog.durability": name}))
            for name in DURABILITIES
        }

    def run(self, seconds: float) -> None:
        """Sends and reads for a while."""
        for witness in self.witnesses.values():
            witness.start(self.broker.bootstrap)
        time.sleep(seconds)
        for witness in self.witnesses.values():
            wait_until("records are acknowledged", lambda witness=witness: len(witness.acknowledged) > 100)

    def stop_clients(self) -> None:
        """Ends the load."""
        for witness in self.witnesses.values():
            witness.stop()

    def segment(self, durability: str) -> Path:
        """The only segment of a topic."""
        return self.broker.data_dir / f"{durability}-0" / f"{0:020d}.log"

    def wait_until_offline(self) -> None:
        """Blocks until the broker has taken its data directory offline."""
        wait_until(OFFLINE, lambda: OFFLINE in self.broker.log())

    def outcome(self, durability: str) -> Outcome:
        """Reads everything back and compares."""
        witness = self.witnesses[durability]
        found = read_around_damage(self.broker.bootstrap, durability)
        told = {**witness.acknowledged, **witness.consumed}
        return Outcome(
            durability=durability,
            sent=witness.sent,
            acknowledged=len(witness.acknowledged),
            consumed=len(witness.consumed),
            readable=len(found),
            lost=len(witness.acknowledged.keys() - found.keys()),
            changed=len(witness.failures)
            + sum(found.get(offset, value) != value for offset, value in told.items()),
        )


def read_around_damage(bootstrap: str, topic: str) -> dict[int, bytes | None]:
    """Offset -> value of partition 0; a batch that is damaged is left out."""
    found: dict[int, bytes | None] = {}
    deadline = time.monotonic() + READ_SECONDS
    with Consumer(bootstrap) as consumer:
        consumer.assign([(topic, 0)])
        consumer.seek_to_end((topic, 0))
        end = consumer.position((topic, 0))
        consumer.seek_to_beginning((topic, 0))
        while (position := consumer.position((topic, 0))) < end:
            assert time.monotonic() < deadline, f"{topic}: read to {position} of {end} in {READ_SECONDS} s"
            try:
                found |= {record.offset: record.value for record in consumer.poll(1000, timeout=1.0)}
            except CorruptMessageError:
                # the rest of the damaged batch, one by one
                consumer.seek((topic, 0), consumer.position((topic, 0)) + 1)
    return found
