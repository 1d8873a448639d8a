"""What this machine can do at best, without a broker: what the other benches compare with, and its parts.

A record here is one of `size` bytes in a batch as it lies on disk, so that the rates stand beside those of the benches.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from fastlog.bench.harness import machine
from fastlog.bench.harness.bare_zmq import BareDealer
from fastlog.bench.harness.result import Result, from_rounds
from fastlog.bench.harness.statistics import Round
from fastlog.bench.harness.workload import SealedBatch, batch_of
from fastlog.native._engine import BareFile, FileServer, check_batches, crc32c, discard_frames

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
KIBIBYTE = 1024
#: a checksum of one batch is over in microseconds
CRC_TIMES = 64
#: an fdatasync takes a few hundred microseconds or, on a slow disk, some milliseconds
SYNCS = 200
ROUND_TRIPS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench limits`; `bytes` is what one round of one measure moves, at most."""

    bytes: int = 256 << 20
    size: int = 100
    rounds: int = 5


class Limits:
    """The measures, on files below one directory."""

    def __init__(self, settings: Settings, directory: Path, dealer: BareDealer) -> None:
        self._settings = settings
        self._path = directory / "limit"
        self._dealer = dealer

    def measures(self) -> dict[str, Callable[[], Round]]:
        """Each measure by its name."""
        return {
            "limits.crc32c": lambda: self.crc(self._batch(1024)),
            "limits.write.new_file": lambda: self.write(self._batch(1024), preallocate=False),
            "limits.write.4_kib": lambda: self.write(self._batch(4)),
            "limits.write.64_kib": lambda: self.write(self._batch(64)),
            "limits.write.1_mib": lambda: self.write(self._batch(1024)),
            "limits.write_fdatasync": self.write_synced,
            "limits.sendfile": lambda: self.sendfile(self._batch(1024)),
            "limits.sendfile_recv_crc": lambda: self.sendfile_crc(self._batch(256)),
            "limits.zmq_write.64_kib": lambda: self.zmq_write(self._batch(64)),
            "limits.zmq_write.256_kib": lambda: self.zmq_write(self._batch(256)),
            "limits.zmq_write.1_mib": lambda: self.zmq_write(self._batch(1024)),
            "limits.zmq_round_trip": self.zmq_round_trip,
        }

    def crc(self, batch: SealedBatch) -> Round:
        """CRC-32C over the same batch, which stays in the cache."""
        times = []
        for _ in range(CRC_TIMES):
            start = time.perf_counter_ns()
            crc32c(batch.data)
            times.append(time.perf_counter_ns() - start)
        return round_of(batch, times)

    def write(self, batch: SealedBatch, *, preallocate: bool = True) -> Round:
        """write(2) of batch after batch to a new file."""
        file = BareFile(self._path, preallocate=preallocate)
        times = file.append(batch.data, self._count(batch))
        self._path.unlink()
        return round_of(batch, times)

    def write_synced(self) -> Round:
        """write(2) and fdatasync of single records, one after the other."""
        batch = batch_of(self._settings.size, 4 * KIBIBYTE, records=1)
        times = BareFile(self._path).append(batch.data, SYNCS, sync=True)
        self._path.unlink()
        return round_of(batch, times)

    def sendfile(self, batch: SealedBatch) -> Round:
        """sendfile(2) to a reader that throws the bytes away in the kernel."""
        count = self._count(batch)
        frame = len(batch.data).to_bytes(4, "big") + batch.data
        _, times = self._served(
            frame, count, lambda address: discard_frames(address, count, requests=[], ahead=0)
        )
        return round_of(batch, times)

    def sendfile_crc(self, batch: SealedBatch) -> Round:
        """sendfile(2) to a reader that checks each batch's CRC."""
        count = self._count(batch)
        size, _, nanoseconds = self._served(batch.data, count, check_batches)
        return Round(batch.records * count, nanoseconds / 1e9, size)

    def zmq_write(self, batch: SealedBatch) -> Round:
        """DEALER -> ROUTER -> write, a window of batches under way."""
        count = self._count(batch)
        self._dealer.fresh_file()
        start = time.perf_counter()
        self._dealer.send_times(batch.data, count)
        return Round(batch.records * count, time.perf_counter() - start, len(batch.data) * count)

    def zmq_round_trip(self) -> Round:
        """DEALER -> ROUTER -> write of single records, one after the other."""
        batch = batch_of(self._settings.size, 4 * KIBIBYTE, records=1)
        self._dealer.fresh_file()
        times = []
        for _ in range(ROUND_TRIPS):
            start = time.perf_counter_ns()
            self._dealer.send_times(batch.data, 1)
            times.append(time.perf_counter_ns() - start)
        return round_of(batch, times)

    def _batch(self, kibibytes: int) -> SealedBatch:
        return batch_of(self._settings.size, max(kibibytes * KIBIBYTE, 2 * self._settings.size))

    def _count(self, batch: SealedBatch) -> int:
        return max(1, self._settings.bytes // len(batch.data))

    def _served(self, data: bytes, count: int, read: Callable[[str], Found]) -> Found:
        """What `read` finds at the address of a server of `data`, `count` times over."""
        BareFile(self._path).append(data, count)
        server = FileServer(self._path, chunk_bytes=max(len(data), 1 << 20))
        try:
            return read(f"127.0.0.1:{server.port}")
        finally:
            server.close()
            self._path.unlink()


def round_of(batch: SealedBatch, times: list[int]) -> Round:
    """A round of operations with a batch each."""
    return Round(batch.records * len(times), sum(times) / 1e9, len(batch.data) * len(times), times)


def run(settings: Settings, *, directory: Path | None, done: Callable[[int], None]) -> list[Result]:
    """Every measure `rounds` times, after one that does not count; `done` is told of each measure. Blocks."""
    found = []
    with ExitStack() as stack:
        place = Path(stack.enter_context(TemporaryDirectory(prefix="fastlog-bench-", dir=directory)))
        dealer = stack.enter_context(BareDealer(place))
        shown = {**asdict(settings), **machine.describe(directory)}
        for name, measure in Limits(settings, place, dealer).measures().items():
            measure()
            rounds = [measure() for _ in range(settings.rounds)]
            found.append(from_rounds(name, rounds, settings=shown))
            done(1)
    return found


#: how many measures there are, for a progress bar
MEASURES = 12
