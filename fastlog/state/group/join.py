"""JoinGroup: who may join, as whom, and whether that makes a rebalance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.errors import (
    CoordinatorNotAvailableError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    KafkaError,
    MemberIdRequiredError,
    UnknownMemberIdError,
)
from fastlog.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.effects import Effects, Reply
from fastlog.state.group.group import Group, GroupState
from fastlog.state.group.member import Member, Protocols, protocol_bytes
from fastlog.state.group.rebalance import generation_of, refused_join
from fastlog.state.group.stored import record_of

if TYPE_CHECKING:
    from fastlog.state.effects import Outcome
    from fastlog.state.group.rebalance import Rebalances
    from fastlog.state.group.settings import GroupSettings
    from fastlog.state.group.table import GroupTable
    from fastlog.state.memory import Memory
    from fastlog.state.moment import Moment

FENCED_INSTANCE_ID = 82
# the versions from which a member has to come back with the id it was given, and may be told that it need not assign
MEMBER_ID_REQUIRED_FROM = 4
SKIP_ASSIGNMENT_FROM = 9


class Join(msgspec.Struct, frozen=True):
    """A JoinGroup request and what came with it."""

    request: JoinGroupRequest
    version: int
    client_id: str
    client_host: str
    fresh_id: str
    """A member id that nobody has, for the case that it needs one."""
    reply: Reply

    @property
    def protocols(self) -> Protocols:
        """What the client speaks, each once."""
        return tuple({it.name: it.metadata for it in self.request.protocols}.items())


class Joins:
    """Answers JoinGroup."""

    def __init__(
        self, table: GroupTable, rebalances: Rebalances, settings: GroupSettings, memory: Memory
    ) -> None:
        self._table = table
        self._memory = memory
        self._rebalances = rebalances
        self._settings = settings

    def join(self, join: Join, now: Moment, out: Effects) -> None:
        """Lets someone join; it is answered now, or when the rebalance that it waits for is done."""
        request = join.request
        try:
            self._check(request)
            group = (
                self._table.find_or_make(request.group_id)
                if not request.member_id
                else (self._table.of_member(request.group_id))
            )
        except KafkaError as error:
            out.answer(join.reply, refused_join(error.code, request.member_id))
            return
        try:
            self._check_room(group, request.member_id)
            self._check_memory(group, join)
            self._check_protocols(group, join)
            if request.member_id:
                self._join_known(group, join, now, out)
            else:
                self._join_new(group, join, now, out)
        except KafkaError as error:
            out.answer(join.reply, _refusal(error, join))
        self._table.drop_if_void(group)

    def _check(self, request: JoinGroupRequest) -> None:
        if not request.group_id:
            raise InvalidGroupIdError("a group id is not empty")
        settings = self._settings
        if (
            not settings.min_session_timeout_ms
            <= request.session_timeout_ms
            <= settings.max_session_timeout_ms
        ):
            raise InvalidSessionTimeoutError(
                f"a session time-out of {request.session_timeout_ms} ms is out of bounds, it takes "
                f"{settings.min_session_timeout_ms} to {settings.max_session_timeout_ms}"
            )

    def _check_room(self, group: Group, member_id: str) -> None:
        member, most = group.members.get(member_id), self._settings.max_size
        if group.state is GroupState.PREPARING_REBALANCE:
            # the ones that wait count: the last to join again are left over when the bound was lowered
            is_full = (member is None or member.join_reply is None) and group.waiting_joins >= most
        elif group.state is GroupState.EMPTY:
            is_full = False
        else:
            is_full = member is None and len(group.members) >= most
        if is_full or (not member_id and len(group.pending_joins) >= most):
            group.remove(member_id)
            self._rebalances.end_session(group, member_id)
            raise GroupMaxSizeReachedError(f"group {group.group_id} has {most} members, and may have no more")

    def _check_memory(self, group: Group, join: Join) -> None:
        request = join.request
        member_id = group.static_members.get(request.group_instance_id or "", request.member_id)
        if not member_id:
            if self._memory.is_full:
                self._memory.refusals += 1
                raise GroupMaxSizeReachedError("groups hold all the memory that they may: no new members")
            return
        member = group.members.get(member_id)
        before = 0 if member is None else protocol_bytes(member.protocols)
        if self._memory.is_over and protocol_bytes(join.protocols) > before:
            self._memory.refusals += 1
            raise CoordinatorNotAvailableError("groups hold more memory than they may: members do not grow")

    @staticmethod
    def _check_protocols(group: Group, join: Join) -> None:
        request = join.request
        if not group.supports(request.protocol_type, [it.name for it in request.protocols]):
            raise InconsistentGroupProtocolError(
                f"the members of group {group.group_id} speak none of the protocols of this one"
            )

    # --- someone without a member id ---

    def _join_new(self, group: Group, join: Join, now: Moment, out: Effects) -> None:
        instance_id = join.request.group_instance_id
        if instance_id is not None:
            old_member_id = group.static_members.get(instance_id)
            if old_member_id is None:
                self._add(group, join, join.fresh_id, now, out)
            else:
                self._return_static(group, join, old_member_id, now, out)
        elif join.version >= MEMBER_ID_REQUIRED_FROM:
            # it comes back with the id: a client that gave up waiting and tries again makes no second member (KIP-394)
            group.add_pending(join.fresh_id)
            self._rebalances.extend_pending(group, join.fresh_id, join.request.session_timeout_ms, now)
            out.answer(
                join.reply,
                refused_join(MemberIdRequiredError.code, join.fresh_id),
            )
        else:
            self._add(group, join, join.fresh_id, now, out)

    def _add(self, group: Group, join: Join, member_id: str, now: Moment, out: Effects) -> None:
        request = join.request
        member = Member(
            member_id,
            instance_id=request.group_instance_id,
            client_id=join.client_id,
            client_host=join.client_host,
            rebalance_timeout_ms=_rebalance_timeout_ms(request),
            session_timeout_ms=request.session_timeout_ms,
            protocols=join.protocols,
        )
        member.is_new = True
        member.join_reply = join.reply
        if group.state is GroupState.PREPARING_REBALANCE and group.previous_state is GroupState.EMPTY:
            group.new_member_added = True
        group.add(member, request.protocol_type)
        self._rebalances.extend_session(group, member, now, self._settings.new_member_join_timeout_ms)
        self._rebalances.begin_or_complete(group, now, out)

    # --- someone with a member id ---

    def _join_known(self, group: Group, join: Join, now: Moment, out: Effects) -> None:
        request, member_id = join.request, join.request.member_id
        if member_id in group.pending_joins and request.group_instance_id is None:
            self._add(group, join, member_id, now, out)
            return
        member = group.check_member(member_id, request.group_instance_id)
        if group.state is GroupState.EMPTY:
            raise UnknownMemberIdError(f"group {group.group_id} is empty")
        says_the_same = member.protocols == join.protocols
        leads_again = group.state is GroupState.STABLE and group.is_leader(member_id)
        if group.state is GroupState.PREPARING_REBALANCE or not says_the_same or leads_again:
            self._update(group, member, join)
            self._rebalances.begin_or_complete(group, now, out)
        else:
            # it may have missed the answer, which a client that gives up waiting does
            out.answer(join.reply, generation_of(group, member_id))

    @staticmethod
    def _update(group: Group, member: Member, join: Join) -> None:
        request = join.request
        group.update(
            member,
            join.protocols,
            rebalance_timeout_ms=_rebalance_timeout_ms(request),
            session_timeout_ms=request.session_timeout_ms,
        )
        group.waiting_joins += member.join_reply is None
        member.join_reply = join.reply

    # --- a static member that comes back (KIP-345) ---

    def _return_static(self, group: Group, join: Join, old_member_id: str, now: Moment, out: Effects) -> None:
        was_led_by = group.leader
        member = self._replace(group, old_member_id, join.fresh_id, out)
        before = (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms)
        self._update(group, member, join)
        self._rebalances.extend_session(group, member, now)
        if group.state is GroupState.STABLE:
            if group.protocol != group.select_protocol():
                self._rebalances.begin_or_complete(group, now, out)
                return
            # nothing changed for the others: it goes on with what it had, once its new id is written down
            then = _Returned(self._rebalances, group, member, join, old_member_id, before, was_led_by)
            out.write(
                [record_of(group, {it.member_id: it.assignment for it in group.members.values()})], then
            )
        elif group.state is GroupState.COMPLETING_REBALANCE:
            # the leader assigns to the old id
            self._rebalances.begin(group, now, out)
        else:
            self._rebalances.complete_if_joined(group, now, out)

    def _replace(self, group: Group, old_member_id: str, new_member_id: str, out: Effects) -> Member:
        member = group.members[old_member_id]
        if member.join_reply is not None:
            out.answer(member.join_reply, refused_join(FENCED_INSTANCE_ID, old_member_id))
            member.join_reply = None
            group.waiting_joins -= 1
        if member.sync_reply is not None:
            out.answer(member.sync_reply, SyncGroupResponse(error_code=FENCED_INSTANCE_ID))
            member.sync_reply = None
        self._rebalances.end_session(group, old_member_id)
        return group.rename_static(old_member_id, new_member_id)


class _Returned:
    """What follows when the new member id of a static member is written down, or is not."""

    def __init__(
        self,
        rebalances: Rebalances,
        group: Group,
        member: Member,
        join: Join,
        old_member_id: str,
        before: tuple[Protocols, int, int],
        was_led_by: str | None,
    ) -> None:
        self._rebalances = rebalances
        self._group = group
        self._member = member
        self._join = join
        self._old_member_id = old_member_id
        self._before = before
        self._was_led_by = was_led_by

    def __call__(self, outcome: Outcome, now: Moment, out: Effects) -> None:
        """Answers the member; takes the change back where it could not be written."""
        group, member = self._group, self._member
        if member.join_reply is not self._join.reply:
            return  # it was answered meanwhile: replaced again, removed, or taken into a rebalance
        if group.state is not GroupState.STABLE:
            return  # a rebalance has begun, whose end answers it
        member.join_reply = None
        group.waiting_joins -= 1
        if outcome.code:
            self._take_back(now)
            error = JoinGroupResponse(error_code=outcome.code, protocol_name=group.protocol)
            error.generation_id, error.protocol_type = group.generation, group.protocol_type
            error.leader = self._was_led_by or ""
            out.answer(self._join.reply, error)
            return
        if self._join.version >= SKIP_ASSIGNMENT_FROM:
            leads = group.is_leader(member.member_id)
            response = generation_of(group, member.member_id, skip_assignment=leads)
        else:
            # an older client that is told it leads would assign: it is told of the old leader, even if that was itself
            response = generation_of(group, member.member_id)
            response.leader, response.members = self._was_led_by or "", []
        out.answer(self._join.reply, response)

    def _take_back(self, now: Moment) -> None:
        group, member = self._group, self._member
        protocols, rebalance_timeout_ms, session_timeout_ms = self._before
        group.update(
            member,
            protocols,
            rebalance_timeout_ms=rebalance_timeout_ms,
            session_timeout_ms=session_timeout_ms,
        )
        self._rebalances.end_session(group, member.member_id)
        group.rename_static(member.member_id, self._old_member_id)
        self._rebalances.extend_session(group, member, now)


def _rebalance_timeout_ms(request: JoinGroupRequest) -> int:
    """Version 0 has one time-out for both."""
    return request.session_timeout_ms if request.rebalance_timeout_ms < 0 else request.rebalance_timeout_ms


def _refusal(error: KafkaError, join: Join) -> JoinGroupResponse:
    is_full = isinstance(error, GroupMaxSizeReachedError)
    return refused_join(error.code, "" if is_full else join.request.member_id)
