"""DeleteGroups (API key 42), versions 0-2.

Each group succeeds or fails alone; its offsets go with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.later import Later
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(services: Services, context: RequestContext, request: DeleteGroupsRequest) -> Later:
    """Deletes groups."""
    whole = Later()
    group_ids = list(dict.fromkeys(request.groups_names))
    results: list[DeletableGroupResult] = []

    def tell(result: DeletableGroupResult) -> None:
        results.append(result)
        if len(results) == len(group_ids):
            whole.answer(DeleteGroupsResponse(results=results))

    for group_id in group_ids:
        _delete(services, context, group_id).then(tell)
    if not group_ids:
        whole.answer(DeleteGroupsResponse())
    return whole


def _delete(services: Services, context: RequestContext, group_id: str) -> Later:
    try:
        services.require_group(context, Operation.DELETE, group_id)
        return services.groups.ask(
            group_id, lambda coordinator, reply, now: coordinator.delete_group(group_id, reply, now)
        )
    except KafkaError as error:
        refused = Later()
        refused.answer(DeletableGroupResult(group_id, error.code, error.message))
        return refused


def refuse(request: DeleteGroupsRequest, error: KafkaError) -> DeleteGroupsResponse:
    """The answer in which every group failed."""
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(it, error.code, error.message) for it in request.groups_names]
    )


API = ControlApi(key=ApiKey.DELETE_GROUPS, versions=(0, 2), lane=Lane.GROUPS, handle=handle, refuse=refuse)
