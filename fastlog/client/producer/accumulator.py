"""Where `send` puts records and the sender takes batches: the only state that both threads change, under one lock."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from fastlog.client.producer.batch import Batch
from fastlog.errors import BufferFullError, ConfigError, MessageTooLargeError
from fastlog.native._collecting import RECORD_OVERHEAD, Collecting
from fastlog.native._sending import Delivery, TopicLanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.producer.partition_queue import PartitionQueue
    from fastlog.client.producer.partitioner import Partitioner
    from fastlog.native._sending import Lock

Headers = Any
#: value, key, headers, timestamp in milliseconds
Record = tuple[Any, Any, Headers, int]

HEADER_OVERHEAD = 12


def size_estimate(value: Any, key: Any, headers: Headers) -> int:
    """An upper bound for the bytes of a batch with this one record; what is no record is the builder's to refuse."""
    size = RECORD_OVERHEAD + bytes_of(value) + bytes_of(key)
    for header in headers or ():
        parts = header if isinstance(header, tuple) else ()
        size += HEADER_OVERHEAD + sum(
            4 * len(part) if isinstance(part, str) else bytes_of(part) for part in parts
        )
    return size


def bytes_of(data: Any) -> int:
    """The bytes of a buffer; 0 for what is none."""
    if type(data) is bytes:
        return len(data)
    if data is None:
        return 0
    try:
        return memoryview(data).nbytes
    except TypeError:
        return 0


class TopicQueues:
    """The queues of one topic's partitions, and where records without a key go."""

    __slots__ = ("choose", "lanes", "name", "queues")

    def __init__(self, name: str, queues: list[PartitionQueue], choose: Callable[[int, int], int]) -> None:
        """`choose(current, count)` picks the next sticky partition."""
        self.name = name
        self.queues = queues
        self.choose = choose
        #: the part that `send` looks at
        self.lanes = TopicLanes([queue.lane for queue in queues], choose(-1, len(queues)))

    def add(self, queue: PartitionQueue) -> None:
        """Adds the next partition."""
        self.queues.append(queue)
        self.lanes.add(queue.lane)

    def next_sticky(self) -> PartitionQueue:
        """Goes on to another partition for records without a key."""
        if len(self.queues) > 1:
            self.lanes.sticky = self.choose(self.lanes.sticky, len(self.queues))
        return self.queues[self.lanes.sticky]


