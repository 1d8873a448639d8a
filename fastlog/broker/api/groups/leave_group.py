"""LeaveGroup (API key 13), versions 0-5.

KIPs: 3 many members, also by their instance ids (345), 5 reasons (800).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.later import Later
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse, MemberIdentity

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext

BATCHED_FROM = 3


def handle(
    services: Services, context: RequestContext, request: LeaveGroupRequest
) -> Later | LeaveGroupResponse:
    """Ends memberships."""
    is_single = context.api_version < BATCHED_FROM
    if is_single:
        request.members = [MemberIdentity(request.member_id)]
    try:
        services.require_group(context, Operation.READ, request.group_id)
        later = services.groups.ask(
            request.group_id, lambda coordinator, reply, now: coordinator.leave(request, reply, now)
        )
    except KafkaError as error:
        return refuse(request, error)
    return _of_one(later) if is_single else later


def _of_one(later: Later) -> Later:
    """The answer of the versions that have one member: its error is the request's."""
    single = Later()

    def tell(response: LeaveGroupResponse) -> None:
        codes = [response.error_code, *(member.error_code for member in response.members)]
        single.answer(LeaveGroupResponse(error_code=next(filter(None, codes), 0)))

    later.then(tell)
    return single


def refuse(request: LeaveGroupRequest, error: KafkaError) -> LeaveGroupResponse:
    """The answer of a request that failed."""
    return LeaveGroupResponse(error_code=error.code)


API = ControlApi(key=ApiKey.LEAVE_GROUP, versions=(0, 5), lane=Lane.GROUPS, handle=handle, refuse=refuse)
