"""A group as its record says it, and the record as the group says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.group.group import Group, GroupState
from fastlog.state.group.member import Member
from fastlog.state.records import GroupMetadata, GroupValue, MemberValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.state.memory import Holding


def record_of(group: Group, assignments: Mapping[str, bytes]) -> GroupMetadata:
    """The record of the group's generation with these assignments, by member id; no member's is missing."""
    members = tuple(
        MemberValue(
            member_id=member.member_id,
            instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            rebalance_timeout_ms=member.rebalance_timeout_ms,
            session_timeout_ms=member.session_timeout_ms,
            subscription=member.metadata(group.protocol),
            assignment=assignments[member.member_id],
        )
        for member in group.members.values()
    )
    return GroupMetadata(
        group.group_id,
        GroupValue(
            protocol_type=group.protocol_type or "",
            generation=group.generation,
            protocol=group.protocol,
            leader=group.leader,
            since_ms=group.since_ms,
            members=members,
        ),
    )


def group_of(group_id: str, value: GroupValue, holding: Holding) -> Group:
    """The group that a record describes: stable with members, else empty."""
    group = Group(group_id, holding)
    group.generation = value.generation
    group.protocol_type = value.protocol_type or None
    group.protocol = value.protocol
    group.since_ms = value.since_ms
    group.leader = value.leader
    group.is_stored = True
    for stored in value.members:
        member = Member(
            stored.member_id,
            instance_id=stored.instance_id,
            client_id=stored.client_id,
            client_host=stored.client_host,
            rebalance_timeout_ms=stored.rebalance_timeout_ms,
            session_timeout_ms=stored.session_timeout_ms,
            # the other protocols that it spoke are not written down, as in Kafka: it tells them when it joins again
            protocols=((value.protocol or "", stored.subscription),),
            assignment=stored.assignment,
        )
        group.add(member, value.protocol_type)
    if group.members:
        group.state = GroupState.STABLE
    group.read_subscriptions()
    return group
