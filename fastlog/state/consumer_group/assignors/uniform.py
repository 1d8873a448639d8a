"""Equal shares, and as few moves as they allow. Kafka's UniformAssignor."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.state.consumer_group.assignors.spec import Counts, Members, Targets
    from fastlog.state.records import Partition

# as Kafka's UniformHeterogeneousAssignmentBuilder: nearly always two or three are enough
ROUNDS_MAX = 16


def assign_uniform(members: Members, counts: Counts) -> Targets:
    """Shares that differ by one at most where all want the same, else as equal as what each wants allows."""
    if not members:
        return {}
    wanted = {spec.topic_ids for spec in members.values()}
    return _assign_same(members, counts) if len(wanted) == 1 else _Differing(members, counts).assign()


def _partitions(topic_ids: Sequence[bytes], counts: Counts) -> list[Partition]:
    return [(topic_id, number) for topic_id in topic_ids for number in range(counts.get(topic_id, 0))]


def _assign_same(members: Members, counts: Counts) -> Targets:
    wanted = next(iter(members.values())).topic_ids
    every = _partitions(sorted(wanted), counts)
    low, extra = divmod(len(every), len(members))
    there = set(every)
    mine = {member_id: sorted(spec.assigned & there) for member_id, spec in members.items()}
    # who has one more already keeps it before others get one
    richest = sorted(members, key=lambda member_id: len(mine[member_id]) <= low)
    quotas = {member_id: low + (index < extra) for index, member_id in enumerate(richest)}
    kept = {member_id: partitions[: quotas[member_id]] for member_id, partitions in mine.items()}
    taken = {partition for partitions in kept.values() for partition in partitions}
    rest = deque(partition for partition in every if partition not in taken)
    for member_id, partitions in kept.items():
        while len(partitions) < quotas[member_id]:
            partitions.append(rest.popleft())
    return {member_id: frozenset(partitions) for member_id, partitions in kept.items()}


class _Differing:
    """Members that want different topics: keep, deal out to whoever has least, then even out topic by topic."""

    def __init__(self, members: Members, counts: Counts) -> None:
        self._takers: dict[bytes, list[str]] = {topic_id: [] for topic_id in counts}
        for member_id, spec in members.items():
            for topic_id in sorted(spec.topic_ids & counts.keys()):
                self._takers[topic_id].append(member_id)
        # topics that few want come first: there is less to choose from
        order = sorted(counts, key=lambda topic_id: (len(self._takers[topic_id]), topic_id))
        self._topics = [topic_id for topic_id in order if self._takers[topic_id]]
        self._every = _partitions(self._topics, counts)
        self._has: dict[str, dict[bytes, list[int]]] = {member_id: {} for member_id in members}
        self._size = dict.fromkeys(members, 0)
        self._keep(members, counts)

    def _keep(self, members: Members, counts: Counts) -> None:
        self._taken: set[Partition] = set()
        for member_id, spec in members.items():
            for topic_id, number in sorted(spec.assigned):
                if topic_id in spec.topic_ids and number < counts.get(topic_id, 0):
                    self._give(member_id, topic_id, number)

    def _give(self, member_id: str, topic_id: bytes, number: int) -> None:
        self._has[member_id].setdefault(topic_id, []).append(number)
        self._size[member_id] += 1
        self._taken.add((topic_id, number))

    def assign(self) -> Targets:
        for topic_id, number in self._every:
            if (topic_id, number) not in self._taken:
                least = min(self._takers[topic_id], key=self._size.__getitem__)
                self._give(least, topic_id, number)
        for _ in range(ROUNDS_MAX):
            has_moved = [self._even_out(topic_id) for topic_id in self._topics]
            if not any(has_moved):
                break
        return {
            member_id: frozenset((topic_id, number) for topic_id, row in has.items() for number in row)
            for member_id, has in self._has.items()
        }

    def _even_out(self, topic_id: bytes) -> bool:
        """Moves partitions of a topic from who has most to who has least; whether there was one to move."""
        takers, size = self._takers[topic_id], self._size
        has_moved = False
        while True:
            owners = [member_id for member_id in takers if self._has[member_id].get(topic_id)]
            if not owners:
                return has_moved
            most, least = max(owners, key=size.__getitem__), min(takers, key=size.__getitem__)
            if size[most] - size[least] <= 1:
                return has_moved
            number = self._has[most][topic_id].pop()
            size[most] -= 1
            self._give(least, topic_id, number)
            has_moved = True
