"""The course of a rebalance: all join, the leader assigns, all are told. Kafka's GroupMetadataManager.

Deadlines: `session` of each member, `join` of a group that waits for its members, `sync` of one whose members have not
all asked for their assignment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import RebalanceInProgressError
from fastlog.protocol.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.group.group import Group, GroupState
from fastlog.state.group.stored import record_of

if TYPE_CHECKING:
    from fastlog.state.deadlines import Deadlines
    from fastlog.state.effects import Effects
    from fastlog.state.group.member import Member
    from fastlog.state.group.settings import GroupSettings
    from fastlog.state.moment import Moment

SESSION, JOIN, SYNC = "session", "join", "sync"


class Rebalances:
    """Moves groups through their rebalances."""

    def __init__(self, deadlines: Deadlines, settings: GroupSettings) -> None:
        self._deadlines = deadlines
        self._settings = settings

    # --- sessions ---

    def extend_session(
        self, group: Group, member: Member, now: Moment, timeout_ms: int | None = None
    ) -> None:
        """The member was heard of: it is lost when it is silent for its session time-out, or for `timeout_ms`."""
        after_ms = member.session_timeout_ms if timeout_ms is None else timeout_ms
        self._deadlines.set((SESSION, group.group_id, member.member_id), now.monotonic_ms + after_ms)

    def extend_pending(self, group: Group, member_id: str, session_timeout_ms: int, now: Moment) -> None:
        """Someone was given a member id, and has its session time-out to join with it."""
        self._deadlines.set((SESSION, group.group_id, member_id), now.monotonic_ms + session_timeout_ms)

    def end_session(self, group: Group, member_id: str) -> None:
        """Nothing is expected of the member any more."""
        self._deadlines.cancel((SESSION, group.group_id, member_id))

    # --- joining ---

    def begin_or_complete(self, group: Group, now: Moment, out: Effects) -> None:
        """Something changed: begins a rebalance, or ends the joining of the one that is on if all are there."""
        if group.can_rebalance:
            self.begin(group, now, out)
        else:
            self.complete_if_joined(group, now, out)

    def begin(self, group: Group, now: Moment, out: Effects) -> None:
        """Begins a rebalance: members are told when they are next heard of, and have to join again."""
        if group.state is GroupState.COMPLETING_REBALANCE:
            self.reset_assignments(group, RebalanceInProgressError.code, now, out)
        self._stop_waiting_for_syncs(group)
        is_initial = group.state is GroupState.EMPTY
        group.become(GroupState.PREPARING_REBALANCE, now.wall_ms)
        if is_initial:
            delay_ms = self._settings.initial_rebalance_delay_ms
            group.new_member_added = False
            group.initial_delay_ms = delay_ms
            group.initial_remaining_ms = max(group.rebalance_timeout_ms - delay_ms, 0)
            self._wait_for_joins(group, delay_ms, now)
        elif group.have_all_joined:
            self.complete(group, now, out)
        else:
            self._wait_for_joins(group, group.rebalance_timeout_ms, now)

    def complete_if_joined(self, group: Group, now: Moment, out: Effects) -> None:
        """Ends the joining if all are there, except that of an empty group's first rebalance, which waits its time."""
        is_on = group.state is GroupState.PREPARING_REBALANCE
        if is_on and group.previous_state is not GroupState.EMPTY and group.have_all_joined:
            self.complete(group, now, out)

    def join_time_over(self, group: Group, now: Moment, out: Effects) -> None:
        """The `join` deadline."""
        if group.state is not GroupState.PREPARING_REBALANCE:
            return
        is_initial = group.previous_state is GroupState.EMPTY
        if is_initial and group.new_member_added and group.initial_remaining_ms:
            # someone came while we waited: more may come
            group.new_member_added = False
            delay_ms = min(self._settings.initial_rebalance_delay_ms, group.initial_remaining_ms)
            group.initial_remaining_ms = max(group.initial_remaining_ms - group.initial_delay_ms, 0)
            group.initial_delay_ms = delay_ms
            self._wait_for_joins(group, delay_ms, now)
        else:
            self.complete(group, now, out)

    def complete(self, group: Group, now: Moment, out: Effects) -> None:
        """Ends the joining with those that are there; static members stay even if they are not."""
        self._deadlines.cancel((JOIN, group.group_id))
        for member in [
            it for it in group.members.values() if it.join_reply is None and it.instance_id is None
        ]:
            group.remove(member.member_id)
            self.end_session(group, member.member_id)
        if not group.elect_leader() and group.members:
            # nobody joined: those that are left end with their sessions
            self._wait_for_joins(group, group.rebalance_timeout_ms, now)
            return
        group.begin_generation(now.wall_ms)
        if group.state is GroupState.EMPTY:
            group.is_stored = True
            # if that fails the generation before comes back after a restart, and its members' sessions end it
            out.write([record_of(group, {})])
            return
        for member in group.members.values():
            self._answer_join(group, member, out)
            self.extend_session(group, member, now)
            member.is_new = False
            group.pending_syncs.add(member.member_id)
        self._deadlines.set((SYNC, group.group_id), now.monotonic_ms + group.rebalance_timeout_ms)

    def _wait_for_joins(self, group: Group, for_ms: int, now: Moment) -> None:
        self._deadlines.set((JOIN, group.group_id), now.monotonic_ms + for_ms)

    def _answer_join(self, group: Group, member: Member, out: Effects) -> None:
        # a static member may still be about to join again: it is told then
        if member.join_reply is not None:
            out.answer(member.join_reply, generation_of(group, member.member_id))
            member.join_reply = None
            group.waiting_joins -= 1

    # --- assigning ---

    def sync_time_over(self, group: Group, now: Moment, out: Effects) -> None:
        """The `sync` deadline: who never asked for its assignment is no member any more."""
        if group.state in (GroupState.COMPLETING_REBALANCE, GroupState.STABLE) and group.pending_syncs:
            for member_id in sorted(group.pending_syncs):
                group.remove(member_id)
                self.end_session(group, member_id)
            self.begin(group, now, out)

    def has_synced(self, group: Group, member_id: str) -> None:
        """The member asked for its assignment."""
        group.pending_syncs.discard(member_id)
        if not group.pending_syncs:
            self._deadlines.cancel((SYNC, group.group_id))

    def reset_assignments(self, group: Group, code: int, now: Moment, out: Effects) -> None:
        """The generation gets no assignment: those who wait for it are answered with the error."""
        group.assign({})
        self.answer_syncs(group, SyncGroupResponse(error_code=code), now, out)

    def answer_syncs(self, group: Group, error: SyncGroupResponse | None, now: Moment, out: Effects) -> None:
        """Answers all who wait for their assignment, with it or with `error`."""
        for member in group.members.values():
            if member.sync_reply is not None:
                out.answer(member.sync_reply, error or assignment_of(group, member))
                member.sync_reply = None
                # sessions do not end while a member waits, so this one's may be over without having been noticed
                self.extend_session(group, member, now)

    def _stop_waiting_for_syncs(self, group: Group) -> None:
        group.pending_syncs.clear()
        self._deadlines.cancel((SYNC, group.group_id))


def refused_join(code: int, member_id: str = "") -> JoinGroupResponse:
    """The answer of a join that failed; protocol type and name are null, where the version can say so."""
    return JoinGroupResponse(error_code=code, protocol_name=None, member_id=member_id)


def generation_of(group: Group, member_id: str, *, skip_assignment: bool = False) -> JoinGroupResponse:
    """What a member is told of the generation; the leader gets the metadata of all members."""
    members = []
    if group.is_leader(member_id):
        members = [
            JoinGroupResponseMember(it.member_id, it.instance_id, it.metadata(group.protocol))
            for it in group.members.values()
        ]
    return JoinGroupResponse(
        generation_id=group.generation,
        protocol_type=group.protocol_type,
        protocol_name=group.protocol,
        leader=group.leader or "",
        skip_assignment=skip_assignment,
        member_id=member_id,
        members=members,
    )


def assignment_of(group: Group, member: Member) -> SyncGroupResponse:
    """What a member is told to read."""
    return SyncGroupResponse(
        protocol_type=group.protocol_type, protocol_name=group.protocol, assignment=member.assignment
    )
