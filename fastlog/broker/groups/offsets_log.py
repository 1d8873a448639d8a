"""The partitions of `__consumer_offsets` as the coordinator appends to them and reads them back.

It is a client of its own broker: the requests are Produce and Fetch, handed to the data plane inside the process, so
that acks=all, durability and the errors are those of every producer, and one request appends to many partitions.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

from fastlog.broker.groups.log import Page
from fastlog.errors import KafkaStorageError, error_for
from fastlog.native._builder import BatchBuilder
from fastlog.native._engine import open_batches, seal_batch
from fastlog.native._records import read_batches
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fastlog.broker.groups.leaderships import Leadership
    from fastlog.broker.groups.log import Pairs

PRODUCE_VERSION, FETCH_VERSION, LIST_OFFSETS_VERSION = 9, 12, 7
LATEST, EARLIEST = -1, -2
ACKS_ALL = -1
# as much as is decoded before others get their turn
FETCH_BYTES = 1 << 20
# max.message.bytes of a topic that does not say otherwise
BATCH_BYTES_MAX = 1_048_588
# where a batch has its leader epoch: after base offset and length
LEADER_EPOCH = struct.Struct(">i")
LEADER_EPOCH_AT, LEADER_EPOCH_END = 12, 16
# answers that are taken at a time: many, each is small
ANSWERS_BYTES = 1 << 20
# the header, and at most so much around a record's key and value
BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES = 61, 32


class Intake(Protocol):
    """The engine's side; see `fastlog.native._engine.Intake`."""

    def submit(self, peer: int, frames: Sequence[Any]) -> bytes | None:
        """Handles one request; the answer, or None where it comes later with the number `peer`."""
        ...

    def completions_fd(self) -> int:
        """Readable when there is something to drain."""
        ...

    def drain_completions(self, bytes_max: int) -> list[tuple[int, bytes | None]]:
        """(peer, answer) of requests that have their answer by now; what is more than `bytes_max` may wait."""
        ...


class OffsetsLog:
    """Appends to and reads partitions of `__consumer_offsets`; one thread uses it."""

    def __init__(self, intake: Intake, *, timeout_ms: int) -> None:
        self._intake = intake
        self._timeout_ms = timeout_ms
        self._next_number = 1

    def batch(self, writes: Iterable[Pairs], wall_ms: int) -> tuple[BatchBuilder, int]:
        """A batch of as many of `writes` as fit together; see GroupLog."""
        batch = BatchBuilder(BATCH_BYTES_MAX)
        left = BATCH_BYTES_MAX - BATCH_OVERHEAD_BYTES
        count = 0
        for pairs in writes:
            left -= sum(len(key) + len(value or b"") + RECORD_OVERHEAD_BYTES for key, value in pairs)
            if left < 0:
                break
            for key, value in pairs:
                batch.append(value, key, None, wall_ms)
            count += 1
        return batch, count

    def append(self, batches: Mapping[Leadership, BatchBuilder]) -> tuple[int, dict[int, int] | None]:
        """Appends one batch to each partition; see GroupLog."""
        request = ProduceRequest(
            acks=ACKS_ALL,
            timeout_ms=self._timeout_ms,
            topic_data=[
                TopicProduceData(
                    name=OFFSETS_TOPIC,
                    partition_data=[
                        PartitionProduceData(index=index, records=_sealed(batch, leader_epoch))
                        for (index, leader_epoch), batch in batches.items()
                    ],
                )
            ],
        )
        number = self._next_number
        self._next_number += 1
        answer = self._submit(number, ApiKey.PRODUCE, request, PRODUCE_VERSION)
        return number, None if answer is None else _codes(answer)

    def completed(self) -> Iterator[tuple[int, dict[int, int] | None]]:
        """What has come of appends; see GroupLog."""
        for number, answer in self._intake.drain_completions(ANSWERS_BYTES):
            yield number, None if answer is None else _codes(answer)

    def completions_fd(self) -> int:
        """Readable when `completed` has something."""
        return self._intake.completions_fd()

    def start_offset(self, partition: int, leader_epoch: int) -> int:
        """The first offset of the partition's log; see GroupLog."""
        return self._offset(partition, leader_epoch, EARLIEST)

    def end_offset(self, partition: int, leader_epoch: int) -> int:
        """The high watermark; see GroupLog."""
        return self._offset(partition, leader_epoch, LATEST)

    def _offset(self, partition: int, leader_epoch: int, which: int) -> int:
        wanted = ListOffsetsPartition(partition, current_leader_epoch=leader_epoch, timestamp=which)
        request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic(OFFSETS_TOPIC, [wanted])])
        answer = self._ask(ApiKey.LIST_OFFSETS, request, LIST_OFFSETS_VERSION)
        found = answer.topics[0].partitions[0]
        _check(found.error_code, partition)
        return int(found.offset)

    def read(self, partition: int, leader_epoch: int, offset: int) -> Page:
        """The records from `offset` on, at most about FETCH_BYTES; see GroupLog."""
        wanted = FetchPartition(
            partition=partition,
            current_leader_epoch=leader_epoch,
            fetch_offset=offset,
            partition_max_bytes=FETCH_BYTES,
        )
        request = FetchRequest(
            max_wait_ms=0,
            max_bytes=FETCH_BYTES,
            topics=[FetchTopic(topic=OFFSETS_TOPIC, partitions=[wanted])],
        )
        answer = self._ask(ApiKey.FETCH, request, FETCH_VERSION)
        found = answer.responses[0].partitions[0]
        _check(found.error_code, partition)
        page = Page([], offset, is_last=False)
        for batch in read_batches(open_batches(found.records or b""), from_offset=offset):
            page.next_offset = batch.next_offset
            if not batch.is_control:
                page.records += [(record.key or b"", record.value) for record in batch]
        page.is_last = page.next_offset >= found.high_watermark or page.next_offset == offset
        return page

    def _ask(self, key: ApiKey, request: Any, version: int) -> Any:
        answer = self._submit(0, key, request, version)
        if answer is None:
            raise KafkaStorageError(f"the data plane does not answer {key.name} of {OFFSETS_TOPIC} at once")
        return decode_response_frame(key, version, answer)[1]

    def _submit(self, number: int, key: ApiKey, request: Any, version: int) -> bytes | None:
        try:
            return self._intake.submit(number, [encode_request_frame(request, version, 0, None)])
        except ValueError as error:
            raise KafkaStorageError(
                f"the data plane refuses {key.name} of {OFFSETS_TOPIC}: {error}"
            ) from error


def _sealed(batch: BatchBuilder, leader_epoch: int) -> bytes:
    """The batch with the leader epoch in which it is to be written; the checksum does not cover that."""
    sealed = seal_batch(batch)
    return b"".join((sealed[:LEADER_EPOCH_AT], LEADER_EPOCH.pack(leader_epoch), sealed[LEADER_EPOCH_END:]))


def _codes(answer: bytes) -> dict[int, int]:
    response = decode_response_frame(ApiKey.PRODUCE, PRODUCE_VERSION, answer)[1]
    return {it.index: it.error_code for topic in response.responses for it in topic.partition_responses}


def _check(code: int, partition: int) -> None:
    if code:
        raise error_for(code, f"{OFFSETS_TOPIC}-{partition} cannot be read")
