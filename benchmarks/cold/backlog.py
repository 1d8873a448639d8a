"""What is read: a topic that is larger than the memory, or one that lies in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.bench.fetch import numeric
from fastlog.bench.harness.wire import fetch_frame, fill
from fastlog.bench.harness.workload import batch_of

if TYPE_CHECKING:
    from fastlog.bench.harness.cluster import Cluster

#: as many as there are readers at most, so that no two are in the same part
PARTITIONS = 10
BATCH_BYTES = 64 << 10
FETCH_BYTES = 1 << 20
VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Backlog:
    """A topic that is written, as a row of fetches: through one partition after the other, and from the start again."""

    topic: str
    #: IP:PORT
    address: str
    #: of one fetch
    fetch_bytes: int
    #: records of one fetch
    records: int
    #: fetches of a partition
    fetches: int

    @property
    def size_bytes(self) -> int:
        """What was written."""
        return PARTITIONS * self.fetches * self.fetch_bytes

    @property
    def length(self) -> int:
        """The number of fetches of all partitions."""
        return PARTITIONS * self.fetches

    def frames(self, first: int, count: int) -> list[bytes]:
        """The requests from number `first` on."""
        frames = []
        for number in range(first, first + count):
            partition, place = divmod(number % self.length, self.fetches)
            offset = place * self.records
            frames.append(fetch_frame(self.topic, offset, self.fetch_bytes, number, partition))
        return frames


def written(cluster: Cluster, topic: str, size_bytes: int) -> Backlog:
    """Fills an empty topic of `PARTITIONS` partitions with about so much; blocks."""
    batch = batch_of(VALUE_BYTES, BATCH_BYTES)
    per_fetch = FETCH_BYTES // len(batch.data)
    fetch_bytes = per_fetch * len(batch.data)
    fetches = max(1, size_bytes // PARTITIONS // fetch_bytes)
    fill(cluster, topic, batch, fetches * per_fetch * PARTITIONS, PARTITIONS)
    address = numeric(*cluster.leader_address(topic))
    return Backlog(topic, address, fetch_bytes, per_fetch * batch.records, fetches)
