"""What `Producer.send_many` returns: one delivery for many records, and what became of them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastlog.errors import BulkDeliveryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastlog.client.producer.batch import Batch
    from fastlog.native._bulk import Handover, Segment

#: so many records are named in a message
NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class BulkMetadata:
    """Where the acknowledged records of one `send_many` lie, by partition.

    `counts` has the number of records, `offsets` the ranges of their offsets in the order in which they were given:
    one range, unless other producers wrote in between. There are none where the broker did not tell (acks=0).
    """

    topic: str
    counts: Mapping[int, int] = field(default_factory=dict)
    offsets: Mapping[int, tuple[range, ...]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of records in all partitions."""
        return sum(self.counts.values())


class BulkDelivery:
    """The outcome of one `send_many`, for all its records together. Not more than an entry per batch is kept, and four
    bytes a record where they are spread by key.
    """

    __slots__ = ("_handover", "_outcome", "topic")

    def __init__(self, topic: str, handover: Handover) -> None:
        self.topic = topic
        self._handover = handover
        self._outcome: tuple[BulkMetadata, BulkDeliveryError | None] | None = None

    def __len__(self) -> int:
        return self._handover.count

    def __repr__(self) -> str:
        state = "done" if self.done() else "pending"
        return f"<BulkDelivery of {len(self)} records to {self.topic}, {state}>"

    def done(self) -> bool:
        """Whether the broker has answered for each record, or the producer has given up."""
        return all(segment.batch.done for segment in self._handover.segments)

    def result(self, timeout: float | None = None) -> BulkMetadata:
        """Blocks until all records are acknowledged, and returns where they lie.

        Raises BulkDeliveryError where some failed: it names them, and has what became of the others. Raises
        TimeoutError after `timeout` seconds; the deliveries go on then.
        """
        metadata, error = self._settled(timeout)
        if error is not None:
            raise error
        return metadata

    def exception(self, timeout: float | None = None) -> BulkDeliveryError | None:
        """Blocks like `result`, and returns the error instead of raising it; None where there is none."""
        return self._settled(timeout)[1]

    def _settled(self, timeout: float | None) -> tuple[BulkMetadata, BulkDeliveryError | None]:
        if self._outcome is None:
            self._wait(timeout)
            self._outcome = outcome_of(self.topic, self._handover)
        return self._outcome

    def _wait(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        segments = self._handover.segments
        for segment in segments:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not segment.batch.done and not segment.batch.wait(left):
                waiting = sum(one.count for one in segments if not one.batch.done)
                raise TimeoutError(
                    f"{waiting} of {len(self)} records for {self.topic} were not acknowledged within {timeout} s; "
                    "the delivery goes on: wait again, or see delivery_timeout_ms"
                )


def outcome_of(topic: str, handover: Handover) -> tuple[BulkMetadata, BulkDeliveryError | None]:
    """What became of records whose batches are all done."""
    counts: dict[int, int] = defaultdict(int)
    offsets: dict[int, list[range]] = defaultdict(list)
    failed: dict[int, BaseException] = {}
    by_partition: dict[int, list[int]] = {}
    for segment in handover.segments:
        partition = segment.batch.partition
        for batch, first, count, record in leaves(segment):
            if batch.error is None:
                counts[partition] += count
                add_range(offsets[partition], batch.base_offset, first, count)
                continue
            if handover.is_spread and partition not in by_partition:
                by_partition[partition] = handover.records_of(partition)
            for index in range(count):
                number = record + index
                if handover.is_spread:
                    number = by_partition[partition][number]
                failed[number] = batch.error_of(first + index) or batch.error
    found = {partition: tuple(ranges) for partition, ranges in sorted(offsets.items())}
    metadata = BulkMetadata(topic, dict(sorted(counts.items())), found)
    return metadata, failure(metadata, handover.count, failed) if failed else None


def leaves(segment: Segment) -> Iterator[tuple[Batch, int, int, int]]:
    """The batches in which a segment's records travelled in the end (a broker may have found the first too large):
    batch, index of the first record there, number of records, and the first one's number.
    """
    yield from leaves_of(segment.batch, segment.first, segment.count, segment.record)


def leaves_of(batch: Batch, first: int, count: int, record: int) -> Iterator[tuple[Batch, int, int, int]]:
    """`leaves` of a part."""
    if not batch.parts:
        yield batch, first, count, record
    for start, part in batch.parts or ():
        begin, end = max(first, start), min(first + count, start + part.count)
        if begin < end:
            yield from leaves_of(part, begin - start, end - begin, record + begin - first)


def add_range(ranges: list[range], base_offset: int, first: int, count: int) -> None:
    """Notes offsets; those that follow the last ones become one range with them."""
    if base_offset < 0:
        return
    start = base_offset + first
    if ranges and ranges[-1].stop == start:
        ranges[-1] = range(ranges[-1].start, start + count)
    else:
        ranges.append(range(start, start + count))


def failure(metadata: BulkMetadata, count: int, failed: dict[int, BaseException]) -> BulkDeliveryError:
    """The error that names the records which failed, and why the first of them did."""
    numbers = sorted(failed)
    named = ", ".join(str(number) for number in numbers[:NAMED_MAX])
    more = f" and {len(numbers) - NAMED_MAX} more" if len(numbers) > NAMED_MAX else ""
    # an error of few records says more than that of all which shared their batch
    shared = Counter(map(id, failed.values()))
    told = min(numbers, key=lambda number: shared[id(failed[number])])
    cause = failed[told]
    error = BulkDeliveryError(
        f"{len(numbers)} of {count} records for {metadata.topic} failed, counted from 0: {named}{more}. Record "
        f"{told}: {cause}"
    )
    error.errors = {number: failed[number] for number in numbers}
    error.delivered = metadata
    error.__cause__ = cause
    return error
