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

    The sender alone changes it after it was closed, except that `gate` and `callbacks` are also touched by waiting
    threads: those hold the lock, which all batches of a producer share. The fields are in Fate, since there may be
    tens of thousands of batches a second:

    - `builder` takes the records until the batch is closed; dropped when it is sealed.
    - `count` is the number of records, known when the lane is closed.
    - `reserved_bytes` is the share of the producer's buffer_bytes that this batch holds.
    - `sealed` are the bytes that travel, owned by the batch until no request holds them; `sealed_as` the producer id,
      epoch and sequence that stand in them.
    - `ordinal` is the place in the partition's order of first sends, -1 before.
    - `uncertain`: an attempt ended without a definite answer, so the records may lie in the log already.
    - `abandoned`: the deliveries have failed (expired) while a request with this batch is still unanswered.
    - `settled`: done, and the callbacks have run.
    - `gate` is held until then, where somebody waits for that.
    - `parts` are those of one that was split: (index of the first record, batch), in order; None before.
    """

    __slots__ = ("_unfinished_parts",)

    def __init__(self, topic: str, partition: int, builder: Any, lock: Lock, *, created_ms: float) -> None:
        self.topic = topic
        self.partition = partition
        self.builder = builder
        self.created_ms = created_ms
        self._lock = lock

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
        placed = []
        for part in parts:
            placed.append((first, part))
            part.parent = self
            first += part.count
        self.parts = placed
        self.sealed = None

    def wait(self, timeout: float | None) -> bool:
        """Blocks until the batch is done and its callbacks have run; False when `timeout` seconds passed first."""
        with self._lock:
            if self.settled:
                return True
            gate = self.gate
            if gate is None:
                # half the work of an Event, which shows in the time of a single record's round trip
                gate = self.gate = threading.Lock()
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
                if self.callbacks is None:
                    self.callbacks = []
                self.callbacks.append((callback, delivery))
                return
        run_callback(callback, delivery)

    def error_of(self, index: int) -> BaseException | None:
        """Why the record at `index` failed; None where it did not. The batch must be done."""
        batch, index = self._part_of(index)
        return (batch.record_errors or {}).get(index, batch.error)

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
            callbacks, self.callbacks = self.callbacks, None
            # no gate is made any more then
            self.settled = not callbacks
        if callbacks:
            for callback, delivery in callbacks:
                run_callback(callback, delivery)
            with self._lock:
                self.settled = True
        if self.gate is not None:
            self.gate.release()
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
