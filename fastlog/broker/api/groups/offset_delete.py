"""OffsetDelete (API key 47), version 0.

Takes away offsets of a group, except of topics that its members read.

KIPs: 0 (496).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.groups.absent import Absent, sort_out, with_refused
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.later import Later


def handle(
    services: Services, context: RequestContext, request: OffsetDeleteRequest
) -> Later | OffsetDeleteResponse:
    """Deletes offsets; each partition that is not there fails alone."""
    try:
        services.require_group(context, Operation.DELETE, request.group_id)
        topics, absent = sort_out(services, context, request.topics)
        known = msgspec.structs.replace(request, topics=topics) if absent else request
        later = services.groups.ask(
            request.group_id, lambda coordinator, reply, _: coordinator.delete_offsets(known, reply)
        )
    except KafkaError as error:
        return refuse(request, error)
    return with_refused(later, [_refused(it) for it in absent])


def _refused(absent: Absent) -> OffsetDeleteResponseTopic:
    partitions = [OffsetDeleteResponsePartition(it, absent.code) for it in absent.partitions]
    return OffsetDeleteResponseTopic(absent.topic, partitions)


def refuse(request: OffsetDeleteRequest, error: KafkaError) -> OffsetDeleteResponse:
    """The answer of a request that failed."""
    return OffsetDeleteResponse(error_code=error.code)


API = ControlApi(key=ApiKey.OFFSET_DELETE, versions=(0, 0), lane=Lane.GROUPS, handle=handle, refuse=refuse)
