"""OffsetFetch (API key 9), versions 1-10.

Nothing committed is offset -1 without an error. `require_stable` changes nothing while there are no transactions.

KIPs: 2 all partitions by null topics (88), 5 leader epochs (320), 7 require_stable (447), 8 many groups (709), 9 member
epochs, 10 topic ids (848).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.context import Operation, ResourceType
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.groups.topic_ids import IDS_FROM, with_names
from fastlog.errors import KafkaError, TopicAuthorizationFailedError, UnknownTopicIdError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
    OffsetFetchResponse,
    OffsetFetchResponseGroup,
    OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.broker.context import RequestContext
    from fastlog.state.coordinator import Coordinator

BATCHED_FROM = 8
# version 1 has no error but those of its partitions
ERROR_FROM = 2
NOTHING = -1


def handle(services: Services, context: RequestContext, request: OffsetFetchRequest) -> OffsetFetchResponse:
    """Tells what groups have committed; each group fails alone."""
    if context.api_version >= IDS_FROM:
        return OffsetFetchResponse(groups=[_by_ids(services, context, group) for group in request.groups])
    if context.api_version >= BATCHED_FROM:
        return OffsetFetchResponse(groups=[_fetch(services, context, group) for group in request.groups])
    answer = _fetch(services, context, _single(request))
    return _of_one(request, answer, context.api_version)


def _by_ids(
    services: Services, context: RequestContext, group: OffsetFetchRequestGroup
) -> OffsetFetchResponseGroup:
    """As by names, with the ids in the answer; all that was committed is of topics that exist."""
    if group.topics is None:
        answer = _fetch(services, context, group)
        there = [topic for topic in answer.topics if topic.name in services.topics]
        for topic in there:
            topic.topic_id = services.topics.named(topic.name).topic_id.bytes
        answer.topics = there
        return answer
    known, unknown, ids = with_names(services.topics, group.topics)
    answer = _fetch(services, context, msgspec.structs.replace(group, topics=known))
    for topic in answer.topics:
        topic.topic_id = ids[topic.name]
    if not answer.error_code:
        answer.topics += [_failed_topic(topic, UnknownTopicIdError.code) for topic in unknown]
    return answer


def _single(request: OffsetFetchRequest) -> OffsetFetchRequestGroup:
    if request.topics is None:
        return OffsetFetchRequestGroup(group_id=request.group_id, topics=None)
    topics = [
        OffsetFetchRequestTopics(name=it.name, partition_indexes=it.partition_indexes)
        for it in request.topics
    ]
    return OffsetFetchRequestGroup(group_id=request.group_id, topics=topics)


def _fetch(
    services: Services, context: RequestContext, group: OffsetFetchRequestGroup
) -> OffsetFetchResponseGroup:
    def may_see(topic: str) -> bool:
        return services.authorizer.allows(context, Operation.DESCRIBE, ResourceType.TOPIC, topic)

    try:
        services.require_group(context, Operation.DESCRIBE, group.group_id)
        return _of_group(services.groups.coordinator_of(group.group_id), group, may_see)
    except KafkaError as error:
        return OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code)


def _of_group(
    coordinator: Coordinator, group: OffsetFetchRequestGroup, may_see: Callable[[str], bool]
) -> OffsetFetchResponseGroup:
    if group.topics is None:
        answer = coordinator.fetch(group)
        answer.topics = [topic for topic in answer.topics if may_see(topic.name)]
        return answer
    seen = [topic for topic in group.topics if may_see(topic.name)]
    answer = coordinator.fetch(msgspec.structs.replace(group, topics=seen))
    for topic in group.topics:
        if not may_see(topic.name):
            answer.topics.append(_failed_topic(topic, TopicAuthorizationFailedError.code))
    return answer


def _failed_topic(topic: OffsetFetchRequestTopics, code: int) -> OffsetFetchResponseTopics:
    return OffsetFetchResponseTopics(
        name=topic.name,
        topic_id=topic.topic_id,
        partitions=[
            OffsetFetchResponsePartitions(index, NOTHING, error_code=code)
            for index in topic.partition_indexes
        ],
    )


def _of_one(
    request: OffsetFetchRequest, group: OffsetFetchResponseGroup, version: int
) -> OffsetFetchResponse:
    if group.error_code:
        return _failed(request, group.error_code, version)
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(
                        it.partition_index,
                        it.committed_offset,
                        it.committed_leader_epoch,
                        it.metadata,
                        it.error_code,
                    )
                    for it in topic.partitions
                ],
            )
            for topic in group.topics
        ]
    )


def _failed(request: OffsetFetchRequest, code: int, version: int) -> OffsetFetchResponse:
    if version >= ERROR_FROM:
        return OffsetFetchResponse(error_code=code)
    return OffsetFetchResponse(
        topics=[
            OffsetFetchResponseTopic(
                name=topic.name,
                partitions=[
                    OffsetFetchResponsePartition(index, NOTHING, error_code=code)
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics or ()
        ]
    )


def refuse(request: OffsetFetchRequest, error: KafkaError) -> OffsetFetchResponse:
    """The answer in which everything failed, for whatever version."""
    failed = _failed(request, error.code, 1)
    failed.error_code = error.code
    failed.groups = [
        OffsetFetchResponseGroup(group_id=group.group_id, error_code=error.code) for group in request.groups
    ]
    return failed


API = ControlApi(key=ApiKey.OFFSET_FETCH, versions=(1, 10), lane=Lane.GROUPS, handle=handle, refuse=refuse)
