"""Acknowledged single appends from many clients at once, each waiting for its answer before it sends again.

What counts is the broker, so a client is a socket and a request made ready, and all of them share one thread. Under
`fsync` each append is on the disk before its answer; the limit, one writer that syncs after each write, is beaten where
a broker lets many appends share a sync.
"""

from __future__ import annotations

import selectors
import socket
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Self

from fastlog.bench.harness import machine
from fastlog.bench.harness.cluster import cluster_at
from fastlog.bench.harness.result import Result, from_pairs
from fastlog.bench.harness.statistics import Round, run_pairs
from fastlog.bench.harness.wire import CLIENT_ID, PRODUCE_VERSION, framed, produce_request
from fastlog.bench.harness.workload import batch_of
from fastlog.errors import FastlogError, NotReachableError, error_for
from fastlog.native._engine import BareFile
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

LIMITS = {
    "os": "write(2) of the same batches, one after the other",
    "fsync": "write(2) and fdatasync of the same batches, one after the other",
}
CODES = {"0": 0, "1": 1, "all": -1}
#: appends of the limit between two looks at the clock
LIMIT_BURST = 50
SILENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of `fastlog bench commits`; `seconds` are for each side, over all pairs."""

    clients: int = 16
    durability: str = "fsync"
    acks: str = "all"
    seconds: float = 10.0
    size: int = 100
    pairs: int = 5


class Client:
    """One connection with at most one request under way."""

    def __init__(self, address: tuple[str, int], frame: bytes) -> None:
        """Connects; raises NotReachableError."""
        self._frame = frame
        self._received = bytearray()
        self._sent_ns = 0
        try:
            self.socket = socket.create_connection(address, timeout=SILENCE_SECONDS)
        except OSError as error:
            raise NotReachableError(
                f"connecting to {address[0]}:{address[1]}: {error.strerror or error}"
            ) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self) -> None:
        """Sends the request, which is small enough to leave at once."""
        self._sent_ns = time.perf_counter_ns()
        self.socket.sendall(self._frame)

    def receive(self) -> int | None:
        """The nanoseconds that the answer took, once it is whole; raises what it says, FastlogError at the end."""
        data = self.socket.recv(4096)
        if not data:
            raise FastlogError("appending: the broker closed the connection; look at its log")
        self._received += data
        if len(self._received) < 4 or len(self._received) < 4 + struct.unpack_from(">i", self._received)[0]:
            return None
        took = time.perf_counter_ns() - self._sent_ns
        _, answer = decode_response_frame(ApiKey.PRODUCE, PRODUCE_VERSION, bytes(self._received[4:]))
        self._received.clear()
        outcome = answer.responses[0].partition_responses[0]
        if outcome.error_code:
            raise error_for(outcome.error_code, f"appending a record: {outcome.error_message or 'refused'}")
        return took


class Clients:
    """All of them, on one thread. A context manager: the connections end with it."""

    def __init__(self, address: tuple[str, int], frame: bytes, count: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._clients: list[Client] = []
        for _ in range(count):
            client = Client(address, frame)
            self._clients.append(client)
            self._selector.register(client.socket, selectors.EVENT_READ, client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.socket.close()
        self._selector.close()

    def run(self, seconds: float) -> list[int]:
        """Has each client send again and again for so long; the nanoseconds of each append, all answered."""
        times: list[int] = []
        end = time.perf_counter() + seconds
        for client in self._clients:
            client.send()
        under_way = len(self._clients)
        while under_way:
            ready = self._selector.select(SILENCE_SECONDS)
            if not ready:
                raise FastlogError(
                    f"appending: no answer for {SILENCE_SECONDS:.0f} s; look at the broker's log"
                )
            for key, _ in ready:
                took = key.data.receive()
                if took is None:
                    continue
                times.append(took)
                if time.perf_counter() < end:
                    key.data.send()
                else:
                    under_way -= 1
        return times


def run(
    settings: Settings, *, bootstrap: str | None, directory: Path | None, done: Callable[[int], None]
) -> Result:
    """Appends from all clients, and to a bare file, in turn. Blocks."""
    seconds = settings.seconds / settings.pairs
    batch = batch_of(settings.size, 1 << 20, records=1).data
    configs = {"fastlog.durability": "fsync"} if settings.durability == "fsync" else {}

    def timed(work: Callable[[], list[int]]) -> Round:
        start = time.perf_counter()
        times = work()
        return Round(len(times), time.perf_counter() - start, len(times) * settings.size, times)

    with (
        cluster_at(bootstrap, directory=directory) as cluster,
        cluster.topic(configs=configs) as topic,
        TemporaryDirectory(prefix="fastlog-bench-", dir=directory) as name,
    ):
        request = produce_request(topic, 0, batch, CODES[settings.acks])
        frame = framed(encode_request_frame(request, PRODUCE_VERSION, 0, CLIENT_ID))

        def write() -> list[int]:
            path = Path(name) / "bare"
            path.unlink(missing_ok=True)
            file, times, end = BareFile(path), [], time.perf_counter() + seconds
            while time.perf_counter() < end:
                times += file.append(batch, LIMIT_BURST, sync=settings.durability == "fsync")
            return times

        with Clients(cluster.leader_address(topic), frame, settings.clients) as clients:
            pairs = run_pairs(
                lambda: cluster.with_broker_cpu(lambda: timed(lambda: clients.run(seconds))),
                lambda: timed(write),
                settings.pairs,
                done,
            )
    return from_pairs(
        "commits",
        pairs,
        limit=LIMITS[settings.durability],
        settings={**asdict(settings), "bootstrap": bootstrap, **machine.describe(directory)},
    )
