"""Tiered storage: uploading full segments, and reading them from the store through the cache.

An upload is from the moment at which the topic may be copied to that at which the store has all full segments; what it
costs the broker includes looking whether it is done. It is compared with a plain copy, which checks nothing.

A reader's round is from the making of a consumer to its last record. The cache is smaller than the topic, so each round
reads everything from the store; the broker has what is on the disk, and a directory as the store, in the page cache.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.wire import fill
from fastlog.bench.harness.workload import batch_of
from fastlog.client.admin import Admin
from fastlog.client.connection import Connection
from fastlog.client.consumer.consumer import Consumer
from fastlog.errors import ConfigError, FastlogError, error_for
from fastlog.native._engine import BareFile
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from fastlog.bench.harness.cluster import Cluster

UPLOAD_LIMIT = "read, write and fsync of the same bytes, file by file"
READ_LIMIT = "the same consumer with the same records on the disk"
EARLIEST_LOCAL, LATEST_TIERED = -4, -5
LIST_OFFSETS_VERSION = 9
LOOK_SECONDS = 0.01
PATIENCE_SECONDS = 300.0
PIECE_BYTES = 1 << 20
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench tiers`."""

    bytes: int = 512 << 20
    segment_bytes: int = 32 << 20
    cache_bytes: int = 32 << 20
    batch_bytes: int = 1 << 18
    size: int = 1000
    store: str | None = None
    pairs: int = 5


