"""Heartbeats, farewells, and members that are not heard of any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    IllegalGenerationError,
    InvalidGroupIdError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from fastlog.protocol.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.group.group import Group, GroupState
from fastlog.state.group.rebalance import refused_join

if TYPE_CHECKING:
    from fastlog.protocol.messages.heartbeat import HeartbeatRequest
    from fastlog.state.effects import Effects, Outcome, Reply
    from fastlog.state.group.member import Member
    from fastlog.state.group.rebalance import Rebalances
    from fastlog.state.group.table import GroupTable
    from fastlog.state.moment import Moment


class Sessions:
    """Answers Heartbeat and LeaveGroup, and ends sessions."""

    def __init__(self, table: GroupTable, rebalances: Rebalances) -> None:
        self._table = table
        self._rebalances = rebalances

    def heartbeat(self, request: HeartbeatRequest, now: Moment) -> None:
        """The member is there; raises what it is to be answered with instead of success."""
        if not request.group_id:
            raise InvalidGroupIdError("a group id is not empty")
        group = self._table.of_member(request.group_id)
        member = group.check_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise IllegalGenerationError(f"group {group.group_id} is at generation {group.generation}")
        self._rebalances.extend_session(group, member, now)
        if group.state is GroupState.PREPARING_REBALANCE:
            raise RebalanceInProgressError(f"group {group.group_id} rebalances")

    def has_committed(self, group: Group, member_id: str, now: Moment) -> None:
        """A commit of offsets is a sign of life too, except where its member is to ask for its assignment first."""
        member = group.members.get(member_id)
        if member is not None and group.state in (GroupState.STABLE, GroupState.PREPARING_REBALANCE):
            self._rebalances.extend_session(group, member, now)

    # --- leaving ---

    def leave(self, request: LeaveGroupRequest, reply: Reply, now: Moment, out: Effects) -> None:
        """Ends memberships, each of `request.members` for itself."""
        if not request.group_id:
            out.answer(reply, LeaveGroupResponse(error_code=InvalidGroupIdError.code))
            return
        group = self._table.find(request.group_id)
        if group is None:
            gone = [_answer(identity, UnknownMemberIdError.code) for identity in request.members]
            out.answer(reply, LeaveGroupResponse(members=gone))
            return
        response = LeaveGroupResponse(members=[self._leave_one(group, it, out) for it in request.members])
        writes_before = len(out.writes)
        if any(not member.error_code for member in response.members):
            self._go_on(group, now, out)
        self._table.drop_if_void(group)
        if len(out.writes) == writes_before:
            out.answer(reply, response)
            return

        def then(outcome: Outcome, _: Moment, effects: Effects) -> None:
            effects.answer(reply, LeaveGroupResponse(error_code=outcome.code) if outcome.code else response)

        out.writes[-1].then = then

    def _go_on(self, group: Group, now: Moment, out: Effects) -> None:
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._rebalances.begin_or_complete(group, now, out)
        elif group.state is GroupState.PREPARING_REBALANCE:
            self._rebalances.complete_if_joined(group, now, out)

    def _leave_one(self, group: Group, identity: MemberIdentity, out: Effects) -> MemberResponse:
        member_id = identity.member_id
        if not member_id and identity.group_instance_id is not None:
            # an administrator removes a static member by its instance id
            member_id = group.static_members.get(identity.group_instance_id, "")
        if member_id in group.pending_joins:
            self._remove(group, member_id)
            return _answer(identity, 0)
        try:
            member = group.check_member(member_id, identity.group_instance_id)
        except KafkaError as error:
            return _answer(identity, error.code)
        self._turn_away(member, out)
        self._remove(group, member_id)
        return _answer(identity, 0)

    # --- silence ---

    def session_over(self, group: Group, member_id: str, now: Moment, out: Effects) -> None:
        """The `session` deadline."""
        if member_id in group.pending_joins:
            self._remove(group, member_id)
            if group.state is GroupState.PREPARING_REBALANCE and group.have_all_joined:
                self._rebalances.complete(group, now, out)
            self._table.drop_if_void(group)
            return
        member = group.members.get(member_id)
        if member is None or member.is_waiting():
            return
        self._turn_away(member, out)
        self._remove(group, member_id)
        if group.state in (GroupState.STABLE, GroupState.COMPLETING_REBALANCE):
            self._rebalances.begin_or_complete(group, now, out)
        elif group.state is GroupState.PREPARING_REBALANCE and group.have_all_joined:
            self._rebalances.complete(group, now, out)

    def _remove(self, group: Group, member_id: str) -> None:
        group.remove(member_id)
        self._rebalances.end_session(group, member_id)

    @staticmethod
    def _turn_away(member: Member, out: Effects) -> None:
        """What it waits for will not come: its client is to begin anew, should it be there still."""
        if member.join_reply is not None:
            out.answer(member.join_reply, refused_join(UnknownMemberIdError.code))
        if member.sync_reply is not None:
            out.answer(member.sync_reply, SyncGroupResponse(error_code=UnknownMemberIdError.code))


def _answer(identity: MemberIdentity, code: int) -> MemberResponse:
    return MemberResponse(identity.member_id, identity.group_instance_id, code)
