"""ConsumerGroupHeartbeat: a member joins, tells that it is there, says what it has, or leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    CoordinatorNotAvailableError,
    GroupIdNotFoundError,
    GroupMaxSizeReachedError,
    KafkaError,
    error_for,
)
from fastlog.protocol.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from fastlog.state.consumer_group.checks import check_epoch
from fastlog.state.consumer_group.member import JOIN_EPOCH, LEAVE_EPOCH, STATIC_LEAVE_EPOCH
from fastlog.state.consumer_group.step import Step
from fastlog.state.records import ConsumerMemberValue, Current
from fastlog.state.records.partitions import by_topic

if TYPE_CHECKING:
    from fastlog.state.consumer_group.context import Context, Heartbeat
    from fastlog.state.consumer_group.converting import Conversions, Opening
    from fastlog.state.consumer_group.departures import Departures
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.effects import Effects, Outcome
    from fastlog.state.moment import Moment
    from fastlog.state.records import Partition

UNKNOWN_TIMEOUT = -1


class Heartbeats:
    """Answers ConsumerGroupHeartbeat, of requests that were checked."""

    def __init__(self, context: Context, conversions: Conversions, departures: Departures) -> None:
        self._context = context
        self._conversions = conversions
        self._departures = departures

    def beat(self, call: Heartbeat, now: Moment, out: Effects) -> None:
        """Answers now, or when what follows from it is written."""
        try:
            if call.request.member_epoch in (LEAVE_EPOCH, STATIC_LEAVE_EPOCH):
                self._leave(call, now, out)
            else:
                self._stay(call, now, out)
        except KafkaError as error:
            out.answer(call.reply, refused(error))

    def _stay(self, call: Heartbeat, now: Moment, out: Effects) -> None:
        request, joins = call.request, call.request.member_epoch == JOIN_EPOCH
        member_id = request.member_id or call.fresh_id
        owned = _owned(request)
        opening = self._conversions.open(request.group_id, creates=joins)
        group = opening.group
        self._check_room(group, member_id, request.instance_id)
        step = Step(self._context, group, now, call.may_see)
        if joins:
            member = step.enter(member_id, request.instance_id, is_classic=False)
        else:
            member = group.require_as(member_id, request.instance_id)
        check_epoch(member, request.member_epoch, owned)
        said = _said(call, member)
        self._check_growth(member, said)
        updated = step.take(member, said, owned)
        response = self._response(request, member, updated)
        records = [*opening.records, *step.records]
        if member_id in group.members:
            self._context.timers.extend_session(group.group_id, updated, now)
        if not records:
            group.is_stale = False
            out.answer(call.reply, response)
            return
        self._write(call, opening, step, updated, response, out)

    def _write(
        self,
        call: Heartbeat,
        opening: Opening,
        step: Step,
        updated: ConsumerMember,
        response: ConsumerGroupHeartbeatResponse,
        out: Effects,
    ) -> None:
        context, group = self._context, opening.group
        # topics may change while it is being written
        group.is_stale = False

        def then(outcome: Outcome, now: Moment, effects: Effects) -> None:
            if outcome.is_in_log:
                opening.begin(now)
                context.timers.extend_session(group.group_id, updated, now)
                context.timers.expect_revocation(group.group_id, updated, now)
                if step.replaced is not None:
                    context.timers.end(group.group_id, step.replaced)
            else:
                group.is_stale = True
            effects.answer(call.reply, refused(error_for(outcome.code)) if outcome.code else response)

        context.write(
            group.group_id,
            [*opening.records, *step.records],
            out,
            then,
            before_replay=opening.before_replay,
        )

    def _check_room(self, group: ConsumerGroup, member_id: str, instance_id: str | None) -> None:
        if member_id in group.members or (instance_id is not None and instance_id in group.static_members):
            return
        if len(group.members) >= self._context.settings.max_size:
            raise GroupMaxSizeReachedError(
                f"The consumer group has reached its maximum capacity of {self._context.settings.max_size} members."
            )
        if self._context.memory.is_full:
            self._context.memory.refusals += 1
            raise GroupMaxSizeReachedError("groups hold all the memory that they may: no new members")

    def _check_growth(self, member: ConsumerMember, said: ConsumerMemberValue) -> None:
        memory = self._context.memory
        before = member.weight()
        if memory.is_over and msgspec.structs.replace(member, said=said).weight() > before:
            memory.refusals += 1
            raise CoordinatorNotAvailableError("groups hold more memory than they may: members do not grow")

    def _response(
        self, request: ConsumerGroupHeartbeatRequest, before: ConsumerMember, now: ConsumerMember
    ) -> ConsumerGroupHeartbeatResponse:
        # a request that says all is one of a member that joins, or that does not know what its last one came to
        says_all = request.member_epoch == JOIN_EPOCH or (
            request.rebalance_timeout_ms != UNKNOWN_TIMEOUT
            and (request.subscribed_topic_names is not None or request.subscribed_topic_regex is not None)
            and request.topic_partitions is not None
        )
        is_told = says_all or before.current.assigned.keys() != now.current.assigned.keys()
        return ConsumerGroupHeartbeatResponse(
            member_id=now.member_id,
            member_epoch=now.epoch,
            heartbeat_interval_ms=self._context.settings.times(request.group_id).heartbeat_interval_ms,
            assignment=_assignment(now) if is_told else None,
        )

    # --- leaving ---

    def _leave(self, call: Heartbeat, now: Moment, out: Effects) -> None:
        request = call.request
        group = self._context.table.find(request.group_id)
        if group is None:
            raise GroupIdNotFoundError(f"Group {request.group_id} not found.")
        member = group.require_as(request.member_id, request.instance_id)
        response = ConsumerGroupHeartbeatResponse(
            member_id=member.member_id, member_epoch=request.member_epoch
        )

        def then(outcome: Outcome, _: Moment, effects: Effects) -> None:
            effects.answer(call.reply, refused(error_for(outcome.code)) if outcome.code else response)

        if request.member_epoch == STATIC_LEAVE_EPOCH:
            # it is expected back within its session time-out, and keeps its part until then
            current = msgspec.structs.replace(member.current, epoch=STATIC_LEAVE_EPOCH, revoking={})
            record = Current(group.group_id, member.member_id, current)
            self._context.write(group.group_id, [record], out, then)
        else:
            self._departures.remove(group, [member.member_id], out, then)


def _owned(request: ConsumerGroupHeartbeatRequest) -> frozenset[Partition] | None:
    if request.topic_partitions is None:
        return None
    return frozenset((it.topic_id, number) for it in request.topic_partitions for number in it.partitions)


def _said(call: Heartbeat, member: ConsumerMember) -> ConsumerMemberValue:
    """What the member says now: null fields have not changed."""
    request, before = call.request, member.said
    names, timeout_ms = request.subscribed_topic_names, request.rebalance_timeout_ms
    return ConsumerMemberValue(
        instance_id=before.instance_id if request.instance_id is None else request.instance_id,
        rack_id=before.rack_id if request.rack_id is None else request.rack_id,
        client_id=call.client_id,
        client_host=call.client_host,
        topics=before.topics if names is None else tuple(sorted(set(names))),
        regex=before.regex if request.subscribed_topic_regex is None else request.subscribed_topic_regex,
        rebalance_timeout_ms=before.rebalance_timeout_ms if timeout_ms == UNKNOWN_TIMEOUT else timeout_ms,
        assignor=before.assignor if request.server_assignor is None else request.server_assignor,
    )


def _assignment(member: ConsumerMember) -> Assignment:
    return Assignment([TopicPartitions(*it) for it in by_topic(member.current.assigned).items()])


def refused(error: KafkaError) -> ConsumerGroupHeartbeatResponse:
    """The answer of a heartbeat that failed."""
    return ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message or None)
