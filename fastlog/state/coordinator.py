"""One partition of `__consumer_offsets`: the groups that belong to it and what they have committed.

Kafka's GroupCoordinatorShard. What lasts changes only by records: a request makes records, and what they say is taken
in when they are in the log. What a restart may forget (who waits, who is about to join) changes at once.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastlog.errors import InvalidGroupIdError, KafkaError, NotCoordinatorError
from fastlog.protocol.messages.delete_groups import DeletableGroupResult
from fastlog.protocol.messages.leave_group import LeaveGroupResponse
from fastlog.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse
from fastlog.protocol.messages.sync_group import SyncGroupResponse
from fastlog.state.consumer_group.expiry import expire_consumer_group
from fastlog.state.consumer_group.groups import ConsumerGroups
from fastlog.state.consumer_group.offsets import check_commit as check_consumer_commit
from fastlog.state.consumer_group.offsets import check_consumer_group_delete, check_fetch
from fastlog.state.consumer_group.step import end_records
from fastlog.state.effects import Effects
from fastlog.state.group.join import Join, Joins
from fastlog.state.group.listing import describe, list_groups
from fastlog.state.group.rebalance import JOIN, SESSION, SYNC, Rebalances, refused_join
from fastlog.state.group.session import Sessions
from fastlog.state.group.stored import group_of
from fastlog.state.group.sync import Syncs
from fastlog.state.group.table import GroupTable
from fastlog.state.memory import Holding
from fastlog.state.offsets.commit import check_commit, check_memory, records_of, refuse_commit
from fastlog.state.offsets.delete import (
    check_group_delete,
    check_offset_delete,
    delete_offsets,
    forget_group,
    forget_topic,
)
from fastlog.state.offsets.expiry import expire
from fastlog.state.offsets.fetch import fetch
from fastlog.state.offsets.table import OffsetTable
from fastlog.state.records import GroupMetadata, OffsetCommit, Record
from fastlog.state.turns import Step, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from fastlog.protocol.messages.consumer_group_describe import DescribedGroup as ConsumerGroupDescribed
    from fastlog.protocol.messages.describe_groups import DescribedGroup
    from fastlog.protocol.messages.heartbeat import HeartbeatRequest
    from fastlog.protocol.messages.leave_group import LeaveGroupRequest
    from fastlog.protocol.messages.list_groups import ListedGroup
    from fastlog.protocol.messages.offset_commit import OffsetCommitRequest
    from fastlog.protocol.messages.offset_fetch import OffsetFetchRequestGroup, OffsetFetchResponseGroup
    from fastlog.protocol.messages.sync_group import SyncGroupRequest
    from fastlog.state.consumer_group.context import Heartbeat
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.deadlines import Deadlines, Key
    from fastlog.state.effects import Outcome, Reply
    from fastlog.state.group.settings import GroupSettings
    from fastlog.state.memory import Memory
    from fastlog.state.moment import Moment
    from fastlog.state.offsets.settings import OffsetSettings
    from fastlog.state.topics import Topics

# tombstones of one write: some hundred bytes each at most, and a batch has a mebibyte
PART_RECORDS = 1_000


class Coordinator:
    """The groups of one partition. Its caller gives it the time, and carries out the effects of each call in order."""

    def __init__(
        self,
        deadlines: Deadlines,
        group_settings: GroupSettings,
        offset_settings: OffsetSettings,
        memory: Memory,
        consumer_settings: ConsumerGroupSettings,
        topics: Topics,
    ) -> None:
        self._deadlines = deadlines
        self._offset_settings = offset_settings
        self._memory = memory
        self._holding = Holding(memory)
        self._groups = GroupTable(self._holding)
        self._offsets = OffsetTable(self._holding)
        self._rebalances = Rebalances(deadlines, group_settings)
        self._joins = Joins(self._groups, self._rebalances, group_settings, memory)
        self._syncs = Syncs(self._groups, self._rebalances, memory)
        self._sessions = Sessions(self._groups, self._rebalances)
        self._max_size = group_settings.max_size
        self._topics = topics
        self._turns = Turns()
        self._consumers = ConsumerGroups(
            classic=self._groups,
            rebalances=self._rebalances,
            classic_max_size=group_settings.max_size,
            deadlines=deadlines,
            settings=consumer_settings,
            topics=topics,
            turns=self._turns,
            holding=self._holding,
            replay=self._replay,
        )

    # --- from the log, and back ---

    def load(self, records: Iterable[Record], now: Moment) -> Effects:
        """Takes in what the log says, the last record of each key; every member's session begins anew."""
        effects = Effects()
        last = list(records)
        # groups first: an offset makes a group without members where there is none
        for record in sorted(last, key=lambda it: isinstance(it, OffsetCommit)):
            self._replay(record)
        for consumer_group in self._consumers.table:
            # one that gave its place to a classic group whose end could not be written
            if self._groups.find(consumer_group.group_id) is not None:
                self._consumers.table.remove(consumer_group.group_id)
        self._consumers.begin(now)
        for group in self._groups:
            for member in group.members.values():
                self._rebalances.extend_session(group, member, now)
            if len(group.members) > self._max_size:
                self._rebalances.begin(group, now, effects)
        return effects

    def unload(self) -> Effects:
        """Ends it: whoever waits is sent to look for another coordinator."""
        effects = Effects()
        code = NotCoordinatorError.code
        for group in self._groups:
            for key in (JOIN, SYNC):
                self._deadlines.cancel((key, group.group_id))
            for member_id in group.pending_joins:
                self._rebalances.end_session(group, member_id)
            for member in group.members.values():
                self._rebalances.end_session(group, member.member_id)
                if member.join_reply is not None:
                    effects.answer(member.join_reply, refused_join(code, member.member_id))
                    member.join_reply = None
                if member.sync_reply is not None:
                    effects.answer(member.sync_reply, SyncGroupResponse(error_code=code))
                    member.sync_reply = None
        self._turns.refuse_all(code, effects)
        self._consumers.end()
        self._holding.release()
        self._groups = GroupTable(self._holding)
        return effects

    def _replay(self, record: Record) -> None:
        if isinstance(record, OffsetCommit):
            self._offsets.replay(record)
            if record.value is not None and record.group_id not in self._consumers.table:
                self._groups.find_or_make(record.group_id).is_stored = True
        elif isinstance(record, GroupMetadata):
            if record.value is None:
                self._forget(record.group_id)
            else:
                self._groups.put(group_of(record.group_id, record.value, self._holding))
        else:
            self._consumers.table.replay(record)

    def _forget(self, group_id: str) -> None:
        group = self._groups.find(group_id)
        if group is not None and (group.members or group.pending_joins):
            # someone came while the record of its end was being written
            group.is_stored = False
        else:
            self._groups.remove(group_id)

    def _write(
        self,
        records: list[Record],
        out: Effects,
        then: Callable[[Outcome, Effects], None],
    ) -> None:
        """Has records written; what they say is taken in when they are in the log, and `then` is told."""

        def written(outcome: Outcome, _: Moment, effects: Effects) -> None:
            if outcome.is_in_log:
                for record in records:
                    self._replay(record)
            then(outcome, effects)

        out.write(records, written)

    def _write_in_parts(
        self, records: list[Record], out: Effects, then: Callable[[Outcome, Effects], None]
    ) -> None:
        """As `_write`, of records that need not be written together and may be too many for one batch."""
        parts = [records[at : at + PART_RECORDS] for at in range(0, len(records), PART_RECORDS)]
        failures: list[Outcome] = []

        def note(outcome: Outcome, _: Effects) -> None:
            if outcome.code:
                failures.append(outcome)

        for part in parts[:-1]:
            self._write(part, out, note)
        self._write(parts[-1], out, lambda outcome, effects: then((*failures, outcome)[0], effects))

    # --- members ---

    def join(self, join: Join, now: Moment) -> Effects:
        """JoinGroup."""
        effects = Effects()
        member_id = join.request.member_id
        step = Step(
            partial(self._join, join),
            lambda code, out: out.answer(join.reply, refused_join(code, member_id)),
        )
        self._turns.take(join.request.group_id, step, now, effects)
        return effects

    def _join(self, join: Join, now: Moment, out: Effects) -> None:
        group_id = join.request.group_id
        consumers = self._consumers.table.find(group_id)
        if consumers is not None and consumers.members:
            self._consumers.classic_members.join(consumers, join, now, out)
            return
        if self._consumers.give_up_empty(group_id, out) and self._offsets.of_group(group_id):
            self._groups.find_or_make(group_id).is_stored = True
        self._joins.join(join, now, out)

    def sync(self, request: SyncGroupRequest, reply: Reply, now: Moment) -> Effects:
        """SyncGroup."""
        effects = Effects()

        def run(at: Moment, out: Effects) -> None:
            consumers = self._consumers.table.find(request.group_id)
            if consumers is None:
                self._syncs.sync(request, reply, at, out)
            else:
                self._consumers.classic_members.sync(consumers, request, reply, at, out)

        step = Step(run, lambda code, out: out.answer(reply, SyncGroupResponse(error_code=code)))
        self._turns.take(request.group_id, step, now, effects)
        return effects

    def heartbeat(self, request: HeartbeatRequest, now: Moment) -> None:
        """Heartbeat: raises the KafkaError that it is answered with, or is a success."""
        consumers = self._consumers.table.find(request.group_id)
        if consumers is None:
            self._sessions.heartbeat(request, now)
        else:
            self._consumers.classic_members.heartbeat(consumers, request, now)

    def leave(self, request: LeaveGroupRequest, reply: Reply, now: Moment) -> Effects:
        """LeaveGroup, with `members` filled in whatever the version."""
        effects = Effects()

        def run(at: Moment, out: Effects) -> None:
            consumers = self._consumers.table.find(request.group_id)
            if consumers is None:
                self._sessions.leave(request, reply, at, out)
            else:
                self._consumers.classic_members.leave(consumers, request, reply, out)

        step = Step(run, lambda code, out: out.answer(reply, LeaveGroupResponse(error_code=code)))
        self._turns.take(request.group_id, step, now, effects)
        return effects

    def consumer_heartbeat(self, call: Heartbeat, now: Moment) -> Effects:
        """ConsumerGroupHeartbeat."""
        effects = Effects()
        self._consumers.heartbeat(call, now, effects)
        return effects

    def topics_changed(self, names: Collection[str]) -> None:
        """Topics were made, deleted, or have other partitions."""
        self._consumers.topics_changed(names)

    def deadline(self, key: Key, now: Moment) -> Effects:
        """A deadline that this coordinator set is reached."""
        effects = Effects()
        self._turns.take(key[1], Step(partial(self._time_over, key)), now, effects)
        return effects

    def _time_over(self, key: Key, now: Moment, out: Effects) -> None:
        if self._consumers.sets(key):
            self._consumers.deadline(key, out)
            return
        group = self._groups.find(key[1])
        if group is None:
            return
        if key[0] == SESSION:
            self._sessions.session_over(group, key[2], now, out)
        elif key[0] == JOIN:
            self._rebalances.join_time_over(group, now, out)
        else:
            self._rebalances.sync_time_over(group, now, out)

    # --- offsets ---

    def commit(self, request: OffsetCommitRequest, version: int, reply: Reply, now: Moment) -> Effects:
        """OffsetCommit, of partitions that exist."""
        effects = Effects()
        group = self._groups.find(request.group_id)
        consumers = self._consumers.table.find(request.group_id)
        try:
            if consumers is None:
                check_commit(group, request, version)
            else:
                check_consumer_commit(consumers, request, version, self._topics)
            check_memory(self._memory, self._offsets, group or consumers, request)
        except KafkaError as error:
            effects.answer(reply, refuse_commit(request, error.code))
            return effects
        if group is not None:
            self._sessions.has_committed(group, request.member_id, now)
        records, response = records_of(request, self._offset_settings.metadata_bytes_max, now)
        if not records:
            effects.answer(reply, response)
            return effects

        def then(outcome: Outcome, out: Effects) -> None:
            out.answer(reply, refuse_commit(request, outcome.code) if outcome.code else response)

        self._write(records, effects, then)
        return effects

    def fetch(self, request: OffsetFetchRequestGroup) -> OffsetFetchResponseGroup:
        """OffsetFetch of one group; raises where someone asks as a member that it is not."""
        consumers = self._consumers.table.find(request.group_id)
        if consumers is not None:
            check_fetch(consumers, request.member_id, request.member_epoch)
        return fetch(self._offsets, request)

    def topics(self) -> set[str]:
        """The topics of which there are offsets."""
        return {topic for group_id in self._offsets for topic in self._offsets.of_group(group_id)}

    def delete_offsets(self, request: OffsetDeleteRequest, reply: Reply) -> Effects:
        """OffsetDelete, of partitions that exist."""
        effects = Effects()
        try:
            if not request.group_id:
                raise InvalidGroupIdError("a group id is not empty")
            # the topics that a consumer group reads are known whatever its state
            group = self._consumers.table.find(request.group_id) or check_offset_delete(
                self._groups.find(request.group_id), request.group_id
            )
        except KafkaError as error:
            effects.answer(reply, OffsetDeleteResponse(error_code=error.code))
            return effects
        records, response = delete_offsets(self._offsets, group, request)
        if not records:
            effects.answer(reply, response)
            return effects

        def then(outcome: Outcome, out: Effects) -> None:
            out.answer(reply, OffsetDeleteResponse(error_code=outcome.code) if outcome.code else response)

        self._write_in_parts(records, effects, then)
        return effects

    def topic_deleted(self, topic: str) -> Effects:
        """Takes away the offsets of a topic that is gone; every group by itself."""
        effects = Effects()
        for records in forget_topic(self._offsets, topic):
            self._write_in_parts(records, effects, _ignore)
        return effects

    # --- groups ---

    def describe(self, group_id: str, version: int) -> DescribedGroup:
        """DescribeGroups of one group."""
        is_consumer = group_id in self._consumers.table
        return describe(self._groups.find(group_id), group_id, version, is_consumer=is_consumer)

    def describe_consumer_group(self, group_id: str) -> ConsumerGroupDescribed:
        """ConsumerGroupDescribe of one group."""
        return self._consumers.describe(group_id, is_classic=self._groups.find(group_id) is not None)

    def list_groups(self, states: Iterable[str], types: Iterable[str]) -> list[ListedGroup]:
        """ListGroups, of those that are here."""
        wanted = list(states), list(types)
        return list_groups(self._groups, *wanted) + self._consumers.list(*wanted)

    def delete_group(self, group_id: str, reply: Reply, now: Moment) -> Effects:
        """DeleteGroups of one group; answered with a DeletableGroupResult."""
        effects = Effects()
        step = Step(
            partial(self._delete, group_id, reply),
            lambda code, out: out.answer(reply, DeletableGroupResult(group_id, code)),
        )
        self._turns.take(group_id, step, now, effects)
        return effects

    def _delete(self, group_id: str, reply: Reply, _: Moment, out: Effects) -> None:
        consumers = self._consumers.table.find(group_id)
        try:
            if consumers is None:
                check_group_delete(self._groups.find(group_id), group_id)
            else:
                check_consumer_group_delete(consumers)
        except KafkaError as error:
            out.answer(reply, DeletableGroupResult(group_id, error.code, error.message))
            return

        def then(outcome: Outcome, effects: Effects) -> None:
            effects.answer(reply, DeletableGroupResult(group_id, outcome.code))

        end = [GroupMetadata(group_id, None)] if consumers is None else end_records(consumers)
        self._write_in_parts([*forget_group(self._offsets, group_id), *end], out, then)

    def expire_offsets(self, now: Moment) -> Effects:
        """Takes away what is too old, and the groups of which nothing is left; every group by itself."""
        effects = Effects()
        for group in self._groups:
            if records := expire(self._offsets, group, self._offset_settings.retention_ms, now.wall_ms):
                self._write_in_parts(records, effects, _ignore)
        for group_id in [it.group_id for it in self._consumers.table]:
            self._turns.take(group_id, Step(partial(self._expire_consumer_group, group_id)), now, effects)
        return effects

    def _expire_consumer_group(self, group_id: str, now: Moment, out: Effects) -> None:
        group = self._consumers.table.find(group_id)
        if group is None:
            return
        retention_ms = self._offset_settings.retention_ms
        if records := expire_consumer_group(self._offsets, group, retention_ms, now.wall_ms):
            self._write_in_parts(records, out, _ignore)


def _ignore(outcome: Outcome, out: Effects) -> None:
    """Nobody waits for it: what could not be written is tried again the next time."""
