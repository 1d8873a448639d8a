"""A member of a group, whichever protocol it follows: what the thread of a group and the application's side ask of it.

`membership` has one of Kafka's classic protocol, `consumer_membership` one of the consumer protocol (KIP-848). Here is
what both do alike: they look for the coordinator, try again, and give up where the application went away. There are no
sockets, threads or clocks: each event gives what is to be done, and times are of the caller's clock, in milliseconds.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from fastlog.client.group.effects import Effect, Fail, FindCoordinator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.client.backoff import Backoff
    from fastlog.client.group.effects import Identity, Send
    from fastlog.client.group.liveness import Liveness
    from fastlog.errors import KafkaError
    from fastlog.state.assignors import Partition

LOGGER = logging.getLogger("fastlog.consumer")


class GroupMember(ABC):
    """One member, of one group at a time."""

    identity: Identity
    """Who it is now."""
    matches_patterns = False
    """Whether the coordinator does that, as far as is known."""

    def __init__(
        self, group_id: str, *, liveness: Liveness, max_poll_interval_ms: float, backoff: Backoff
    ) -> None:
        """Wants nothing yet. `backoff` spaces what is tried again."""
        self.group_id = group_id
        self._liveness = liveness
        self._max_poll_interval_ms = max_poll_interval_ms
        self._backoff = backoff
        self._failures = 0
        self._retry_at_ms = 0.0
        #: partitions that the application reads
        self.owned: frozenset[Partition] = frozenset()
        self._topics: frozenset[str] | None = None
        #: whether requests can be sent
        self.has_coordinator = self._finding = False
        #: others than the membership have something to ask of the coordinator
        self.requests_wait = False
        #: the member waits for the application's next poll before it joins
        self.away = False
        self._left_ms = -math.inf
        self._duty = 0

    # --- what the application wants ---

    @abstractmethod
    def subscribe(self, topics: frozenset[str], now_ms: float) -> list[Effect]:
        """Wants partitions of `topics`, in place of those before."""

    def subscribe_pattern(self, regex: str, now_ms: float) -> list[Effect]:
        """Wants partitions of topics whose whole names match; only where `matches_patterns`."""
        raise NotImplementedError

    @abstractmethod
    def leave(self, reason: str) -> list[Effect]:
        """Ends the membership."""

    def polled(self, now_ms: float) -> None:
        """The application asked for records at this time: it was alive then."""
        self._liveness.polled(now_ms)
        if now_ms > self._left_ms:
            self.away = False

    @abstractmethod
    def released(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application has given up what Release named and reads `owned` now."""

    @abstractmethod
    def adopted(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application reads its assignment."""

    # --- what the world tells ---

    def coordinator_found(self, now_ms: float) -> list[Effect]:
        """Requests can be sent."""
        self._finding, self.has_coordinator, self._failures = False, True, 0
        self._liveness.missed(now_ms)
        return self.advance(now_ms)

    @abstractmethod
    def coordinator_lost(self, now_ms: float) -> list[Effect]:
        """The coordinator cannot be reached, or is one no longer; what was asked of it has an unknown fate."""

    def coordinator_refused(self, error: KafkaError, now_ms: float) -> list[Effect]:
        """Asking for the coordinator, or asking it, does not help: it would be the same again."""
        self._finding = False
        self._later(now_ms)
        return self._give_up(error, now_ms) if self.wanted else []

    def patterns_unsupported(self, now_ms: float) -> list[Effect]:
        """The coordinator turned out to be too old to match patterns."""
        return []

    @abstractmethod
    def topics_known(
        self, counts: Mapping[str, int], names: Mapping[bytes, str], now_ms: float
    ) -> list[Effect]:
        """Topics have so many partitions, 0 for one that is not there, and ids have these names."""

    @abstractmethod
    def answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        """The coordinator's answer to a request."""

    @abstractmethod
    def commit_refused(self, code: int, identity: Identity, now_ms: float) -> list[Effect]:
        """A commit came back with an error that concerns the membership."""

    # --- time ---

    def advance(self, now_ms: float) -> list[Effect]:
        """Does what is due."""
        if not (self.wanted or self.requests_wait):
            return []
        effects: list[Effect] = []
        if self._needs_polls() and self._liveness.poll_expired(now_ms):
            effects += self._abandon(now_ms)
        if self.has_coordinator:
            effects += self._send_due(now_ms)
        elif not self._finding and now_ms >= self._retry_at_ms:
            self._finding = True
            effects.append(FindCoordinator())
        return effects

    def next_deadline_ms(self) -> float:
        """When `advance` is to be called at the latest; infinity where nothing is due."""
        if not (self.wanted or self.requests_wait):
            return math.inf
        unknown_ms = math.inf if self._finding else self._retry_at_ms
        due = self._next_send_ms() if self.has_coordinator else unknown_ms
        return min(due, self._liveness.next_poll_ms()) if self._needs_polls() else due

    # --- where it stands ---

    @property
    @abstractmethod
    def wanted(self) -> bool:
        """Whether it is to be a member."""

    @property
    @abstractmethod
    def joining(self) -> bool:
        """Whether it is on its way into the group."""

    @abstractmethod
    def commit_identity(self) -> Identity | None:
        """What to send with a commit; None while it may not commit."""

    # --- what differs by protocol ---

    @abstractmethod
    def _send_due(self, now_ms: float) -> list[Effect]:
        """The requests that are due, to a coordinator that is there."""

    @abstractmethod
    def _next_send_ms(self) -> float:
        """When the next one is."""

    @abstractmethod
    def _needs_polls(self) -> bool:
        """Whether the application has to ask for records now and then, or lose its partitions."""

    @abstractmethod
    def _farewell(self, reason: str) -> list[Effect]:
        """Tells the coordinator that it goes."""

    @abstractmethod
    def _forget(self) -> None:
        """It is no member any more."""

    @abstractmethod
    def _lose(self, reason: str, now_ms: float) -> list[Effect]:
        """Gives up all partitions as lost, then joins as soon as it may."""

    @abstractmethod
    def _stop(self) -> None:
        """It is not to join any more."""

    # --- falling out ---

    def _abandon(self, now_ms: float) -> list[Effect]:
        """The application did not ask for records for so long that its partitions go to others."""
        LOGGER.warning(
            "%s: no poll within max_poll_interval_ms (%d ms), so this consumer leaves the group; it joins again with "
            "the next poll. Take fewer records at a time (max_poll_records), or allow more time",
            self._name(),
            self._max_poll_interval_ms,
        )
        effects = self._farewell("no poll within max_poll_interval_ms")
        self._forget()
        self._wait_for_poll(now_ms)
        return effects + self._lose("it was away for max_poll_interval_ms", now_ms)

    def _give_up(self, error: KafkaError, now_ms: float, *, lasting: bool = False) -> list[Effect]:
        """Tells the application; a later poll tries again unless that is pointless."""
        self._forget()
        effects = self._lose("an error", now_ms)
        self._later(now_ms)
        self._wait_for_poll(now_ms)
        if lasting:
            self._stop()
        return [Fail(error, lasting), *effects]

    # --- within ---

    def _wait_for_poll(self, now_ms: float) -> None:
        self.away, self._left_ms = True, now_ms

    def _later(self, now_ms: float) -> None:
        self._failures += 1
        self._retry_at_ms = now_ms + self._backoff.delay_ms(self._failures)

    def _name(self) -> str:
        return f"group {self.group_id!r}"
