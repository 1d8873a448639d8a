"""The groups of the consumer protocol of one coordinator, by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.group import ConsumerGroup
from fastlog.state.records import GroupEpoch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastlog.state.memory import Holding
    from fastlog.state.records import ConsumerGroupRecord


class ConsumerGroupTable:
    """What the log says; it changes only by `replay` and `remove`."""

    def __init__(self, holding: Holding) -> None:
        self._groups: dict[str, ConsumerGroup] = {}
        self._holding = holding

    def __iter__(self) -> Iterator[ConsumerGroup]:
        """All groups, in the order in which they came."""
        return iter(list(self._groups.values()))

    def __contains__(self, group_id: str) -> bool:
        """Whether there is a group of the id."""
        return group_id in self._groups

    def find(self, group_id: str) -> ConsumerGroup | None:
        """The group, if there is one."""
        return self._groups.get(group_id)

    def replay(self, record: ConsumerGroupRecord) -> None:
        """Takes in a record that is in the log; the one that has no group epoch any more is gone."""
        group = self._groups.get(record.group_id)
        if record.value is None and (group is None or isinstance(record, GroupEpoch)):
            self.remove(record.group_id)
            return
        if group is None:
            group = self._groups[record.group_id] = ConsumerGroup(record.group_id)
            self._holding.add(group.held_bytes)
        before = group.held_bytes
        group.apply(record)
        self._holding.add(group.held_bytes - before)

    def remove(self, group_id: str) -> None:
        """Takes a group out, if it is there."""
        group = self._groups.pop(group_id, None)
        if group is not None:
            self._holding.add(-group.held_bytes)
