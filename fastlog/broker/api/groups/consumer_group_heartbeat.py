"""ConsumerGroupHeartbeat (API key 68), versions 0-1.

A member of the consumer protocol joins, is there, says what it has, or leaves (KIP-848). Answered when what follows
from it is in the log. Differs from Apache Kafka: the target is made at once with each change, without an interval
between two (KIP-1263), and a pattern is looked up within the request.

KIPs: 0 (848), 1 patterns and member ids that clients choose (848, 1082).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.api.groups.join_group import client_host
from fastlog.broker.context import Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.errors import KafkaError, TopicAuthorizationFailedError
from fastlog.protocol.api import ApiKey
from fastlog.state.consumer_group.context import Heartbeat
from fastlog.state.consumer_group.heartbeat import refused

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.later import Later
    from fastlog.protocol.messages.consumer_group_heartbeat import (
        ConsumerGroupHeartbeatRequest,
        ConsumerGroupHeartbeatResponse,
    )


def handle(
    services: Services, context: RequestContext, request: ConsumerGroupHeartbeatRequest
) -> Later | ConsumerGroupHeartbeatResponse:
    """Takes in a heartbeat."""
    groups = services.groups

    def may_see(topic: str) -> bool:
        return services.authorizer.allows(context, Operation.DESCRIBE, ResourceType.TOPIC, topic)

    try:
        services.require_group(context, Operation.READ, request.group_id)
        if not all(may_see(topic) for topic in request.subscribed_topic_names or ()):
            raise TopicAuthorizationFailedError(
                f"{context.principal} may not see all topics that it asks for"
            )
        return groups.ask(
            request.group_id,
            lambda coordinator, reply, now: coordinator.consumer_heartbeat(
                Heartbeat(
                    request=request,
                    version=context.api_version,
                    client_id=context.client_id or "",
                    client_host=client_host(context),
                    fresh_id=str(groups.fresh_uuid()),
                    may_see=may_see,
                    reply=reply,
                ),
                now,
            ),
        )
    except KafkaError as error:
        return refuse(request, error)


def refuse(request: ConsumerGroupHeartbeatRequest, error: KafkaError) -> ConsumerGroupHeartbeatResponse:
    """The answer of a request that failed."""
    return refused(error)


API = ControlApi(
    key=ApiKey.CONSUMER_GROUP_HEARTBEAT, versions=(0, 1), lane=Lane.GROUPS, handle=handle, refuse=refuse
)
