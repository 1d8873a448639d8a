"""What is read: a topic larger than the memory, and readers that go round in it, each on a connection of its own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fastlog.bench.fetch import RESPONSE_HEADER_BYTES_MAX, numeric
from fastlog.bench.harness.wire import fetch_frame, fill
from fastlog.bench.harness.workload import batch_of
from fastlog.errors import FastlogError
from fastlog.native._engine import discard_frames

if TYPE_CHECKING:
    from fastlog.bench.harness.cluster import Cluster

#: as many as there are readers at most, so that no two are in the same part
PARTITIONS = 10
BATCH_BYTES = 64 << 10
FETCH_BYTES = 1 << 20
#: fetches between two looks at whether to stop
STRETCH = 16
AHEAD = 2
VALUE_BYTES = 1024


class Backlog:
    """A topic with about `size_bytes`, already written."""

    def __init__(self, cluster: Cluster, topic: str, size_bytes: int) -> None:
        self._topic = topic
        batch = batch_of(VALUE_BYTES, BATCH_BYTES)
        per_fetch = FETCH_BYTES // len(batch.data)
        self.fetch_bytes = per_fetch * len(batch.data)
        self._step = per_fetch * batch.records
        stretch_bytes = STRETCH * self.fetch_bytes
        self.stretches = max(1, size_bytes // PARTITIONS // stretch_bytes)
        batches = self.stretches * STRETCH * per_fetch * PARTITIONS
        fill(cluster, topic, batch, batches, PARTITIONS)
        self._address = numeric(*cluster.leader_address(topic))

    @property
    def size_bytes(self) -> int:
        """What was written."""
        return PARTITIONS * self.stretches * STRETCH * self.fetch_bytes

    def read(self, partition: int, stretch: int) -> int:
        """Fetches a stretch of a partition and throws it away; its bytes. Raises FastlogError where others came."""
        first = stretch * STRETCH * self._step
        frames = [
            fetch_frame(self._topic, first + number * self._step, self.fetch_bytes, number, partition)
            for number in range(STRETCH)
        ]
        received, _ = discard_frames(self._address, STRETCH, requests=frames, ahead=AHEAD)
        wanted = STRETCH * self.fetch_bytes
        if not 0 <= received - wanted <= STRETCH * RESPONSE_HEADER_BYTES_MAX:
            raise FastlogError(
                f"reading {self._topic}-{partition} from offset {first}: {received} bytes came instead of {wanted}"
            )
        return wanted


class Readers:
    """Readers that go through the whole backlog, one after the other's partition, until they are stopped."""

    def __init__(self, backlog: Backlog, count: int) -> None:
        self._backlog = backlog
        self._positions = [number * PARTITIONS * backlog.stretches // count for number in range(count)]
        self._stop = threading.Event()
        self._bytes = [0] * count
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Each goes on where it was."""
        self._stop.clear()
        self._bytes = [0] * len(self._positions)
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(len(self._positions))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> list[int]:
        """The bytes of each since the start; raises what one of them met."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self._bytes

    def _run(self, number: int) -> None:
        total = PARTITIONS * self._backlog.stretches
        try:
            while not self._stop.is_set():
                partition, stretch = divmod(self._positions[number], self._backlog.stretches)
                self._bytes[number] += self._backlog.read(partition, stretch)
                self._positions[number] = (self._positions[number] + 1) % total
        except BaseException as error:  # told by stop
            self._errors.append(error)
