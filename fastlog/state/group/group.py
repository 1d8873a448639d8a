"""A classic group: its members, its generation and its state. Kafka's ClassicGroup."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from fastlog.errors import FencedInstanceIdError, UnknownMemberIdError
from fastlog.state.group.subscription import subscribed_topics
from fastlog.state.memory import GROUP_BYTES, PENDING_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fastlog.state.group.member import Member, Protocols
    from fastlog.state.memory import Holding

CONSUMER = "consumer"
"""The protocol type whose metadata are subscriptions, which the coordinator looks into."""


class GroupState(StrEnum):
    """Where a group is; the words are those that clients are told."""

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


_BEFORE = {
    GroupState.EMPTY: {GroupState.PREPARING_REBALANCE},
    GroupState.PREPARING_REBALANCE: {GroupState.STABLE, GroupState.COMPLETING_REBALANCE, GroupState.EMPTY},
    GroupState.COMPLETING_REBALANCE: {GroupState.PREPARING_REBALANCE},
    GroupState.STABLE: {GroupState.COMPLETING_REBALANCE},
}


class Group:
    """The state of one group. It answers nobody and sets no deadlines: that is for who changes it."""

    __slots__ = (
        "_holding",
        "_speakers",
        "generation",
        "group_id",
        "initial_delay_ms",
        "initial_remaining_ms",
        "is_stored",
        "leader",
        "members",
        "new_member_added",
        "pending_joins",
        "pending_syncs",
        "previous_state",
        "protocol",
        "protocol_type",
        "since_ms",
        "state",
        "static_members",
        "topics",
        "waiting_joins",
    )

    def __init__(self, group_id: str, holding: Holding) -> None:
        self.group_id = group_id
        self._holding = holding
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.DEAD
        self.since_ms = -1
        """Wall time since when it is in its state; -1 where that is not known."""
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol: str | None = None
        self.leader: str | None = None
        # members in the order in which they joined, which is the order of all that goes over them
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self.pending_joins: set[str] = set()
        self.pending_syncs: set[str] = set()
        self.waiting_joins = 0
        self.topics: frozenset[str] | None = None
        """What its members read; None where the coordinator cannot tell."""
        self.new_member_added = False
        self.initial_delay_ms = 0
        self.initial_remaining_ms = 0
        self.is_stored = False
        """Whether the log has a record of it."""
        self._speakers: Counter[str] = Counter()

    # --- questions ---

    @property
    def is_simple(self) -> bool:
        """Whether it only keeps offsets, and never had members."""
        return self.protocol_type is None and not self.members and not self.pending_joins

    @property
    def can_rebalance(self) -> bool:
        """Whether a rebalance may begin now."""
        return self.state in _BEFORE[GroupState.PREPARING_REBALANCE]

    @property
    def have_all_joined(self) -> bool:
        """Whether every member, and everyone who was given a member id, waits for the next generation."""
        return self.waiting_joins == len(self.members) and not self.pending_joins

    @property
    def rebalance_timeout_ms(self) -> int:
        """The longest of its members'."""
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def is_leader(self, member_id: str) -> bool:
        """Whether this member makes the assignment."""
        return self.leader == member_id

    def subscribes_to(self, topic: str) -> bool:
        """Whether a member may be reading `topic`: yes where the coordinator cannot tell."""
        if self.topics is None:
            return self.protocol_type == CONSUMER
        return topic in self.topics

    def check_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member; FENCED_INSTANCE_ID where another has its instance id by now, UNKNOWN_MEMBER_ID if it is none."""
        if instance_id is not None:
            owner = self.static_members.get(instance_id)
            if owner is not None and owner != member_id:
                raise FencedInstanceIdError(f"member {owner} has taken the instance id {instance_id}")
            if owner is None:
                raise UnknownMemberIdError(f"no member has the instance id {instance_id}")
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMemberIdError(f"group {self.group_id} has no member {member_id!r}")
        return member

    def supports(self, protocol_type: str, names: Iterable[str]) -> bool:
        """Whether someone with these protocols can be a member beside those that are there."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and any(True for _ in names)
        count = len(self.members)
        return protocol_type == self.protocol_type and any(self._speakers[name] == count for name in names)

    def select_protocol(self) -> str:
        """The protocol that all speak and most prefer; between equals the one that was preferred first."""
        count = len(self.members)
        candidates = {name for name, speakers in self._speakers.items() if speakers == count}
        votes = Counter(member.vote(candidates) for member in self.members.values())
        return votes.most_common(1)[0][0]

    # --- changes ---

    def add(self, member: Member, protocol_type: str) -> None:
        """Makes it a member; the first one decides the protocol type, and leads."""
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        if not self.members:
            self.protocol_type = protocol_type
        if self.leader is None:
            self.leader = member.member_id
        self.members[member.member_id] = member
        self._count(member, 1)
        self._weigh(member)
        self.waiting_joins += member.join_reply is not None
        self._end_pending(member.member_id)

    def add_pending(self, member_id: str) -> None:
        """Notes that someone was given this member id, and is to come back with it."""
        self.pending_joins.add(member_id)
        self._holding.add(PENDING_BYTES)

    def remove(self, member_id: str) -> None:
        """Ends a membership, pending ones too; another leads where it led."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._count(member, -1)
            self._holding.add(-member.held_bytes)
            self.waiting_joins -= member.join_reply is not None
            if member.instance_id is not None and self.static_members.get(member.instance_id) == member_id:
                del self.static_members[member.instance_id]
        if self.leader == member_id:
            self.leader = next(iter(self.members), None)
        self._end_pending(member_id)
        self.pending_syncs.discard(member_id)

    def rename_static(self, member_id: str, new_member_id: str) -> Member:
        """Gives a static member another member id, in its place; it keeps its assignment and, if so, the lead."""
        member = self.members[member_id]
        member.member_id = new_member_id
        # in the same place: the order of members decides elections and votes
        self.members = {new_member_id if key == member_id else key: it for key, it in self.members.items()}
        if member.instance_id is not None:
            self.static_members[member.instance_id] = new_member_id
        if self.leader == member_id:
            self.leader = new_member_id
        self.pending_syncs.discard(member_id)
        return member

    def update(
        self, member: Member, protocols: Protocols, *, rebalance_timeout_ms: int, session_timeout_ms: int
    ) -> None:
        """Takes over what a member says now."""
        self._count(member, -1)
        member.protocols = protocols
        self._count(member, 1)
        self._weigh(member)
        member.rebalance_timeout_ms = rebalance_timeout_ms
        member.session_timeout_ms = session_timeout_ms

    def assign(self, assignments: Mapping[str, bytes]) -> None:
        """Gives every member its assignment, an empty one where none is named."""
        for member in self.members.values():
            member.assignment = assignments.get(member.member_id, b"")
            self._weigh(member)

    def elect_leader(self) -> bool:
        """Makes sure that the leader is one who has joined; False where nobody has."""
        if self.leader is None:
            return False
        if self.members[self.leader].join_reply is None:
            joined = (key for key, member in self.members.items() if member.join_reply is not None)
            leader = next(joined, None)
            if leader is None:
                return False
            self.leader = leader
        return True

    def become(self, state: GroupState, wall_ms: int) -> None:
        """Moves on to `state`."""
        if self.state not in _BEFORE[state]:
            raise AssertionError(f"group {self.group_id} cannot go from {self.state} to {state}")
        self.previous_state, self.state, self.since_ms = self.state, state, wall_ms

    def begin_generation(self, wall_ms: int) -> None:
        """Ends the joining: the next generation waits for its assignment, or has nobody."""
        self.generation += 1
        self.protocol = self.select_protocol() if self.members else None
        self.read_subscriptions()
        self.become(GroupState.COMPLETING_REBALANCE if self.members else GroupState.EMPTY, wall_ms)
        self.pending_syncs.clear()

    def read_subscriptions(self) -> None:
        """Looks into the metadata of consumers for the topics that they read."""
        if self.protocol_type != CONSUMER:
            self.topics = None
        elif not self.members:
            self.topics = frozenset()
        elif self.protocol is not None:
            self.topics = subscribed_topics(
                member.metadata(self.protocol) for member in self.members.values()
            )

    def own_bytes(self) -> int:
        """What it holds in memory, about, without its members."""
        return GROUP_BYTES + 2 * len(self.group_id)

    def held_bytes(self) -> int:
        """As `own_bytes`, with its members, pending ones too."""
        members = sum(member.held_bytes for member in self.members.values())
        return self.own_bytes() + members + PENDING_BYTES * len(self.pending_joins)

    def _weigh(self, member: Member) -> None:
        before, member.held_bytes = member.held_bytes, member.weight()
        self._holding.add(member.held_bytes - before)

    def _end_pending(self, member_id: str) -> None:
        if member_id in self.pending_joins:
            self.pending_joins.remove(member_id)
            self._holding.add(-PENDING_BYTES)

    def _count(self, member: Member, change: int) -> None:
        for name, _ in member.protocols:
            self._speakers[name] += change
            if not self._speakers[name]:
                del self._speakers[name]
