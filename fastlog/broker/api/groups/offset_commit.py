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
from fastlog.broker.later import Later
from fastlog.errors import KafkaError, UnknownTopicOrPartitionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestTopic,
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
    try:
        services.require_group(context, Operation.READ, request.group_id)
        taken, refused = _sort_out(services, context, request)
        if not taken.topics:
            return OffsetCommitResponse(topics=refused)
        version = context.api_version
        later = services.groups.ask(
            request.group_id, lambda coordinator, reply, now: coordinator.commit(taken, version, reply, now)
        )
    except KafkaError as error:
        return refuse(request, error)
    return _merged(later, refused) if refused else later


def _sort_out(
    services: Services, context: RequestContext, request: OffsetCommitRequest
) -> tuple[OffsetCommitRequest, list[OffsetCommitResponseTopic]]:
    """The request with the partitions that are there, and the answers of the others."""
    taken, refused = [], []
    for topic in request.topics:
        try:
            services.require_topic(context, Operation.READ, topic.name)
            count = len(services.topics.named(topic.name).partitions)
        except KafkaError as error:
            refused.append(_refused(topic, error.code))
            continue
        there = [it for it in topic.partitions if 0 <= it.partition_index < count]
        if len(there) == len(topic.partitions):
            taken.append(topic)
            continue
        absent = [it for it in topic.partitions if not 0 <= it.partition_index < count]
        refused.append(
            _refused(msgspec.structs.replace(topic, partitions=absent), UnknownTopicOrPartitionError.code)
        )
        if there:
            taken.append(msgspec.structs.replace(topic, partitions=there))
    if not refused:
        return request, []
    return msgspec.structs.replace(request, topics=taken), refused


def _refused(topic: OffsetCommitRequestTopic, code: int) -> OffsetCommitResponseTopic:
    partitions = [OffsetCommitResponsePartition(it.partition_index, code) for it in topic.partitions]
    return OffsetCommitResponseTopic(name=topic.name, partitions=partitions)


def _merged(later: Later, refused: list[OffsetCommitResponseTopic]) -> Later:
    whole = Later()

    def tell(response: OffsetCommitResponse) -> None:
        by_name = {topic.name: topic for topic in response.topics}
        for topic in refused:
            if topic.name in by_name:
                by_name[topic.name].partitions += topic.partitions
            else:
                response.topics.append(topic)
        whole.answer(response)

    later.then(tell)
    return whole


def refuse(request: OffsetCommitRequest, error: KafkaError) -> OffsetCommitResponse:
    """The answer in which every partition failed."""
    return refuse_commit(request, error.code)


API = ControlApi(key=ApiKey.OFFSET_COMMIT, versions=(2, 9), lane=Lane.GROUPS, handle=handle, refuse=refuse)
