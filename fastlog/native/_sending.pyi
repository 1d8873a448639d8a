"""What `Producer.send` does once per record: pick the partition, append to its open batch, make the delivery."""

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeAlias, TypeVar, final

from typing_extensions import disjoint_base

from fastlog.client.producer.batch import Batch
from fastlog.client.producer.partition_queue import PartitionQueue

Buffer: TypeAlias = bytes | bytearray | memoryview
_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

@final
class Lock:
    """A mutual exclusion, cheap for Cython; otherwise like threading.Lock."""

    def acquire(self, blocking: bool = True) -> bool: ...
    def release(self) -> None: ...
    def attempt(self, work: Callable[[_Argument], _Result], argument: _Argument, /) -> _Result | None: ...
    def __enter__(self) -> Lock: ...
    def __exit__(self, *_: object) -> None: ...

@final
class RecordMetadata:
    """Where an acknowledged record lies. Immutable; compares equal to one with the same four fields.

    `offset` is -1 where the broker did not tell it (acks=0, or a duplicate that it no longer remembers).
    `timestamp_ms` is the record's own, or the broker's where the topic uses LogAppendTime.
    """

    def __new__(cls, topic: str, partition: int, offset: int, timestamp_ms: int) -> RecordMetadata: ...
    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@disjoint_base
class Fate:
    """The base of Batch: what every delivery asks of it, and fields that cost less here than in Python.

    `error` and what follows it count once `done` is true. The rest is explained in Batch.
    """

    topic: str
    partition: int
    done: bool
    base_offset: int
    log_append_time_ms: int
    error: BaseException | None
    parts: list[tuple[int, Batch]] | None
    builder: Any
    count: int
    created_ms: float
    reserved_bytes: int
    sealed: Any
    sealed_as: tuple[int, int, int] | None
    producer_id: int
    producer_epoch: int
    base_sequence: int
    ordinal: int
    attempts: int
    uncertain: bool
    abandoned: bool
    not_before_ms: float
    last_problem: str
    record_errors: Mapping[int, BaseException] | None
    parent: Batch | None
    gate: threading.Lock | None
    settled: bool
    callbacks: list[tuple[Callable[[Delivery], object], Delivery]] | None
    _lock: Lock
    def __new__(cls, *_: Any, **__: Any) -> Self: ...
    def acknowledge(self, base_offset: int, log_append_time_ms: int) -> bool:
        """As `complete`, in short and under the lock, where nobody is to be told; else False, and nothing is done."""

@final
class Delivery:
    """The outcome of one `send`, like a concurrent.futures.Future that cannot be cancelled."""

    def __init__(self, batch: Batch, index: int, timestamp_ms: int) -> None: ...
    @property
    def batch(self) -> Batch: ...
    @property
    def index(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    def done(self) -> bool: ...
    def result(self, timeout: float | None = None) -> RecordMetadata: ...
    def exception(self, timeout: float | None = None) -> BaseException | None: ...
    def add_done_callback(self, callback: Callable[[Delivery], object], /) -> None: ...

@final
class Lane:
    """The batch of one partition that takes records now. Change it under the producer's lock only."""

    queue: PartitionQueue | None
    @property
    def batch(self) -> Batch | None: ...
    def open(self, batch: Batch, /) -> None: ...
    def close(self) -> None: ...

@final
class TopicLanes:
    """One topic: the lanes of its partitions, and the partition for records without a key."""

    sticky: int
    def __init__(self, lanes: list[Lane], sticky: int) -> None: ...
    @property
    def lanes(self) -> list[Lane]: ...
    def add(self, lane: Lane, /) -> None: ...

@disjoint_base
class Opener:
    """The base of Collecting: opens batches for records that found none with room."""

@disjoint_base
class Sending:
    """The base of Producer; a subclass has `_send_slowly` with the arguments of `send` by position, and one more:
    whether many records follow at once.
    """

    refusal: BaseException | None
    #: opens batches, where that needs no Python; None where each batch leaves at once
    opener: Opener | None
    def __new__(cls, *_: Any, **__: Any) -> Sending: ...
    @property
    def lock(self) -> Lock: ...
    @property
    def topic_lanes(self) -> dict[str, TopicLanes]: ...
    def _hash_keys_natively(self) -> None: ...
    def send(
        self,
        topic: str,
        value: Buffer | None,
        *,
        key: Buffer | None = None,
        partition: int | None = None,
        headers: Iterable[tuple[str, Buffer | None]] | None = None,
        timestamp_ms: int | None = None,
    ) -> Delivery:
        """Hands one record over and returns its delivery; `send(…).result()` waits until it is acknowledged.

        Blocks where the topic is not known yet and where the buffer is full, up to max_block_ms each.
        """
