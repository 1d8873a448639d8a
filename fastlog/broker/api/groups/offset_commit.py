"""OffsetCommit (API key 8), versions 2-9.

Answered when the offsets are in the log of `__consumer_offsets`, on all its in-sync replicas.

KIPs: 5 no retention time of its own (211), 6 leader epochs (320), 7 static members (345), 9 GROUP_ID_NOT_FOUND and
STALE_MEMBER_EPOCH (848; the latter never here).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.groups.absent import Absent, sort_out, with_refused
from fastlog.errors import KafkaError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from fastlog.state.offsets.commit import refuse_commit

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext
    from fastlog.broker.later import Later


def handle(
    services: Services, context: RequestContext, request: OffsetCommitRequest
) -> Later | OffsetCommitResponse:
    """Commits offsets; each partition that is not there fails alone."""
    try:
        services.require_group(context, Operation.READ, request.group_id)
        topics, absent = sort_out(services, context, request.topics)
        refused = [_refused(it) for it in absent]
        if not topics:
            return OffsetCommitResponse(topics=refused)
        taken = msgspec.structs.replace(request, topics=topics) if absent else request
        version = context.api_version
        later = services.groups.ask(
            request.group_id, lambda coordinator, reply, now: coordinator.commit(taken, version, reply, now)
        )
    except KafkaError as error:
        return refuse(request, error)
    return with_refused(later, refused)


def _refused(absent: Absent) -> OffsetCommitResponseTopic:
    partitions = [OffsetCommitResponsePartition(it, absent.code) for it in absent.partitions]
    return OffsetCommitResponseTopic(name=absent.topic, partitions=partitions)


def refuse(request: OffsetCommitRequest, error: KafkaError) -> OffsetCommitResponse:
    """The answer in which every partition failed."""
    return refuse_commit(request, error.code)


API = ControlApi(key=ApiKey.OFFSET_COMMIT, versions=(2, 9), lane=Lane.GROUPS, handle=handle, refuse=refuse)
