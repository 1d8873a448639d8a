"""Sticky assignment where all members want the same topics. Kafka's ConstrainedAssignmentBuilder."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from fastlog.state.assignors.order import partitions_of

if TYPE_CHECKING:
    from fastlog.state.assignors.assignor import Assignment, Counts
    from fastlog.state.assignors.order import Partition


def assign_equal(
    counts: Counts, owned: dict[str, list[Partition]], contested: set[Partition]
) -> tuple[Assignment, dict[Partition, str]]:
    """The assignment, and the partitions that it moves from one member to another (or from several claimants).

    `owned` has every member, in the order in which they are looked at.
    """
    builder = EqualAssignment(counts, owned, contested)
    builder.keep_owned(owned)
    builder.fill()
    return builder.assignment, builder.moving


class EqualAssignment:
    """Every member gets `low` partitions, and `extra` of them one more."""

    def __init__(self, counts: Counts, owned: dict[str, list[Partition]], contested: set[Partition]) -> None:
        self.assignment: Assignment = {member: [] for member in owned}
        self.moving: dict[Partition, str] = {}
        self._contested = contested
        self._all = [
            partition for topic in sorted(counts) for partition in partitions_of(topic, counts[topic])
        ]
        self._low, self._extra = divmod(len(self._all), len(owned))
        self._high = self._low + bool(self._extra)
        #: members with more than `low` so far
        self._full = 0
        #: members below `low`, and members at `low` that may get one more
        self._hungry: list[str] = []
        self._at_low: list[str] = []
        self._given_up: dict[Partition, str] = {}

    def keep_owned(self, owned: dict[str, list[Partition]]) -> None:
        """Leaves members what they have, up to their share."""
        for member, partitions in owned.items():
            mine = sorted((p for p in partitions if p not in self._contested), key=lambda p: (p[1], p[0]))
            self._keep(member, mine)

    def _keep(self, member: str, mine: list[Partition]) -> None:
        kept = len(mine)
        if kept < self._low:
            self._hungry.append(member)
        elif kept >= self._high and self._full < self._extra:
            kept = self._high
            self._full += 1
            if self._full == self._extra:
                self._at_low.clear()
        else:
            kept = self._low
            if self._full < self._extra:
                self._at_low.append(member)
        self.assignment[member] += mine[:kept]
        self._given_up.update(dict.fromkeys(mine[kept:], member))

    def fill(self) -> None:
        """Deals out the rest: round after round to those below their share, then one more each to some."""
        taken = {partition for partitions in self.assignment.values() for partition in partitions}
        hungry = deque(sorted(self._hungry))
        at_low = deque(sorted(self._at_low))
        for partition in self._all:
            if partition in taken:
                continue
            member = hungry.popleft() if hungry else at_low.popleft()
            self._give(partition, member)
            count = len(self.assignment[member])
            if count < self._low:
                hungry.append(member)
            elif count == self._low:
                at_low.append(member)

    def _give(self, partition: Partition, member: str) -> None:
        self.assignment[member].append(partition)
        if self._given_up.get(partition, member) != member or partition in self._contested:
            self.moving[partition] = member
