"""DescribeProducers (API key 61), version 0.

Answers which idempotent producers a partition's replica here remembers, and where each of them is; every partition
succeeds or fails alone.

KIPs: 0 the API (664).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of
from fastlog.errors import InvalidTopicError, NotLeaderOrFollowerError, UnknownTopicOrPartitionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)
from fastlog.state.topic_names import why_invalid

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.errors import KafkaError


def handle(
    services: Services, context: RequestContext, request: DescribeProducersRequest
) -> DescribeProducersResponse:
    """Describes the producers of each partition."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[_describe(services, context, topic.name, it) for it in topic.partition_indexes],
            )
            for topic in request.topics
        ]
    )


def _describe(services: Services, context: RequestContext, topic: str, partition: int) -> PartitionResponse:
    result = PartitionResponse(partition_index=partition)

    def describe() -> None:
        if reason := why_invalid(topic):
            raise InvalidTopicError(reason)
        services.require_topic(context, Operation.READ, topic)
        count = len(services.topics.named(topic).partitions)
        if not 0 <= partition < count:
            raise UnknownTopicOrPartitionError(f"topic {topic!r} has {count} partitions")
        try:
            known = services.data_plane.producers(topic, partition)
        except UnknownTopicOrPartitionError as error:
            raise NotLeaderOrFollowerError("the partition has no replica here") from error
        result.active_producers = [ProducerState(*fields) for fields in known]

    error = attempt("DescribeProducers", f"{topic}-{partition}", describe)
    return _failed(partition, error) if error else result


def _failed(partition: int, error: KafkaError) -> PartitionResponse:
    return PartitionResponse(
        partition_index=partition, error_code=code_of(error), error_message=message_of(error)
    )


def refuse(request: DescribeProducersRequest, error: KafkaError) -> DescribeProducersResponse:
    """The answer in which every partition failed."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(name=it.name, partitions=[_failed(index, error) for index in it.partition_indexes])
            for it in request.topics
        ]
    )


API = ControlApi(key=ApiKey.DESCRIBE_PRODUCERS, versions=(0, 0), lane=Lane.ASKS, handle=handle, refuse=refuse)
