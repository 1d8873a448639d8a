"""The order and the sequence numbers of one partition's batches: a sans-IO state machine.

The driver asks `may_send`, takes the next batch with `take`, sends it, and reports what came of it with `answered` or
`lost`; each report returns a `Verdict` for the driver to carry out. No clock, no socket, no lock in here.

The rules of KIP-98 as they are kept here:

- A batch gets its sequence number when it is first sent and keeps it over every retry.
- At most `in_flight_max` (5, what a broker remembers) batches are unanswered, all on one connection. A retry goes
  alone.
- The first batch under a producer epoch goes alone until it is acknowledged: a broker without state for the producer
  takes any sequence, and so could take a later batch without the earlier one.
- When a batch fails for good, the broker misses its sequence (a gap) and refuses what follows. The batches behind
  the gap are numbered anew from 0 under the next producer epoch, but only those that are certainly not in the log.
  One whose fate is unknown is first sent again under its old number: a broker that has it says so. If it is refused
  and the missing batch may still arrive, its deliveries fail: a clear error is better than a duplicate.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastlog.client.producer.batch import NO_SEQUENCE
from fastlog.native._collecting import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.client.producer.batch import Batch

SEQUENCE_END = 2**31  # sequences wrap from 2147483647 to 0
EPOCH_MAX = 2**15 - 1

NONE = 0
CORRUPT_MESSAGE = 2
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
NETWORK_EXCEPTION = 13
RECORD_LIST_TOO_LARGE = 18
NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
DUPLICATE_SEQUENCE_NUMBER = 46
INVALID_PRODUCER_EPOCH = 47
KAFKA_STORAGE_ERROR = 56
UNKNOWN_PRODUCER_ID = 59

#: after these the records may lie in the log although the answer is an error
FATE_UNKNOWN = frozenset(
    {-1, REQUEST_TIMED_OUT, NETWORK_EXCEPTION, NOT_ENOUGH_REPLICAS_AFTER_APPEND, KAFKA_STORAGE_ERROR}
)
TOO_LARGE = frozenset({MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE})
#: what a broker says about the sequence or the identity of the producer
SEQUENCE_ERRORS = frozenset({OUT_OF_ORDER_SEQUENCE_NUMBER, INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID})


class Action(enum.Enum):
    """What the driver has to do with a batch after its answer."""

    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    SPLIT = "split"
    #: nobody waits for the batch any more
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The action for a batch, with the error code and what it means here where the batch fails."""

    action: Action
    code: int = 0
    reason: str = ""


class Gap(enum.Enum):
    """A sequence is missing at the broker: whether the missing batch can still arrive there."""

    CERTAIN = "certain"
    UNCERTAIN = "uncertain"


