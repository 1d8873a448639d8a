"""One record batch on its way to a partition, and the deliveries that share its outcome."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from fastlog.native._sending import Fate, RecordMetadata

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastlog.native._sending import Delivery, Lock

logger = logging.getLogger("fastlog.producer")

NO_SEQUENCE = -1


class Batch(Fate):
    """Records of one partition that are sent, acknowledged and failed together.

    The sender alone changes it after it was closed, except that `_gate` and `_callbacks` are also touched by waiting
    threads: those hold `_lock`, which all batches of a producer share.
    """

    __slots__ = (
        "_callbacks",
        "_gate",
        "_lock",
        "_settled",
        "_unfinished_parts",
        "abandoned",
        "attempts",
        "base_sequence",
        "builder",
        "count",
        "created_ms",
        "last_problem",
        "not_before_ms",
        "ordinal",
        "parent",
        "producer_epoch",
        "producer_id",
        "record_errors",
        "reserved_bytes",
        "sealed",
        "sealed_as",
        "uncertain",
    )

    def __init__(self, topic: str, partition: int, builder: Any, lock: Lock, *, created_ms: float) -> None:
        self.topic = topic
        self.partition = partition
        #: takes the records until the batch is closed; dropped when it is sealed
        self.builder = builder
        #: the number of records, known when the lane is closed
        self.count = 0
        self.created_ms = created_ms
        #: share of the producer's buffer_bytes that this batch holds
        self.reserved_bytes = 0
        #: the bytes that travel; owned by the batch until no request holds them
        self.sealed: Any = None
        #: producer id, epoch and sequence that stand in `sealed`
        self.sealed_as = (-1, -1, NO_SEQUENCE)
        self.producer_id = -1
        self.producer_epoch = -1
        self.base_sequence = NO_SEQUENCE
        #: place in the partition's order of first sends
        self.ordinal = -1
        self.attempts = 0
        #: an attempt ended without a definite answer, so the records may lie in the log already
        self.uncertain = False
        #: the deliveries have failed (expired) while a request with this batch is still unanswered
        self.abandoned = False
        self.not_before_ms = 0.0
        self.last_problem = ""
        self.record_errors: Mapping[int, BaseException] = {}
        self.parent: Batch | None = None
        self._unfinished_parts = 0
        self._lock = lock
        self._settled = False
        #: held until the batch is settled, where somebody waits for that
        self._gate: threading.Lock | None = None
        self._callbacks: list[tuple[Callable[[Delivery], object], Delivery]] = []

    def __repr__(self) -> str:
        return f"Batch({self.topic}-{self.partition}, {self.count} records, sequence {self.base_sequence})"

    @property
    def identity(self) -> tuple[int, int, int]:
        """Producer id, epoch and base sequence under which the batch is sent."""
        return self.producer_id, self.producer_epoch, self.base_sequence

    @property
    def size_bytes(self) -> int:
        """Bytes as sent, or an upper bound before the batch is sealed."""
        if self.builder is not None:
            return int(self.builder.size_bytes)
        return len(self.sealed) if self.sealed is not None else 0

    def complete(self, base_offset: int, log_append_time_ms: int) -> None:
        """Ends the batch well: its records lie at `base_offset` and after."""
        self.base_offset = base_offset
        self.log_append_time_ms = log_append_time_ms
        self._finish()

    def fail(self, error: BaseException, record_errors: Mapping[int, BaseException] | None = None) -> None:
        """Ends the batch with `error`; `record_errors` says more about single records, by index."""
        self.error = error
        if record_errors:
            self.record_errors = record_errors
        self._finish()

    def split_into(self, parts: list[Batch]) -> None:
        """Hands the outcome of this batch's records over to `parts`, which hold the same records in order."""
        first = 0
        self._unfinished_parts = len(parts)
        for part in parts:
            self.parts.append((first, part))
            part.parent = self
            first += part.count
        self.sealed = None

    def wait(self, timeout: float | None) -> bool:
        """Blocks until the batch is done and its callbacks have run; False when `timeout` seconds passed first."""
        with self._lock:
            if self._settled:
                return True
            gate = self._gate
            if gate is None:
                # half the work of an Event, which shows in the time of a single record's round trip
                gate = self._gate = threading.Lock()
                gate.acquire()
        if not gate.acquire(timeout=-1 if timeout is None else min(max(timeout, 0.0), threading.TIMEOUT_MAX)):
            return False
        # for the next one that waits
        gate.release()
        return True

    def add_callback(self, callback: Callable[[Delivery], object], delivery: Delivery) -> None:
        """Calls `callback(delivery)` once the batch is done: at once if it is, else on the sender thread."""
        with self._lock:
            if not self.done:
                self._callbacks.append((callback, delivery))
                return
        run_callback(callback, delivery)

    def error_of(self, index: int) -> BaseException | None:
        """Why the record at `index` failed; None where it did not. The batch must be done."""
        batch, index = self._part_of(index)
        return batch.record_errors.get(index, batch.error)

    def metadata_of(self, index: int, timestamp_ms: int) -> RecordMetadata:
        """Where the record at `index` lies. The batch must be done and without error."""
        batch, index = self._part_of(index)
        offset = batch.base_offset + index if batch.base_offset >= 0 else -1
        appended = batch.log_append_time_ms
        return RecordMetadata(self.topic, self.partition, offset, appended if appended >= 0 else timestamp_ms)

    def _part_of(self, index: int) -> tuple[Batch, int]:
        batch = self
        while batch.parts:
            first, part = next(entry for entry in reversed(batch.parts) if entry[0] <= index)
            batch, index = part, index - first
        return batch, index

    def _finish(self) -> None:
        with self._lock:
            self.done = True
            callbacks, self._callbacks = self._callbacks, []
        for callback, delivery in callbacks:
            run_callback(callback, delivery)
        with self._lock:
            self._settled = True
        # no lock: `wait` makes no gate any more
        if self._gate is not None:
            self._gate.release()
        parent = self.parent
        if parent is not None:
            parent._unfinished_parts -= 1
            if parent._unfinished_parts == 0:
                parent._finish()


def run_callback(callback: Callable[[Delivery], object], delivery: Delivery) -> None:
    """Calls a user's function; what it raises is logged, since nobody above could answer for it."""
    try:
        callback(delivery)
    except Exception:
        logger.exception("a delivery callback for %s raised; the delivery itself is not affected", delivery)
