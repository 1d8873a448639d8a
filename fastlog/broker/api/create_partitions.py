"""CreatePartitions (API key 37), versions 0-3.

Each topic succeeds or fails alone, but more than 10,000 new partitions together are refused as a whole. Differs from
Apache Kafka: one node alone answers when the logs are open, whatever the request's time-out, a cluster waits for its
controller from 1 to 30 s; and `__consumer_offsets` does not grow: its groups would not be found any more.

KIPs: 0 partitions added to a topic (195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, attempt, code_of, message_of, repeated
from fastlog.broker.patience import TimeLeft
from fastlog.errors import InvalidPartitionsError, InvalidRequestError, KafkaError, PolicyViolationError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)
from fastlog.state.topic_names import OFFSETS_TOPIC

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(
    services: Services, context: RequestContext, request: CreatePartitionsRequest
) -> CreatePartitionsResponse:
    """Gives each topic the number of partitions asked for."""
    try:
        services.topics.check_together(_added(services, wanted) for wanted in request.topics)
    except PolicyViolationError as error:
        return refuse(request, error)
    twice = repeated([topic.name for topic in request.topics])
    results = [
        _result(name, InvalidRequestError("the topic stands twice in one request")) for name in sorted(twice)
    ]
    left = TimeLeft(request.timeout_ms, is_bounded=services.is_in_cluster)
    results += [
        _grow(services, context, wanted, request, left)
        for wanted in request.topics
        if wanted.name not in twice
    ]
    return CreatePartitionsResponse(results=results)


def _added(services: Services, wanted: CreatePartitionsTopic) -> int:
    """How many partitions are new, 0 where the topic does not exist."""
    if wanted.name not in services.topics:
        return 0
    return max(wanted.count - len(services.topics.named(wanted.name).partitions), 0)


def _grow(
    services: Services,
    context: RequestContext,
    wanted: CreatePartitionsTopic,
    request: CreatePartitionsRequest,
    left: TimeLeft,
) -> CreatePartitionsTopicResult:
    def grow() -> None:
        services.require_topic(context, Operation.ALTER, wanted.name)
        if wanted.name == OFFSETS_TOPIC:
            raise InvalidPartitionsError(
                f"a group's partition of {wanted.name} follows from their number, which is therefore fixed"
            )
        rows = None if wanted.assignments is None else [row.broker_ids for row in wanted.assignments]
        services.topics.grow(
            wanted.name,
            wanted.count,
            assignments=rows,
            validate_only=request.validate_only,
            timeout_ms=left.ms(),
        )

    return _result(wanted.name, attempt("CreatePartitions", wanted.name, grow))


def _result(name: str, error: KafkaError | None) -> CreatePartitionsTopicResult:
    return CreatePartitionsTopicResult(name=name, error_code=code_of(error), error_message=message_of(error))


def refuse(request: CreatePartitionsRequest, error: KafkaError) -> CreatePartitionsResponse:
    """The answer in which every topic failed."""
    return CreatePartitionsResponse(results=[_result(topic.name, error) for topic in request.topics])


API = ControlApi(
    key=ApiKey.CREATE_PARTITIONS, versions=(0, 3), lane=Lane.CHANGES, handle=handle, refuse=refuse
)
