"""What follows when a member says something: the epoch of the group, its target, and what the member has next.

The common part of ConsumerGroupHeartbeat and of JoinGroup to a group of the consumer protocol. It changes nothing: it
makes records.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import UnreleasedInstanceIdError
from fastlog.state import records as kinds
from fastlog.state.consumer_group.assignors import ASSIGNORS
from fastlog.state.consumer_group.assignors.spec import MemberSpec
from fastlog.state.consumer_group.member import JOIN_EPOCH, STATIC_LEAVE_EPOCH, ConsumerMember
from fastlog.state.consumer_group.reconcile import reconcile
from fastlog.state.consumer_group.subscription import metadata_hash, resolve, topics_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fastlog.state.consumer_group.context import Context
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.moment import Moment
    from fastlog.state.records import ConsumerMemberValue, Partition, Record, RegexValue


class Step:
    """One member's word, and the records that follow from it, in `records`."""

    def __init__(
        self, context: Context, group: ConsumerGroup, now: Moment, may_see: Callable[[str], bool]
    ) -> None:
        self._context = context
        self._group = group
        self._now = now
        self._may_see = may_see
        self.records: list[Record] = []
        self.replaced: str | None = None
        """The member whose place was taken by another with its instance id."""

    def enter(self, member_id: str, instance_id: str | None, *, is_classic: bool) -> ConsumerMember:
        """The member that joins: a new one, the same again, or one in the place of another with its instance id."""
        group = self._group
        before = None if instance_id is None else group.static_member(instance_id)
        if before is None:
            return group.members.get(member_id) or ConsumerMember(member_id)
        if before.member_id == member_id:
            # back after it left for a while, or a request that is sent again
            return _back(before, member_id) if before.epoch == STATIC_LEAVE_EPOCH else before
        if not is_classic and not before.is_classic and before.epoch != STATIC_LEAVE_EPOCH:
            raise UnreleasedInstanceIdError(
                f"member {before.member_id} has the instance id {instance_id} and has not left: it has to leave first, "
                "or to be silent for its session time-out"
            )
        member = _back(before, member_id)
        self.replaced = before.member_id
        self.records += remove_records(group.group_id, before.member_id)
        self.records += [
            kinds.ConsumerMember(group.group_id, member_id, before.said),
            kinds.Target(group.group_id, member_id, group.target_of(before.member_id)),
            kinds.Current(group.group_id, member_id, member.current),
        ]
        return member

    def take(
        self, member: ConsumerMember, said: ConsumerMemberValue, owned: Collection[Partition] | None
    ) -> ConsumerMember:
        """The member as it is after it said so."""
        group, group_id, member_id = self._group, self._group.group_id, member.member_id
        is_new = member_id not in group.members and self.replaced is None
        if said != member.said or is_new:
            self.records.append(kinds.ConsumerMember(group_id, member_id, said))
        updated = msgspec.structs.replace(member, said=said)
        wants_else = (said.topics, said.regex) != (member.said.topics, member.said.regex)
        epoch, regexes = group.epoch, dict(group.regexes)
        if is_new or wants_else or group.is_stale:
            regexes = self._regexes(updated)
            hash_now = self._hash(updated, regexes)
            has_other_topics = hash_now != group.metadata_hash
            if is_new or wants_else or has_other_topics:
                epoch += 1
                self.records.append(kinds.GroupEpoch(group_id, kinds.GroupEpochValue(epoch, hash_now)))
        target = group.target_of(self.replaced or member_id)
        target_epoch = group.target_epoch
        if epoch > target_epoch:
            target, target_epoch = self._aim(updated, regexes, epoch), epoch
        current = reconcile(group, updated, target_epoch, target, owned)
        if current != updated.current:
            self.records.append(kinds.Current(group_id, member_id, current))
        return msgspec.structs.replace(updated, current=current)

    # --- what the members want ---

    def _said(self, updated: ConsumerMember) -> dict[str, ConsumerMember]:
        """All members as they are to be."""
        members = {key: it for key, it in self._group.members.items() if key != self.replaced}
        members[updated.member_id] = updated
        return members

    def _regexes(self, updated: ConsumerMember) -> dict[str, RegexValue]:
        group = self._group
        regexes = resolve(
            (it.said.regex for it in self._said(updated).values() if it.said.regex),
            group.regexes,
            self._context.topics,
            self._may_see,
            is_stale=group.is_stale,
            wall_ms=self._now.wall_ms,
        )
        for regex, value in regexes.items():
            if group.regexes.get(regex) != value:
                self.records.append(kinds.Regex(group.group_id, regex, value))
        self.records += [kinds.Regex(group.group_id, it, None) for it in group.regexes if it not in regexes]
        return regexes

    def _hash(self, updated: ConsumerMember, regexes: dict[str, RegexValue]) -> int:
        names = {name for it in self._said(updated).values() for name in topics_of(it.said, regexes)}
        return metadata_hash(names, self._context.topics)

    # --- the target ---

    def _aim(
        self, updated: ConsumerMember, regexes: dict[str, RegexValue], epoch: int
    ) -> frozenset[Partition]:
        """Makes the target of the epoch; the member's part of it."""
        group, group_id = self._group, self._group.group_id
        before = {key: target for key, target in group.targets.items() if key != self.replaced}
        if self.replaced is not None:
            before[updated.member_id] = group.target_of(self.replaced)
        members = self._said(updated)
        counts: dict[bytes, int] = {}
        specs = {
            member_id: MemberSpec(
                self._topic_ids(topics_of(member.said, regexes), counts),
                before.get(member_id, frozenset()),
                member.said.instance_id,
            )
            for member_id, member in members.items()
        }
        targets = ASSIGNORS[self._assignor(members)](specs, counts)
        for member_id, target in targets.items():
            if before.get(member_id) != target:
                self.records.append(kinds.Target(group_id, member_id, target))
        self.records.append(kinds.TargetEpoch(group_id, kinds.TargetEpochValue(epoch, self._now.wall_ms)))
        return targets[updated.member_id]

    def _topic_ids(self, names: frozenset[str], counts: dict[bytes, int]) -> frozenset[bytes]:
        facts = [it for name in names if (it := self._context.topics.find(name)) is not None]
        counts.update(facts)
        return frozenset(it.topic_id for it in facts)

    def _assignor(self, members: dict[str, ConsumerMember]) -> str:
        """The one that most members name; the first of the settings where none does."""
        named = Counter(it.said.assignor for it in members.values() if it.said.assignor is not None)
        # one of before may not be offered any more
        offered = [name for name, _ in named.most_common() if name in ASSIGNORS]
        return offered[0] if offered else self._context.settings.assignors[0]


def _back(before: ConsumerMember, member_id: str) -> ConsumerMember:
    """A static member that joins again: it has what it had, and is told so."""
    current = msgspec.structs.replace(before.current, epoch=JOIN_EPOCH, previous_epoch=JOIN_EPOCH)
    return ConsumerMember(member_id, before.said, current)


def remove_records(group_id: str, member_id: str) -> list[Record]:
    """The tombstones of a member, in Kafka's order: what it has, what it was to have, what it said."""
    return [
        kinds.Current(group_id, member_id, None),
        kinds.Target(group_id, member_id, None),
        kinds.ConsumerMember(group_id, member_id, None),
    ]


def end_records(group: ConsumerGroup) -> list[Record]:
    """The tombstones of a whole group."""
    group_id = group.group_id
    records: list[Record] = []
    for member_id in group.members:
        records += remove_records(group_id, member_id)
    records += [kinds.Regex(group_id, regex, None) for regex in group.regexes]
    return [*records, kinds.TargetEpoch(group_id, None), kinds.GroupEpoch(group_id, None)]
