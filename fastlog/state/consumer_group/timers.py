"""The deadlines of members of groups of the consumer protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastlog.state.consumer_group.member import MemberState

if TYPE_CHECKING:
    from fastlog.state.consumer_group.group import ConsumerGroup
    from fastlog.state.consumer_group.member import ConsumerMember
    from fastlog.state.consumer_group.settings import ConsumerGroupSettings
    from fastlog.state.deadlines import Deadlines
    from fastlog.state.moment import Moment

SESSION, REVOKE = "consumer-session", "consumer-revoke"
# of members that speak the classic protocol: to join again when told to, and to ask for the assignment
JOIN, SYNC = "consumer-join", "consumer-sync"
KINDS = (SESSION, REVOKE, JOIN, SYNC)


class Timers:
    """Sets and cancels them; a member whose deadline is reached is one no more."""

    def __init__(self, deadlines: Deadlines, settings: ConsumerGroupSettings) -> None:
        self._deadlines = deadlines
        self._settings = settings

    def extend_session(self, group_id: str, member: ConsumerMember, now: Moment) -> None:
        """The member was heard of."""
        classic = member.said.classic
        timeout_ms = (
            self._settings.times(group_id).session_timeout_ms
            if classic is None
            else classic.session_timeout_ms
        )
        self._set(SESSION, group_id, member.member_id, now, timeout_ms)

    def expect_revocation(self, group_id: str, member: ConsumerMember, now: Moment) -> None:
        """A member that has to let go of partitions has its rebalance time-out for that; others have no such duty."""
        if member.current.state == MemberState.UNREVOKED_PARTITIONS and not member.is_classic:
            self._set(REVOKE, group_id, member.member_id, now, member.said.rebalance_timeout_ms)
        else:
            self._deadlines.cancel((REVOKE, group_id, member.member_id))

    def expect_join(self, group_id: str, member: ConsumerMember, now: Moment) -> None:
        """A classic member was told to join again; being told once more gives it no more time."""
        key = (JOIN, group_id, member.member_id)
        if self._deadlines.of(key) is None:
            self._deadlines.set(key, now.monotonic_ms + member.said.rebalance_timeout_ms)

    def expect_sync(self, group_id: str, member: ConsumerMember, now: Moment) -> None:
        """A classic member has joined, and is to ask for its assignment."""
        self._deadlines.cancel((JOIN, group_id, member.member_id))
        self._set(SYNC, group_id, member.member_id, now, member.said.rebalance_timeout_ms)

    def has_synced(self, group_id: str, member_id: str) -> None:
        """A classic member has asked for its assignment."""
        self._deadlines.cancel((SYNC, group_id, member_id))

    def end(self, group_id: str, member_id: str) -> None:
        """Nothing is expected of the member any more."""
        for kind in KINDS:
            self._deadlines.cancel((kind, group_id, member_id))

    def begin_all(self, group: ConsumerGroup, now: Moment) -> None:
        """The group was read from the log: every session begins anew."""
        for member in group.members.values():
            self.extend_session(group.group_id, member, now)
            if member.current.state == MemberState.UNREVOKED_PARTITIONS:
                self.expect_revocation(group.group_id, member, now)

    def end_all(self, group: ConsumerGroup) -> None:
        """The group is served here no more."""
        for member_id in group.members:
            self.end(group.group_id, member_id)

    def _set(self, kind: str, group_id: str, member_id: str, now: Moment, after_ms: int) -> None:
        self._deadlines.set((kind, group_id, member_id), now.monotonic_ms + after_ms)
