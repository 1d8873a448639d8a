"""Positions by timestamp, from the partitions' leaders (ListOffsets)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.errors import NotReachableError
from fastlog.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.client.connection import Connection
    from fastlog.client.metadata import BrokerAddress

CONSUMER = -1  # as replica id


class Question(NamedTuple):
    """A partition, the leader epoch known of it, and a timestamp or one of ListOffsets' special ones."""

    tp: TopicPartition
    leader_epoch: int
    timestamp: int


class Found(NamedTuple):
    """An error code, or an offset; the offset is -1 where no record is as young."""

    error_code: int
    offset: int


class OffsetLookup:
    """Asks leaders for offsets, over one connection per broker. Not thread-safe."""

    def __init__(self, *, isolation_level: int, connect: Callable[[BrokerAddress], Connection]) -> None:
        """`connect` makes a connection, or raises NotReachableError."""
        self._isolation_level = isolation_level
        self._connect = connect
        self._connections: dict[int, tuple[BrokerAddress, Connection]] = {}

    def ask(self, broker: BrokerAddress, questions: Sequence[Question]) -> dict[TopicPartition, Found]:
        """The answers of one broker; blocks. Raises NotReachableError, and the connection is made anew next time."""
        topics: dict[str, list[ListOffsetsPartition]] = {}
        for tp, leader_epoch, timestamp in questions:
            partition = ListOffsetsPartition(
                partition_index=tp.partition, current_leader_epoch=leader_epoch, timestamp=timestamp
            )
            topics.setdefault(tp.topic, []).append(partition)
        request = ListOffsetsRequest(
            replica_id=CONSUMER,
            isolation_level=self._isolation_level,
            topics=[
                ListOffsetsTopic(name=name, partitions=partitions) for name, partitions in topics.items()
            ],
        )
        response = self._request(broker, request)
        answers = {
            TopicPartition(topic.name, partition.partition_index): Found(
                partition.error_code, partition.offset
            )
            for topic in response.topics
            for partition in topic.partitions
        }
        return {question.tp: answers[question.tp] for question in questions if question.tp in answers}

    def close(self) -> None:
        """Ends the connections."""
        while self._connections:
            self._connections.popitem()[1][1].close()

    def _request(self, broker: BrokerAddress, request: ListOffsetsRequest) -> Any:
        address, connection = self._connections.pop(broker.node_id, (broker, None))
        if connection is not None and address == broker:
            try:
                return self._keep(broker, connection, request)
            except NotReachableError:
                # a broker closes idle connections: that is no reason to give up yet
                connection = None
        if connection is not None:
            connection.close()
        return self._keep(broker, self._connect(broker), request)

    def _keep(self, broker: BrokerAddress, connection: Connection, request: ListOffsetsRequest) -> Any:
        response = connection.request(request)
        self._connections[broker.node_id] = (broker, connection)
        return response
