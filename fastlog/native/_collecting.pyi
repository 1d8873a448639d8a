"""What the producer does once per batch: open it, find what is due, take it for a request, note that it arrived."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from threading import Condition
from typing import Any, Final, Self

from typing_extensions import disjoint_base

from fastlog.client.metadata import ClusterImage
from fastlog.client.producer.batch import Batch
from fastlog.client.producer.links import LinkSlot
from fastlog.client.producer.partition_queue import Gap, PartitionQueue
from fastlog.client.producer.requests import Entry
from fastlog.client.producer.sender import Sender
from fastlog.native._sending import Lane, Lock, Opener
from fastlog.protocol.messages.produce import PartitionProduceResponse

#: batch header, and more than a record's lengths, deltas and attributes take
RECORD_OVERHEAD: Final = 101
#: so much a batch takes at first where many take turns, and counts for at least
FIRST_BYTES: Final = 512
#: while somebody waits for room, and batches are on their way, open ones leave so long after they were opened
LONGEST_BLOCKED_MS: Final = 1000.0

@disjoint_base
class Queue:
    """The base of PartitionQueue, which explains the fields: one partition's batches while all goes well."""

    topic: str
    partition: int
    waiting: deque[Batch]
    in_flight: list[Batch]
    lane: Lane
    producer_id: int
    producer_epoch: int
    wants_producer_id: bool
    decided_ms: float
    started: bool
    opened: int
    last_bytes: int
    batch_bytes_max: int
    connection: object | None
    _idempotent: bool
    _in_flight_max: int
    _next_sequence: int
    _next_ordinal: int
    _confirmed: bool
    _gap: Gap | None
    _gap_ordinal: int
    def __new__(cls, *_: Any, **__: Any) -> Self: ...
    def may_send(self, now_ms: float, connection: object | None = None) -> bool:
        """Whether `take` may be called now for a request on `connection`; linger is the caller's business."""

    def take(self, connection: object | None = None) -> Batch:
        """Moves the next batch to the batches in flight, with its sequence. Only after `may_send`."""

    def acknowledged(self, batch: Batch) -> int:
        """The broker answered that `batch` is in the log."""

@disjoint_base
class Collecting(Opener):
    """The base of Accumulator, which explains the fields: open batches and their room, under the producer's lock."""

    lock: Lock
    active: dict[PartitionQueue, None]
    closed: Exception | None
    blocked: int
    hold_until_ms: float
    awaits_answers: bool
    send_at_once: Callable[[PartitionQueue], bool | None] | None
    _space: Condition
    _free_bytes: int
    _opened_count: int
    _buffer_bytes: int
    _batch_bytes: int
    _max_request_bytes: int
    _linger_ms: float
    _new_batch: type[Batch]
    _clock_ms: Callable[[], float]
    _signal: Callable[[], None]
    _sleeping: bool
    _sleeping_until_ms: float
    _news: bool
    def __new__(cls, *_: Any, **__: Any) -> Self: ...
    def _first_bytes(self, queue: PartitionQueue) -> int: ...
    def _grow(self, queue: PartitionQueue, batch: Batch, record_bytes: int) -> bool: ...
    def _open(self, queue: PartitionQueue, builder: Any, size: int) -> Batch: ...
    def _close_open(self, queue: PartitionQueue) -> int: ...
    def wake(self) -> int:
        """Makes the sender look again."""

    def look(self, now_ms: float) -> tuple[list[PartitionQueue], float]:
        """The queues whose first waiting batch may be sent now, as far as linger and back-off say, and when others may.

        What happens from now on is news.
        """

    def plan(
        self, sender: Sender, image: ClusterImage, now_ms: float, bytes_aim: int, in_flight_max: int
    ) -> tuple[list[tuple[LinkSlot, list[Entry]]], float, int]:
        """Takes what is due for requests, one a broker, each of about `bytes_aim`.

        Answers them by slot, when something else will be due, and how many batches were open until now. `sender` is
        asked for the slot of each leader, and about what is rare.
        """

    def topic_ids(self, entries: list[Entry], image: ClusterImage) -> dict[str, bytes] | None:
        """The ids of the topics of `entries` in `image`, by name; None where one is not known."""

    def changed(self, queue: PartitionQueue) -> int:
        """Batches of `queue` were taken, dropped or put back: the other queues come first next time."""

    def trim(self, queue: PartitionQueue, batch: Batch, size: int) -> int:
        """Gives back the room that a batch of `size` bytes was given and did not need, now that it takes no more."""

    def acknowledge(
        self,
        entries: list[Entry],
        answers: Mapping[tuple[str, int], PartitionProduceResponse],
        now_ms: float,
    ) -> list[Entry]:
        """Ends the batches that are in the log and about which nobody is to be told; returns the others.

        `answers` has what the broker said, by topic and partition.
        """

    def release(self, batches: Sequence[Batch]) -> None:
        """Gives back the room of batches whose memory nobody needs any more."""
