"""OffsetDelete, the end of a group's offsets, and of those of topics that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import GroupIdNotFoundError, GroupSubscribedToTopicError, NonEmptyGroupError
from fastlog.protocol.messages.offset_delete import (
    OffsetDeleteRequest,
    OffsetDeleteResponse,
    OffsetDeleteResponsePartition,
    OffsetDeleteResponseTopic,
)
from fastlog.state.group.group import CONSUMER, Group, GroupState
from fastlog.state.records import OffsetCommit, Record

if TYPE_CHECKING:
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.offsets.table import OffsetTable


def check_offset_delete(group: Group | None, group_id: str) -> Group:
    """The group; raises where its offsets may not be deleted now."""
    if group is None:
        raise GroupIdNotFoundError(f"there is no group {group_id!r}")
    if group.state is not GroupState.EMPTY and group.protocol_type != CONSUMER:
        raise NonEmptyGroupError(f"group {group_id} has members, and what they read cannot be told")
    return group


def check_group_delete(group: Group | None, group_id: str) -> Group:
    """The group; raises where it may not be deleted now."""
    if group is None:
        raise GroupIdNotFoundError(f"there is no group {group_id!r}")
    if group.state is not GroupState.EMPTY:
        raise NonEmptyGroupError(f"group {group_id} has members")
    return group


def delete_offsets(
    table: OffsetTable, group: Group | ConsumerGroup, request: OffsetDeleteRequest
) -> tuple[list[Record], OffsetDeleteResponse]:
    """The tombstones, and the answer: what a member reads stays."""
    records: list[Record] = []
    response = OffsetDeleteResponse()
    for topic in request.topics:
        code = GroupSubscribedToTopicError.code if group.subscribes_to(topic.name) else 0
        indexes = [partition.partition_index for partition in topic.partitions]
        response.topics.append(
            OffsetDeleteResponseTopic(topic.name, [OffsetDeleteResponsePartition(it, code) for it in indexes])
        )
        if not code:
            records += [
                OffsetCommit(group.group_id, topic.name, index, None)
                for index in indexes
                if table.find(group.group_id, topic.name, index) is not None
            ]
    return records, response


def forget_group(table: OffsetTable, group_id: str) -> list[Record]:
    """The tombstones of all offsets of a group."""
    return [
        OffsetCommit(group_id, topic, partition, None)
        for topic, partitions in table.of_group(group_id).items()
        for partition in partitions
    ]


def forget_topic(table: OffsetTable, topic: str) -> list[list[Record]]:
    """The tombstones of all offsets of a topic, by group: a namesake made later is another topic."""
    found: list[list[Record]] = []
    for group_id in table:
        partitions = table.of_group(group_id).get(topic)
        if partitions:
            found.append([OffsetCommit(group_id, topic, partition, None) for partition in partitions])
    return found
