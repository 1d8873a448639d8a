"""The application's side of its group: callbacks, partitions and commits, on the thread that reads."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from fastlog.client.connection import monotonic_ms
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.client.group.asking import Ask
from fastlog.client.group.commits import Commits
from fastlog.client.group.effects import Adopt, GroupMetadata, Release
from fastlog.errors import FastlogError
from fastlog.protocol.message import ZERO_UUID

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastlog.client.committed_offset import CommittedOffset
    from fastlog.client.consumer.assignment import Assignment
    from fastlog.client.consumer.driver import Driver
    from fastlog.client.consumer.options import ConsumerOptions
    from fastlog.client.group.driver import GroupDriver
    from fastlog.client.group.listeners import Listeners
    from fastlog.client.group.member import GroupMember
    from fastlog.client.metadata import ClusterImage
    from fastlog.state.assignors import Partition


LOGGER = logging.getLogger("fastlog.consumer")
#: partitions are not given up before their positions are committed, but the group does not wait for ever either
REVOKE_COMMIT_MS = 5_000.0


class GroupSession:
    """Everything of a group that has to happen on the application's thread, between two records."""

    def __init__(
        self,
        *,
        options: ConsumerOptions,
        assignment: Assignment,
        driver: Driver,
        membership: GroupMember,
        handed_out: Callable[[], dict[TopicPartition, int]],
        dropped: Callable[[], None],
        listeners: Listeners,
    ) -> None:
        """`handed_out` gives for each partition the offset after the last record that the application got, where it is
        known; `dropped` is called when partitions are gone.
        """
        self._options = options
        self._assignment = assignment
        self._driver = driver
        self._membership = membership
        self._handed_out = handed_out
        self._dropped = dropped
        self._listeners = listeners
        self._group: GroupDriver
        self._lock = threading.Lock()
        self._duty: Release | Adopt | None = None
        self._failure: tuple[FastlogError, bool] | None = None
        self.commits: Commits
        self._attending = False
        self._waiting = False
        self._polled_ms = monotonic_ms()
        self._reader: int | None = None
        self._commit_at_ms = float("inf")
        self._commit_due = False
        #: partitions whose positions are asked for, with their slots
        self._asking: dict[TopicPartition, int] = {}
        #: what matched the pattern when that was last told
        self._matched: frozenset[str] = frozenset()
        self.subscribed = False

    def bind(self, group: GroupDriver) -> None:
        """Says who drives the membership."""
        self._group = group
        self.commits = Commits(
            options=self._options,
            handed_out=self._handed_out,
            ask=group.ask,
            call_application=self._driver.call_application,
        )

    # --- what is read ---

    def subscribe(self, topics: frozenset[str]) -> None:
        """Wants partitions of `topics` as a member."""
        self._begin(is_member=True)
        self._assignment.subscribe_in_group(topics)
        self._group.post(partial(self._membership.subscribe, topics))

    @property
    def matches_patterns(self) -> bool:
        """Whether its coordinator does that, as far as is known."""
        return self._membership.matches_patterns

    def expect(self, regex: str | None = None) -> None:
        """Is a member as soon as topics match its pattern, or at once where the coordinator matches `regex`."""
        self._matched = frozenset()
        self._begin(is_member=True)
        if regex is not None:
            self._group.post(partial(self._membership.subscribe_pattern, regex))

    def stand_alone(self) -> None:
        """Reads what the application assigns, with the group's positions but without a membership."""
        self._begin(is_member=False)

    def unsubscribe(self, reason: str) -> None:
        """Gives all partitions up and leaves the group; without effect where it is no member."""
        if not self.subscribed:
            return
        self.subscribed = False
        try:
            self._give_up(self._held(), lost=self._is_lost())
        finally:
            self._duty = None
            self._group.post(lambda _now_ms: self._membership.leave(reason))

    def look_up(self) -> None:
        """Asks for the group's positions of partitions that begin there."""
        asked = self._assignment.positions_to_ask().items()
        wanted = {tp: slot for tp, slot in asked if self._asking.get(tp) != slot}
        if wanted:
            self._asking.update(wanted)
            done = partial(self._positions_told, wanted)
            self._group.ask(Ask(None, tuple(wanted), float("inf"), True, [done]))

    # --- the reading thread ---

    def __enter__(self) -> None:
        """The application asks for records: what is due is done first."""
        if self._attending:
            raise FastlogError(
                "records were asked for within a callback of the consumer, whose answer is under way: return from the "
                "callback first"
            )
        self._polled_ms = monotonic_ms()
        self._reader = threading.get_ident()
        self._waiting = True
        if self._group.waits_for_poll:
            self._group.wake()
        if self._assignment.called:
            try:
                self.attend()
            except BaseException:
                self.__exit__()
                raise

    def __exit__(self, *_: object) -> None:
        """The application has what it asked for, or nothing."""
        self._polled_ms = monotonic_ms()
        self._waiting = False

    def attend(self) -> None:
        """Does what the group wants of the application. What a callback raises is raised when all is done."""
        self._attending, waiting = True, self._waiting
        self._assignment.called = False
        try:
            self._waiting = False
            self.commits.tell_finished()
            self._perform()
            if self._commit_due:
                self._commit_due = False
                self.commits.commit_in_background()
            self._raise_failure()
        finally:
            self._attending, self._waiting = False, waiting
            self._polled_ms = monotonic_ms()

    def _perform(self) -> None:
        with self._lock:
            duty, self._duty = self._duty, None
        match duty:
            case Release(number, lost, keep):
                gone = frozenset(tp for tp in self._held() if tp.topic not in keep)
                try:
                    self._give_up(gone, lost=lost)
                finally:
                    self._group.post(partial(self._membership.released, number, frozenset(self._held())))
            case Adopt(number, partitions):
                self._adopt(number, frozenset(TopicPartition(*one) for one in partitions))

    def _adopt(self, number: int, target: frozenset[TopicPartition]) -> None:
        held = self._held()
        try:
            self._give_up(held - target, lost=False)
        finally:
            self._assignment.take(target - held)
            self._commit_at_ms = monotonic_ms() + self._options.auto_commit_interval_ms
            self._group.post(partial(self._membership.adopted, number, frozenset(target)))
            self.look_up()
            self._driver.wake()
        if self._listeners.on_assign is not None:
            self._listeners.on_assign(target - held)

    def _give_up(self, partitions: frozenset[TopicPartition], *, lost: bool) -> None:
        if not partitions:
            return
        listeners = self._listeners
        try:
            if lost:
                LOGGER.warning("lost %d partitions: they may be another member's by now", len(partitions))
                # as in Kafka: who does not tell the two apart hears of both
                listener = listeners.on_lost or listeners.on_revoke
            else:
                listener = listeners.on_revoke
                self.commits.commit_before_release(REVOKE_COMMIT_MS)
            if listener is not None:
                listener(partitions)
        finally:
            self._assignment.release(partitions)
            self.commits.forget(partitions)
            for tp in partitions:
                self._asking.pop(tp, None)
            self._dropped()

    def _is_lost(self) -> bool:
        """Whether the partitions that are held may be another member's already."""
        return self._membership.commit_identity() is None

    def _held(self) -> frozenset[TopicPartition]:
        with self._assignment.changed:
            return frozenset(self._assignment.states)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            error, lasting = self._failure
            if lasting:
                self._assignment.call_application()
            else:
                self._failure = None
            raise error

    def metadata(self) -> GroupMetadata:
        """Who the consumer is in its group."""
        identity = self._membership.identity
        return GroupMetadata(
            self._membership.group_id, identity.generation, identity.member_id, identity.instance_id
        )

    # --- the end ---

    def close(self, timeout_ms: float, *, keep: bool) -> None:
        """Commits, gives up the partitions and leaves, within `timeout_ms`. `keep`: what was handed out is done with.

        Where another thread is at work on what it was handed out, or that failed, nothing is committed.
        """
        deadline = self.commits.end_ms = monotonic_ms() + timeout_ms
        here = threading.get_ident()
        settled = self._waiting or self._reader in (None, here)
        try:
            if not self._attending and settled:
                if keep:
                    self.commits.commit_before_release(timeout_ms)
                # once is enough: giving partitions up would try it again
                self.commits.leave_alone()
                if self.subscribed:
                    self.subscribed = False
                    self._give_up(self._held(), lost=self._is_lost())
        finally:
            self._group.close(max(0.0, deadline - monotonic_ms()))
            if settled:
                self.commits.tell_finished()

    # --- for the group's thread (see driver.Application), and the metadata's ---

    def last_poll_ms(self, now_ms: float) -> float:
        """See Application."""
        return now_ms if self._waiting else self._polled_ms

    def call(self, duty: Release | Adopt) -> None:
        """See Application."""
        with self._lock:
            self._duty = duty
        self._driver.call_application()

    def fail(self, error: FastlogError, *, lasting: bool) -> None:
        """See Application."""
        self._failure = (error, lasting)
        self._driver.call_application()

    def watch(self, topics: frozenset[str]) -> None:
        """See Application."""
        if not topics <= self._assignment.watched:
            self._assignment.watched = topics
        self._driver.refresh_soon()

    def name_topics(self, ids: frozenset[bytes]) -> None:
        """See Application."""
        self._driver.name_topics(ids)

    def match_here(self) -> None:
        """See Application."""
        self._driver.match_here()

    def tick(self, now_ms: float) -> float:
        """See Application."""
        if not self._options.enable_auto_commit:
            return float("inf")
        if now_ms >= self._commit_at_ms:
            self._commit_at_ms = now_ms + max(1, self._options.auto_commit_interval_ms)
            self._commit_due = True
            self._driver.call_application()
        return self._commit_at_ms

    def on_image(self, image: ClusterImage) -> None:
        """New metadata: the numbers of partitions, and what matches the pattern. On the metadata's thread."""
        if self._driver.pattern is not None and self.subscribed:
            matched = self._assignment.subscription or frozenset()
            if matched != self._matched:
                self._matched = matched
                self._group.post(partial(self._membership.subscribe, matched))
        wanted = set(image.topics) if self._driver.by_group else self._assignment.topics()
        found = {name: image.topics[name] for name in wanted if name in image.topics}
        counts = {
            name: len(found[name].partitions) if name in found and not found[name].error_code else 0
            for name in wanted
        }
        names = {topic.topic_id: name for name, topic in found.items() if topic.topic_id != ZERO_UUID}
        self._group.post(partial(self._membership.topics_known, counts, names))

    def _positions_told(
        self,
        wanted: dict[TopicPartition, int],
        error: FastlogError | None,
        found: dict[Partition, CommittedOffset],
    ) -> None:
        for tp, slot in wanted.items():
            if self._asking.get(tp) == slot:
                self._asking.pop(tp, None)
            if error is not None:
                self._assignment.refused_by_group(tp, slot, error)
                continue
            offset = found[tp].offset if tp in found else -1
            if offset >= 0:
                self.commits.know(tp, offset)
            self._assignment.told_by_group(tp, slot, offset)
        # positions are looked up, or an error is raised
        self._driver.wake()
        if error is not None:
            self._driver.call_application()

    def _begin(self, *, is_member: bool) -> None:
        if is_member and not self.subscribed:
            # assigned by hand before
            self._assignment.release(self._held())
        self.subscribed = is_member
        self._group.member(wanted=is_member)
        self._polled_ms = monotonic_ms()
        self._commit_at_ms = monotonic_ms() + self._options.auto_commit_interval_ms
