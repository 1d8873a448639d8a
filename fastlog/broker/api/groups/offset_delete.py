"""OffsetDelete (API key 47), version 0.

Takes away offsets of a group, except of topics that its members read.

KIPs: 0 (496).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.context import Operation
from fastlog.broker.control_api import ControlApi, Lane, Services
from fastlog.broker.later import Later
from fastlog.errors import KafkaError, UnknownTopicOrPartitionError
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from fastlog.broker.context import RequestContext


def handle(
    services: Services, context: RequestContext, request: OffsetDeleteRequest
) -> Later | OffsetDeleteResponse:
    """Deletes offsets; each partition that is not there fails alone."""
    try:
        services.require_group(context, Operation.DELETE, request.group_id)
        taken, refused = [], []
        for topic in request.topics:
            there, answered = _sort_out(services, context, topic)
            taken += there
            refused += answered
        known = msgspec.structs.replace(request, topics=taken)
        later = services.groups.ask(
            request.group_id, lambda coordinator, reply, _: coordinator.delete_offsets(known, reply)
        )
    except KafkaError as error:
        return refuse(request, error)
    return _merged(later, refused) if refused else later


def _sort_out(
    services: Services, context: RequestContext, topic: OffsetDeleteRequestTopic
) -> tuple[list[OffsetDeleteRequestTopic], list[OffsetDeleteResponseTopic]]:
    """The partitions of a topic that are there, and the answers of the others."""
    try:
        services.require_topic(context, Operation.READ, topic.name)
        count = len(services.topics.named(topic.name).partitions)
    except KafkaError as error:
        count, code = 0, error.code
    else:
        code = UnknownTopicOrPartitionError.code
    there = [it for it in topic.partitions if 0 <= it.partition_index < count]
    absent = [
        OffsetDeleteResponsePartition(it.partition_index, code)
        for it in topic.partitions
        if not 0 <= it.partition_index < count
    ]
    return (
        [OffsetDeleteRequestTopic(topic.name, there)] if there else [],
        [OffsetDeleteResponseTopic(topic.name, absent)] if absent else [],
    )


def _merged(later: Later, refused: list[OffsetDeleteResponseTopic]) -> Later:
    whole = Later()

    def tell(response: OffsetDeleteResponse) -> None:
        if not response.error_code:
            by_name = {topic.name: topic for topic in response.topics}
            for topic in refused:
                if topic.name in by_name:
                    by_name[topic.name].partitions += topic.partitions
                else:
                    response.topics.append(topic)
        whole.answer(response)

    later.then(tell)
    return whole


def refuse(request: OffsetDeleteRequest, error: KafkaError) -> OffsetDeleteResponse:
    """The answer of a request that failed."""
    return OffsetDeleteResponse(error_code=error.code)


API = ControlApi(key=ApiKey.OFFSET_DELETE, versions=(0, 0), lane=Lane.GROUPS, handle=handle, refuse=refuse)
