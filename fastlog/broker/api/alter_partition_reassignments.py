"""AlterPartitionReassignments (API key 45), versions 0-1.

Gives partitions other replicas, or gives up a reassignment that is under way. The answer comes when that is decided;
the records move afterwards. Each partition succeeds or fails alone. Differs from Apache Kafka: a reassignment is not
given up while only replicas that it adds have what was committed.

KIPs: 0 the API (455), 1 a number of replicas that stays (860).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, code_of, message_of, repeated
from fastlog.errors import InvalidRequestError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.broker.context import RequestContext
    from fastlog.broker.ports import Place


def handle(
    services: Services, context: RequestContext, request: AlterPartitionReassignmentsRequest
) -> AlterPartitionReassignmentsResponse:
    """Reassigns, or gives up a reassignment of, each partition."""
    asked = _asked(request)
    try:
        services.require_cluster(context, Operation.ALTER)
        if twice := repeated([place for place, _ in asked]):
            name, index = min(twice)
            raise InvalidRequestError(f"partition {index} of {name!r} stands twice in one request")
        found = services.placement.reassign(
            dict(asked),
            keep_factor=not request.allow_replication_factor_change,
            timeout_ms=request.timeout_ms,
        )
    except KafkaError as error:
        return refuse(request, error)
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None,
        responses=_responses(found),
    )


def _asked(request: AlterPartitionReassignmentsRequest) -> list[tuple[Place, tuple[int, ...] | None]]:
    return [
        ((topic.name, it.partition_index), None if it.replicas is None else tuple(it.replicas))
        for topic in request.topics
        for it in topic.partitions
    ]


def _responses(found: Mapping[Place, KafkaError | None]) -> list[ReassignableTopicResponse]:
    topics: dict[str, ReassignableTopicResponse] = {}
    for (name, index), error in sorted(found.items()):
        topic = topics.setdefault(name, ReassignableTopicResponse(name=name))
        topic.partitions.append(
            ReassignablePartitionResponse(
                partition_index=index, error_code=code_of(error), error_message=message_of(error)
            )
        )
    return list(topics.values())


def refuse(
    request: AlterPartitionReassignmentsRequest, error: KafkaError
) -> AlterPartitionReassignmentsResponse:
    """The answer in which everything failed."""
    return AlterPartitionReassignmentsResponse(error_code=error.code, error_message=message_of(error))


API = ControlApi(
    key=ApiKey.ALTER_PARTITION_REASSIGNMENTS,
    versions=(0, 1),
    lane=Lane.CHANGES,
    handle=handle,
    refuse=refuse,
)
