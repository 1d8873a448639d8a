"""The log in this process: appending batches, and looking offsets up; times are of one append, one look-up.

`pytest benchmarks/test_log.py --benchmark-only --benchmark-columns=median,iqr,rounds`. The look-ups are in an order
without neighbours over a log of 10,000 batches of 4 KiB, whose files are in the page cache.
"""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from fastlog.bench.harness.workload import batch_of
from fastlog.native._engine import append_batches, look_offsets_up

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS = int(time.time() * 1000)
BATCHES = 10_000
LOOKUPS = 1_000


@pytest.mark.parametrize("batch_bytes", [4 << 10, 64 << 10, 1 << 20])
def test_append(benchmark: Any, tmp_path: Path, batch_bytes: int) -> None:
    batch = batch_of(100, batch_bytes).data
    count = (64 << 20) // batch_bytes

    def work() -> list[int]:
        times = append_batches(tmp_path, "t", batch, count, now_ms=NOW_MS)
        shutil.rmtree(tmp_path / "t-0")
        return times

    benchmark(work)
    tell(benchmark, sorted(work()))


def test_look_up(benchmark: Any, tmp_path: Path) -> None:
    batch = batch_of(100, 4 << 10)
    append_batches(tmp_path, "t", batch.data, BATCHES, now_ms=NOW_MS)
    end = BATCHES * batch.records
    # a prime apart from the batch's size: every step lands in another batch
    offsets = [at * 7919 % end for at in range(LOOKUPS)]
    benchmark(look_offsets_up, tmp_path, "t", offsets, now_ms=NOW_MS)
    tell(benchmark, sorted(look_offsets_up(tmp_path, "t", offsets, now_ms=NOW_MS)))


def tell(benchmark: Any, times_ns: list[int]) -> None:
    """Puts the time of the single operation into the JSON."""
    benchmark.extra_info["median_us"] = times_ns[len(times_ns) // 2] / 1000
