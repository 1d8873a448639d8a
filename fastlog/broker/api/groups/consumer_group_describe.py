"""ConsumerGroupDescribe (API key 69), versions 0-1.

KIPs: 0 (848), 1 which protocol a member speaks (1099).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import GROUP_OPERATIONS, Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import InvalidGroupIdError, KafkaError, TopicAuthorizationFailedError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
    DescribedGroup,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(
    services: Services, context: RequestContext, request: ConsumerGroupDescribeRequest
) -> ConsumerGroupDescribeResponse:
    """Describes groups; each fails alone."""
    return ConsumerGroupDescribeResponse(
        groups=[_describe(services, context, it, request) for it in request.group_ids]
    )


def _describe(
    services: Services, context: RequestContext, group_id: str, request: ConsumerGroupDescribeRequest
) -> DescribedGroup:
    try:
        if not group_id:
            raise InvalidGroupIdError("a group id is not empty")
        services.require_group(context, Operation.DESCRIBE, group_id)
        group = services.groups.coordinator_of(group_id).describe_consumer_group(group_id)
        _check_topics(services, context, group)
    except KafkaError as error:
        return DescribedGroup(group_id=group_id, error_code=error.code, error_message=error.message or None)
    if request.include_authorized_operations and not group.error_code:
        group.authorized_operations = services.operations(
            context, GROUP_OPERATIONS, ResourceType.GROUP, group_id
        )
    return group


def _check_topics(services: Services, context: RequestContext, group: DescribedGroup) -> None:
    """Nobody learns the names of topics from a group that may not know of them."""
    names = {
        topic
        for member in group.members
        for topic in (
            *member.subscribed_topic_names,
            *(it.topic_name for it in member.assignment.topic_partitions),
            *(it.topic_name for it in member.target_assignment.topic_partitions),
        )
    }
    allows = services.authorizer.allows
    if not all(allows(context, Operation.DESCRIBE, ResourceType.TOPIC, name) for name in names):
        raise TopicAuthorizationFailedError(
            "The described group uses topics that the client is not authorized to describe."
        )


def refuse(request: ConsumerGroupDescribeRequest, error: KafkaError) -> ConsumerGroupDescribeResponse:
    """The answer in which every group failed."""
    return ConsumerGroupDescribeResponse(
        groups=[
            DescribedGroup(group_id=it, error_code=error.code, error_message=error.message or None)
            for it in request.group_ids
        ]
    )


API = ControlApi(
    key=ApiKey.CONSUMER_GROUP_DESCRIBE, versions=(0, 1), lane=Lane.GROUPS, handle=handle, refuse=refuse
)