class PartitionQueue(Queue):
    """Batches of one partition: waiting to be sent, and sent but unanswered, both in order.

    The fields, and what is done once per batch (`may_send`, `take`, `acknowledged`), are in Queue:

    - `waiting` are to be sent; batches that were sent before come first, the last one may still take records.
    - `in_flight` are sent and not answered, in order, on `connection`.
    - `lane` has the batch that takes records now, if there is one: the last of `waiting`.
    - `decided_ms` is when a broker last decided on a batch, for better or worse.
    - `started`: a batch was opened since the topic is known.
    - `opened` is which of all batches of the producer the last one opened here was, counted from 1; 0 before.
    - `last_bytes` is the size of the last batch that was taken for the first time, before compression.
    - `batch_bytes_max`: new batches are made no larger; halved when the broker finds one too large.
    - `_confirmed`: a batch under the current producer id and epoch was acknowledged.
    - `_gap` is None where no sequence is missing; `_gap_ordinal` the last batch that failed with a number.
    """

    __slots__ = ("_retriable", "_retry_delay_ms")

    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        idempotent: bool,
        in_flight_max: int,
        retriable: Callable[[int], bool],
        retry_delay_ms: Callable[[int], float],
    ) -> None:
        """`retriable` tells by error code, `retry_delay_ms` gives the back-off after the n-th attempt."""
        self.topic = topic
        self.partition = partition
        self.wants_producer_id = self._idempotent = idempotent
        self._in_flight_max = in_flight_max
        self._retriable = retriable
        self._retry_delay_ms = retry_delay_ms

    def __repr__(self) -> str:
        return f"PartitionQueue({self.topic}-{self.partition}, {len(self.waiting)}+{len(self.in_flight)} batches)"

    # -- sending ---------------------------------------------------------------------------------------------------

    def oldest(self) -> Batch:
        """The batch that was opened first; there must be one."""
        if not self.in_flight:
            return self.waiting[0]
        head = self.in_flight[0]
        # one that is to be sent again
        if self.waiting and self.waiting[0].created_ms < head.created_ms:
            return self.waiting[0]
        return head

    def adopt(self, producer_id: int, producer_epoch: int) -> None:
        """Goes on under an identity that a broker gave. Only while nothing is in flight."""
        self.producer_id, self.producer_epoch = producer_id, producer_epoch
        self.wants_producer_id = False
        self._begin_sequence()

    # -- what came of it -------------------------------------------------------------------------------------------

    def answered(self, batch: Batch, code: int, now_ms: float, *, elsewhere: bool = False) -> Verdict:
        """The broker answered for `batch` with an error code (0: it is in the log).

        `elsewhere`: another broker leads by now, so a retry, which goes there, need not wait.
        """
        if code in (NONE, DUPLICATE_SEQUENCE_NUMBER):
            self.acknowledged(batch)
            return Verdict(Action.DROP if batch.abandoned else Action.COMPLETE, code)
        first = self.in_flight[0] is batch and not (
            self.waiting and self._was_sent_before(self.waiting[0], batch)
        )
        self.in_flight.remove(batch)
        if self._idempotent and code in SEQUENCE_ERRORS:
            return self._sequence_refused(batch, code, first, now_ms)
        if code in FATE_UNKNOWN:
            batch.uncertain = True
        if code in TOO_LARGE and batch.count > 1 and not batch.uncertain and not batch.abandoned:
            return Verdict(Action.SPLIT, code)
        if self._retriable(code):
            return self._retry(batch, now_ms, delayed=not elsewhere)
        return self._fail(batch, code)

    def lost(self, batch: Batch, now_ms: float) -> Verdict:
        """The connection ended, or the request timed out, before `batch` was answered."""
        self.in_flight.remove(batch)
        batch.uncertain = True
        return self._retry(batch, now_ms)

    def expired(self, batch: Batch) -> None:
        """The driver gives `batch` up: its deliveries have failed.

        One in flight stays there until it is answered or lost, since a request still holds its bytes.
        """
        if batch in self.in_flight:
            batch.abandoned = True
            return
        self.waiting.remove(batch)
        if batch is self.lane.batch:
            self.lane.close()
        self._note_gap(batch)

    def failed_to_send(self, batch: Batch) -> None:
        """`batch` was taken, but cannot be made into bytes or spoken to this broker: it will not be sent."""
        self.in_flight.remove(batch)
        self._note_gap(batch)

    def replace(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """Queues `parts`, which hold the records of `batch` in order, in its place and under its sequence."""
        # what was made room for: the size before compression, as for new batches; 0 for a part of one that was halved
        made_for = batch.reserved_bytes + sum(part.reserved_bytes for part in parts)
        if made_for:
            self.batch_bytes_max = min(self.batch_bytes_max, made_for // 2)
        sequence = batch.base_sequence
        for part in parts:
            part.ordinal, part.attempts = batch.ordinal, batch.attempts
            part.producer_id, part.producer_epoch = batch.producer_id, batch.producer_epoch
            if sequence != NO_SEQUENCE:
                part.base_sequence = sequence
                sequence = (sequence + part.count) % SEQUENCE_END
        for part in reversed(parts):
            self._put_back(part)

    # -- inside ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _was_sent_before(other: Batch, batch: Batch) -> bool:
        return 0 <= other.ordinal < batch.ordinal

    def _retry(self, batch: Batch, now_ms: float, *, delayed: bool = True) -> Verdict:
        if batch.abandoned:
            self._note_gap(batch)
            return Verdict(Action.DROP)
        batch.not_before_ms = now_ms + (self._retry_delay_ms(batch.attempts) if delayed else 0)
        self._put_back(batch)
        return Verdict(Action.RETRY)

    def _fail(self, batch: Batch, code: int, reason: str = "") -> Verdict:
        self._note_gap(batch)
        return Verdict(Action.DROP if batch.abandoned else Action.FAIL, code, reason)

    def _sequence_refused(self, batch: Batch, code: int, first: bool, now_ms: float) -> Verdict:
        if batch.abandoned:
            return self._fail(batch, code)
        if not first:
            # an earlier batch did not arrive; this one waits behind it, no longer than that one. Whatever the code:
            # to start anew now would number that one anew too, which may be in the log
            return self._retry(batch, now_ms, delayed=False)
        if code == OUT_OF_ORDER_SEQUENCE_NUMBER and self._gap is Gap.CERTAIN:
            # the batch before it never was in the log and never will be, hence this one is not there either
            batch.uncertain = False
            return self._retry(batch, now_ms)
        if batch.uncertain:
            return self._fail(batch, code, self._why_unsafe(code))
        if self._gap is None:
            # acknowledged records are missing at the broker, or it has forgotten this producer
            self._gap = Gap.CERTAIN
        if code == INVALID_PRODUCER_EPOCH:
            self.wants_producer_id = True
        return self._retry(batch, now_ms)

    def _why_unsafe(self, code: int) -> str:
        what = {
            INVALID_PRODUCER_EPOCH: "the broker knows a newer epoch of this producer id",
            UNKNOWN_PRODUCER_ID: "the broker has forgotten this producer id",
        }.get(code, "the broker misses an earlier batch of this producer")
        return (
            f"{what}, and an earlier attempt of this batch ended without an answer: the records may or may not be "
            "in the log. Read the end of the partition before sending them again"
        )

    def _note_gap(self, batch: Batch) -> None:
        """`batch` will not be sent again: if it had a number, the broker may wait for it."""
        if not self._idempotent or batch.base_sequence == NO_SEQUENCE:
            return
        self._gap_ordinal = max(self._gap_ordinal, batch.ordinal)
        if batch.uncertain or self._gap is Gap.UNCERTAIN:
            self._gap = Gap.UNCERTAIN
        else:
            self._gap = Gap.CERTAIN

    def _restart(self) -> None:
        """Numbers what waits anew, from 0 under the next epoch (or a new id, which the driver fetches)."""
        if self.wants_producer_id:
            return
        if self.producer_epoch >= EPOCH_MAX:
            self.wants_producer_id = True
            return
        self.producer_epoch += 1
        self._begin_sequence()

    def _begin_sequence(self) -> None:
        self._next_sequence = 0
        self._confirmed = False
        self._gap = None
        for batch in self.waiting:
            if batch.base_sequence != NO_SEQUENCE:
                batch.base_sequence = NO_SEQUENCE
                batch.uncertain = False

    def _put_back(self, batch: Batch) -> None:
        """Queues a batch that was sent before, in the order of first sends."""
        position = 0
        for waiting in self.waiting:
            if not 0 <= waiting.ordinal < batch.ordinal:
                break
            position += 1
        self.waiting.insert(position, batch)
