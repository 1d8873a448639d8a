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
#: one that begins so long after it was due waited for the one before
LATE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Phase:
    """What a phase of writing came to."""

    megabytes_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: of all batches, those that were not sent when they were due, since one before was not answered
    late: float
    #: processors that the broker took meanwhile; None where it is not the bench's own
    broker_cpu: float | None


class Writer:
    """A context manager; ends its connection."""

    def __init__(self, cluster: Cluster, topic: str, bytes_per_second: int) -> None:
        batch = batch_of(VALUE_BYTES, bytes_per_second // BATCHES_PER_SECOND)
        self._cluster = cluster
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
        late: list[int] = []
        count = round(seconds * BATCHES_PER_SECOND)
        cpu, began = self._cluster.cpu_seconds(), time.perf_counter()
        pace(
            lambda number, due_ns: self._send(number, due_ns, times, late),
            rate=BATCHES_PER_SECOND,
            count=count,
        )
        took = time.perf_counter() - began
        after = self._cluster.cpu_seconds()
        times.sort()
        return Phase(
            count * self._bytes / took / 1e6,
            percentile(times, 50) / 1e6,
            percentile(times, 99) / 1e6,
            times[-1] / 1e6,
            len(late) / count,
            None if cpu is None or after is None else (after - cpu) / took,
        )

    def _send(self, number: int, due_ns: int, times: list[int], late: list[int]) -> None:
        if time.perf_counter_ns() - due_ns > LATE_NS:
            late.append(number)
        answer = self._connection.request(self._request, version=PRODUCE_VERSION)
        outcome = answer.responses[0].partition_responses[0]
        if outcome.error_code:
            raise error_for(outcome.error_code, f"writing to {self._topic}: {outcome.error_message}")
        times.append(time.perf_counter_ns() - due_ns)
