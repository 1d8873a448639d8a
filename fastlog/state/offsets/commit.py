"""OffsetCommit: who may commit what, and the records of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    IllegalGenerationError,
    OffsetMetadataTooLargeError,
    PolicyViolationError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from fastlog.protocol.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitResponse,
    OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
)
from fastlog.state.group.group import Group, GroupState
from fastlog.state.records import CommittedOffset, OffsetCommit, Record

if TYPE_CHECKING:
    from fastlog.state.memory import Memory
    from fastlog.state.moment import Moment
    from fastlog.state.offsets.table import OffsetTable

# before this version a group that is not there was an illegal generation
NOT_FOUND_FROM = 9
NO_RETENTION = -1


def check_commit(group: Group | None, request: OffsetCommitRequest, version: int) -> None:
    """Raises the KafkaError that the whole request is answered with."""
    generation = request.generation_id_or_member_epoch
    if group is None:
        if generation < 0:
            return  # someone who shares partitions out by itself, or an administrator
        if version >= NOT_FOUND_FROM:
            raise GroupIdNotFoundError(f"there is no group {request.group_id!r}")
        raise IllegalGenerationError(f"there is no group {request.group_id!r}")
    if generation < 0 and group.state is GroupState.EMPTY:
        return
    if generation >= 0 or request.member_id or request.group_instance_id is not None:
        group.check_member(request.member_id, request.group_instance_id)
        if generation != group.generation:
            raise IllegalGenerationError(f"group {group.group_id} is at generation {group.generation}")
    elif group.state is not GroupState.EMPTY:
        raise UnknownMemberIdError(f"group {group.group_id} has members: only they commit")
    if group.state is GroupState.COMPLETING_REBALANCE:
        raise RebalanceInProgressError(f"group {group.group_id} rebalances")


def check_memory(
    memory: Memory, table: OffsetTable, group: object | None, request: OffsetCommitRequest
) -> None:
    """Raises where the commit would hold more memory than it may; one that only moves positions never does."""
    if group is None:
        if memory.is_full:
            memory.refusals += 1
            raise PolicyViolationError("groups hold all the memory that they may: no new group commits")
    elif memory.is_over and _grows(table, request):
        memory.refusals += 1
        raise CoordinatorNotAvailableError("groups hold more memory than they may: no more offsets")


def _grows(table: OffsetTable, request: OffsetCommitRequest) -> bool:
    committed = table.of_group(request.group_id)
    for topic in request.topics:
        partitions = committed.get(topic.name, {})
        for it in topic.partitions:
            before = partitions.get(it.partition_index)
            if before is None or len(it.committed_metadata or "") > len(before.metadata):
                return True
    return False


def records_of(
    request: OffsetCommitRequest, metadata_bytes_max: int, now: Moment
) -> tuple[list[Record], OffsetCommitResponse]:
    """The records of a commit that is allowed, and its answer; oversized metadata fail for their partition alone."""
    records: list[Record] = []
    response = OffsetCommitResponse()
    retention = request.retention_time_ms
    expire_ms = -1 if retention == NO_RETENTION else now.wall_ms + retention
    for topic in request.topics:
        answered = OffsetCommitResponseTopic(name=topic.name)
        response.topics.append(answered)
        for partition in topic.partitions:
            is_taken = _length(partition.committed_metadata) <= metadata_bytes_max
            code = 0 if is_taken else OffsetMetadataTooLargeError.code
            answered.partitions.append(OffsetCommitResponsePartition(partition.partition_index, code))
            if is_taken:
                value = _value(partition, now, expire_ms)
                records.append(OffsetCommit(request.group_id, topic.name, partition.partition_index, value))
    return records, response


def _value(partition: OffsetCommitRequestPartition, now: Moment, expire_ms: int) -> CommittedOffset:
    return CommittedOffset(
        offset=partition.committed_offset,
        leader_epoch=partition.committed_leader_epoch,
        metadata=partition.committed_metadata or "",
        commit_ms=now.wall_ms,
        expire_ms=expire_ms,
    )


def _length(metadata: str | None) -> int:
    """As Kafka measures: in UTF-16 units."""
    if not metadata:
        return 0
    return len(metadata) if metadata.isascii() else len(metadata.encode("utf-16-le")) // 2


def refuse_commit(request: OffsetCommitRequest, code: int) -> OffsetCommitResponse:
    """The answer in which every partition failed."""
    return OffsetCommitResponse(
        topics=[
            OffsetCommitResponseTopic(
                name=topic.name,
                topic_id=topic.topic_id,
                partitions=[
                    OffsetCommitResponsePartition(partition.partition_index, code)
                    for partition in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
