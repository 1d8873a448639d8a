"""One pass of the cleaner over a compacted log in this process, its syncs included.

Each round fills a fresh log, which is in the page cache then; nothing slows the pass down (no
`log.cleaner.io.max.bytes.per.second`). It reads the log twice, to note the keys and to copy what stays.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.checksum import LIMIT, crc_seconds
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.workload import batch_of
from fastlog.errors import FastlogError
from fastlog.native._engine import BareFile, clean_log

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_BYTES = 1 << 20
RECORD_BYTES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench clean`."""

    bytes: int = 1 << 30
    keys: int = 1_000_000
    pairs: int = 5


class Bench:
    """The rounds of both sides, on files below one directory."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        batch = batch_of(RECORD_BYTES, BATCH_BYTES)
        self._batches = max(1, settings.bytes // len(batch.data))
        self._batch = batch
        self._path = directory / "bare"
        BareFile(self._path).append(batch.data, self._batches)
        self.kept = 0
        self.bytes_after = 0

    def clean(self) -> Round:
        """Fills a log and cleans it; raises FastlogError where fewer records stay than there are keys."""
        place = self._directory / "log"
        place.mkdir()
        try:
            before, self.bytes_after, records, self.kept, took_ns = clean_log(
                place, self._settings.bytes, self._settings.keys
            )
        finally:
            shutil.rmtree(place)
        # keys are pseudo-random: not each of them comes up in a short log
        if not 0 < self.kept <= records:
            raise FastlogError(f"cleaning a log of {before} bytes: {self.kept} of {records} records stayed")
        return Round(records, took_ns / 1e9, before, [took_ns])

    def check(self) -> Round:
        """Checks as many bytes."""
        seconds = crc_seconds(self._path)
        records = self._batches * self._batch.records
        return Round(records, seconds, self._batches * len(self._batch.data), [int(seconds * 1e9)])


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> Result:
    """Cleans logs, and checks a file, in turn. Blocks."""
    with TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name:
        bench = Bench(settings, Path(name))
        pairs = run_pairs(bench.clean, bench.check, settings.pairs, done)
    return from_pairs(
        "clean",
        pairs,
        limit=LIMIT,
        measure=lambda one: one.bytes / one.seconds,
        settings={
            **asdict(settings),
            "records_kept": bench.kept,
            "bytes_after": bench.bytes_after,
            **machine.describe(directory),
        },
    )
