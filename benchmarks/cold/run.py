"""Phases in turn: the writer alone, beside readers of what is in memory, and beside readers of what is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.cold import disk
from benchmarks.cold.backlog import PARTITIONS, written
from benchmarks.cold.phases import Load, Rounds
from benchmarks.cold.readers import Readers
from benchmarks.cold.systems import running
from benchmarks.cold.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MEGABYTE = 1e6
DISK_FILE_BYTES = 1 << 30
DISK_SECONDS = 2.0
#: of the memory bound, what the readers read that are to find it there
WARM_SHARE = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """What is common to all rows."""

    limit_bytes: int
    backlog_bytes: int
    #: a second
    write_bytes: int
    #: of a phase
    seconds: float
    pairs: int
    directory: Path | None


def run(systems: Sequence[str], readers: Sequence[int], settings: Settings) -> Iterator[dict[str, object]]:
    """A row for each system and number of readers. Blocks."""
    with TemporaryDirectory(prefix="fastlog-bench-", dir=settings.directory) as folder:
        path = Path(folder) / "bare"
        disk.write(path, DISK_FILE_BYTES)
        rates = {count: disk.read_rate(path, count, DISK_SECONDS) / MEGABYTE for count in readers}
    for name in systems:
        with (
            running(name, settings.limit_bytes, settings.directory) as cluster,
            cluster.topic(PARTITIONS) as old,
            cluster.topic(PARTITIONS) as recent,
            cluster.topic() as new,
            Writer(cluster, new, settings.write_bytes) as writer,
            Readers() as process,
        ):
            cold = written(cluster, old, settings.backlog_bytes)
            warm = written(cluster, recent, settings.limit_bytes // WARM_SHARE)
            for count in readers:
                rounds = Rounds(writer, process, {Load.COLD: cold, Load.WARM: warm}, count, settings.seconds)
                rounds.run(settings.pairs)
                yield {
                    "bench": "cold",
                    "system": name,
                    "readers": count,
                    "limit_bytes": settings.limit_bytes,
                    "backlog_bytes": cold.size_bytes,
                    "write_mb_s": settings.write_bytes / MEGABYTE,
                    "disk_mb_s": round(rates[count]),
                    "phase_s": settings.seconds,
                    "pairs": settings.pairs,
                    **summary(rounds, rates[count]),
                }


def summary(rounds: Rounds, disk_rate: float) -> dict[str, object]:
    """What the rounds came to; ratios are medians over the rounds, with the least and the largest."""
    row: dict[str, object] = {}
    for load in (Load.WARM, Load.COLD):
        rates = [sum(bytes_read) / rounds.seconds / MEGABYTE for bytes_read in rounds.read[load]]
        shares = [min(bytes_read) / max(bytes_read) for bytes_read in rounds.read[load]]
        row[f"{load}_read_mb_s"] = spread(rates, 0)
        row[f"{load}_least_of_most"] = spread(shares, 2)
        if load is Load.COLD:
            row["read_of_disk"] = spread([rate / disk_rate for rate in rates], 2)
    for load in Load:
        phases = rounds.phases[load]
        row[f"{load}_write_mb_s"] = spread([it.megabytes_per_second for it in phases], 2)
        row[f"{load}_p50_ms"] = spread([it.p50_ms for it in phases], 3)
        row[f"{load}_p99_ms"] = spread([it.p99_ms for it in phases], 3)
        row[f"{load}_max_ms"] = round(max(it.max_ms for it in phases), 1)
        row[f"{load}_late"] = spread([it.late for it in phases], 3)
        if rounds.broker_cpu[load]:
            row[f"{load}_broker_cpu"] = spread(rounds.broker_cpu[load], 2)
    for base in (Load.ALONE, Load.WARM):
        pairs = list(zip(rounds.phases[Load.COLD], rounds.phases[base], strict=True))
        by = f"of_{base}"
        row[f"rate_{by}"] = spread(
            [it.megabytes_per_second / other.megabytes_per_second for it, other in pairs], 3
        )
        row[f"p50_{by}"] = spread([it.p50_ms / other.p50_ms for it, other in pairs], 2)
        row[f"p99_{by}"] = spread([it.p99_ms / other.p99_ms for it, other in pairs], 2)
    return row


def spread(values: Sequence[float], digits: int) -> list[float]:
    """Median, least, largest."""
    return [round(it, digits) for it in (median(values), min(values), max(values))]
