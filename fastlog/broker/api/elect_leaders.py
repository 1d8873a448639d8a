"""ElectLeaders (API key 43), versions 0-2.

Elects the preferred leader of partitions, or any replica that lives where no other can lead. Each partition succeeds or
fails alone; of all partitions, those that need no election are left out. Differs from Apache Kafka: nothing.

KIPs: 0 preferred leaders (183), 1 unclean elections (460).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services, code_of, message_of
from fastlog.errors import InvalidRequestError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.broker.context import RequestContext
    from fastlog.broker.ports import Place

KINDS: tuple[Literal["preferred", "unclean"], ...] = ("preferred", "unclean")


def handle(services: Services, context: RequestContext, request: ElectLeadersRequest) -> ElectLeadersResponse:
    """Elects leaders."""
    try:
        services.require_cluster(context, Operation.ALTER)
        if not 0 <= request.election_type < len(KINDS):
            raise InvalidRequestError(f"unknown election type {request.election_type}")
        found = services.placement.elect(
            KINDS[request.election_type], _places(request), timeout_ms=request.timeout_ms
        )
    except KafkaError as error:
        return refuse(request, error)
    return ElectLeadersResponse(replica_election_results=_results(found))


def _places(request: ElectLeadersRequest) -> list[Place] | None:
    if request.topic_partitions is None:
        return None
    return list(
        dict.fromkeys((it.topic, index) for it in request.topic_partitions for index in it.partitions)
    )


def _results(found: Mapping[Place, KafkaError | None]) -> list[ReplicaElectionResult]:
    topics: dict[str, ReplicaElectionResult] = {}
    for (name, index), error in sorted(found.items()):
        topic = topics.setdefault(name, ReplicaElectionResult(topic=name))
        topic.partition_result.append(
            PartitionResult(partition_id=index, error_code=code_of(error), error_message=message_of(error))
        )
    return list(topics.values())


def refuse(request: ElectLeadersRequest, error: KafkaError) -> ElectLeadersResponse:
    """The answer in which everything failed; version 0 has no code for the whole."""
    return ElectLeadersResponse(
        error_code=error.code,
        replica_election_results=_results(dict.fromkeys(_places(request) or (), error)),
    )


API = ControlApi(key=ApiKey.ELECT_LEADERS, versions=(0, 2), lane=Lane.CHANGES, handle=handle, refuse=refuse)
