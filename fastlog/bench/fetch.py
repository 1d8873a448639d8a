"""Fetching from a broker, against bare sendfile to the same reader, which throws the bytes away in the kernel."""

from __future__ import annotations

import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.wire import fetch_frame, fill
from fastlog.bench.harness.workload import SealedBatch, batch_of
from fastlog.errors import ConfigError, FastlogError
from fastlog.native._engine import BareFile, FileServer, discard_frames

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = "sendfile(2) of the same bytes, unasked, to the same reader"
#: what a response has around the records of its one partition, at most
RESPONSE_HEADER_BYTES_MAX = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench fetch`."""

    fetches: int = 512
    fetch_bytes: int = 1 << 20
    batch_bytes: int = 1 << 18
    ahead: int = 2
    size: int = 100
    pairs: int = 5


class Bench:
    """A topic and a file with the same bytes."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.batch = batch_of(settings.size, settings.batch_bytes)
        self.batches_per_fetch = settings.fetch_bytes // len(self.batch.data)
        if not self.batches_per_fetch:
            raise ConfigError(
                f"a fetch of {settings.fetch_bytes} bytes does not hold a batch of {len(self.batch.data)}; take a "
                "larger --fetch-bytes or a smaller --batch-bytes"
            )
        self.fetch_bytes = self.batches_per_fetch * len(self.batch.data)

    @property
    def batches(self) -> int:
        """The batches of the topic."""
        return self.settings.fetches * self.batches_per_fetch

    def read(self, address: str, requests: list[bytes]) -> Round:
        """One run of the reader; raises FastlogError where other bytes came than were asked for."""
        fetches = self.settings.fetches
        received, times = discard_frames(address, fetches, requests=requests, ahead=self.settings.ahead)
        surplus = received - fetches * self.fetch_bytes
        if not 0 <= surplus <= fetches * RESPONSE_HEADER_BYTES_MAX:
            raise FastlogError(
                f"fetching from {address}: {received} bytes came for {fetches} fetches of {self.fetch_bytes} bytes; "
                "the broker refused them, or splits batches"
            )
        records = self.batches * self.batch.records
        return Round(records, sum(times) / 1e9, fetches * self.fetch_bytes, times)

    def requests(self, topic: str) -> list[bytes]:
        """One fetch after the other, to the end of the topic."""
        step = self.batches_per_fetch * self.batch.records
        fetches = range(self.settings.fetches)
        return [fetch_frame(topic, number * step, self.fetch_bytes, number) for number in fetches]

    def write_file(self, path: Path) -> None:
        """The file for sendfile: what the fetches bring, each behind its length."""
        frame = struct.pack(">I", self.fetch_bytes) + self.batch.data * self.batches_per_fetch
        BareFile(path).append(frame, self.settings.fetches)


def run(
    settings: Settings, *, bootstrap: str | None, directory: Path | None, done: Callable[[int], None]
) -> Result:
    """Fetches a topic from its start to its end, and reads the file, in turn. Blocks."""
    bench = Bench(settings)
    with (
        cluster_at(bootstrap, directory=directory) as cluster,
        cluster.topic() as topic,
        TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name,
    ):
        fill(cluster, topic, bench.batch, bench.batches)
        address = numeric(*cluster.leader_address(topic))
        requests = bench.requests(topic)
        bench.write_file(Path(name) / "bare")
        server = FileServer(Path(name) / "bare", chunk_bytes=4 + bench.fetch_bytes)
        try:
            pairs = run_pairs(
                lambda: cluster.with_broker_cpu(lambda: bench.read(address, requests)),
                lambda: bench.read(f"127.0.0.1:{server.port}", []),
                settings.pairs,
                done,
            )
        finally:
            server.close()
    shape = shape_of(bench.batch, bench.fetch_bytes)
    return from_pairs(
        "fetch",
        pairs,
        limit=LIMIT,
        settings={**asdict(settings), **shape, "bootstrap": bootstrap, **machine.describe(directory)},
    )


def shape_of(batch: SealedBatch, fetch_bytes: int) -> dict[str, int]:
    """The sizes that came of what was asked for: whole batches of whole records."""
    return {"batch_bytes": len(batch.data), "records_per_batch": batch.records, "fetch_bytes": fetch_bytes}


def numeric(host: str, port: int) -> str:
    """IP:PORT; raises OSError for a name that does not resolve."""
    address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"