class Bench:
    """Topics of a broker with a store, and files beside it."""

    def __init__(self, settings: Settings, cluster: Cluster, directory: Path) -> None:
        self._settings = settings
        self._cluster = cluster
        self._directory = directory
        self._batch = batch_of(settings.size, settings.batch_bytes)
        self._batches = settings.bytes // len(self._batch.data)
        per_segment = settings.segment_bytes // len(self._batch.data)
        full = (self._batches - 1) // per_segment if per_segment else 0
        if full < 1:
            raise ConfigError(
                f"{settings.bytes} bytes in batches of {len(self._batch.data)} fill no segment of "
                f"{settings.segment_bytes}: take larger --bytes, or a smaller --segment-bytes or --batch-bytes"
            )
        self._files = full
        self._per_segment = per_segment
        self.records = full * per_segment * self._batch.records
        """Those of full segments: what is uploaded, and read."""
        self.bytes = full * per_segment * len(self._batch.data)
        BareFile(directory / "bare").append(self._batch.data, full * per_segment)

    def config(self, **more: str) -> dict[str, str]:
        """A topic's."""
        config = {"segment.bytes": str(self._settings.segment_bytes)}
        return config | {name.replace("_", "."): value for name, value in more.items()}

    def fill(self, topic: str) -> None:
        """Writes all batches to a topic."""
        fill(self._cluster, topic, self._batch, self._batches)

    def wait(self, topic: str, what: int, offset: int) -> None:
        """Returns when ListOffsets tells at least `offset` for the timestamp `what`."""
        host, port = self._cluster.leader_address(topic)
        wanted = [ListOffsetsTopic(topic, [ListOffsetsPartition(0, -1, what)])]
        deadline = time.monotonic() + PATIENCE_SECONDS
        with Connection(host, port, client_id="fastlog-bench") as connection:
            while True:
                answer = connection.request(ListOffsetsRequest(-1, 0, wanted), version=LIST_OFFSETS_VERSION)
                found = answer.topics[0].partitions[0]
                if found.error_code:
                    raise error_for(found.error_code, f"looking for offset {what} of {topic}")
                if found.offset >= offset:
                    return
                if time.monotonic() > deadline:
                    raise FastlogError(
                        f"{topic} is tiered up to offset {found.offset} after {PATIENCE_SECONDS:.0f} s, not up to "
                        f"{offset}: look at the broker's log whether its store answers"
                    )
                time.sleep(LOOK_SECONDS)

    def upload(self) -> Round:
        """Uploads a topic that is on the disk."""
        config = self.config(
            remote_storage_enable="true", remote_log_copy_disable="true", local_retention_ms="-2"
        )
        with self._cluster.topic(configs=config) as topic, Admin(self._cluster.bootstrap) as admin:
            self.fill(topic)

            def measure() -> Round:
                start = time.perf_counter()
                admin.alter_configs({"remote.log.copy.disable": "false"}, topic=topic)
                self.wait(topic, LATEST_TIERED, self.records - 1)
                return self._round(start)

            return self._cluster.with_broker_cpu(measure)

    def copy(self) -> Round:
        """Copies as many files of as many bytes."""
        length = self._per_segment * len(self._batch.data)
        copies = [self._directory / f"copy-{number}" for number in range(self._files)]
        start = time.perf_counter()
        with (self._directory / "bare").open("rb") as source:
            for copy in copies:
                left = length
                with copy.open("wb") as target:
                    while left:
                        left -= target.write(source.read(min(left, PIECE_BYTES)))
                    target.flush()
                    os.fsync(target.fileno())
        found = self._round(start)
        for copy in copies:
            copy.unlink()
        return found

    def read(self, topic: str) -> Round:
        """Reads the records of full segments."""
        start = time.perf_counter()
        left = self.records
        with Consumer(self._cluster.bootstrap, topics=topic, auto_offset_reset="earliest") as consumer:
            for batch in consumer.batches(PATIENCE_SECONDS):
                left -= len(batch.values())
                if left <= 0:
                    return self._round(start)
        raise FastlogError(
            f"{left} of {self.records} records of {topic} did not come: look at the broker's log"
        )

    def _round(self, start: float) -> Round:
        return Round(self.records, time.perf_counter() - start, self.bytes)


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> list[Result]:
    """Uploads and copies in turn, then reads from the store and from the disk in turn. Blocks."""
    with TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name:
        store = store_url(settings.store or f"{name}/store")
        with cluster_at(None, directory=directory, settings=broker_settings(settings, store)) as cluster:
            bench = Bench(settings, cluster, Path(name))
            uploads = run_pairs(bench.upload, bench.copy, settings.pairs, done)
            tiered = bench.config(remote_storage_enable="true", local_retention_ms="1")
            with cluster.topic(configs=tiered) as away, cluster.topic(configs=bench.config()) as here:
                for topic in (away, here):
                    bench.fill(topic)
                bench.wait(away, EARLIEST_LOCAL, bench.records)
                reads = run_pairs(
                    lambda: cluster.with_broker_cpu(lambda: bench.read(away)),
                    lambda: bench.read(here),
                    settings.pairs,
                    done,
                )
    told: Mapping[str, object] = {**asdict(settings), "store": store, **machine.describe(directory)}
    found = [
        from_pairs("tiers.upload", uploads, limit=UPLOAD_LIMIT, settings=told),
        from_pairs("tiers.read", reads, limit=READ_LIMIT, settings=told),
    ]
    sides = zip(found, (uploads.subjects, reads.subjects), strict=True)
    return [with_cpu_per_gigabyte(result, rounds) for result, rounds in sides]


def store_url(named: str) -> str:
    """The store as brokers take it: a directory by its absolute path."""
    return named if "://" in named else str(Path(named).resolve())


def broker_settings(settings: Settings, store: str) -> dict[str, str]:
    """Of a broker with that store, which is not to wait for a turn."""
    return {
        "remote.log.storage.system.enable": "true",
        "fastlog.remote.store.url": store,
        "fastlog.remote.cache.bytes": str(settings.cache_bytes),
        "remote.log.manager.task.interval.ms": "20",
        "log.retention.check.interval.ms": "100",
    }


def with_cpu_per_gigabyte(result: Result, rounds: Sequence[Round]) -> Result:
    """The result with the broker's processor time by bytes, which are what counts here."""
    seconds = sum(one.broker_cpu_seconds or 0.0 for one in rounds)
    cpu = seconds / sum(one.bytes for one in rounds) * GIGABYTE
    return replace(result, details={**result.details, "broker_cpu_seconds_per_gigabyte": cpu})
