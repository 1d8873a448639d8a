"""What is remembered of topics between calls; every transaction that relies on it checks it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.ports import PartitionKey, PartitionState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

Assignment = tuple[int, tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def assignment(state: PartitionState) -> Assignment:
    """The version, and the part of a state that lies in the topic's znode instead of the partition's."""
    return state.version, state.replicas, state.adding, state.removing


class KnownTopics:
    """Names by id, which never change, and assignments.

    An assignment changes only together with the version of its partition: what was read at one version holds for a
    write at that version, or the write is refused.
    """

    def __init__(self) -> None:
        self.names: dict[UUID, str] = {}
        self.assignments: dict[PartitionKey, Assignment] = {}

    def note(self, name: str, topic_id: UUID, states: Iterable[tuple[int, PartitionState]]) -> None:
        """A topic was read."""
        self.names[topic_id] = name
        for index, state in states:
            self.assignments[PartitionKey(topic_id, index)] = assignment(state)

    def forget(self, topic_id: UUID, count: int) -> None:
        """A topic was deleted."""
        self.names.pop(topic_id, None)
        for index in range(count):
            self.assignments.pop(PartitionKey(topic_id, index), None)
