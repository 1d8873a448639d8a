"""Batches from and to the leaders of partitions, as they are. Leaders that move are followed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from fastlog.client.admin.admin import list_offsets_request, read_list_offsets
from fastlog.client.admin.leaders import TopicPartition, by_topic, leaders_of
from fastlog.client.admin.results import topic_id_bytes
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

CLIENT_ID = "fastlog-backup"
REQUEST_TIMEOUT_MS = 30_000
BOOTSTRAP_TIMEOUT_MS = 10_000
#: what a request is tried again for where nobody says otherwise
PATIENCE_MS = 60_000
FETCH_BYTES = 8 << 20
FETCH_WAIT_MS = 500
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
CONSUMER = -1
ACKS_ALL = -1
EARLIEST, LATEST = -2, -1
NO_ID = bytes(16)


class Partitions:
    """A context manager; ends its connections. Not thread-safe. Methods block, and raise what the cluster answers."""

    #: how long one request is tried again, over brokers that stop and leaders that move
    patience_ms: float

    def __init__(self, bootstrap: str) -> None:
        self.patience_ms = PATIENCE_MS
        self._metadata, self._leaders = leaders_of(
            bootstrap,
            client_id=CLIENT_ID,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaders.close()
        self._metadata.close()

    def starts(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The first readable offset of each."""
        return self._offsets(dict.fromkeys(wanted, EARLIEST))

    def stable_ends(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset of each up to which all is decided: no transaction is open below."""
        return self._offsets(dict.fromkeys(wanted, LATEST))

    def ends(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after the last record of each that all replicas have, whether or not it is decided."""
        return self._offsets(dict.fromkeys(wanted, LATEST), READ_UNCOMMITTED)

    def end_of_epoch(self, where: TopicPartition, epoch: int) -> tuple[int, int]:
        """The latest epoch up to `epoch` that the leader knows, and the offset at which it ended."""

        def build(group: Mapping[TopicPartition, int]) -> OffsetForLeaderEpochRequest:
            return OffsetForLeaderEpochRequest(
                replica_id=CONSUMER,
                topics=[
                    OffsetForLeaderTopic(
                        topic=topic,
                        partitions=[
                            OffsetForLeaderPartition(partition=index, leader_epoch=group[topic, index])
                            for index in indexes
                        ],
                    )
                    for topic, indexes in by_topic(group).items()
                ],
            )

        def read(answer: Any) -> Iterator[tuple[TopicPartition, int, tuple[int, int]]]:
            for topic in answer.topics:
                for it in topic.partitions:
                    yield (topic.topic, it.partition), it.error_code, (it.leader_epoch, it.end_offset)

        found: tuple[int, int] = self._leaders.ask(
            {where: epoch}, build, read, self.patience_ms, what="looking for the end of epoch"
        )[where]
        return found

    def fetch(
        self,
        where: TopicPartition,
        topic_id: str,
        offset: int,
        *,
        isolation_level: int = READ_COMMITTED,
        bytes_max: int | None = None,
    ) -> bytes:
        """Batches from the one on that holds `offset`, the last perhaps cut; nothing where none is decided yet.

        They have at most `bytes_max`, which the first one may exceed.
        """
        size = FETCH_BYTES if bytes_max is None else bytes_max
        sent_id = topic_id_bytes(topic_id) if topic_id else NO_ID

        def build(group: Mapping[TopicPartition, int]) -> FetchRequest:
            ((topic, index),) = group
            wanted = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=size)
            return FetchRequest(
                max_wait_ms=FETCH_WAIT_MS,
                min_bytes=1,
                max_bytes=size,
                isolation_level=isolation_level,
                topics=[FetchTopic(topic=topic, topic_id=sent_id, partitions=[wanted])],
            )

        def read(answer: Any) -> Iterator[tuple[TopicPartition, int, bytes]]:
            if answer.error_code:
                yield where, answer.error_code, b""
            for topic in answer.responses:
                for it in topic.partitions:
                    yield where, it.error_code, bytes(it.records or b"")

        found: bytes = self._leaders.ask(
            {where: offset}, build, read, self.patience_ms, what="fetching from offset"
        )[where]
        return found

    def produce(self, where: TopicPartition, topic_id: str, offset: int, batches: bytes) -> None:
        """Appends batches that keep their offsets, the first of which is `offset`; all in-sync replicas have them then.

        Raises OutOfOrderSequenceNumberError where the log has other offsets by now: some of them, after an answer that
        was lost, or somebody else's.
        """
        sent_id = topic_id_bytes(topic_id) if topic_id else NO_ID

        def build(group: Mapping[TopicPartition, int]) -> ProduceRequest:
            ((topic, index),) = group
            data = PartitionProduceData(index=index, records=batches)
            return ProduceRequest(
                acks=ACKS_ALL,
                timeout_ms=REQUEST_TIMEOUT_MS,
                topic_data=[TopicProduceData(name=topic, topic_id=sent_id, partition_data=[data])],
            )

        def read(answer: Any) -> Iterator[tuple[TopicPartition, int, None]]:
            for topic in answer.responses:
                for it in topic.partition_responses:
                    yield where, it.error_code, None

        self._leaders.ask(
            {where: offset}, build, read, self.patience_ms, what="restoring the batches from offset"
        )

    def _offsets(
        self, wanted: Mapping[TopicPartition, int], isolation_level: int = READ_COMMITTED
    ) -> dict[TopicPartition, int]:
        build = partial(list_offsets_request, isolation_level=isolation_level)
        found = self._leaders.ask(
            wanted, build, read_list_offsets, self.patience_ms, what="looking for the offset at timestamp"
        )
        return {place: it.offset for place, it in found.items()}