class Accumulator(Collecting):
    """Collects records into batches by partition, within `buffer_bytes`.

    What is done once per batch, and the fields that needs, are in Collecting; `lock` guards all of them, the queues and
    the batches' events. `signal` is called, under the lock, to end the sender's sleep.

    - `active` has the queues with batches that wait, in the order in which they are looked at.
    - `closed` is set when `send` must refuse: why.
    - `blocked` counts the `send` calls that wait for room.
    - `hold_until_ms`: batches that still take records are not due before, unless somebody waits for room.
    - `awaits_answers`: batches are on their way, so room will be made.
    - `send_at_once` sends a batch on the thread that opened it, or says no: then the sender is woken. Called without
      the lock.
    - `_sleeping_until_ms` is until when the sender sleeps, so that an earlier deadline wakes it.
    - `_news`: something happened since the sender looked.
    """

    __slots__ = ("_bulk_batch_bytes", "_max_block_ms", "_new_builder", "_partitioner", "topics")

    def __init__(
        self,
        lock: Lock,
        *,
        batch_bytes: int,
        bulk_batch_bytes: int,
        buffer_bytes: int,
        max_request_bytes: int,
        linger_ms: float,
        max_block_ms: float,
        partitioner: Partitioner,
        new_builder: Callable[[int], Any],
        clock_ms: Callable[[], float],
        signal: Callable[[], None],
    ) -> None:
        self.lock = lock
        #: by name; only grows
        self.topics: dict[str, TopicQueues] = {}
        self._space = threading.Condition(self.lock)  # type: ignore[arg-type]
        self._free_bytes = self._buffer_bytes = buffer_bytes
        self._batch_bytes = batch_bytes
        self._bulk_batch_bytes = bulk_batch_bytes
        self._max_request_bytes = max_request_bytes
        self._linger_ms = linger_ms
        self._max_block_ms = max_block_ms
        self._partitioner = partitioner
        self._new_batch = Batch
        self._new_builder = new_builder
        self._clock_ms = clock_ms
        self._signal = signal

    @property
    def buffered_bytes(self) -> int:
        """What the batches that are not done hold of buffer_bytes."""
        return self._buffer_bytes - self._free_bytes

    # -- the application's side ------------------------------------------------------------------------------------

    def append(
        self,
        topic: TopicQueues,
        partition: int | None,
        value: Any,
        key: Any,
        headers: Headers,
        timestamp_ms: int,
        *,
        more_follow: bool = False,
    ) -> Delivery:
        """Adds one record; blocks up to max_block_ms while the buffer is full, then raises BufferFullError.

        `more_follow`: at once and many, so that a larger batch is worth its memory.
        """
        if partition is None:
            partition = self._partitioner(key, len(topic.queues))
        batch_bytes = self._bulk_bytes(len(topic.queues)) if more_follow else None
        record = value, key, headers, timestamp_ms
        if self.send_at_once is None:
            with self.lock:
                return self._append(topic, partition, record, batch_bytes)[0]
        left_to_sender = True
        try:
            with self.lock:
                delivery, opened = self._append(topic, partition, record, batch_bytes)
            left_to_sender = opened is not None and (more_follow or not self.send_at_once(opened))
        finally:
            # also where a signal's exception came between: the batch is open, and nobody would wake the sender for it
            if left_to_sender:
                with self.lock:
                    self.wake()
        return delivery

    def _bulk_bytes(self, partitions: int) -> int:
        """The size of batches that are filled at once: one of each partition takes a quarter of the buffer."""
        share = self._buffer_bytes // (4 * partitions)
        return max(self._batch_bytes, min(self._bulk_batch_bytes, share))

    def _append(
        self, topic: TopicQueues, partition: int | None, record: Record, batch_bytes: int | None
    ) -> tuple[Delivery, PartitionQueue | None]:
        """Adds one record, under the lock; also returns the queue where a batch was opened for it."""
        queue = topic.queues[topic.lanes.sticky if partition is None else partition]
        delivery = self._append_to_open(queue, record)
        if delivery is not None:
            return delivery, None
        if partition is None and queue.started:
            queue = topic.next_sticky()
        size = self._room_for(queue, record, batch_bytes)
        # of another thread, while this one waited; or of records with keys, in the sticky partition
        delivery = self._append_to_open(queue, record)
        if delivery is not None:
            return delivery, None
        builder = self._new_builder(size)
        builder.append(*record)
        return Delivery(self._open(queue, builder, size), 0, record[3]), queue

    def _append_to_open(self, queue: PartitionQueue, record: Record) -> Delivery | None:
        """Adds one record to the open batch; closes that where it has no room."""
        batch = queue.lane.batch
        if batch is None:
            return None
        if batch.builder.append(*record) or (
            self._grow(queue, batch, size_estimate(*record[:3])) and batch.builder.append(*record)
        ):
            return Delivery(batch, batch.builder.count - 1, record[3])
        self._close_open(queue)
        return None

    def _room_for(self, queue: PartitionQueue, record: Record, batch_bytes: int | None) -> int:
        """The size of a new batch that takes the record; blocks until the buffer has room for it.

        `batch_bytes` is that of one that is filled at once.
        """
        size = size_estimate(*record[:3])
        if size > self._max_request_bytes:
            raise MessageTooLargeError(
                f"a record of about {size} bytes for {queue.topic}-{queue.partition} is larger than "
                f"max_request_bytes={self._max_request_bytes}; split it, or raise max_request_bytes and the topic's "
                "max.message.bytes"
            )
        if batch_bytes is None:
            batch_bytes = self._first_bytes(queue)
        size = max(size, min(batch_bytes, queue.batch_bytes_max))
        if self.closed is not None or self._free_bytes < size:
            self._wait_for_space(queue, size)
        return size

    def _wait_for_space(self, queue: PartitionQueue, size: int) -> None:
        deadline = self._clock_ms() + self._max_block_ms
        self.blocked += 1
        try:
            while self.closed is None and self._free_bytes < size:
                self.wake()
                left = deadline - self._clock_ms()
                if left <= 0:
                    raise BufferFullError(
                        f"no room for a record to {queue.topic}-{queue.partition} within max_block_ms="
                        f"{self._max_block_ms:.0f}: {self.buffered_bytes} of buffer_bytes={self._buffer_bytes} "
                        "wait for brokers; send more slowly, raise buffer_bytes, or look why brokers do not answer"
                    )
                self._space.wait(left / 1000)
        finally:
            self.blocked -= 1
        if self.closed is not None:
            raise self.closed

    def refuse(self, reason: Exception) -> None:
        """Takes no more records, for `reason`, which `send` raises; what is collected becomes due."""
        with self.lock:
            self.closed = reason
            self._space.notify_all()
            for queue in self.active:
                queue.lane.close()
            self.wake()

    def flush(self) -> list[Batch]:
        """Makes all batches due and returns those that are not done."""
        with self.lock:
            batches: list[Batch] = []
            for queue in self.unfinished():
                queue.lane.close()
                batches += [*queue.in_flight, *queue.waiting]
            self.wake()
        return batches

    # -- the sender's side; under the lock -------------------------------------------------------------------------

    def fall_asleep(self, until_ms: float) -> bool:
        """Notes that the sender is going to sleep; False where there is news, so that it must not."""
        if self._news:
            return False
        self._sleeping, self._sleeping_until_ms = True, until_ms
        return True

    def is_asleep(self, until_ms: float) -> bool:
        """Whether the sender sleeps, and until `until_ms` at the latest."""
        return self._sleeping and self._sleeping_until_ms <= until_ms

    def wake_up(self) -> bool:
        """Notes that the sender is awake; whether `signal` was called meanwhile."""
        signalled = not self._sleeping
        self._sleeping = False
        return signalled

    def unfinished(self) -> list[PartitionQueue]:
        """The queues with batches that wait or are in flight."""
        return [
            queue
            for topic in self.topics.values()
            for queue in topic.queues
            if queue.waiting or queue.in_flight
        ]


def check_partition(topic: TopicQueues, partition: int) -> None:
    """Raises ConfigError where the topic has no such partition."""
    if not 0 <= partition < len(topic.queues):
        raise ConfigError(
            f"partition={partition} of topic {topic.name!r} does not exist: it has partitions 0 to "
            f"{len(topic.queues) - 1}"
        )
