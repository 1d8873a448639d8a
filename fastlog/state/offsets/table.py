"""Committed offsets by group, topic and partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.memory import OFFSET_BYTES, TOPIC_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastlog.state.memory import Holding
    from fastlog.state.records import CommittedOffset, OffsetCommit

Partitions = dict[int, "CommittedOffset"]

_NOTHING: Mapping[str, Partitions] = {}


class OffsetTable:
    """What the log says; it changes only by `replay`."""

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._groups: dict[str, dict[str, Partitions]] = {}

    def __iter__(self) -> Iterator[str]:
        """The groups that have offsets."""
        return iter(list(self._groups))

    def replay(self, record: OffsetCommit) -> None:
        """Takes in a record that is in the log."""
        if record.value is not None:
            self._put(record, record.value)
            return
        topics = self._groups.get(record.group_id, {})
        partitions = topics.get(record.topic, {})
        value = partitions.pop(record.partition, None)
        if value is not None:
            self._holding.add(-_weight(value))
        if not partitions and topics.pop(record.topic, None) is not None:
            self._holding.add(-_topic_weight(record.topic))
        if not topics:
            self._groups.pop(record.group_id, None)

    def _put(self, record: OffsetCommit, value: CommittedOffset) -> None:
        topics = self._groups.setdefault(record.group_id, {})
        partitions = topics.get(record.topic)
        if partitions is None:
            partitions = topics[record.topic] = {}
            self._holding.add(_topic_weight(record.topic))
        before = partitions.get(record.partition)
        partitions[record.partition] = value
        if before is None:
            self._holding.add(_weight(value))
        elif before.metadata or value.metadata:
            self._holding.add(len(value.metadata) - len(before.metadata))

    def of_group(self, group_id: str) -> Mapping[str, Partitions]:
        """The group's offsets by topic and partition; not to be changed."""
        return self._groups.get(group_id, _NOTHING)

    def find(self, group_id: str, topic: str, partition: int) -> CommittedOffset | None:
        """One partition's offset, if it has one."""
        return self.of_group(group_id).get(topic, {}).get(partition)


def _weight(value: CommittedOffset) -> int:
    return OFFSET_BYTES + len(value.metadata)


def _topic_weight(topic: str) -> int:
    return TOPIC_BYTES + len(topic)
