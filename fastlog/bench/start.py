"""The start of `fastlog serve` on an empty directory, from exec to its ready line, and what it takes when idle."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.broker_process import BrokerProcess
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, median_of, run_pairs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = "start and end of a bare interpreter"
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench start`."""

    idle_seconds: float = 1.0
    pairs: int = 5


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Result:
    """Starts brokers and interpreters in turn. Blocks."""
    rss: list[float] = []
    descriptors: list[float] = []

    def serve() -> Round:
        with BrokerProcess(directory) as broker:
            seconds = broker.start()
            time.sleep(settings.idle_seconds)
            rss.append(broker.rss_bytes() / MEBIBYTE)
            descriptors.append(broker.descriptor_count())
        return round_of(seconds)

    def interpreter() -> Round:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        return round_of(time.perf_counter() - start)

    pairs = run_pairs(serve, interpreter, settings.pairs, done)
    found = from_pairs(
        "start", pairs, limit=LIMIT, settings={**asdict(settings), **machine.describe(directory)}
    )
    idle = {"idle_rss_mib": median_of(rss), "idle_descriptors": median_of(descriptors)}
    # a start has no records and no bytes
    return replace(
        found,
        records=None,
        records_per_second=None,
        megabytes_per_second=None,
        details={**found.details, **idle},
    )


def round_of(seconds: float) -> Round:
    """One start."""
    return Round(1, seconds, 0, [int(seconds * 1e9)])
