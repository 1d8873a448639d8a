"""A group of the consumer protocol: what its records say. Kafka's ConsumerGroup."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import FencedInstanceIdError, UnknownMemberIdError
from fastlog.state import records
from fastlog.state.consumer_group.member import (
    HAS_NOTHING,
    PARTITION_BYTES,
    SAID_NOTHING,
    ConsumerMember,
)
from fastlog.state.memory import GROUP_BYTES

if TYPE_CHECKING:
    from fastlog.state.records import ConsumerGroupRecord, Partition, RegexValue


# as in Kafka 4: the first member of a new group makes it 2
NEW_GROUP_EPOCH = 1


class ConsumerGroupState(StrEnum):
    """Where a group is; the words are those that clients are told."""

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class ConsumerGroup:
    """The state of one group; it changes only by `apply`."""

    __slots__ = (
        "epoch",
        "group_id",
        "held_bytes",
        "is_stale",
        "members",
        "metadata_hash",
        "owners",
        "regexes",
        "static_members",
        "target_epoch",
        "targets",
    )

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self.epoch = NEW_GROUP_EPOCH
        self.metadata_hash = 0
        """Of the topics that its members want, as they were when the epoch began."""
        self.target_epoch = 0
        self.targets: dict[str, frozenset[Partition]] = {}
        # members in the order in which they joined, which is the order of all that goes over them
        self.members: dict[str, ConsumerMember] = {}
        self.static_members: dict[str, str] = {}
        self.regexes: dict[str, RegexValue] = {}
        self.owners: dict[Partition, str] = {}
        """Who has each partition, or has not let go of it yet."""
        self.is_stale = False
        """Whether topics have changed since it was last looked which ones its members want."""
        self.held_bytes = GROUP_BYTES + 2 * len(group_id)

    # --- questions ---

    @property
    def state(self) -> ConsumerGroupState:
        """Its state."""
        if not self.members:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        if all(member.is_reconciled_to(self.target_epoch) for member in self.members.values()):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def subscribes_to(self, topic: str) -> bool:
        """Whether a member reads `topic`."""
        return any(topic in member.said.topics for member in self.members.values()) or any(
            topic in regex.topics for regex in self.regexes.values()
        )

    def target_of(self, member_id: str) -> frozenset[Partition]:
        """What the member is to have; nothing, where it is none."""
        return self.targets.get(member_id, frozenset())

    def require(self, member_id: str) -> ConsumerMember:
        """The member; UNKNOWN_MEMBER_ID where it is none."""
        member = self.members.get(member_id)
        if member is None:
            raise UnknownMemberIdError(f"group {self.group_id} has no member {member_id!r}")
        return member

    def static_member(self, instance_id: str) -> ConsumerMember | None:
        """The member that has the instance id."""
        member_id = self.static_members.get(instance_id)
        return None if member_id is None else self.members[member_id]

    def require_as(self, member_id: str, instance_id: str | None) -> ConsumerMember:
        """The member; FENCED_INSTANCE_ID where another has its instance id by now, UNKNOWN_MEMBER_ID if it is none."""
        if instance_id is None:
            return self.require(member_id)
        member = self.static_member(instance_id)
        if member is None:
            raise UnknownMemberIdError(
                f"no member of group {self.group_id} has the instance id {instance_id}"
            )
        if member.member_id != member_id:
            raise FencedInstanceIdError(f"member {member.member_id} has taken the instance id {instance_id}")
        return member

    def classic_protocols(self) -> tuple[int, Counter[str]]:
        """How many members speak the classic protocol, and how many of them each assignment protocol."""
        spoken = [it.said.classic.protocols for it in self.members.values() if it.said.classic is not None]
        return len(spoken), Counter(name for protocols in spoken for name, _ in protocols)

    # --- changes ---

    def apply(self, record: ConsumerGroupRecord) -> None:
        """Takes in a record that is in the log; the caller drops the group with the tombstone of its epoch."""
        match record:
            case records.GroupEpoch(value=records.GroupEpochValue(epoch=epoch, metadata_hash=metadata_hash)):
                self.epoch, self.metadata_hash = epoch, metadata_hash
            case records.TargetEpoch(value=target):
                self.target_epoch = 0 if target is None else target.epoch
            case records.Regex(regex=regex, value=topics):
                self.regexes.pop(regex, None)
                if topics is not None:
                    self.regexes[regex] = topics
            case records.Target(member_id=member_id, value=partitions):
                self._aim(member_id, partitions)
            case records.ConsumerMember(member_id=member_id, value=None):
                self._remove(member_id)
            case records.ConsumerMember(member_id=member_id, value=said):
                self._put(msgspec.structs.replace(self._member(member_id), said=said or SAID_NOTHING))
            case records.Current(member_id=member_id, value=current):
                if current is not None or member_id in self.members:
                    self._put(
                        msgspec.structs.replace(self._member(member_id), current=current or HAS_NOTHING)
                    )

    def _member(self, member_id: str) -> ConsumerMember:
        return self.members.get(member_id) or ConsumerMember(member_id)

    def _put(self, member: ConsumerMember) -> None:
        before = self.members.get(member.member_id)
        if before is not None:
            self._let_go(before)
            self.held_bytes -= before.weight()
        self.members[member.member_id] = member
        self.held_bytes += member.weight()
        if member.said.instance_id is not None:
            self.static_members[member.said.instance_id] = member.member_id
        for partition in (*member.current.assigned, *member.current.revoking):
            self.owners[partition] = member.member_id

    def _remove(self, member_id: str) -> None:
        member = self.members.pop(member_id, None)
        if member is None:
            return
        self._let_go(member)
        self.held_bytes -= member.weight()
        instance_id = member.said.instance_id
        if instance_id is not None and self.static_members.get(instance_id) == member_id:
            del self.static_members[instance_id]

    def _let_go(self, member: ConsumerMember) -> None:
        for partition in (*member.current.assigned, *member.current.revoking):
            if self.owners.get(partition) == member.member_id:
                del self.owners[partition]

    def _aim(self, member_id: str, target: frozenset[Partition] | None) -> None:
        before = self.targets.pop(member_id, frozenset())
        if target is not None:
            self.targets[member_id] = target
        self.held_bytes += PARTITION_BYTES * (len(target or ()) - len(before))
