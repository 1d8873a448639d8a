"""JoinGroup (API key 11), versions 0-9.

Answered when the rebalance is done that it takes part in. Differs from Apache Kafka: a join that is refused makes no
group; who holds a member id that it has not joined with counts towards group.max.size.

KIPs: 1 rebalance time-out (62), 4 MEMBER_ID_REQUIRED (394), 5 static members (345), 7 protocol type in the answer
(559), 8 reasons (800), 9 skip assignment (814).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.later import Later
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.state.group.join import Join
from fastlog.state.group.rebalance import refused_join

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse

NULL_PROTOCOL_FROM = 7


def handle(
    services: Services, context: RequestContext, request: JoinGroupRequest
) -> Later | JoinGroupResponse:
    """Lets a member join."""
    if context.api_version < NULL_PROTOCOL_FROM:
        return _without_null(_join(services, context, request))
    return _join(services, context, request)


def _join(
    services: Services, context: RequestContext, request: JoinGroupRequest
) -> Later | JoinGroupResponse:
    groups = services.groups
    client_id = context.client_id or ""
    try:
        services.require_group(context, Operation.READ, request.group_id)
        return groups.ask(
            request.group_id,
            lambda coordinator, reply, now: coordinator.join(
                Join(
                    request=request,
                    version=context.api_version,
                    client_id=client_id,
                    client_host=client_host(context),
                    fresh_id=groups.fresh_id(request.group_instance_id or client_id),
                    reply=reply,
                ),
                now,
            ),
        )
    except KafkaError as error:
        return refuse(request, error)


def _without_null(answer: Later | JoinGroupResponse) -> Later | JoinGroupResponse:
    """The answer in a version that has no null for the protocol's name."""
    if isinstance(answer, Later):
        named = Later()
        answer.then(lambda response: named.answer(_without_null(response)))
        return named
    answer.protocol_name = answer.protocol_name or ""
    return answer


def client_host(context: RequestContext) -> str:
    """The client's host as Kafka writes it, which has a slash in front of an address without a name."""
    address = context.client_address
    return "" if address is None else "/" + address.rpartition(":")[0].strip("[]")


def refuse(request: JoinGroupRequest, error: KafkaError) -> JoinGroupResponse:
    """The answer of a request that failed."""
    return refused_join(error.code, request.member_id)


API = ControlApi(key=ApiKey.JOIN_GROUP, versions=(0, 9), lane=Lane.GROUPS, handle=handle, refuse=refuse)
