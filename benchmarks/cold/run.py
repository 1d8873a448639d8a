"""Phases in turn, with readers and without: what the readers cost who writes, and what they get."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.cold.backlog import PARTITIONS, Backlog, Readers
from benchmarks.cold.disk import read_rate, written
from benchmarks.cold.systems import running
from benchmarks.cold.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.cold.writer import Phase

MEGABYTE = 1e6
DISK_FILE_BYTES = 1 << 30
DISK_SECONDS = 2.0


def run(
    systems: Sequence[str],
    readers: Sequence[int],
    *,
    limit_bytes: int,
    backlog_bytes: int,
    write_bytes: int,
    seconds: float,
    pairs: int,
    directory: Path | None,
) -> Iterator[dict[str, object]]:
    """A row for each system and number of readers. Blocks."""
    with TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as folder:
        path = Path(folder) / "bare"
        written(path, DISK_FILE_BYTES)
        disk = {count: read_rate(path, count, DISK_SECONDS) / MEGABYTE for count in readers}
    for name in systems:
        with (
            running(name, limit_bytes, directory) as cluster,
            cluster.topic(PARTITIONS) as old,
            cluster.topic() as new,
            Writer(cluster, new, write_bytes) as writer,
        ):
            backlog = Backlog(cluster, old, backlog_bytes)
            for count in readers:
                yield {
                    "bench": "cold",
                    "system": name,
                    "readers": count,
                    "limit_bytes": limit_bytes,
                    "backlog_bytes": backlog.size_bytes,
                    "disk_mb_s": round(disk[count]),
                    "phase_s": seconds,
                    **_pairs(writer, Readers(backlog, count), seconds, pairs),
                }


def _pairs(writer: Writer, readers: Readers, seconds: float, pairs: int) -> dict[str, object]:
    alone: list[Phase] = []
    beside: list[Phase] = []
    rates: list[float] = []
    shares: list[float] = []

    def without() -> None:
        alone.append(writer.write(seconds))

    def with_readers() -> None:
        readers.start()
        try:
            beside.append(writer.write(seconds))
        finally:
            read = readers.stop()
        rates.append(sum(read) / seconds / MEGABYTE)
        shares.append(min(read) / max(read))

    # one of each that does not count
    without()
    with_readers()
    for found in (alone, beside, rates, shares):
        found.clear()
    for number in range(pairs):
        for phase in (with_readers, without) if number % 2 else (without, with_readers):
            phase()
    return {
        "pairs": pairs,
        "read_mb_s": round(median(rates)),
        "read_mb_s_min": round(min(rates)),
        "least_reader_of_most": round(median(shares), 2),
        "write_mb_s": round(median(it.megabytes_per_second for it in beside), 2),
        **_compared(
            "rate", [it.megabytes_per_second for it in alone], [it.megabytes_per_second for it in beside]
        ),
        **_compared("p50", [it.p50_ms for it in alone], [it.p50_ms for it in beside]),
        **_compared("p99", [it.p99_ms for it in alone], [it.p99_ms for it in beside]),
        "p50_ms_alone": round(median(it.p50_ms for it in alone), 3),
        "p50_ms": round(median(it.p50_ms for it in beside), 3),
        "p99_ms_alone": round(median(it.p99_ms for it in alone), 3),
        "p99_ms": round(median(it.p99_ms for it in beside), 3),
        "max_ms_alone": round(max(it.max_ms for it in alone), 1),
        "max_ms": round(max(it.max_ms for it in beside), 1),
    }


def _compared(what: str, alone: Sequence[float], beside: Sequence[float]) -> dict[str, float]:
    """With readers by without, pair by pair."""
    ratios = [theirs / own for own, theirs in zip(alone, beside, strict=True)]
    return {
        f"{what}_ratio": round(median(ratios), 3),
        f"{what}_ratio_min": round(min(ratios), 3),
        f"{what}_ratio_max": round(max(ratios), 3),
    }
