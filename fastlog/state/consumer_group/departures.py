"""Members that leave, that are not heard of any more, or that do not do in time what they have to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.leaving import leave_records
from fastlog.state.consumer_group.member import MemberState
from fastlog.state.consumer_group.timers import JOIN, REVOKE, SYNC

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fastlog.state.consumer_group.context import Context
    from fastlog.state.consumer_group.converting import Conversions
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.effects import Effects, Outcome
    from fastlog.state.moment import Moment

    Then = Callable[[Outcome, Moment, Effects], None]


class Departures:
    """Ends memberships."""

    def __init__(self, context: Context, conversions: Conversions) -> None:
        self._context = context
        self._conversions = conversions

    def remove(self, group: ConsumerGroup, member_ids: Collection[str], out: Effects, then: Then) -> None:
        """Takes members out; who is left, if they all speak the classic protocol, is a classic group from then on."""
        context, group_id = self._context, group.group_id
        downgrade = self._conversions.downgrade(group, member_ids)
        records = leave_records(group, member_ids, context.topics) if downgrade is None else downgrade.records

        def done(outcome: Outcome, now: Moment, effects: Effects) -> None:
            if outcome.is_in_log:
                for member_id in member_ids:
                    context.timers.end(group_id, member_id)
                if downgrade is not None:
                    self._conversions.begin_classic(group_id, downgrade, now, effects)
            then(outcome, now, effects)

        context.write(group_id, records, out, done)

    def time_over(self, kind: str, group_id: str, member_id: str, out: Effects) -> None:
        """A deadline of the member is reached."""
        group = self._context.table.find(group_id)
        member = None if group is None else group.members.get(member_id)
        if group is None or member is None:
            return
        if kind == REVOKE and member.current.state != MemberState.UNREVOKED_PARTITIONS:
            return
        if kind in (JOIN, SYNC) and not member.is_classic:
            # it has joined again since then, in the other protocol
            return

        def then(outcome: Outcome, now: Moment, _: Effects) -> None:
            if not outcome.is_in_log:
                # nothing came of it: it is looked at again
                self._context.timers.extend_session(group_id, member, now)

        self.remove(group, [member_id], out, then)
