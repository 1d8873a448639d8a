"""Partitions of a commit that do not exist: each is answered with its error, and the coordinator is asked the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fastlog.broker.context import Operation
from fastlog.broker.later import Later
from fastlog.errors import KafkaError, UnknownTopicOrPartitionError
from fastlog.protocol.messages.offset_commit import OffsetCommitRequestTopic, OffsetCommitResponseTopic
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequestTopic,
    OffsetDeleteResponse,
    OffsetDeleteResponseTopic,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.broker.context import RequestContext
    from fastlog.broker.control_api import Services

Asked = TypeVar("Asked", OffsetCommitRequestTopic, OffsetDeleteRequestTopic)
Answered = TypeVar("Answered", OffsetCommitResponseTopic, OffsetDeleteResponseTopic)


class Absent(msgspec.Struct, frozen=True):
    """Partitions of one topic that are not there, or not for this client."""

    topic: str
    partitions: list[int]
    code: int


def sort_out(
    services: Services, context: RequestContext, topics: Sequence[Asked]
) -> tuple[list[Asked], list[Absent]]:
    """The topics with the partitions that are there, and the others."""
    there: list[Asked] = []
    absent: list[Absent] = []
    for topic in topics:
        count, code = _partition_count(services, context, topic.name)
        missing = [it.partition_index for it in topic.partitions if not 0 <= it.partition_index < count]
        if code or missing:
            absent.append(Absent(topic.name, missing, code or UnknownTopicOrPartitionError.code))
            kept: list[Any] = [it for it in topic.partitions if 0 <= it.partition_index < count]
            if kept:
                there.append(msgspec.structs.replace(topic, partitions=kept))
        else:
            there.append(topic)
    return there, absent


def _partition_count(services: Services, context: RequestContext, topic: str) -> tuple[int, int]:
    """How many partitions a topic has, and the error of one that has none for this client."""
    try:
        services.require_topic(context, Operation.READ, topic)
        return len(services.topics.named(topic).partitions), 0
    except KafkaError as error:
        return 0, error.code


def with_refused(later: Later, refused: Sequence[Answered]) -> Later:
    """The coordinator's answer with those added; without them where its whole request failed."""
    if not refused:
        return later
    whole = Later()

    def tell(response: Any) -> None:
        if not (isinstance(response, OffsetDeleteResponse) and response.error_code):
            by_name = {topic.name: topic for topic in response.topics}
            for topic in refused:
                if topic.name in by_name:
                    by_name[topic.name].partitions += topic.partitions
                else:
                    response.topics.append(topic)
        whole.answer(response)

    later.then(tell)
    return whole
