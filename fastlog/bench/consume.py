"""Consuming with fastlog's SDK, against sendfile → recv → CRC of the same batches.

A round is from the making of a consumer to its last record. Every round reads the same topic from its start; the
broker, and the limit's file, have it in the page cache.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.wire import fill
from fastlog.bench.harness.workload import batch_of
from fastlog.client.consumer.consumer import Consumer
from fastlog.client.producer import settings as producer_settings
from fastlog.errors import FastlogError
from fastlog.native._engine import BareFile, FileServer, check_batches

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = "sendfile -> recv -> CRC of the same batches"
#: what a sendfile of the limit is of, as a fetch is by default
CHUNK_BYTES = 1 << 20
#: a topic that was filled a moment ago and gives nothing for so long is broken
SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench consume`."""

    records: int = 4_000_000
    mode: str = "iterate"
    max_poll_records: int = 500
    size: int = 100
    partitions: int = 1
    compression: str = "none"
    batch_bytes: int = producer_settings.BATCH_BYTES
    pairs: int = 5


def iterate(consumer: Consumer, count: int, _settings: Settings) -> None:
    """One record after the other, and its value."""
    left = count
    for record in consumer:
        _ = record.value
        left -= 1
        if not left:
            return


def poll(consumer: Consumer, count: int, settings: Settings) -> None:
    """Lists of records, counted and not looked into."""
    left = count
    while left > 0:
        records = consumer.poll(settings.max_poll_records, SILENCE_SECONDS)
        if not records:
            raise ended_early(count - left, count)
        left -= len(records)


def values(consumer: Consumer, count: int, _settings: Settings) -> None:
    """The values of a batch as a list, batch by batch."""
    left = count
    for batch in consumer.batches(SILENCE_SECONDS):
        left -= len(batch.values())
        if left <= 0:
            return
    raise ended_early(count - left, count)


MODES: dict[str, Callable[[Consumer, int, Settings], None]] = {
    "iterate": iterate,
    "poll": poll,
    "values": values,
}


def ended_early(came: int, count: int) -> FastlogError:
    """The error for a topic that gives less than was written to it."""
    return FastlogError(
        f"consuming: {came} of {count} records came, then nothing for {SILENCE_SECONDS:.0f} s; look at the broker's log"
    )


def run(
    settings: Settings, *, bootstrap: str | None, directory: Path | None, done: Callable[[int], None]
) -> Result:
    """Consumes one topic again and again, and reads the file, in turn. Blocks."""
    batch = batch_of(settings.size, settings.batch_bytes, settings.compression)
    batches = -(-settings.records // batch.records)
    records = batches * batch.records

    def round_of(seconds: float) -> Round:
        return Round(records, seconds, records * settings.size)

    with (
        cluster_at(bootstrap, directory=directory) as cluster,
        cluster.topic(settings.partitions) as topic,
        TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name,
    ):
        fill(cluster, topic, batch, batches, settings.partitions)
        BareFile(Path(name) / "bare").append(batch.data, batches)
        server = FileServer(Path(name) / "bare", chunk_bytes=CHUNK_BYTES)

        def consume() -> Round:
            start = time.perf_counter()
            with Consumer(cluster.bootstrap, topics=topic, auto_offset_reset="earliest") as consumer:
                MODES[settings.mode](consumer, records, settings)
                return round_of(time.perf_counter() - start)

        def check() -> Round:
            return round_of(check_batches(f"127.0.0.1:{server.port}")[2] / 1e9)

        try:
            pairs = run_pairs(lambda: cluster.with_broker_cpu(consume), check, settings.pairs, done)
        finally:
            server.close()
    return from_pairs(
        "consume",
        pairs,
        limit=LIMIT,
        settings={
            **asdict(settings),
            "records": records,
            "batch_bytes": len(batch.data),
            "records_per_batch": batch.records,
            "bootstrap": bootstrap,
            **machine.describe(directory),
        },
    )
