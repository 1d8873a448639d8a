"""Committed offsets by group, topic and partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastlog.state.records import CommittedOffset, OffsetCommit

Partitions = dict[int, "CommittedOffset"]

_NOTHING: Mapping[str, Partitions] = {}


class OffsetTable:
    """What the log says; it changes only by `replay`."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Partitions]] = {}

    def __iter__(self) -> Iterator[str]:
        """The groups that have offsets."""
        return iter(list(self._groups))

    def replay(self, record: OffsetCommit) -> None:
        """Takes in a record that is in the log."""
        if record.value is not None:
            topics = self._groups.setdefault(record.group_id, {})
            topics.setdefault(record.topic, {})[record.partition] = record.value
            return
        topics = self._groups.get(record.group_id, {})
        partitions = topics.get(record.topic, {})
        partitions.pop(record.partition, None)
        if not partitions:
            topics.pop(record.topic, None)
        if not topics:
            self._groups.pop(record.group_id, None)

    def of_group(self, group_id: str) -> Mapping[str, Partitions]:
        """The group's offsets by topic and partition; not to be changed."""
        return self._groups.get(group_id, _NOTHING)

    def find(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """One partition's offset, if it has one."""
        return self.of_group(group_id).get(topic, {}).get(partition)
