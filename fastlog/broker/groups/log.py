"""What the group coordinator asks of its log; `OffsetsLog` is one, tests have another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlog.broker.groups.leaderships import Leadership

Pairs = list[tuple[bytes, bytes | None]]
"""Keys and values of records."""


class Page(msgspec.Struct):
    """A piece of a partition's log."""

    records: Pairs
    next_offset: int
    is_last: bool
    """Whether it reaches to the high watermark."""


class GroupLog(Protocol):
    """The partitions of `__consumer_offsets`; one thread uses it."""

    def batch(self, writes: Iterable[Pairs], wall_ms: int) -> tuple[Any, int]:
        """A batch of as many of `writes`, from the first on, as fit together, and how many that are.

        None fits where already the first is too large for a batch.
        """
        ...

    def append(self, batches: Mapping[Leadership, Any]) -> tuple[int, dict[int, int] | None]:
        """Appends one batch to each partition; blocks for the write, not for a sync or for replicas.

        A batch is written in the leadership that it is for, or refused with NOT_LEADER_OR_FOLLOWER: what was decided
        in another may contradict what was committed since.
        Answers the number of the request, and Kafka's error code by partition; None is that `completed` will tell.
        """
        ...

    def completed(self) -> Iterable[tuple[int, dict[int, int] | None]]:
        """Number and error codes by partition of each append that is done by now; None is that it was given up."""
        ...

    def completions_fd(self) -> int:
        """Readable when `completed` has something."""
        ...

    def start_offset(self, partition: int, leader_epoch: int) -> int:
        """The first offset of the partition's log. Raises KafkaError, also where this is not the leader epoch."""
        ...

    def end_offset(self, partition: int, leader_epoch: int) -> int:
        """The high watermark.

        Raises KafkaError: OFFSET_NOT_AVAILABLE until all that was committed before this leadership is below it.
        """
        ...

    def read(self, partition: int, leader_epoch: int, offset: int) -> Page:
        """The records from `offset` on, some at a time. Reads the disk; raises KafkaError."""
        ...
