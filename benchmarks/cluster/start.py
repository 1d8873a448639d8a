"""Three brokers (and ZooKeeper) on empty directories until each names all three."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.cluster.systems import System

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def run(systems: list[str], runs: int, directory: Path | None) -> Iterator[dict[str, object]]:
    """In turn; Kafka's formatting of its directories does not count."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(runs):
        for name in systems:
            system = System(name, directory)
            try:
                found[name].append(system.start())
            finally:
                system.close()
    for name, seconds in found.items():
        yield {
            "bench": "start",
            "system": name,
            "median_s": round(median(seconds), 2),
            "min_s": round(min(seconds), 2),
            "max_s": round(max(seconds), 2),
            "runs": runs,
        }
