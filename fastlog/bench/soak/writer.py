"""The producer of a soak: a steady rate in an open loop, every delivery looked at.

One record in ten goes, with a key, to the compacted topic as well.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from fastlog.bench.harness.open_loop import pace
from fastlog.bench.soak.compacted import ONE_IN, key_of
from fastlog.bench.soak.record import SIZE_MIN, SUM_MASK, make_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.producer.producer import Producer
    from fastlog.native._sending import Delivery

#: records are due in groups, so many times a second: waiting for each alone would take a processor at 10,000 a second
TICKS_PER_SECOND = 200
#: deliveries that are not looked at yet
OPEN_MAX = 100_000


class EndEarly(Exception):  # noqa: N818  # no error: the soak has seen enough
    """Ends the writing before its time."""


class Writer:
    """Writes numbered records to the partitions in turn."""

    def __init__(self, producer: Producer, topic: str, compacted: str, *, partitions: int, size: int) -> None:
        self._producer = producer
        self._topic = topic
        self._compacted = compacted
        self._filling = bytes(size - SIZE_MIN)
        self._open: deque[Delivery] = deque()
        self.records = 0
        #: records and their checksums by partition
        self.counts = [0] * partitions
        self.checksums = [0] * partitions
        #: how many went to the compacted topic, and the latest of each key
        self.compacted_records = 0
        self.latest: dict[bytes, int] = {}

    def write(self, *, rate: int, seconds: float, each_tick: Callable[[], bool]) -> None:
        """Writes for so long, or until `each_tick` says no; all is acknowledged then. Raises what one failed with."""
        ticks = min(TICKS_PER_SECOND, rate)

        def tick(number: int, due_ns: int) -> None:
            # whole records only, and the rate over all ticks
            for _ in range((number + 1) * rate // ticks - number * rate // ticks):
                self._write(due_ns)
            self._settle(OPEN_MAX)
            if not each_tick():
                raise EndEarly

        with suppress(EndEarly):
            pace(tick, rate=ticks, count=max(1, round(seconds * ticks)))
        self._producer.flush()
        self._settle(0)

    def _write(self, due_ns: int) -> None:
        partition = self.records % len(self.counts)
        value, crc = make_value(self.counts[partition], due_ns, self._filling)
        self._open.append(self._producer.send(self._topic, value, partition=partition))
        self.counts[partition] += 1
        self.records += 1
        self.checksums[partition] = (self.checksums[partition] + crc) & SUM_MASK
        if self.records % ONE_IN == 0:
            self._write_compacted(due_ns)

    def _write_compacted(self, due_ns: int) -> None:
        number = self.compacted_records
        value, _ = make_value(number, due_ns, self._filling)
        key = key_of(number)
        self._open.append(self._producer.send(self._compacted, value, key=key, partition=0))
        self.latest[key] = number
        self.compacted_records += 1

    def _settle(self, open_max: int) -> None:
        waiting = self._open
        while waiting and (len(waiting) > open_max or waiting[0].done()):
            waiting.popleft().result()
