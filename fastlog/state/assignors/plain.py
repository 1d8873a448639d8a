"""The assignors that look at topics and members alone: range and roundrobin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.assignors.order import partitions_of, static_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastlog.state.assignors.assignor import Assignment, Counts, Subscriptions
    from fastlog.state.assignors.order import Partition


class RangeAssignor:
    """Each topic by itself: a run of neighbouring partitions to each member, the first ones get one more.

    Topics with as many partitions and the same members are divided alike. Kafka's RangeAssignor.
    """

    name = "range"
    cooperative = False

    def user_data(self, owned: Sequence[Partition], generation: int) -> bytes | None:
        """See Assignor: it remembers nothing."""
        return None

    def assign(self, counts: Counts, subscriptions: Subscriptions) -> Assignment:
        """See Assignor."""
        assignment: Assignment = {member: [] for member in subscriptions}
        for topic, takers in sorted(takers_of(subscriptions).items()):
            if topic not in counts:
                continue
            share, extra = divmod(counts[topic], len(takers))
            start = 0
            for index, member in enumerate(takers):
                end = start + share + (index < extra)
                assignment[member] += partitions_of(topic, counts[topic])[start:end]
                start = end
        return assignment


class RoundRobinAssignor:
    """All partitions in order, one to each subscribed member in turn. Kafka's RoundRobinAssignor."""

    name = "roundrobin"
    cooperative = False

    def user_data(self, owned: Sequence[Partition], generation: int) -> bytes | None:
        """See Assignor: it remembers nothing."""
        return None

    def assign(self, counts: Counts, subscriptions: Subscriptions) -> Assignment:
        """See Assignor."""
        assignment: Assignment = {member: [] for member in subscriptions}
        members = [member for member, _ in sorted(subscriptions.items(), key=static_first)]
        takers = takers_of(subscriptions)
        turn = 0
        for topic in sorted(takers.keys() & counts.keys()):
            wanting = set(takers[topic])
            for partition in partitions_of(topic, counts[topic]):
                while members[turn] not in wanting:
                    turn = (turn + 1) % len(members)
                assignment[members[turn]].append(partition)
                turn = (turn + 1) % len(members)
        return assignment


def takers_of(subscriptions: Subscriptions) -> dict[str, list[str]]:
    """The members that each topic may go to, static ones first."""
    takers: dict[str, list[str]] = {}
    for member, subscription in sorted(subscriptions.items(), key=static_first):
        for topic in dict.fromkeys(subscription.topics):
            takers.setdefault(topic, []).append(member)
    return takers
