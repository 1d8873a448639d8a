"""The change of a group with members from the classic protocol to the consumer protocol and back, while they read.

The first member of the consumer protocol that joins a classic group makes it one of the consumer protocol, in which the
others go on as classic members; when the last one is gone, or a classic one takes its place, it is a classic group
again. Kafka's group.consumer.migration.policy says which of that may happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import GroupIdNotFoundError, MalformedMessageError, RebalanceInProgressError
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state import records as kinds
from fastlog.state.assignors.consumer_protocol import (
    decode_assignment,
    decode_subscription,
    encode_assignment,
)
from fastlog.state.consumer_group.group import ConsumerGroup
from fastlog.state.consumer_group.member import ConsumerMember, MemberState
from fastlog.state.consumer_group.step import end_records
from fastlog.state.consumer_group.subscription import metadata_hash
from fastlog.state.effects import Effects
from fastlog.state.group.group import CONSUMER, Group, GroupState
from fastlog.state.group.rebalance import JOIN, SYNC, refused_join
from fastlog.state.moment import Moment
from fastlog.state.records import (
    ClassicMember,
    ConsumerGroupRecord,
    GroupMetadata,
    GroupValue,
    MemberValue,
    Record,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastlog.state.consumer_group.context import Context
    from fastlog.state.deadlines import Deadlines
    from fastlog.state.group.member import Member
    from fastlog.state.group.rebalance import Rebalances
    from fastlog.state.group.table import GroupTable
    from fastlog.state.records import Partition
    from fastlog.state.topics import Topics


class Opening(msgspec.Struct, frozen=True):
    """A group that a heartbeat is for, and what it takes to have it."""

    group: ConsumerGroup
    """As it is, or as it will be when the records are in the log."""
    begin: Callable[[Moment], None]
    """To be called when they are."""
    records: list[Record] = []
    before_replay: Callable[[Effects], None] | None = None


class Downgrade(msgspec.Struct, frozen=True):
    """What makes a group a classic one."""

    records: list[Record]
    left: dict[str, ConsumerMember]
    """Who stays, as it is now: the records take it away."""
    value: GroupValue
    """The classic group that the records say."""
    rebalances: bool
    """Whether its members have to join it again; not where each has what it is to have."""


class Conversions:
    """Opens groups for members of the consumer protocol, and turns them back."""

    def __init__(
        self,
        context: Context,
        classic: GroupTable,
        rebalances: Rebalances,
        deadlines: Deadlines,
        *,
        classic_max_size: int,
    ) -> None:
        self._context = context
        self._classic = classic
        self._rebalances = rebalances
        self._deadlines = deadlines
        self._classic_max_size = classic_max_size

    # --- to the consumer protocol ---

    def open(self, group_id: str, *, creates: bool) -> Opening:
        """The group; GROUP_ID_NOT_FOUND where there is none and none is to be made."""
        group = self._context.table.find(group_id)
        if group is not None:
            return Opening(group, _nothing)
        classic = self._classic.find(group_id)
        if classic is None:
            if not creates:
                raise GroupIdNotFoundError(f"Group {group_id} not found.")
            return Opening(ConsumerGroup(group_id), _nothing)
        if not creates or not (classic.state is GroupState.EMPTY or self._may_upgrade(classic)):
            raise GroupIdNotFoundError(f"Group {group_id} is not a consumer group.")
        group = ConsumerGroup(group_id)
        upgrade = self._upgrade(classic) if classic.members else []
        for record in upgrade:
            group.apply(record)

        def end_classic(out: Effects) -> None:
            self._end_classic(classic, out)

        def begin(now: Moment) -> None:
            begun = self._context.table.find(group_id)
            if begun is not None:
                self._context.timers.begin_all(begun, now)

        return Opening(group, begin, [GroupMetadata(group_id, None), *upgrade], end_classic)

    def _may_upgrade(self, classic: Group) -> bool:
        settings = self._context.settings
        return (
            settings.may_upgrade
            and classic.protocol_type == CONSUMER
            and len(classic.members) <= settings.max_size
        )

    def _upgrade(self, classic: Group) -> list[ConsumerGroupRecord]:
        """The records of the group with its members as they are: each has what it was assigned."""
        group_id, epoch, topics = classic.group_id, classic.generation, self._context.topics
        members: list[ConsumerGroupRecord] = []
        targets: list[ConsumerGroupRecord] = []
        currents: list[ConsumerGroupRecord] = []
        names: set[str] = set()
        try:
            for member in classic.members.values():
                said = _said(classic, member)
                names.update(said.topics)
                assigned = dict.fromkeys(_ids(decode_assignment(member.assignment), topics), epoch)
                members.append(kinds.ConsumerMember(group_id, member.member_id, said))
                targets.append(kinds.Target(group_id, member.member_id, frozenset(assigned)))
                current = kinds.CurrentValue(epoch, epoch, MemberState.STABLE, assigned, {})
                currents.append(kinds.Current(group_id, member.member_id, current))
        except MalformedMessageError as error:
            raise GroupIdNotFoundError(
                f"Cannot upgrade the classic group {group_id} to consumer group because the embedded consumer protocol "
                f"is malformed: {error}"
            ) from error
        group_epoch = kinds.GroupEpoch(group_id, kinds.GroupEpochValue(epoch, metadata_hash(names, topics)))
        target_epoch = kinds.TargetEpoch(group_id, kinds.TargetEpochValue(epoch))
        return [*members, group_epoch, *targets, target_epoch, *currents]

    def _end_classic(self, classic: Group, out: Effects) -> None:
        """The classic group is over: who waits in it joins again, and finds the other one."""
        for key in (JOIN, SYNC):
            self._deadlines.cancel((key, classic.group_id))
        for member_id in (*classic.pending_joins, *classic.members):
            self._rebalances.end_session(classic, member_id)
        for member in classic.members.values():
            if member.join_reply is not None:
                out.answer(member.join_reply, refused_join(RebalanceInProgressError.code, member.member_id))
            if member.sync_reply is not None:
                out.answer(member.sync_reply, SyncGroupResponse(error_code=RebalanceInProgressError.code))
        self._classic.remove(classic.group_id)

    # --- and back ---

    def downgrade(self, group: ConsumerGroup, leaving: Collection[str]) -> Downgrade | None:
        """What makes it a classic group of who is left; None where it is to stay what it is."""
        left = {key: member for key, member in group.members.items() if key not in leaving}
        return self._downgrade(group, left, group.epoch, rebalances=True)

    def downgrade_for(self, group: ConsumerGroup, joined: ConsumerMember) -> Downgrade | None:
        """The same, where a member that speaks the classic protocol takes the place of the last one that does not.

        It has the instance id of that one. Kafka: GroupMetadataManager.validateOnlineDowngradeWithReplacedMember.
        """
        instance_id = joined.said.instance_id
        before = None if instance_id is None else group.static_member(instance_id)
        if before is None or before.is_classic:
            return None
        left = {key: member for key, member in group.members.items() if key != before.member_id}
        left[joined.member_id] = joined
        generation = max(group.epoch, joined.epoch)
        # Kafka leaves those that are not there yet to find out, by which time the new one reads what they had
        rebalances = not all(member.is_reconciled_to(generation) for member in left.values())
        return self._downgrade(group, left, generation, rebalances=rebalances)

    def _downgrade(
        self, group: ConsumerGroup, left: dict[str, ConsumerMember], generation: int, *, rebalances: bool
    ) -> Downgrade | None:
        if not left or not all(member.is_classic for member in left.values()):
            return None
        if not self._context.settings.may_downgrade or len(left) > self._classic_max_size:
            return None
        value = _classic_value(list(left.values()), generation, self._context.topics)
        records = [*end_records(group), GroupMetadata(group.group_id, value)]
        return Downgrade(records, left, value, rebalances)

    def begin_classic(self, group_id: str, downgrade: Downgrade, now: Moment, out: Effects) -> None:
        """The records are in the log: the classic group that they say begins, with a rebalance where one is due."""
        classic = self._classic.find(group_id)
        if classic is None:
            return
        for member in classic.members.values():
            self._context.timers.end(group_id, member.member_id)
            said = downgrade.left[member.member_id].said
            protocols = () if said.classic is None else said.classic.protocols
            classic.update(
                member,
                # the record says one of them only
                protocols or member.protocols,
                rebalance_timeout_ms=member.rebalance_timeout_ms,
                session_timeout_ms=member.session_timeout_ms,
            )
            self._rebalances.extend_session(classic, member, now)
        if downgrade.rebalances:
            self._rebalances.begin(classic, now, out)


def _nothing(_: Moment) -> None:
    """A group that is there has begun already."""


def _said(classic: Group, member: Member) -> kinds.ConsumerMemberValue:
    name = classic.protocol
    metadata = dict(member.protocols).get(name or "", member.protocols[0][1])
    subscription = decode_subscription(metadata)
    return kinds.ConsumerMemberValue(
        instance_id=member.instance_id,
        rack_id=subscription.rack_id,
        client_id=member.client_id,
        client_host=member.client_host,
        topics=tuple(sorted(set(subscription.topics))),
        regex="",
        rebalance_timeout_ms=member.rebalance_timeout_ms,
        assignor=None,
        classic=ClassicMember(member.session_timeout_ms, member.protocols),
    )


def _ids(partitions: Collection[tuple[str, int]], topics: Topics) -> list[Partition]:
    """Those whose topics exist, by the ids of these."""
    return [
        (facts.topic_id, number) for name, number in partitions if (facts := topics.find(name)) is not None
    ]


def names_of(partitions: Collection[Partition], topics: Topics) -> list[tuple[str, int]]:
    """Those whose topics exist, by the names of these."""
    found = ((topics.name_of(topic_id), number) for topic_id, number in sorted(partitions))
    return [(name, number) for name, number in found if name is not None]


def _classic_value(left: list[ConsumerMember], generation: int, topics: Topics) -> GroupValue:
    spoken = [dict(it.said.classic.protocols) for it in left if it.said.classic is not None]
    common = [name for name in spoken[0] if all(name in one for one in spoken)]
    # those that came into the group speak one that all speak; a rebalance finds it anew
    protocol = common[0] if common else next(iter(spoken[0]))
    members = tuple(
        MemberValue(
            member_id=member.member_id,
            instance_id=member.said.instance_id,
            client_id=member.said.client_id,
            client_host=member.said.client_host,
            rebalance_timeout_ms=member.said.rebalance_timeout_ms,
            session_timeout_ms=0 if member.said.classic is None else member.said.classic.session_timeout_ms,
            subscription=protocols.get(protocol, b""),
            assignment=encode_assignment(names_of(member.current.assigned, topics)),
        )
        for member, protocols in zip(left, spoken, strict=True)
    )
    return GroupValue(
        protocol_type=CONSUMER,
        generation=generation,
        protocol=protocol,
        leader=left[0].member_id,
        since_ms=-1,
        members=members,
    )
