"""The consumer against a model, through random reads, seeks, pauses, leader moves, broken connections and gaps."""

from __future__ import annotations

import random
import time

import pytest

from fastlog.client.consumer import Consumer
from tests.support.batches import CODECS, seal, with_fields
from tests.support.fake_cluster import FakeCluster, FakePartition

PARTITIONS, STEPS = 3, 120
CONTROL = 0x30
EMPTY_SPAN = 3


class Model:
    """What is in the logs, and what the consumer has to deliver next."""

    def __init__(self, seed: int, cluster: FakeCluster, consumer: Consumer) -> None:
        self.chances = random.Random(seed)
        self.cluster = cluster
        self.consumer = consumer
        self.partitions: list[FakePartition] = cluster.create("t", PARTITIONS)
        self.visible: list[dict[int, bytes]] = [{} for _ in range(PARTITIONS)]
        self.positions = [0] * PARTITIONS
        self.paused: set[int] = set()

    def append(self) -> None:
        """A batch of some kind at the end of some partition."""
        index = self.chances.randrange(PARTITIONS)
        partition = self.partitions[index]
        kind = self.chances.random()
        if kind < 0.1:
            partition.skip(self.chances.randint(1, 5))
        elif kind < 0.2:
            partition.append(b"marker", attributes=CONTROL, producer_id=1)
        elif kind < 0.3:
            batch = seal([(0, None, b"", ())])[:61]
            fields = {"base_offset": partition.end, "record_count": 0, "last_offset_delta": EMPTY_SPAN - 1}
            partition.append_batch(with_fields(batch, **fields), EMPTY_SPAN)
        else:
            values = [b"%d" % self.chances.getrandbits(64) for _ in range(self.chances.randint(1, 40))]
            base = partition.append(*values, compression=self.chances.choice(list(CODECS.values())))
            self.visible[index].update(enumerate(values, base))

    def expected(self, index: int) -> int | None:
        """The offset of the next record of a partition."""
        return min(
            (offset for offset in self.visible[index] if offset >= self.positions[index]), default=None
        )

    def read(self, max_records: int) -> int:
        """One poll, compared."""
        records = self.consumer.poll(max_records, timeout=0.05)
        assert len(records) <= max_records
        for record in records:
            index = record.partition
            assert index not in self.paused
            assert record.offset == self.expected(index)
            assert record.value == self.visible[index][record.offset]
            self.positions[index] = record.offset + 1
        return len(records)

    def read_all(self) -> None:
        """Everything that is there, and positions at the ends."""
        for partition in self.partitions:
            # a log never ends in a gap
            partition.append(b"marker", attributes=CONTROL, producer_id=1)
        self.consumer.resume()
        self.paused.clear()
        deadline = time.monotonic() + 20
        while any(self.expected(index) is not None for index in range(PARTITIONS)):
            self.read(100)
            assert time.monotonic() < deadline, self.positions
        ends = {("t", index): self.partitions[index].end for index in range(PARTITIONS)}
        while self.consumer.positions() != ends and time.monotonic() < deadline:
            assert self.read(100) == 0
        assert self.consumer.positions() == ends

    def step(self) -> None:
        """One random thing."""
        index = self.chances.randrange(PARTITIONS)
        match self.chances.choice(
            ["append"] * 4 + ["read"] * 6 + ["seek", "pause", "resume", "move", "drop"]
        ):
            case "append":
                self.append()
            case "read":
                self.read(self.chances.choice([1, 7, 500]))
            case "seek":
                self.positions[index] = self.chances.randint(0, self.partitions[index].end)
                self.consumer.seek(("t", index), self.positions[index])
            case "pause":
                self.consumer.pause(("t", index))
                self.paused.add(index)
            case "resume":
                self.consumer.resume(("t", index))
                self.paused.discard(index)
            case "move":
                partition = self.partitions[index]
                partition.leader, partition.leader_epoch = 1 - partition.leader, partition.leader_epoch + 1
            case "drop":
                self.chances.choice(self.cluster.brokers).drop_connections()


@pytest.mark.parametrize("seed", range(6))
def test_delivery_follows_the_model(seed: int) -> None:
    with FakeCluster(2) as cluster:
        options = {"max_partition_fetch_bytes": 600, "fetch_max_wait_ms": 20, "prefetch_bytes": 200_000}
        with Consumer(
            cluster.bootstrap, auto_offset_reset="earliest", retry_backoff_ms=5, **options
        ) as consumer:
            model = Model(seed, cluster, consumer)
            for _ in range(10):
                model.append()
            consumer.assign([("t", index) for index in range(PARTITIONS)])
            for _ in range(STEPS):
                model.step()
            model.read_all()
