"""OffsetCommit (API key 8), versions 2-10.

Answered when the offsets are in the log of `__consumer_offsets`, on all its in-sync replicas.

KIPs: 5 no retention time of its own (211), 6 leader epochs (320), 7 static members (345), 9 GROUP_ID_NOT_FOUND and
STALE_MEMBER_EPOCH, 10 topic ids (848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.groups.absent import Absent, sort_out, with_refused
from fastlog.broker.groups.topic_ids import IDS_FROM, with_names
from fastlog.broker.later import Later
from fastlog.errors import KafkaError, UnknownTopicIdError
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


def handle(
    services: Services, context: RequestContext, request: OffsetCommitRequest
) -> Later | OffsetCommitResponse:
    """Commits offsets; each partition that is not there fails alone."""
    if context.api_version >= IDS_FROM:
        return _by_ids(services, context, request)
    return _by_names(services, context, request)


def _by_ids(
    services: Services, context: RequestContext, request: OffsetCommitRequest
) -> Later | OffsetCommitResponse:
    """As by names, with the ids in the answer."""
    known, unknown, ids = with_names(services.topics, request.topics)
    answered = Later()

    def tell(response: OffsetCommitResponse) -> None:
        for topic in response.topics:
            topic.topic_id = ids.get(topic.name, topic.topic_id)
        code = UnknownTopicIdError.code
        for asked in unknown:
            partitions = [OffsetCommitResponsePartition(it.partition_index, code) for it in asked.partitions]
            response.topics.append(OffsetCommitResponseTopic(topic_id=asked.topic_id, partitions=partitions))
        answered.answer(response)

    answer = _by_names(services, context, msgspec.structs.replace(request, topics=known))
    if isinstance(answer, Later):
        answer.then(tell)
    else:
        tell(answer)
    return answered


def _by_names(
    services: Services, context: RequestContext, request: OffsetCommitRequest
) -> Later | OffsetCommitResponse:
    version = context.api_version
    try:
        services.require_group(context, Operation.READ, request.group_id)
        topics, absent = sort_out(services, context, request.topics)
        refused = [_refused(it) for it in absent]
        if not topics:
            return OffsetCommitResponse(topics=refused)
        taken = msgspec.structs.replace(request, topics=topics) if absent else request
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


API = ControlApi(key=ApiKey.OFFSET_COMMIT, versions=(2, 10), lane=Lane.GROUPS, handle=handle, refuse=refuse)
