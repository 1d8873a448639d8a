"""What a step of a coordinator wants done: answers to give, records to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from fastlog.state.moment import Moment
from fastlog.state.records import Record

INVALID_FETCH_SIZE, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS_AFTER_APPEND = 4, 7, 19, 20
UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER, MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE = 3, 6, 10, 18
KAFKA_STORAGE_ERROR, NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, UNKNOWN_SERVER_ERROR = 56, 16, 15, -1


class Reply(Protocol):
    """The way back to who asked."""

    def answer(self, response: Any) -> None:
        """Sends the answer; called once, by who carries out the effects."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """What became of an append."""

    code: int
    """Kafka's error code as clients of a coordinator are told it; 0 is that the records are committed."""
    is_in_log: bool
    """Whether the records are in the log; they may be although the append was not acknowledged."""


STORED = Outcome(0, is_in_log=True)


def failed(code: int) -> Outcome:
    """The outcome of an append that failed with a produce error; the codes are translated as in Kafka."""
    if code in (
        UNKNOWN_TOPIC_OR_PARTITION,
        NOT_ENOUGH_REPLICAS,
        NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        REQUEST_TIMED_OUT,
    ):
        told = COORDINATOR_NOT_AVAILABLE
    elif code in (NOT_LEADER_OR_FOLLOWER, KAFKA_STORAGE_ERROR):
        told = NOT_COORDINATOR
    elif code in (MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE, INVALID_FETCH_SIZE):
        told = UNKNOWN_SERVER_ERROR
    else:
        told = code
    return Outcome(told, is_in_log=code in (REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND))


class Write(msgspec.Struct):
    """Records that belong together: all are appended, or none."""

    records: list[Record]
    then: Callable[[Outcome, Moment, Effects], None] | None = None
    """Told what became of them, in the order in which they were given out; None where nothing depends on it."""


class Effects:
    """Filled by a step; whoever called it carries them out in their order."""

    __slots__ = ("answers", "writes")

    def __init__(self) -> None:
        self.answers: list[tuple[Reply, Any]] = []
        self.writes: list[Write] = []

    def answer(self, reply: Reply, response: Any) -> None:
        """Has `response` sent."""
        self.answers.append((reply, response))

    def write(
        self, records: list[Record], then: Callable[[Outcome, Moment, Effects], None] | None = None
    ) -> None:
        """Has `records` appended and `then` told of it."""
        self.writes.append(Write(records, then))
