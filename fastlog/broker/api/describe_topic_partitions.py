"""DescribeTopicPartitions (API key 75), version 0.

Topics in the order of their names, all of them where none is named, from the cursor on, until as many partitions are
told as the client and max.request.partition.size.limit allow; the answer's cursor says where to go on. Only the
partitions of the first topic begin at the cursor. Kafka's `describeTopics` asks this, `kafka-topics --describe` too,
which shows the eligible leader replicas. Differs from Apache Kafka: nothing.

KIPs: 0 the API (966).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import TOPIC_OPERATIONS, Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import (
    InvalidRequestError,
    InvalidTopicError,
    KafkaError,
    LeaderNotAvailableError,
    ListenerNotFoundError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_topic_partitions import (
    Cursor,
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic,
)
from fastlog.state.topic_names import is_internal, why_invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.broker.context import RequestContext
    from fastlog.ports import PartitionState, Topic

NO_LEADER = -1


def handle(
    services: Services, context: RequestContext, request: DescribeTopicPartitionsRequest
) -> DescribeTopicPartitionsResponse:
    """Describes one page of the topics."""
    try:
        names = _names(services, request)
    except KafkaError as error:
        return refuse(request, error)
    may = services.authorizer.allows
    allowed = [name for name in names if may(context, Operation.DESCRIBE, ResourceType.TOPIC, name)]
    limit = services.configs.config.broker().max_request_partition_size_limit
    page = _Page(services, context, max(min(limit, request.response_partition_limit), 1))
    topics, cursor = page.of(allowed, request)
    if request.topics:
        denied = sorted(set(names) - set(allowed))
        topics += [_failed(name, TopicAuthorizationFailedError.code) for name in denied]
    return DescribeTopicPartitionsResponse(topics=topics, next_cursor=cursor)


def _names(services: Services, request: DescribeTopicPartitionsRequest) -> list[str]:
    """The names of the topics that are asked for, from the cursor's on."""
    cursor = request.cursor
    asked: Iterable[str] = [topic.name for topic in request.topics]
    names = set(asked or (topic.name for topic in services.topics.all()))
    if cursor is not None:
        if request.topics and cursor.topic_name not in names:
            raise InvalidRequestError(f"the topics lack that of the cursor, {cursor.topic_name!r}")
        if cursor.partition_index < 0:
            raise InvalidRequestError(f"the cursor's partition is {cursor.partition_index}")
        names = {name for name in names if name >= cursor.topic_name}
    return sorted(names)


class _Page:
    """What fits into one answer."""

    def __init__(self, services: Services, context: RequestContext, partition_limit: int) -> None:
        self._services = services
        self._context = context
        self._left = partition_limit
        live = services.brokers.ids()
        self._live = frozenset(live)
        self._reached = frozenset(it for it in live if services.addresses.of(it, context) is not None)

    def of(
        self, names: list[str], request: DescribeTopicPartitionsRequest
    ) -> tuple[list[DescribeTopicPartitionsResponseTopic], Cursor | None]:
        """The topics, and where the next page begins."""
        topics: list[DescribeTopicPartitionsResponseTopic] = []
        cursor = request.cursor
        for name in names:
            if self._left == 0:
                return topics, Cursor(name, 0)
            start = cursor.partition_index if cursor is not None and cursor.topic_name == name else 0
            try:
                topic = self._services.topics.named(name)
            except UnknownTopicOrPartitionError as error:
                # one of all topics that went meanwhile was not asked for
                if request.topics:
                    topics.append(self._absent(name, error))
                continue
            topics.append(self._topic(topic, start))
            end = start + len(topics[-1].partitions)
            self._left -= len(topics[-1].partitions)
            if end < len(topic.partitions):
                return topics, Cursor(name, end)
        return topics, None

    def _topic(self, topic: Topic, start: int) -> DescribeTopicPartitionsResponseTopic:
        states = topic.partitions[start : start + self._left]
        return DescribeTopicPartitionsResponseTopic(
            name=topic.name,
            topic_id=topic.topic_id.bytes,
            is_internal=is_internal(topic.name),
            partitions=[self._partition(start + place, state) for place, state in enumerate(states)],
            topic_authorized_operations=self._operations(topic.name),
        )

    def _partition(self, index: int, state: PartitionState) -> DescribeTopicPartitionsResponsePartition:
        """As Metadata: who is not reached by this listener leads nothing and is offline, for this client."""
        is_led = state.leader in self._reached
        error = ListenerNotFoundError if state.leader in self._live else LeaderNotAvailableError
        return DescribeTopicPartitionsResponsePartition(
            error_code=0 if is_led else error.code,
            partition_index=index,
            leader_id=state.leader if is_led else NO_LEADER,
            leader_epoch=state.leader_epoch,
            replica_nodes=list(state.replicas),
            isr_nodes=list(state.isr),
            eligible_leader_replicas=list(state.elr),
            last_known_elr=list(state.last_known_elr),
            offline_replicas=[it for it in state.replicas if it not in self._reached],
        )

    def _absent(self, name: str, error: KafkaError) -> DescribeTopicPartitionsResponseTopic:
        topic = _failed(name, InvalidTopicError.code if why_invalid(name) else error.code)
        topic.is_internal = is_internal(name)
        topic.topic_authorized_operations = self._operations(name)
        return topic

    def _operations(self, name: str) -> int:
        return self._services.operations(self._context, TOPIC_OPERATIONS, ResourceType.TOPIC, name)


def _failed(name: str, code: int) -> DescribeTopicPartitionsResponseTopic:
    return DescribeTopicPartitionsResponseTopic(name=name, error_code=code)


def refuse(request: DescribeTopicPartitionsRequest, error: KafkaError) -> DescribeTopicPartitionsResponse:
    """The answer in which every topic failed."""
    return DescribeTopicPartitionsResponse(
        topics=[_failed(topic.name, error.code) for topic in request.topics]
    )


API = ControlApi(
    key=ApiKey.DESCRIBE_TOPIC_PARTITIONS, versions=(0, 0), lane=Lane.ASKS, handle=handle, refuse=refuse
)
