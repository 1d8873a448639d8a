"""The soak itself: starts everything, watches the broker by the second, and judges at the end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import MEGABYTE, Result
from fastlog.bench.harness.sending import producer_at
from fastlog.bench.soak import watch
from fastlog.bench.soak.compacted import CONFIGS, KEYS, ONE_IN, SEGMENT_BYTES, SEGMENTS_MIN, digest
from fastlog.bench.soak.reader import KINDS, Job
from fastlog.bench.soak.reader_process import ReaderProcess
from fastlog.bench.soak.windows import WINDOW_SECONDS
from fastlog.bench.soak.writer import Writer
from fastlog.errors import FastlogError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fastlog.bench.harness.cluster import Cluster

MEBIBYTE = 1 << 20
#: the smallest segment that Kafka takes
SEGMENT_BYTES_MIN = 1 << 20
#: segments that retention keeps; with more the log's start moves in smaller steps
SEGMENTS = 4
#: how much of the log retention keeps, in seconds of the rate: a third of a short run, so that it deletes
KEPT_SECONDS = (3.0, 60.0)
#: how often a batch consumer comes back within that window
RETURNS = 5
#: a record's share of a batch besides its value, about
RECORD_BYTES = 10
#: for what is still to be read when nothing more is written
FINISH_SECONDS = 60.0
#: own brokers look each second for segments to delete, and for logs to clean
BROKER_SETTINGS = {"log.retention.check.interval.ms": "1000", "log.cleaner.backoff.ms": "1000"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench soak`."""

    minutes: float = 10.0
    rate: int = 10_000
    size: int = 100
    partitions: int = 2

    @property
    def seconds(self) -> float:
        """How long records are written."""
        return self.minutes * 60

    @property
    def window_seconds(self) -> float:
        """How much retention keeps at least, in time."""
        return min(max(self.seconds / 3, KEPT_SECONDS[0]), KEPT_SECONDS[1])

    @property
    def segment_bytes(self) -> int:
        """The size of a segment."""
        bytes_per_second = self.rate * (self.size + RECORD_BYTES) / self.partitions
        return max(SEGMENT_BYTES_MIN, int(bytes_per_second * self.window_seconds / SEGMENTS))

    def topic_configs(self) -> dict[str, str]:
        """Retention that deletes."""
        segment = self.segment_bytes
        return {
            "cleanup.policy": "delete",
            "segment.bytes": str(segment),
            "retention.bytes": str(SEGMENTS * segment),
            "file.delete.delay.ms": "1000",
        }

    def must_delete(self) -> bool:
        """Whether so much is written that retention has to delete some."""
        written = self.rate * self.seconds * self.size / self.partitions
        return written > (SEGMENTS + 2) * self.segment_bytes

    def must_clean(self) -> bool:
        """Whether so much is written to the compacted topic that some of it has to be gone at the end."""
        written = self.rate * self.seconds * self.size / ONE_IN
        return self.rate * self.seconds / ONE_IN > 2 * KEYS and written > SEGMENTS_MIN * SEGMENT_BYTES


@dataclass
class Watch:
    """What is seen while records are written."""

    rss: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    due: float = 0.0


class Soak:
    """One run against one topic, and a compacted one beside it."""

    def __init__(self, settings: Settings, cluster: Cluster, topic: str, compacted: str) -> None:
        self.settings = settings
        self.watch = Watch()
        self.readers: list[ReaderProcess] = []
        self._cluster = cluster
        self._topic = topic
        self._compacted = compacted

    def run(self, told: Callable[[dict[str, Any]], None], done: Callable[[int], None]) -> Writer:
        """Writes and has others read; `told` gets each window, `done` each second. Blocks."""
        settings = self.settings
        with ExitStack() as stack:
            for kind in KINDS:
                self.readers.append(stack.enter_context(ReaderProcess(self._job(kind))))
            for reader in self.readers:
                # retention of a short run would be faster than a process starts on a busy machine
                reader.wait_until_ready()
            producer = stack.enter_context(producer_at(self._cluster.bootstrap, linger_ms=0))
            writer = Writer(
                producer, self._topic, self._compacted, partitions=settings.partitions, size=settings.size
            )
            writer.write(
                rate=settings.rate,
                seconds=settings.seconds,
                each_tick=lambda: self._look(told, done),
            )
            self._finish(writer, told)
        return writer

    def problems(self, writer: Writer) -> list[str]:
        """Every promise that was broken, in words."""
        found = []
        for reader in self.readers:
            report = reader.found or {"problem": f"it had not read everything after {FINISH_SECONDS:.0f} s"}
            if report["problem"]:
                found.append(f"{reader.kind} consumer: {report['problem']}")
            elif reader.kind == "compacted":
                found += self._problems_of_compaction(report, writer)
            elif reader.kind != "rewinding" and report["checksums"] != writer.checksums:
                found.append(
                    f"{reader.kind} consumer: other bytes came than were written (the checksums differ)"
                )
        for what, samples in (("resident memory", self.watch.rss), ("descriptors", self.watch.descriptors)):
            if not watch.is_flat(samples):
                found.append(f"{what} of the broker grew by {watch.growth(samples):.2f} in the last third")
        if self._cluster.broker is not None and self.settings.must_delete() and not self.deleted_records():
            found.append("retention deleted nothing")
        return found

    def _problems_of_compaction(self, report: Mapping[str, Any], writer: Writer) -> list[str]:
        if report["digest"] != digest(writer.latest):
            return ["compacted consumer: the latest record of each key is not what was written last"]
        is_own = self._cluster.broker is not None
        if is_own and self.settings.must_clean() and report["kept"] >= writer.compacted_records:
            return [f"the cleaner took nothing of {writer.compacted_records} records of {KEYS} keys"]
        return []

    def deleted_records(self) -> int:
        """How many records retention has taken away."""
        starts = [self._cluster.log_start_offset(self._topic, at) for at in range(self.settings.partitions)]
        return sum(starts)

    def _job(self, kind: str) -> Job:
        is_compacted = kind == "compacted"
        return Job(
            kind=kind,
            bootstrap=self._cluster.bootstrap,
            topic=self._compacted if is_compacted else self._topic,
            partitions=1 if is_compacted else self.settings.partitions,
            interval_seconds=self.settings.window_seconds / RETURNS,
            data_dir=None if self._cluster.broker is None else str(self._cluster.broker.data_dir),
        )

    def _look(self, told: Callable[[dict[str, Any]], None], done: Callable[[int], None]) -> bool:
        """Once a second: samples, windows; whether to go on."""
        seen, now = self.watch, time.monotonic()
        if now < seen.due:
            return True
        seen.due = now + 1
        done(1)
        if self._cluster.broker is not None:
            seen.rss.append(self._cluster.broker.rss_bytes())
            seen.descriptors.append(self._cluster.broker.descriptor_count())
        self._collect(told)
        # a reader that is over before the end has found a problem
        return all(reader.found is None for reader in self.readers)

    def _collect(self, told: Callable[[dict[str, Any]], None], timeout: float = 0.0) -> None:
        for reader in self.readers:
            for window in reader.windows(timeout):
                # the broker as it is when the window is told, some seconds after its end
                for name, samples in (("rss_bytes", self.watch.rss), ("descriptors", self.watch.descriptors)):
                    window[name] = samples[-1] if samples else None
                self.watch.windows.append(window)
                told(window)

    def _finish(self, writer: Writer, told: Callable[[dict[str, Any]], None]) -> None:
        for reader in self.readers:
            is_compacted = reader.kind == "compacted"
            reader.finish_at([writer.compacted_records] if is_compacted else writer.counts)
        deadline = time.monotonic() + FINISH_SECONDS
        while time.monotonic() < deadline and any(reader.found is None for reader in self.readers):
            self._collect(told, timeout=0.1)


