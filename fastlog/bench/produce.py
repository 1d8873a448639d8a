"""Producing with fastlog's SDK, against a bare DEALER → ROUTER → write of equal batches.

A round is from the first `send` to the last acknowledgement, into a fresh topic, with one producer that is connected
already and new values for the processor's caches every 10,000 records.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.bare_zmq import BareDealer
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.sending import producer_at
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.workload import batch_of, values_of
from fastlog.client.producer import settings as producer_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastlog.bench.harness.cluster import Cluster
    from fastlog.bench.harness.workload import SealedBatch
    from fastlog.client.producer.producer import Producer
    from fastlog.native._sending import Delivery

LIMIT = "bare DEALER -> ROUTER -> write of equal batches"
MODES = ("send", "many")
#: lists of deliveries that are not looked at yet: the results of `send` are asked for that much later
OPEN_CHUNKS_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench produce`."""

    records: int = 2_000_000
    size: int = 100
    partitions: int = 1
    acks: str = "all"
    compression: str = "none"
    batch_bytes: int | None = None
    linger_ms: float = 5
    mode: str = "send"
    pairs: int = 5

    @property
    def batch_bytes_in_use(self) -> int:
        """What is asked for, or the producer's own choice."""
        own = producer_settings.BATCH_BYTES if self.mode == "send" else producer_settings.BULK_BATCH_BYTES
        return own if self.batch_bytes is None else self.batch_bytes


class Bench:
    """The rounds of both sides."""

    def __init__(self, settings: Settings, cluster: Cluster, dealer: BareDealer) -> None:
        self.settings = settings
        self.values = values_of(settings.size)
        self.batch = batch_of(settings.size, settings.batch_bytes_in_use, settings.compression)
        self._cluster = cluster
        self._dealer = dealer

    @property
    def batches(self) -> int:
        """The batches that hold a round's records."""
        return -(-self.settings.records // self.batch.records)

    def produce(self) -> Round:
        """One round of the SDK."""
        settings, work = self.settings, send_each if self.settings.mode == "send" else send_many
        with (
            self._cluster.topic(settings.partitions) as topic,
            producer_at(
                self._cluster.bootstrap,
                acks=settings.acks,
                compression=settings.compression,
                batch_bytes=settings.batch_bytes,
                linger_ms=settings.linger_ms,
            ) as producer,
        ):
            # connects, and makes the first batch's memory
            producer.send(topic, b"").result()

            def timed() -> Round:
                start = time.perf_counter()
                work(producer, topic, self._chunks())
                return self._round(settings.records, time.perf_counter() - start)

            return self._cluster.with_broker_cpu(timed)

    def write_bare(self) -> Round:
        """One round of the limit: as many batches as hold the records."""
        count = self.batches
        self._dealer.fresh_file()
        start = time.perf_counter()
        self._dealer.send_times(self.batch.data, count)
        return self._round(count * self.batch.records, time.perf_counter() - start)

    def _chunks(self) -> Iterator[list[bytes]]:
        """The values of a round, list by list."""
        left = self.settings.records
        while left > 0:
            yield self.values if left >= len(self.values) else list(islice(self.values, left))
            left -= len(self.values)

    def _round(self, records: int, seconds: float) -> Round:
        return Round(records, seconds, records * self.settings.size)


def send_each(producer: Producer, topic: str, chunks: Iterator[list[bytes]]) -> None:
    """`send` for each value, and each delivery's result somewhat later; raises what kept one from being written."""
    send = producer.send
    waiting: deque[list[Delivery]] = deque()
    for values in chunks:
        waiting.append([send(topic, value) for value in values])
        if len(waiting) > OPEN_CHUNKS_MAX:
            for delivery in waiting.popleft():
                delivery.result()
    producer.flush()
    for deliveries in waiting:
        for delivery in deliveries:
            delivery.result()


def send_many(producer: Producer, topic: str, chunks: Iterator[list[bytes]]) -> None:
    """`send_many` for each list, and the results at the end; raises what kept a record from being written."""
    deliveries = [producer.send_many(topic, values) for values in chunks]
    producer.flush()
    for delivery in deliveries:
        delivery.result()


def run(
    settings: Settings, *, bootstrap: str | None, directory: Path | None, done: Callable[[int], None]
) -> Result:
    """Produces into fresh topics, and into bare files, in turn. Blocks."""
    with (
        cluster_at(bootstrap, directory=directory) as cluster,
        TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name,
        BareDealer(Path(name)) as dealer,
    ):
        bench = Bench(settings, cluster, dealer)
        pairs = run_pairs(
            bench.produce,
            bench.write_bare,
            settings.pairs,
            done,
            prepare=lambda: machine.touch_memory(Path(name), bench.batches * len(bench.batch.data)),
        )
    return from_pairs(
        "produce",
        pairs,
        limit=LIMIT,
        settings={
            **asdict(settings),
            "batch_bytes": settings.batch_bytes_in_use,
            **limit_shape(bench.batch),
            "bootstrap": bootstrap,
            **machine.describe(directory),
        },
    )


def limit_shape(batch: SealedBatch) -> dict[str, int]:
    """The batches of the limit."""
    return {"limit_batch_bytes": len(batch.data), "limit_records_per_batch": batch.records}
