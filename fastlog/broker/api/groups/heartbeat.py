"""Heartbeat (API key 12), versions 0-4.

KIPs: 3 static members (345).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import CoordinatorLoadInProgressError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(services: Services, context: RequestContext, request: HeartbeatRequest) -> HeartbeatResponse:
    """Notes that a member is there."""
    groups = services.groups
    try:
        services.require_group(context, Operation.READ, request.group_id)
        groups.coordinator_of(request.group_id).heartbeat(request, groups.now)
    except CoordinatorLoadInProgressError:
        # as in Kafka: what is loaded begins every session anew
        return HeartbeatResponse()
    except KafkaError as error:
        return refuse(request, error)
    return HeartbeatResponse()


def refuse(request: HeartbeatRequest, error: KafkaError) -> HeartbeatResponse:
    """The answer of a request that failed."""
    return HeartbeatResponse(error_code=error.code)


API = ControlApi(key=ApiKey.HEARTBEAT, versions=(0, 4), lane=Lane.GROUPS, handle=handle, refuse=refuse)
