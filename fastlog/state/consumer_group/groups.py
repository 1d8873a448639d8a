"""All that one coordinator does with groups of the consumer protocol."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastlog.errors import KafkaError, error_for
from fastlog.state.consumer_group.checks import check_heartbeat
from fastlog.state.consumer_group.classic import ClassicMembers
from fastlog.state.consumer_group.context import Context
from fastlog.state.consumer_group.converting import Conversions
from fastlog.state.consumer_group.departures import Departures
from fastlog.state.consumer_group.describing import describe_consumer_group, list_consumer_groups, not_found
from fastlog.state.consumer_group.heartbeat import Heartbeats, refused
from fastlog.state.consumer_group.step import end_records
from fastlog.state.consumer_group.table import ConsumerGroupTable
from fastlog.state.consumer_group.timers import KINDS, Timers
from fastlog.state.turns import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from fastlog.protocol.messages.consumer_group_describe import DescribedGroup
    from fastlog.protocol.messages.list_groups import ListedGroup
    from fastlog.state.consumer_group.context import Heartbeat
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.deadlines import Deadlines, Key
    from fastlog.state.effects import Effects
    from fastlog.state.group.rebalance import Rebalances
    from fastlog.state.group.table import GroupTable
    from fastlog.state.memory import Holding
    from fastlog.state.moment import Moment
    from fastlog.state.records import Record
    from fastlog.state.topics import Topics
    from fastlog.state.turns import Turns


class ConsumerGroups:
    """The groups of one partition that speak the consumer protocol, and those that come to do so."""

    def __init__(
        self,
        *,
        classic: GroupTable,
        rebalances: Rebalances,
        classic_max_size: int,
        deadlines: Deadlines,
        settings: ConsumerGroupSettings,
        topics: Topics,
        turns: Turns,
        holding: Holding,
        replay: Callable[[Record], None],
    ) -> None:
        self.table = ConsumerGroupTable(holding)
        self.settings = settings
        self.topics = topics
        self._turns = turns
        self._timers = Timers(deadlines, settings)
        context = Context(
            table=self.table,
            topics=topics,
            settings=settings,
            timers=self._timers,
            turns=turns,
            memory=holding.memory,
            replay=replay,
        )
        conversions = Conversions(context, classic, rebalances, deadlines, classic_max_size=classic_max_size)
        self._departures = Departures(context, conversions)
        self._heartbeats = Heartbeats(context, conversions, self._departures)
        self.classic_members = ClassicMembers(context, conversions, self._departures)
        """Those who speak the classic protocol in one of these groups."""

    # --- from the log, and back ---

    def begin(self, now: Moment) -> None:
        """The log was read: sessions begin anew, and topics may have changed meanwhile."""
        for group in self.table:
            group.is_stale = True
            self._timers.begin_all(group, now)

    def end(self) -> None:
        """They are served here no more."""
        for group in self.table:
            self._timers.end_all(group)
            self.table.remove(group.group_id)

    def topics_changed(self, names: Collection[str]) -> None:
        """Topics were made, deleted, or have other partitions: who wants them looks again with the next heartbeat."""
        for group in self.table:
            # a pattern may match what it did not match before
            if group.regexes or any(group.subscribes_to(name) for name in names):
                group.is_stale = True

    # --- members ---

    def heartbeat(self, call: Heartbeat, now: Moment, out: Effects) -> None:
        """ConsumerGroupHeartbeat."""
        try:
            check_heartbeat(call.request, call.version, self.settings.assignors)
        except KafkaError as error:
            out.answer(call.reply, refused(error))
            return

        def refuse(code: int, effects: Effects) -> None:
            effects.answer(call.reply, refused(error_for(code)))

        step = Step(partial(self._heartbeats.beat, call), refuse)
        self._turns.take(call.request.group_id, step, now, out)

    def deadline(self, key: Key, out: Effects) -> None:
        """One of the deadlines that these groups set is reached."""
        self._departures.time_over(key[0], key[1], key[2], out)

    @staticmethod
    def sets(key: Key) -> bool:
        """Whether it is one of their deadlines."""
        return key[0] in KINDS

    def give_up_empty(self, group_id: str, out: Effects) -> bool:
        """Ends a group without members, so that it can be a classic one; whether there was one."""
        group = self.table.find(group_id)
        if group is None or group.members:
            return False
        # should it not be written, a start finds both, and the classic one counts
        out.write(end_records(group))
        self.table.remove(group_id)
        return True

    # --- questions ---

    def describe(self, group_id: str, *, is_classic: bool) -> DescribedGroup:
        """ConsumerGroupDescribe of one group."""
        group = self.table.find(group_id)
        if group is None:
            return not_found(group_id, is_classic=is_classic)
        return describe_consumer_group(group, self.settings, self.topics)

    def list(self, states: Iterable[str], types: Iterable[str]) -> list[ListedGroup]:
        """ListGroups, of these."""
        return list_consumer_groups(self.table, states, types)
