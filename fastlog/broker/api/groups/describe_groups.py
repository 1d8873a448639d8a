"""DescribeGroups (API key 15), versions 0-6.

KIPs: 3 authorized operations (430), 4 instance ids (345), 6 GROUP_ID_NOT_FOUND and messages (1043).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import GROUP_OPERATIONS, Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.describe_groups import (
    DescribedGroup,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

OPERATIONS_FROM = 3
MESSAGE_FROM = 6


def handle(
    services: Services, context: RequestContext, request: DescribeGroupsRequest
) -> DescribeGroupsResponse:
    """Describes groups; each fails alone."""
    tell_operations = request.include_authorized_operations and context.api_version >= OPERATIONS_FROM
    groups = []
    for group_id in request.groups:
        try:
            services.require_group(context, Operation.DESCRIBE, group_id)
            coordinator = services.groups.coordinator_of(group_id)
        except KafkaError as error:
            groups.append(DescribedGroup(group_id=group_id, error_code=error.code))
            continue
        group = coordinator.describe(group_id, context.api_version)
        if tell_operations and not group.error_code:
            group.authorized_operations = services.operations(
                context, GROUP_OPERATIONS, ResourceType.GROUP, group_id
            )
        groups.append(group)
    return DescribeGroupsResponse(groups=groups)


def refuse(request: DescribeGroupsRequest, error: KafkaError) -> DescribeGroupsResponse:
    """The answer in which every group failed."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(group_id=it, error_code=error.code) for it in request.groups]
    )


API = ControlApi(key=ApiKey.DESCRIBE_GROUPS, versions=(0, 6), lane=Lane.GROUPS, handle=handle, refuse=refuse)
