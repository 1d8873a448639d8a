"""What the leader of a group does for all: it assigns, and watches the topics that it assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastlog.state.assignors import Subscription, decode_subscription, encode_assignment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.state.assignors import Assignor

UNKNOWN = -1


class Leadership:
    """The members' subscriptions while they are assigned, and the numbers of partitions that this was made of."""

    def __init__(self) -> None:
        """Leads nobody; knows no topic."""
        self._subscriptions: dict[str, Subscription] = {}
        self._counts: dict[str, int] = {}
        self._assigned: dict[str, int] | None = None

    def begin(self, members: list[Any]) -> frozenset[str]:
        """Takes the members of a JoinGroup answer; the topics that they want. Raises MalformedMessageError."""
        self._subscriptions = {
            member.member_id: decode_subscription(member.metadata, member.group_instance_id)
            for member in members
        }
        return frozenset(topic for one in self._subscriptions.values() for topic in one.topics)

    def keep(self, topics: frozenset[str]) -> None:
        """The assignment stays as it is, and from now on this leader watches its topics."""
        self._assigned = {topic: self._counts.get(topic, UNKNOWN) for topic in topics}

    def resign(self) -> None:
        """Leads no longer."""
        self._assigned = None

    def note(self, counts: Mapping[str, int]) -> bool:
        """Topics have so many partitions, 0 for one that is not there. Whether the assignment is out of date."""
        self._counts.update(counts)
        assigned = self._assigned
        if assigned is None:
            return False
        assigned.update({topic: counts[topic] for topic in counts if assigned.get(topic) == UNKNOWN})
        return any(self._counts.get(topic, count) != count for topic, count in assigned.items())

    def assign(self, assignor: Assignor) -> dict[str, bytes] | None:
        """Each member's assignment; None as long as the partitions of a topic are not known."""
        wanted = {topic for one in self._subscriptions.values() for topic in one.topics}
        if not wanted <= self._counts.keys():
            return None
        self._assigned = {topic: self._counts[topic] for topic in sorted(wanted)}
        there = {topic: count for topic, count in self._assigned.items() if count}
        assignment = assignor.assign(there, self._subscriptions)
        self._subscriptions = {}
        return {member: encode_assignment(given) for member, given in assignment.items()}
