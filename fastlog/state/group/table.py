"""The groups of one coordinator, by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import UnknownMemberIdError
from fastlog.state.group.group import Group

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog.state.memory import Holding


class GroupTable:
    """Groups by id; one that is nothing yet, not even a record, is not kept."""

    def __init__(self, holding: Holding) -> None:
        self._groups: dict[str, Group] = {}
        self._holding = holding

    def __iter__(self) -> Iterator[Group]:
        """All groups, in the order in which they came."""
        return iter(list(self._groups.values()))

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._groups)

    def find(self, group_id: str) -> Group | None:
        """The group, if there is one."""
        return self._groups.get(group_id)

    def of_member(self, group_id: str) -> Group:
        """The group that someone says to be a member of; UNKNOWN_MEMBER_ID where there is none."""
        group = self._groups.get(group_id)
        if group is None:
            raise UnknownMemberIdError(f"there is no group {group_id!r}, so it has no members")
        return group

    def find_or_make(self, group_id: str) -> Group:
        """The group, made if there is none."""
        group = self._groups.get(group_id)
        if group is None:
            group = Group(group_id, self._holding)
            self.put(group)
        return group

    def put(self, group: Group) -> None:
        """Puts a group in, in the place of the one of its id."""
        self.remove(group.group_id)
        self._groups[group.group_id] = group
        # its members were counted when they were added
        self._holding.add(group.own_bytes())

    def remove(self, group_id: str) -> None:
        """Takes a group out, if it is there."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            self._holding.add(-group.held_bytes())

    def drop_if_void(self, group: Group) -> None:
        """Forgets a group that came to nothing: a refused join makes no group."""
        if not (group.members or group.pending_joins or group.is_stored):
            self.remove(group.group_id)
