"""Appending to a log in this process, against bare writes to a file that is preallocated the same way."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.workload import batch_of
from fastlog.native._engine import BareFile, append_batches

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = "write(2) of the same batches to a file preallocated the same way"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench append`."""

    batches: int = 512
    batch_bytes: int = 1 << 20
    size: int = 100
    pairs: int = 5


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Result:
    """Appends to fresh logs and fresh files in turn, below `directory`; each is removed after its run. Blocks."""
    batch = batch_of(settings.size, settings.batch_bytes)
    count = settings.batches
    with TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name:
        place = Path(name)

        def append() -> Round:
            times = append_batches(place, "bench", batch.data, count, now_ms=int(time.time() * 1000))
            shutil.rmtree(place / "bench-0")
            return round_of(times)

        def write() -> Round:
            path = place / "bare"
            times = BareFile(path).append(batch.data, count)
            path.unlink()
            return round_of(times)

        def round_of(times: list[int]) -> Round:
            return Round(batch.records * count, sum(times) / 1e9, len(batch.data) * count, times)

        pairs = run_pairs(
            append,
            write,
            settings.pairs,
            done,
            prepare=lambda: machine.touch_memory(place, len(batch.data) * count),
        )
    return from_pairs(
        "append",
        pairs,
        limit=LIMIT,
        settings={
            **asdict(settings),
            "batch_bytes": len(batch.data),
            "records_per_batch": batch.records,
            "validation": True,
            "sync": False,
            **machine.describe(directory),
        },
    )