def run(
    settings: Settings,
    *,
    bootstrap: str | None,
    directory: Path | None,
    told: Callable[[Result], None],
    done: Callable[[int], None],
) -> Result:
    """Runs a soak; `told` gets a result for each window as it ends, `done` is told of each second. Blocks."""
    shown = {
        **asdict(settings),
        "acks": "all",
        "linger_ms": 0,
        **settings.topic_configs(),
        "bootstrap": bootstrap,
        **machine.describe(directory),
    }
    with (
        cluster_at(bootstrap, directory=directory, settings=BROKER_SETTINGS) as cluster,
        cluster.topic(settings.partitions, settings.topic_configs()) as topic,
        cluster.topic(1, CONFIGS) as compacted,
    ):
        soak = Soak(settings, cluster, topic, compacted)
        start, cpu = time.perf_counter(), cluster.cpu_seconds()
        try:
            writer = soak.run(lambda window: told(window_result(window, settings, shown)), done)
        except FastlogError as error:
            found = [reader.found["problem"] for reader in soak.readers if reader.found is not None]
            raise FastlogError(
                f"the soak ended early: {error}; consumers: {found or 'none has found a fault'}"
            ) from error
        seconds = time.perf_counter() - start
        used = None if cpu is None else (cluster.cpu_seconds() or 0.0) - cpu
        return total(soak, writer, seconds, used, shown)


def window_result(window: Mapping[str, Any], settings: Settings, shown: Mapping[str, Any]) -> Result:
    """The line of a window: what the online consumer received, from when it was due."""
    records = int(window["records"])
    # the last one may be shorter
    seconds = min(WINDOW_SECONDS, settings.seconds - (window["window"] - 1) * WINDOW_SECONDS)
    return Result(
        name="soak.window",
        records=records,
        seconds=seconds,
        records_per_second=records / seconds,
        p50_ms=window["p50_ms"],
        p99_ms=window["p99_ms"],
        details={name: window[name] for name in ("window", "rss_bytes", "descriptors")},
        settings=shown,
    )


def total(
    soak: Soak, writer: Writer, seconds: float, cpu_seconds: float | None, settings: Mapping[str, Any]
) -> Result:
    """The last line. Its percentiles are those of the median and of the worst window."""
    seen, problems = soak.watch, soak.problems(writer)
    details: dict[str, Any] = {
        "passed": not problems,
        "problems": problems,
        "deleted_records": soak.deleted_records(),
        "compacted_written": writer.compacted_records,
        "rss_growth": watch.growth(seen.rss),
        "rss_mib": seen.rss[-1] / MEBIBYTE if seen.rss else None,
        "descriptors_growth": watch.growth(seen.descriptors),
        "descriptors": seen.descriptors[-1] if seen.descriptors else None,
        "broker_cpu_seconds_per_million_records": (
            None if cpu_seconds is None else cpu_seconds / max(writer.records, 1) * 1e6
        ),
    }
    for reader in soak.readers:
        report = dict(reader.found or {})
        for name in ("problem", "checksums", "digest"):
            report.pop(name, None)
        details |= {f"{reader.kind}_{name}": value for name, value in report.items()}
    return Result(
        name="soak",
        records=writer.records,
        seconds=seconds,
        records_per_second=writer.records / seconds,
        megabytes_per_second=writer.records * soak.settings.size / seconds / MEGABYTE,
        p50_ms=median([window["p50_ms"] for window in seen.windows]) if seen.windows else None,
        p99_ms=max((window["p99_ms"] for window in seen.windows), default=None),
        details=details,
        settings=settings,
    )
