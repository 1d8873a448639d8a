"""Members that speak the classic protocol in a group of the consumer protocol: for them each step is a rebalance.

JoinGroup says what a member wants and has, and SyncGroup tells it what it may have; a Heartbeat that is answered with
REBALANCE_IN_PROGRESS sends it through both again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    FencedInstanceIdError,
    GroupMaxSizeReachedError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    KafkaError,
    MalformedMessageError,
    MemberIdRequiredError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from fastlog.protocol.messages.join_group import JoinGroupResponse
from fastlog.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from fastlog.state.assignors.consumer_protocol import decode_subscription, encode_assignment
from fastlog.state.consumer_group.converting import names_of
from fastlog.state.consumer_group.member import MemberState
from fastlog.state.consumer_group.reconcile import waits_for_others
from fastlog.state.consumer_group.step import Step
from fastlog.state.group.group import CONSUMER
from fastlog.state.group.join import MEMBER_ID_REQUIRED_FROM, Join
from fastlog.state.group.rebalance import refused_join
from fastlog.state.records import ClassicMember, ConsumerMemberValue

if TYPE_CHECKING:
    from fastlog.protocol.messages.heartbeat import HeartbeatRequest
    from fastlog.state.consumer_group.context import Context
    from fastlog.state.consumer_group.converting import Conversions, Downgrade
    from fastlog.state.consumer_group.departures import Departures
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.effects import Effects, Outcome, Reply
    from fastlog.state.moment import Moment
    from fastlog.state.records import Partition


class ClassicMembers:
    """Answers JoinGroup, SyncGroup, Heartbeat and LeaveGroup of these."""

    def __init__(self, context: Context, conversions: Conversions, departures: Departures) -> None:
        self._context = context
        self._conversions = conversions
        self._departures = departures

    # --- joining ---

    def join(self, group: ConsumerGroup, join: Join, now: Moment, out: Effects) -> None:
        """Lets someone join, or join again; answered when that is written."""
        try:
            self._join(group, join, now, out)
        except KafkaError as error:
            out.answer(join.reply, refused_join(error.code, join.request.member_id))

    def _join(self, group: ConsumerGroup, join: Join, now: Moment, out: Effects) -> None:
        request = join.request
        self._check_room(group, join)
        self._check_protocols(group, join)
        member_id, instance_id = request.member_id or join.fresh_id, request.group_instance_id
        if not request.member_id and instance_id is None and join.version >= MEMBER_ID_REQUIRED_FROM:
            out.answer(join.reply, refused_join(MemberIdRequiredError.code, member_id))
            return
        step = Step(self._context, group, now, lambda _: True)
        if request.member_id and instance_id is not None:
            member = group.require_as(member_id, instance_id)
        else:
            member = step.enter(member_id, instance_id, is_classic=True)
        said, owned = self._said(join)
        updated = step.take(member, said, owned)
        downgrade = self._conversions.downgrade_for(group, updated)
        self._write(group, join, step, updated, downgrade, now, out)

    def _write(
        self,
        group: ConsumerGroup,
        join: Join,
        step: Step,
        updated: ConsumerMember,
        downgrade: Downgrade | None,
        now: Moment,
        out: Effects,
    ) -> None:
        group_id, timers = group.group_id, self._context.timers
        response = JoinGroupResponse(
            generation_id=updated.epoch,
            protocol_type=CONSUMER,
            protocol_name=join.protocols[0][0] if downgrade is None else downgrade.value.protocol,
            member_id=updated.member_id,
        )

        def begin(at: Moment, effects: Effects) -> None:
            if step.replaced is not None:
                timers.end(group_id, step.replaced)
            if downgrade is not None:
                self._conversions.begin_classic(group_id, downgrade, at, effects)
            else:
                timers.extend_session(group_id, updated, at)
                timers.expect_sync(group_id, updated, at)

        # what a group that ends with this would have had is of no use any more
        records = step.records if downgrade is None else downgrade.records
        if not records:
            begin(now, out)
            out.answer(join.reply, response)
            return
        group.is_stale = False

        def then(outcome: Outcome, at: Moment, effects: Effects) -> None:
            if outcome.is_in_log:
                begin(at, effects)
            else:
                group.is_stale = True
            refused = refused_join(outcome.code, join.request.member_id)
            effects.answer(join.reply, refused if outcome.code else response)

        self._context.write(group_id, records, out, then)

    def _check_room(self, group: ConsumerGroup, join: Join) -> None:
        if join.request.member_id in group.members:
            return
        memory = self._context.memory
        if len(group.members) >= self._context.settings.max_size or memory.is_full:
            memory.refusals += memory.is_full
            raise GroupMaxSizeReachedError(f"group {group.group_id} may have no more members")

    @staticmethod
    def _check_protocols(group: ConsumerGroup, join: Join) -> None:
        count, speakers = group.classic_protocols()
        names = [name for name, _ in join.protocols]
        if join.request.protocol_type != CONSUMER or not any(speakers[name] == count for name in names):
            raise InconsistentGroupProtocolError(
                f"the members of group {group.group_id} speak none of the protocols of this one"
            )

    def _said(self, join: Join) -> tuple[ConsumerMemberValue, frozenset[Partition]]:
        request = join.request
        try:
            subscription = decode_subscription(join.protocols[0][1])
        except MalformedMessageError as error:
            raise InconsistentGroupProtocolError(f"the subscription cannot be read: {error}") from error
        timeout_ms = request.rebalance_timeout_ms
        said = ConsumerMemberValue(
            instance_id=request.group_instance_id,
            rack_id=subscription.rack_id,
            client_id=join.client_id,
            client_host=join.client_host,
            topics=tuple(sorted(set(subscription.topics))),
            regex="",
            # version 0 has one time-out for both
            rebalance_timeout_ms=request.session_timeout_ms if timeout_ms < 0 else timeout_ms,
            assignor=None,
            classic=ClassicMember(request.session_timeout_ms, join.protocols),
        )
        owned = frozenset(
            (facts.topic_id, number)
            for name, number in subscription.owned_partitions
            if (facts := self._context.topics.find(name)) is not None
        )
        return said, owned

    # --- asking for the assignment, and saying that one is there ---

    def sync(
        self, group: ConsumerGroup, request: SyncGroupRequest, reply: Reply, now: Moment, out: Effects
    ) -> None:
        """Tells a member what it may have."""
        try:
            member = self._require(group, request.member_id, request.group_instance_id, request.generation_id)
            self._check_sync(group, member, request)
        except KafkaError as error:
            out.answer(reply, SyncGroupResponse(error_code=error.code))
            return
        self._context.timers.has_synced(group.group_id, member.member_id)
        self._context.timers.extend_session(group.group_id, member, now)
        partitions = names_of(member.current.assigned, self._context.topics)
        out.answer(
            reply,
            SyncGroupResponse(
                protocol_type=request.protocol_type,
                protocol_name=request.protocol_name,
                assignment=encode_assignment(partitions),
            ),
        )

    @staticmethod
    def _check_sync(group: ConsumerGroup, member: ConsumerMember, request: SyncGroupRequest) -> None:
        spoken = () if member.said.classic is None else member.said.classic.protocols
        if request.protocol_type not in (None, CONSUMER) or (
            request.protocol_name is not None and (not spoken or request.protocol_name != spoken[0][0])
        ):
            raise InconsistentGroupProtocolError(
                f"member {member.member_id} has joined with another protocol than {request.protocol_name}"
            )
        # who has to let go of something is told what is left to it, and joins again when it has
        if member.epoch < group.epoch and member.current.state != MemberState.UNREVOKED_PARTITIONS:
            raise RebalanceInProgressError(f"group {group.group_id} rebalances")

    def heartbeat(self, group: ConsumerGroup, request: HeartbeatRequest, now: Moment) -> None:
        """The member is there; raises what it is to be answered with instead of success."""
        member = self._require(group, request.member_id, request.group_instance_id, request.generation_id)
        self._context.timers.extend_session(group.group_id, member, now)
        state = member.current.state
        if (
            member.epoch < group.epoch
            or state == MemberState.UNREVOKED_PARTITIONS
            or (state == MemberState.UNRELEASED_PARTITIONS and not waits_for_others(group, member))
        ):
            self._context.timers.expect_join(group.group_id, member, now)
            raise RebalanceInProgressError(f"group {group.group_id} rebalances")

    @staticmethod
    def _require(
        group: ConsumerGroup, member_id: str, instance_id: str | None, generation: int
    ) -> ConsumerMember:
        member = group.require_as(member_id, instance_id)
        if not member.is_classic:
            raise UnknownMemberIdError(f"member {member_id} does not speak the classic protocol")
        if generation != member.epoch:
            raise IllegalGenerationError(
                f"member {member_id} is at generation {member.epoch}, not {generation}"
            )
        return member

    # --- leaving ---

    def leave(self, group: ConsumerGroup, request: LeaveGroupRequest, reply: Reply, out: Effects) -> None:
        """Ends memberships, each of `request.members` for itself; answered when that is written."""
        leaving: list[str] = []
        members = [self._leave_one(group, it, leaving) for it in request.members]
        response = LeaveGroupResponse(members=members)
        if not leaving:
            out.answer(reply, response)
            return

        def then(outcome: Outcome, _: Moment, effects: Effects) -> None:
            effects.answer(reply, LeaveGroupResponse(error_code=outcome.code) if outcome.code else response)

        self._departures.remove(group, leaving, out, then)

    @staticmethod
    def _leave_one(group: ConsumerGroup, identity: MemberIdentity, leaving: list[str]) -> MemberResponse:
        member_id, instance_id = identity.member_id, identity.group_instance_id
        code = 0
        try:
            if not member_id and instance_id is not None:
                # an administrator removes a static member by its instance id
                member_id = group.static_members.get(instance_id, "")
            member = group.require_as(member_id, instance_id)
            if not member.is_classic and identity.member_id:
                raise UnknownMemberIdError(f"member {member_id} does not speak the classic protocol")
            if member_id not in leaving:
                leaving.append(member_id)
        except (UnknownMemberIdError, FencedInstanceIdError) as error:
            code = error.code
        return MemberResponse(identity.member_id, instance_id, code)
