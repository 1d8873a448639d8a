"""SyncGroup: the leader's assignment is written down, and every member is told its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.errors import (
    CoordinatorNotAvailableError,
    IllegalGenerationError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from fastlog.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse
from fastlog.state.group.group import Group, GroupState
from fastlog.state.group.rebalance import assignment_of
from fastlog.state.group.stored import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.state.effects import Effects, Outcome, Reply
    from fastlog.state.group.rebalance import Rebalances
    from fastlog.state.group.table import GroupTable
    from fastlog.state.memory import Memory
    from fastlog.state.moment import Moment


class Syncs:
    """Answers SyncGroup."""

    def __init__(self, table: GroupTable, rebalances: Rebalances, memory: Memory) -> None:
        self._table = table
        self._memory = memory
        self._rebalances = rebalances

    def sync(self, request: SyncGroupRequest, reply: Reply, now: Moment, out: Effects) -> None:
        """Answers a member now, or when the leader's assignment is written down."""
        try:
            group = self._check(request)
            self._check_memory(group, request)
        except KafkaError as error:
            out.answer(reply, SyncGroupResponse(error_code=error.code))
            return
        member = group.members[request.member_id]
        if group.state is GroupState.STABLE:
            self._rebalances.has_synced(group, member.member_id)
            out.answer(reply, assignment_of(group, member))
            return
        member.sync_reply = reply
        self._rebalances.has_synced(group, member.member_id)
        if group.is_leader(member.member_id):
            given = {it.member_id: it.assignment for it in request.assignments}
            assignments = {key: given.get(key, b"") for key in group.members}
            generation = group.generation

            def then(outcome: Outcome, at: Moment, effects: Effects) -> None:
                self._assigned(group, generation, assignments, outcome, at, effects)

            out.write([record_of(group, assignments)], then)

    def _check_memory(self, group: Group, request: SyncGroupRequest) -> None:
        if self._memory.is_over and request.assignments:
            before = sum(len(member.assignment) for member in group.members.values())
            if sum(len(it.assignment) for it in request.assignments) > before:
                self._memory.refusals += 1
                raise CoordinatorNotAvailableError(
                    "groups hold more memory than they may: assignments do not grow"
                )

    def _check(self, request: SyncGroupRequest) -> Group:
        if not request.group_id:
            raise InvalidGroupIdError("a group id is not empty")
        group = self._table.of_member(request.group_id)
        if group.state is GroupState.EMPTY:
            raise UnknownMemberIdError(f"group {group.group_id} is empty")
        group.check_member(request.member_id, request.group_instance_id)
        if request.generation_id != group.generation:
            raise IllegalGenerationError(f"group {group.group_id} is at generation {group.generation}")
        for told, known in (
            (request.protocol_type, group.protocol_type),
            (request.protocol_name, group.protocol),
        ):
            if told is not None and known is not None and told != known:
                raise InconsistentGroupProtocolError(f"group {group.group_id} uses {known}, not {told}")
        if group.state is GroupState.PREPARING_REBALANCE:
            raise RebalanceInProgressError(f"group {group.group_id} rebalances")
        return group

    def _assigned(
        self,
        group: Group,
        generation: int,
        assignments: Mapping[str, bytes],
        outcome: Outcome,
        now: Moment,
        out: Effects,
    ) -> None:
        group.is_stored = group.is_stored or outcome.is_in_log
        if group.state is not GroupState.COMPLETING_REBALANCE or group.generation != generation:
            return  # another rebalance has begun meanwhile, and has answered those who waited
        if outcome.code:
            self._rebalances.reset_assignments(group, outcome.code, now, out)
            self._rebalances.begin_or_complete(group, now, out)
            return
        group.assign(assignments)
        self._rebalances.answer_syncs(group, None, now, out)
        group.become(GroupState.STABLE, now.wall_ms)
