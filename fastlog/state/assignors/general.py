"""Sticky assignment where members want different topics. Kafka's GeneralAssignmentBuilder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sortedcontainers import SortedKeyList

from fastlog.state.assignors.movements import Movements
from fastlog.state.assignors.order import partitions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.state.assignors.assignor import Assignment, Counts, Subscriptions
    from fastlog.state.assignors.order import Partition


def assign_differing(
    counts: Counts,
    subscriptions: Subscriptions,
    owned: dict[str, list[Partition]],
    previous: Mapping[Partition, str],
) -> Assignment:
    """The assignment; `owned` is what members have, `previous` who had partitions before that."""
    builder = DifferingAssignment(counts, subscriptions, owned, previous)
    builder.deal_out()
    builder.balance()
    return builder.assignment


class DifferingAssignment:
    """Members by how much they have, and the moves that make them more equal."""

    def __init__(
        self,
        counts: Counts,
        subscriptions: Subscriptions,
        owned: dict[str, list[Partition]],
        previous: Mapping[Partition, str],
    ) -> None:
        self._counts = counts
        self._previous = previous
        self._movements = Movements()
        self._topics = {
            member: {topic for topic in subscription.topics if topic in counts}
            for member, subscription in subscriptions.items()
        }
        self._takers: dict[str, list[str]] = {topic: [] for topic in counts}
        for member, topics in self._topics.items():
            for topic in topics:
                self._takers[topic].append(member)
        #: something has to be given up, since its owner does not want it any more
        self._revoking = any(
            p[0] not in self._topics[m] for m, partitions in owned.items() for p in partitions
        )
        self.assignment: Assignment = {
            member: [p for p in partitions if p[0] in self._topics[member]]
            for member, partitions in owned.items()
        }
        self._owner = {p: member for member, partitions in self.assignment.items() for p in partitions}
        # topics that few can take come first
        order = sorted(counts, key=lambda topic: (len(self._takers[topic]), topic))
        self._all = [partition for topic in order for partition in partitions_of(topic, counts[topic])]
        self._unassigned = [partition for partition in self._all if partition not in self._owner]
        self._was_empty = not any(self.assignment.values())
        self._sizes = {member: len(partitions) for member, partitions in self.assignment.items()}
        #: the members that can give or take, those with the least first
        self._by_size: SortedKeyList = SortedKeyList(
            self.assignment, key=lambda member: (self._sizes[member], member)
        )

    def deal_out(self) -> None:
        """Gives each partition without an owner to whoever has the least and may have it."""
        for partition in self._unassigned:
            if self._takers[partition[0]]:
                self._put(partition, self._smallest_taker(partition[0]))

    def balance(self) -> None:
        """Moves partitions as long as that makes the shares more equal, and takes it back if in the end it did not."""
        fixed = {topic for topic, takers in self._takers.items() if len(takers) < 2}
        movable = [partition for partition in self._all if partition[0] not in fixed]
        fresh = [partition for partition in self._unassigned if partition[0] not in fixed]
        for member in [m for m in self.assignment if not self._can_take_part(m, fixed)]:
            self._by_size.remove(member)
        before = {member: list(partitions) for member, partitions in self.assignment.items()}
        score = self._score()
        if not self._revoking:
            # what nobody has yet is the first to be moved
            self._reassign(fresh)
        moved = self._reassign(movable)
        if moved and not self._was_empty and self._score() >= score:
            self.assignment = before

    # --- moves ---

    def _reassign(self, partitions: list[Partition]) -> bool:
        """Goes over `partitions` until no move helps; whether there was one."""
        moved, modified = False, True
        while modified:
            modified = False
            for partition in partitions:
                if self._is_balanced():
                    break
                target = self._better_owner(partition)
                if target is not None:
                    self._move(partition, target)
                    moved = modified = True
        return moved

    def _better_owner(self, partition: Partition) -> str | None:
        limit = self._sizes[self._owner[partition]] - 1
        previous = self._previous.get(partition)
        topic = partition[0]
        if previous is not None and topic in self._topics[previous] and self._sizes[previous] < limit:
            return previous
        if any(self._sizes[member] < limit for member in self._takers[topic]):
            return self._smallest_taker(topic)
        return None

    def _move(self, partition: Partition, target: str) -> None:
        partition = self._movements.better(partition, self._owner[partition], target)
        source = self._owner[partition]
        self._movements.note(partition, source, target)
        self._resize(source, -1)
        self.assignment[source].remove(partition)
        self._put(partition, target)

    def _put(self, partition: Partition, member: str) -> None:
        self.assignment[member].append(partition)
        self._owner[partition] = member
        self._resize(member, 1)

    def _resize(self, member: str, change: int) -> None:
        self._by_size.discard(member)
        self._sizes[member] += change
        self._by_size.add(member)

    def _smallest_taker(self, topic: str) -> str:
        taker: str = next(member for member in self._by_size if topic in self._topics[member])
        return taker

    # --- what is balanced ---

    def _is_balanced(self) -> bool:
        if self._sizes[self._by_size[0]] >= self._sizes[self._by_size[-1]] - 1:
            return True
        for member in self._by_size:
            size = self._sizes[member]
            if size == self._most(member):
                continue
            for topic in self._topics[member]:
                owners = {self._owner[partition] for partition in partitions_of(topic, self._counts[topic])}
                if any(owner != member and size + 1 < self._sizes[owner] for owner in owners):
                    return False
        return True

    def _most(self, member: str) -> int:
        return sum(self._counts[topic] for topic in self._topics[member])

    def _can_take_part(self, member: str, fixed: set[str]) -> bool:
        if self._sizes[member] < self._most(member):
            return True
        return any(topic not in fixed for topic, _ in self.assignment[member])

    def _score(self) -> int:
        sizes = [self._sizes[member] for member in self._by_size]
        return sum(abs(a - b) for index, a in enumerate(sizes) for b in sizes[index + 1 :])
