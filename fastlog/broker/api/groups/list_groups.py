"""ListGroups (API key 16), versions 0-5.

KIPs: 4 states (518), 5 types (848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import CLUSTER_NAME, Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(services: Services, context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
    """Lists the groups that this broker coordinates and that the client may see."""
    try:
        found = [
            group
            for coordinator in services.groups.coordinators()
            for group in coordinator.list_groups(request.states_filter, request.types_filter)
        ]
    except KafkaError as error:
        return refuse(request, error)
    allows = services.authorizer.allows
    if not allows(context, Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME):
        found = [it for it in found if allows(context, Operation.DESCRIBE, ResourceType.GROUP, it.group_id)]
    return ListGroupsResponse(groups=found)


def refuse(request: ListGroupsRequest, error: KafkaError) -> ListGroupsResponse:
    """The answer of a request that failed."""
    return ListGroupsResponse(error_code=error.code)


API = ControlApi(key=ApiKey.LIST_GROUPS, versions=(0, 5), lane=Lane.GROUPS, handle=handle, refuse=refuse)
