"""Who may commit, ask for and delete the offsets of a group of the consumer protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    IllegalGenerationError,
    NonEmptyGroupError,
    StaleMemberEpochError,
    UnsupportedVersionError,
)

if TYPE_CHECKING:
    from fastlog.protocol.messages.offset_commit import OffsetCommitRequest
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.topics import Topics

# from this version on a request can say a member's epoch
MEMBER_EPOCH_FROM = 9


def check_commit(group: ConsumerGroup, request: OffsetCommitRequest, version: int, topics: Topics) -> None:
    """Raises the KafkaError that the whole request is answered with."""
    epoch = request.generation_id_or_member_epoch
    if epoch < 0 and not group.members:
        return  # an administrator, or someone who shares partitions out by itself
    member = group.require(request.member_id)
    if not member.is_classic and version < MEMBER_EPOCH_FROM:
        raise UnsupportedVersionError(
            f"members of the consumer protocol commit with OffsetCommit {MEMBER_EPOCH_FROM} or above, not {version}"
        )
    if epoch == member.epoch:
        return
    if epoch > member.epoch or member.is_classic or not _had(member, epoch, request, topics):
        raise _other_epoch(member, epoch)


def _had(member: ConsumerMember, epoch: int, request: OffsetCommitRequest, topics: Topics) -> bool:
    """Whether the member has had all that it commits since the epoch that it names (KIP-1251)."""
    since = {**member.current.assigned, **member.current.revoking}
    for topic in request.topics:
        facts = topics.find(topic.name)
        if facts is None:
            return False
        for partition in topic.partitions:
            given = since.get((facts.topic_id, partition.partition_index), -1)
            if not 0 <= given <= epoch:
                return False
    return True


def check_fetch(group: ConsumerGroup, member_id: str | None, epoch: int) -> None:
    """Raises where someone asks as a member that it is not, or is no more."""
    if member_id is None and epoch < 0:
        return
    member = group.require(member_id or "")
    if epoch != member.epoch:
        raise _other_epoch(member, epoch)


def check_consumer_group_delete(group: ConsumerGroup) -> None:
    """Raises where the group may not be deleted now."""
    if group.members:
        raise NonEmptyGroupError(f"group {group.group_id} has members")


def _other_epoch(member: ConsumerMember, epoch: int) -> IllegalGenerationError | StaleMemberEpochError:
    error = IllegalGenerationError if member.is_classic else StaleMemberEpochError
    return error(f"member {member.member_id} is at epoch {member.epoch}, not {epoch}")
