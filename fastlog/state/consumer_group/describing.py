"""ConsumerGroupDescribe and ListGroups of groups of the consumer protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import GroupIdNotFoundError
from fastlog.protocol.messages.consumer_group_describe import (
    Assignment,
    DescribedGroup,
    Member,
    TopicPartitions,
)
from fastlog.protocol.messages.list_groups import ListedGroup
from fastlog.state.records.partitions import by_topic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.records import Partition
    from fastlog.state.topics import Topics

TYPE = "consumer"
CLASSIC_MEMBER, CONSUMER_MEMBER = 0, 1


def describe_consumer_group(
    group: ConsumerGroup, settings: ConsumerGroupSettings, topics: Topics
) -> DescribedGroup:
    """The group with its members; topics that are gone are left out."""
    named = [it.said.assignor for it in group.members.values() if it.said.assignor is not None]
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state.value,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=max(named, key=named.count, default=settings.assignors[0]),
        members=[_member(group, it, topics) for it in group.members.values()],
    )


def not_found(group_id: str, *, is_classic: bool) -> DescribedGroup:
    """The answer of a group that is not there, or is of the other protocol."""
    reason = f"Group {group_id} is not a consumer group." if is_classic else f"Group {group_id} not found."
    return DescribedGroup(group_id=group_id, error_code=GroupIdNotFoundError.code, error_message=reason)


def _member(group: ConsumerGroup, member: ConsumerMember, topics: Topics) -> Member:
    said = member.said
    return Member(
        member_id=member.member_id,
        instance_id=said.instance_id,
        rack_id=said.rack_id,
        member_epoch=member.epoch,
        client_id=said.client_id,
        client_host=said.client_host,
        subscribed_topic_names=list(said.topics),
        subscribed_topic_regex=said.regex,
        assignment=_assignment(member.current.assigned, topics),
        target_assignment=_assignment(group.target_of(member.member_id), topics),
        member_type=CLASSIC_MEMBER if member.is_classic else CONSUMER_MEMBER,
    )


def _assignment(partitions: Iterable[Partition], topics: Topics) -> Assignment:
    return Assignment(
        [
            TopicPartitions(topic_id, name, numbers)
            for topic_id, numbers in by_topic(partitions).items()
            if (name := topics.name_of(topic_id)) is not None
        ]
    )


def list_consumer_groups(
    groups: Iterable[ConsumerGroup], states: Iterable[str], types: Iterable[str]
) -> list[ListedGroup]:
    """The groups in one of the states and of one of the types, without regard to case; no names are all."""
    wanted_states = {state.strip().lower() for state in states}
    wanted_types = {kind.strip().lower() for kind in types}
    if wanted_types and TYPE not in wanted_types:
        return []
    return [
        ListedGroup(
            group_id=group.group_id, protocol_type=TYPE, group_state=group.state.value, group_type=TYPE
        )
        for group in groups
        if not wanted_states or group.state.value.lower() in wanted_states
    ]
