"""The assignors that leave partitions where they are as far as balance allows: sticky and cooperative-sticky."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastlog.state.assignors.constrained import assign_equal
from fastlog.state.assignors.consumer_protocol import (
    NO_GENERATION,
    decode_generation,
    decode_owned,
    encode_generation,
    encode_owned,
)
from fastlog.state.assignors.general import assign_differing
from fastlog.state.assignors.order import members_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastlog.state.assignors.assignor import Assignment, Counts, Subscriptions
    from fastlog.state.assignors.consumer_protocol import Subscription
    from fastlog.state.assignors.order import Partition


@dataclass(slots=True)
class Claims:
    """What the members say that they had.

    `owned` has every partition once: in a conflict the member of the newest generation keeps it, and among members of
    one generation nobody does; `contested` has those.
    """

    owned: dict[str, list[Partition]] = field(default_factory=dict)
    contested: set[Partition] = field(default_factory=set)
    #: what members told, with the generation that they told
    told: dict[str, tuple[list[Partition], int | None]] = field(default_factory=dict)
    _owner: dict[Partition, str] = field(default_factory=dict)

    def add(self, member: str, counts: Counts, subscriptions: Subscriptions) -> None:
        """Takes one member's claims in."""
        partitions, generation = self.told[member]
        mine = self.owned[member] = []
        for partition in partitions:
            if partition[1] >= counts.get(partition[0], 0):
                continue
            other = self._owner.get(partition)
            if other is None:
                mine.append(partition)
                self._owner[partition] = member
                continue
            told = NO_GENERATION if generation is None else generation
            others = subscriptions[other].generation_id
            if told < others:
                continue
            if partition in self.owned[other]:
                self.owned[other].remove(partition)
            self._owner[partition] = member
            if told > others:
                mine.append(partition)
            else:
                self.contested.add(partition)


class StickyAssignor:
    """As balanced as can be, then as close to the last assignment as can be. Kafka's StickyAssignor."""

    name = "sticky"
    cooperative = False

    def user_data(self, owned: Sequence[Partition], generation: int) -> bytes | None:
        """See Assignor: members of an eager group have given all up when they join, so they tell it here."""
        return None if generation == NO_GENERATION else encode_owned(owned, generation)

    def assign(self, counts: Counts, subscriptions: Subscriptions) -> Assignment:
        """See Assignor."""
        assignment, _ = sticky_assignment(
            counts, subscriptions, {m: decode_owned(s.user_data) for m, s in subscriptions.items()}
        )
        return assignment


class CooperativeStickyAssignor:
    """Sticky, for members that keep their partitions while they join. Kafka's CooperativeStickyAssignor.

    A partition that has to move goes to nobody at first: its owner gives it up and joins again.
    """

    name = "cooperative-sticky"
    cooperative = True

    def user_data(self, owned: Sequence[Partition], generation: int) -> bytes | None:
        """See Assignor."""
        return encode_generation(generation)

    def assign(self, counts: Counts, subscriptions: Subscriptions) -> Assignment:
        """See Assignor."""
        told = {member: told_by(subscription) for member, subscription in subscriptions.items()}
        assignment, moving = sticky_assignment(counts, subscriptions, told)
        if moving is None:
            moving = moving_partitions(subscriptions, assignment)
        for partition, member in moving.items():
            assignment[member].remove(partition)
        return assignment


def told_by(subscription: Subscription) -> tuple[list[Partition], int | None]:
    """What a cooperative member owns, and the generation that it tells."""
    generation: int | None = subscription.generation_id
    if generation is None or generation < 0:
        generation = decode_generation(subscription.user_data)
    return list(subscription.owned_partitions), generation


def sticky_assignment(
    counts: Counts, subscriptions: Subscriptions, told: dict[str, tuple[list[Partition], int | None]]
) -> tuple[Assignment, dict[Partition, str] | None]:
    """The assignment, and the partitions that it takes from one member for another; None: not known."""
    wanted = {frozenset(subscription.topics) for subscription in subscriptions.values()}
    known = {topic: count for topic, count in counts.items() if any(topic in topics for topics in wanted)}
    claims = Claims(told=told)
    members = members_in_order(subscriptions)
    for member in members:
        claims.add(member, known, subscriptions)
    if len(wanted) == 1:
        return assign_equal(known, claims.owned, claims.contested)
    return assign_differing(known, subscriptions, claims.owned, previous_owners(members, told)), None


def previous_owners(
    members: Iterable[str], told: dict[str, tuple[list[Partition], int | None]]
) -> dict[Partition, str]:
    """Who had partitions in a generation before the newest: they may go back there when they have to move."""
    newest = max(
        (NO_GENERATION if generation is None else generation for _, generation in told.values()),
        default=NO_GENERATION,
    )
    previous: dict[Partition, tuple[str, int]] = {}
    for member in members:
        partitions, generation = told[member]
        told_generation = NO_GENERATION if generation is None else generation
        if told_generation >= newest:
            continue
        for partition in partitions:
            if partition not in previous or told_generation > previous[partition][1]:
                previous[partition] = (member, told_generation)
    return {partition: member for partition, (member, _) in previous.items()}


def moving_partitions(subscriptions: Subscriptions, assignment: Assignment) -> dict[Partition, str]:
    """Partitions given to a member while another still owns them, with who would get them."""
    added: dict[Partition, str] = {}
    revoked: set[Partition] = set()
    for member, partitions in assignment.items():
        owned = set(subscriptions[member].owned_partitions)
        added.update((partition, member) for partition in partitions if partition not in owned)
        revoked |= owned.difference(partitions)
    return {partition: member for partition, member in added.items() if partition in revoked}
