"""The start of a broker after `kill -9`, with a log that was never synced: every batch of it is read and checked again.

From exec to the ready line, so the interpreter's start is in it. Each round fills a fresh log, which is in the page
cache then, as it is after the death of a process.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.bench.harness.checksum import LIMIT, crc_seconds
from fastlog.bench.harness.cluster import cluster_of
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.wire import fill
from fastlog.bench.harness.workload import batch_of
from fastlog.errors import FastlogError
from fastlog.native._engine import BareFile

if TYPE_CHECKING:
    from collections.abc import Callable

#: one segment, the largest that Kafka's formats allow: rolling to a next one would sync what is to be recovered
SEGMENT_BYTES = (1 << 31) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench recovery`."""

    bytes: int = 1 << 30
    batch_bytes: int = 1 << 20
    size: int = 100
    pairs: int = 5


class Bench:
    """The rounds of both sides, on files below one directory."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._directory = directory
        self.batch = batch_of(settings.size, settings.batch_bytes)
        self.batches = max(1, settings.bytes // len(self.batch.data))
        self._path = directory / "bare"
        BareFile(self._path).append(self.batch.data, self.batches)

    @property
    def records(self) -> int:
        """The records of the log."""
        return self.batches * self.batch.records

    def recover(self) -> Round:
        """Fills a log, kills its broker, and starts it again; raises FastlogError where a record is missing then."""
        with BrokerProcess(self._directory, {"log.segment.bytes": str(SEGMENT_BYTES)}) as broker:
            broker.start()
            with cluster_of(broker) as cluster, cluster.topic() as topic:
                fill(cluster, topic, self.batch, self.batches)
                broker.kill()
                seconds = broker.start()
                end = cluster.log_end_offset(topic)
            if end != self.records:
                raise FastlogError(
                    f"recovering {topic}: its log ends at offset {end} instead of {self.records}; an acknowledged "
                    "record is missing"
                )
        return self._round(seconds)

    def check(self) -> Round:
        """Checks as many bytes."""
        return self._round(crc_seconds(self._path))

    def _round(self, seconds: float) -> Round:
        return Round(self.records, seconds, self.batches * len(self.batch.data), [int(seconds * 1e9)])


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Result:
    """Recovers logs, and checks a file, in turn. Blocks."""
    with TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name:
        bench = Bench(settings, Path(name))
        pairs = run_pairs(bench.recover, bench.check, settings.pairs, done)
    return from_pairs(
        "recovery",
        pairs,
        limit=LIMIT,
        settings={
            **asdict(settings),
            "batch_bytes": len(bench.batch.data),
            "records_per_batch": bench.batch.records,
            **machine.describe(directory),
        },
    )
