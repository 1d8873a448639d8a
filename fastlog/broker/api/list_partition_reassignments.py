"""ListPartitionReassignments (API key 46), version 0.

Answers the partitions that are being reassigned, with what is added and removed, as this broker knows them. Differs
from Apache Kafka: nothing.

KIPs: 0 the API (455).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, message_of
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment,
    OngoingTopicReassignment,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.ports import Place


def handle(
    services: Services, context: RequestContext, request: ListPartitionReassignmentsRequest
) -> ListPartitionReassignmentsResponse:
    """Lists what is under way."""
    try:
        services.require_cluster(context, Operation.DESCRIBE)
    except KafkaError as error:
        return refuse(request, error)
    topics: dict[str, OngoingTopicReassignment] = {}
    for (name, index), state in sorted(services.placement.reassigning(_places(request)).items()):
        topic = topics.setdefault(name, OngoingTopicReassignment(name=name))
        topic.partitions.append(
            OngoingPartitionReassignment(
                partition_index=index,
                replicas=list(state.replicas),
                adding_replicas=list(state.adding),
                removing_replicas=list(state.removing),
            )
        )
    return ListPartitionReassignmentsResponse(error_message=None, topics=list(topics.values()))


def _places(request: ListPartitionReassignmentsRequest) -> list[Place] | None:
    if request.topics is None:
        return None
    return [(topic.name, index) for topic in request.topics for index in topic.partition_indexes]


def refuse(
    request: ListPartitionReassignmentsRequest, error: KafkaError
) -> ListPartitionReassignmentsResponse:
    """The answer of a request that failed."""
    return ListPartitionReassignmentsResponse(error_code=error.code, error_message=message_of(error))


API = ControlApi(
    key=ApiKey.LIST_PARTITION_REASSIGNMENTS, versions=(0, 0), lane=Lane.ASKS, handle=handle, refuse=refuse
)
