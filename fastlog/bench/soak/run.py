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
from fastlog.bench.soak.reader import KINDS, Job
from fastlog.bench.soak.reader_process import ReaderProcess
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
WINDOW_SECONDS = (3.0, 60.0)
#: how often a batch consumer comes back within that window
RETURNS = 5
#: a record's share of a batch besides its value, about
RECORD_BYTES = 10
#: for what is still to be read when nothing more is written
FINISH_SECONDS = 60.0
#: own brokers look for segments to delete each second
BROKER_SETTINGS = {"log.retention.check.interval.ms": "1000"}


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
        return min(max(self.seconds / 3, WINDOW_SECONDS[0]), WINDOW_SECONDS[1])

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


@dataclass
class Watch:
    """What is seen while records are written."""

    rss: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    minutes: list[dict[str, Any]] = field(default_factory=list)
    due: float = 0.0


class Soak:
    """One run against one topic."""

    def __init__(self, settings: Settings, cluster: Cluster, topic: str) -> None:
        self.settings = settings
        self.watch = Watch()
        self.readers: list[ReaderProcess] = []
        self._cluster = cluster
        self._topic = topic

    def run(self, told: Callable[[dict[str, Any]], None], done: Callable[[int], None]) -> Writer:
        """Writes and has others read; `told` gets each minute, `done` each second. Blocks."""
        settings = self.settings
        with ExitStack() as stack:
            for kind in KINDS:
                self.readers.append(stack.enter_context(ReaderProcess(self._job(kind))))
            producer = stack.enter_context(producer_at(self._cluster.bootstrap, linger_ms=0))
            writer = Writer(producer, self._topic, partitions=settings.partitions, size=settings.size)
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

    def deleted_records(self) -> int:
        """How many records retention has taken away."""
        starts = [self._cluster.log_start_offset(self._topic, at) for at in range(self.settings.partitions)]
        return sum(starts)

    def _job(self, kind: str) -> Job:
        return Job(
            kind=kind,
            bootstrap=self._cluster.bootstrap,
            topic=self._topic,
            partitions=self.settings.partitions,
            interval_seconds=self.settings.window_seconds / RETURNS,
        )

    def _look(self, told: Callable[[dict[str, Any]], None], done: Callable[[int], None]) -> bool:
        """Once a second: samples, minutes; whether to go on."""
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
            for minute in reader.minutes(timeout):
                self.watch.minutes.append(minute)
                told(minute)

    def _finish(self, writer: Writer, told: Callable[[dict[str, Any]], None]) -> None:
        for reader in self.readers:
            reader.finish_at(writer.counts)
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
    """Runs a soak; `told` gets a result for each minute as it ends, `done` is told of each second. Blocks."""
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
    ):
        soak = Soak(settings, cluster, topic)
        start, cpu = time.perf_counter(), cluster.cpu_seconds()
        try:
            writer = soak.run(lambda minute: told(minute_result(minute, shown)), done)
        except FastlogError as error:
            found = [reader.found["problem"] for reader in soak.readers if reader.found is not None]
            raise FastlogError(
                f"the soak ended early: {error}; consumers: {found or 'none has found a fault'}"
            ) from error
        seconds = time.perf_counter() - start
        used = None if cpu is None else (cluster.cpu_seconds() or 0.0) - cpu
        return total(soak, writer, seconds, used, shown)


def minute_result(minute: Mapping[str, Any], settings: Mapping[str, Any]) -> Result:
    """The line of a minute: what the online consumer received, from when it was due."""
    records = int(minute["records"])
    return Result(
        name="soak.minute",
        records=records,
        p50_ms=minute["p50_ms"],
        p99_ms=minute["p99_ms"],
        details={"minute": minute["minute"]},
        settings=settings,
    )


def total(
    soak: Soak, writer: Writer, seconds: float, cpu_seconds: float | None, settings: Mapping[str, Any]
) -> Result:
    """The last line. Its percentiles are those of the median and of the worst minute."""
    seen, problems = soak.watch, soak.problems(writer)
    details: dict[str, Any] = {
        "passed": not problems,
        "problems": problems,
        "deleted_records": soak.deleted_records(),
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
        for name in ("problem", "checksums"):
            report.pop(name, None)
        details |= {f"{reader.kind}_{name}": value for name, value in report.items()}
    return Result(
        name="soak",
        records=writer.records,
        seconds=seconds,
        records_per_second=writer.records / seconds,
        megabytes_per_second=writer.records * soak.settings.size / seconds / MEGABYTE,
        p50_ms=median([minute["p50_ms"] for minute in seen.minutes]) if seen.minutes else None,
        p99_ms=max((minute["p99_ms"] for minute in seen.minutes), default=None),
        details=details,
        settings=settings,
    )
