"""SyncGroup (API key 14), versions 0-5.

Answered when the leader's assignment is written down.

KIPs: 3 static members (345), 5 protocol type and name (559).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import InconsistentGroupProtocolError, KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.later import Later

PROTOCOL_FROM = 5


def handle(
    services: Services, context: RequestContext, request: SyncGroupRequest
) -> Later | SyncGroupResponse:
    """Tells a member its assignment."""
    try:
        if context.api_version >= PROTOCOL_FROM and None in (request.protocol_type, request.protocol_name):
            raise InconsistentGroupProtocolError("protocol type and name are missing")
        services.require_group(context, Operation.READ, request.group_id)
        return services.groups.ask(
            request.group_id, lambda coordinator, reply, now: coordinator.sync(request, reply, now)
        )
    except KafkaError as error:
        return refuse(request, error)


def refuse(request: SyncGroupRequest, error: KafkaError) -> SyncGroupResponse:
    """The answer of a request that failed."""
    return SyncGroupResponse(error_code=error.code)


API = ControlApi(key=ApiKey.SYNC_GROUP, versions=(0, 5), lane=Lane.GROUPS, handle=handle, refuse=refuse)
