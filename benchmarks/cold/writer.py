"""Who writes meanwhile: batches at a fixed rate in an open loop, on one connection.

A batch's time is from when it was due; one that waits for the answer to the one before has waited.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.bench.harness.open_loop import pace
from fastlog.bench.harness.statistics import percentile
from fastlog.bench.harness.wire import CLIENT_ID, PRODUCE_VERSION, produce_request
from fastlog.bench.harness.workload import batch_of
from fastlog.client.connection import Connection
from fastlog.errors import error_for

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from fastlog.bench.harness.cluster import Cluster

BATCHES_PER_SECOND = 200
VALUE_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase of writing came to."""

    megabytes_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float


class Writer:
    """A context manager; ends its connection."""

    def __init__(self, cluster: Cluster, topic: str, bytes_per_second: int) -> None:
        batch = batch_of(VALUE_BYTES, bytes_per_second // BATCHES_PER_SECOND)
        self._topic = topic
        self._bytes = len(batch.data)
        self._request = produce_request(topic, 0, batch.data, 1)
        self._connection = Connection(*cluster.leader_address(topic), client_id=CLIENT_ID)

    def __enter__(self) -> Self:
        self._connection.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.__exit__(kind, error, trace)

    def write(self, seconds: float) -> Phase:
        """Writes for so long; blocks. Raises what the broker answers."""
        times: list[int] = []
        count = round(seconds * BATCHES_PER_SECOND)
        began = time.perf_counter()
        pace(lambda _number, due_ns: self._send(due_ns, times), rate=BATCHES_PER_SECOND, count=count)
        rate = count * self._bytes / (time.perf_counter() - began)
        times.sort()
        return Phase(rate / 1e6, percentile(times, 50) / 1e6, percentile(times, 99) / 1e6, times[-1] / 1e6)

    def _send(self, due_ns: int, times: list[int]) -> None:
        answer = self._connection.request(self._request, version=PRODUCE_VERSION)
        outcome = answer.responses[0].partition_responses[0]
        if outcome.error_code:
            raise error_for(outcome.error_code, f"writing to {self._topic}: {outcome.error_message}")
        times.append(time.perf_counter_ns() - due_ns)
