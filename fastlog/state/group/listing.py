"""DescribeGroups and ListGroups: what is told of groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import GroupIdNotFoundError
from fastlog.protocol.messages.describe_groups import DescribedGroup, DescribedGroupMember
from fastlog.protocol.messages.list_groups import ListedGroup
from fastlog.state.group.group import Group, GroupState

if TYPE_CHECKING:
    from collections.abc import Iterable

CLASSIC = "classic"
# from this version a group that is not there is an error; before it is "Dead" (KIP-1043)
NOT_FOUND_FROM = 6


def describe(
    group: Group | None, group_id: str, version: int, *, is_consumer: bool = False
) -> DescribedGroup:
    """The group with its members; what they said and got only while it is stable.

    One that speaks the consumer protocol, `is_consumer`, is not found here: it has a request of its own.
    """
    if group is None:
        missing = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
        if version >= NOT_FOUND_FROM:
            missing.error_code = GroupIdNotFoundError.code
            missing.error_message = (
                f"Group {group_id} is not a classic group." if is_consumer else f"Group {group_id} not found."
            )
        return missing
    is_stable = group.state is GroupState.STABLE
    return DescribedGroup(
        group_id=group_id,
        group_state=group.state.value,
        protocol_type=group.protocol_type or "",
        protocol_data=(group.protocol or "") if is_stable else "",
        members=[
            DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata(group.protocol) if is_stable else b"",
                member_assignment=member.assignment,
            )
            for member in group.members.values()
        ],
    )


def list_groups(groups: Iterable[Group], states: Iterable[str], types: Iterable[str]) -> list[ListedGroup]:
    """The groups in one of the states and of one of the types, without regard to case; no names are all."""
    wanted_states = {state.strip().lower() for state in states}
    wanted_types = {kind.strip().lower() for kind in types}
    if wanted_types and CLASSIC not in wanted_types:
        return []
    return [
        ListedGroup(
            group_id=group.group_id,
            protocol_type=group.protocol_type or "",
            group_state=group.state.value,
            group_type=CLASSIC,
        )
        for group in groups
        if not wanted_states or group.state.value.lower() in wanted_states
    ]
