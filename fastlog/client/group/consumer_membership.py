"""A member of a group under the consumer protocol (KIP-848): what it does when, without sockets, threads or clocks.

The coordinator assigns. A member sends heartbeats, of which the first makes it a member and each answer may bring
another assignment. That holds what nobody else has, so the application gives up and takes over in one step; the next
heartbeat, sent at once, says what it has now. The member makes its own id and keeps it through all its memberships
(KIP-1082). Kafka: ConsumerMembershipManager and ConsumerHeartbeatRequestManager.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from fastlog.client.group import requests
from fastlog.client.group.effects import (
    Adopt,
    Effect,
    Identity,
    LoseCoordinator,
    MatchHere,
    NameTopics,
    Release,
    Send,
    Watch,
)
from fastlog.client.group.liveness import Liveness
from fastlog.client.group.member import GroupMember
from fastlog.errors import KafkaError, UnsupportedVersionError, error_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastlog.client.backoff import Backoff
    from fastlog.state.assignors import Partition

LOGGER = logging.getLogger("fastlog.consumer")
UNAVAILABLE, NOT_COORDINATOR = 15, 16
UNKNOWN_MEMBER, FENCED_INSTANCE, FENCED_EPOCH, UNRELEASED_INSTANCE = 25, 82, 110, 111
INVALID_REGULAR_EXPRESSION = 128
JOIN_EPOCH, LEAVE_EPOCH, LEAVE_STATIC_EPOCH = 0, -1, -2
#: until the coordinator says how often it wants to hear of its members
FIRST_INTERVAL_MS = 1_000


class Phase(Enum):
    """Where a member stands."""

    OUTSIDE = auto()
    """Not wanted, or given up after an error."""
    RELEASING = auto()
    """The application has to give up partitions that are lost before it joins again."""
    JOINING = auto()
    """The first heartbeat is under way, or is to be sent."""
    ADOPTING = auto()
    """The application has to take its assignment."""
    STABLE = auto()
    """It reads what it was assigned, as far as that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerGroupSettings:
    """What a member is told once; times in milliseconds."""

    group_id: str
    member_id: str
    group_instance_id: str | None
    max_poll_interval_ms: int
    remote_assignor: str | None = None
    rack: str = ""


class ConsumerMembership(GroupMember):
    """One member. Times are of the caller's clock, in milliseconds."""

    matches_patterns = True

    def __init__(self, settings: ConsumerGroupSettings, backoff: Backoff) -> None:
        """See GroupMember."""
        # how long a session lasts is the coordinator's to know
        liveness = Liveness(
            session_timeout_ms=math.inf,
            heartbeat_interval_ms=FIRST_INTERVAL_MS,
            max_poll_interval_ms=settings.max_poll_interval_ms,
        )
        super().__init__(
            settings.group_id,
            liveness=liveness,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            backoff=backoff,
        )
        self._settings = settings
        self.phase = Phase.OUTSIDE
        self.identity = self._identity(JOIN_EPOCH)
        #: the coordinator may know it
        self._introduced = False
        #: what the coordinator assigned last, by topic id, and names of topics by their ids
        self._assigned: Mapping[bytes, tuple[int, ...]] = {}
        self._names: dict[bytes, str] = {}
        #: ids of the topics that were assigned once, by name
        self._ids: dict[str, bytes] = {}
        # what the last heartbeat said, which is left out of the next; None where the coordinator may not have it
        self._told_topics: frozenset[str] | None = None
        self._told_owned: frozenset[Partition] | None = None
        #: a pattern in place of topics: what is wanted, and what was told; empty for none
        self._regex = self._told_regex = ""
        #: the coordinator may have a pattern, which it keeps until it is told of another, or of none
        self._has_told_regex = False
        #: ids whose names were asked for
        self._unnamed: frozenset[bytes] = frozenset()

    # --- what the application wants ---

    def subscribe(self, topics: frozenset[str], now_ms: float) -> list[Effect]:
        """See GroupMember."""
        return self._want(topics, "", now_ms)

    def subscribe_pattern(self, regex: str, now_ms: float) -> list[Effect]:
        """See GroupMember."""
        if not self.matches_patterns:
            self._topics = None
            return [MatchHere()]
        return self._want(frozenset(), regex, now_ms)

    def _want(self, topics: frozenset[str], regex: str, now_ms: float) -> list[Effect]:
        if regex != self._regex:
            self._regex, self._unnamed = regex, frozenset()
        self._topics = topics
        if self.phase is Phase.OUTSIDE:
            self._liveness.polled(now_ms)
            self._enter_join(now_ms)
        elif not self._has_told_wish():
            self._liveness.hurry(now_ms)
        return self.advance(now_ms)

    def leave(self, reason: str) -> list[Effect]:
        """See GroupMember. A static member says that it will be back: its partitions are kept for its session."""
        effects = self._farewell(reason)
        # the application has given up all that it read
        self._topics, self.phase, self.owned = None, Phase.OUTSIDE, frozenset()
        self.away = False
        self._forget()
        return effects

    def released(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """See GroupMember."""
        self.owned = owned
        if duty != self._duty or self.phase is not Phase.RELEASING:
            return []
        self._enter_join(now_ms)
        return self.advance(now_ms)

    def adopted(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """See GroupMember."""
        self.owned = owned
        if duty != self._duty or self.phase is not Phase.ADOPTING:
            return []
        self.phase = Phase.STABLE
        self._liveness.hurry(now_ms)
        return [*self._reconcile(now_ms), *self.advance(now_ms)]

    # --- what the world tells ---

    def coordinator_lost(self, now_ms: float) -> list[Effect]:
        """See GroupMember."""
        self.has_coordinator = self._finding = False
        self._later(now_ms)
        self._say_all()
        return self.advance(now_ms)

    def coordinator_refused(self, error: KafkaError, now_ms: float) -> list[Effect]:
        """See GroupMember."""
        if isinstance(error, UnsupportedVersionError):
            error.message += "; group_protocol='classic' is what older brokers know"
        return super().coordinator_refused(error, now_ms)

    def patterns_unsupported(self, now_ms: float) -> list[Effect]:
        """See GroupMember. What it has it keeps until it is known which topics match."""
        self._say_all()
        self._liveness.missed(now_ms)
        if not self._regex:
            # the application wants something else by now
            return self.advance(now_ms)
        self.matches_patterns = False
        self._topics, self._regex = None, ""
        return [MatchHere()]

    def topics_known(
        self, counts: Mapping[str, int], names: Mapping[bytes, str], now_ms: float
    ) -> list[Effect]:
        """See GroupMember."""
        self._names.update(names)
        return [*self._reconcile(now_ms), *self.advance(now_ms)]

    def answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        """See GroupMember."""
        if sent.identity != self.identity or not self.wanted:
            # of a membership that is over
            return []
        code = response.error_code
        if code == 0:
            return self._heard(response, now_ms)
        self._later(now_ms)
        self._say_all()
        if code in (UNAVAILABLE, NOT_COORDINATOR):
            return [LoseCoordinator(), *self.coordinator_lost(now_ms)]
        if code in (UNKNOWN_MEMBER, FENCED_EPOCH):
            return self._expelled(code, now_ms)
        error = error_for(code, f"a heartbeat to {self._name()}")
        if response.error_message:
            error.message += f": {response.error_message}"
        if error.retriable:
            return self.advance(now_ms)
        if code in (FENCED_INSTANCE, UNRELEASED_INSTANCE):
            error.message += (
                f": another consumer is the static member {self._settings.group_instance_id!r}, or was until a moment "
                "ago; give each its own group_instance_id"
            )
        if code == INVALID_REGULAR_EXPRESSION:
            error.message += (
                f": brokers match {self._regex!r}, in the syntax of RE2 (https://github.com/google/re2/wiki/Syntax), "
                "which has no look-around and no references to groups"
            )
        # who was replaced does not come back, or both would fight for the name
        return self._give_up(error, now_ms, lasting=code == FENCED_INSTANCE)

    def commit_refused(self, code: int, identity: Identity, now_ms: float) -> list[Effect]:
        """See GroupMember."""
        if identity != self.identity or code not in (UNKNOWN_MEMBER, FENCED_EPOCH):
            return []
        return self._expelled(code, now_ms)

    # --- time ---

    def commit_identity(self) -> Identity | None:
        """See GroupMember."""
        return self.identity if self.identity.generation > JOIN_EPOCH else None

    @property
    def wanted(self) -> bool:
        """Whether it is to be a member."""
        return self._topics is not None and self.phase is not Phase.OUTSIDE

    @property
    def joining(self) -> bool:
        """See GroupMember."""
        return self.phase is Phase.JOINING

    # --- heartbeats ---

    def _send_due(self, now_ms: float) -> list[Effect]:
        is_due = self._beats() and now_ms >= self._retry_at_ms and self._liveness.heartbeat_due(now_ms)
        if not is_due:
            return []
        self._liveness.sent(now_ms)
        return [self._heartbeat()]

    def _next_send_ms(self) -> float:
        return max(self._liveness.next_beat_ms(), self._retry_at_ms) if self._beats() else math.inf

    def _heartbeat(self) -> Send:
        settings, topics = self._settings, self._topics or frozenset()
        is_whole, regex = self._told_topics is None, self._regex
        tells_regex = regex != self._told_regex or (is_whole and self._has_told_regex)
        request = requests.consumer_group_heartbeat(
            settings.group_id,
            self.identity,
            topics=topics if topics != self._told_topics else None,
            regex=regex if tells_regex else None,
            owned=self._by_id(self.owned) if self.owned != self._told_owned else None,
            rebalance_timeout_ms=settings.max_poll_interval_ms if is_whole else None,
            rack=settings.rack if is_whole else "",
            assignor=settings.remote_assignor if is_whole else None,
        )
        self._told_topics, self._told_owned, self._introduced = topics, self.owned, True
        self._told_regex, self._has_told_regex = regex, self._has_told_regex or bool(regex)
        return Send(request, self.identity)

    def _heard(self, response: Any, now_ms: float) -> list[Effect]:
        self._failures = 0
        self._liveness.every(response.heartbeat_interval_ms or FIRST_INTERVAL_MS, now_ms)
        self._liveness.heard(now_ms)
        if self.phase is Phase.JOINING:
            self.phase = Phase.STABLE
            self._liveness.polled(now_ms)
        if response.member_epoch != self.identity.generation:
            LOGGER.info("%s: member epoch %d", self._name(), response.member_epoch)
        self.identity = self._identity(response.member_epoch)
        if response.assignment is not None:
            self._assigned = {
                one.topic_id: tuple(one.partitions) for one in response.assignment.topic_partitions
            }
        if not self._has_told_wish() or self._told_owned != self.owned:
            self._liveness.hurry(now_ms)
        return [*self._reconcile(now_ms), *self.advance(now_ms)]

    def _reconcile(self, now_ms: float) -> list[Effect]:
        """Has the application read what was assigned, as far as the topics' names are known."""
        if self.phase is not Phase.STABLE:
            return []
        effects = self._ask_names(frozenset(self._assigned.keys() - self._names.keys()))
        self._ids |= {
            self._names[topic_id]: topic_id for topic_id in self._assigned if topic_id in self._names
        }
        target = frozenset(
            (self._names[topic_id], number)
            for topic_id, numbers in self._assigned.items()
            if topic_id in self._names
            for number in numbers
        )
        if target == self.owned:
            return effects
        # it had no chance to poll while the coordinator waited for others
        self._liveness.polled(now_ms)
        self.phase = Phase.ADOPTING
        self._duty += 1
        return [*effects, Adopt(self._duty, target)]

    def _ask_names(self, unnamed: frozenset[bytes]) -> list[Effect]:
        """Of topics by name it is enough to watch these; what a pattern matches is only the coordinator's to know."""
        if not self._regex:
            return [Watch(self._topics or frozenset())] if unnamed else []
        asked, self._unnamed = self._unnamed, unnamed
        return [NameTopics(unnamed)] if unnamed or asked else []

    def _has_told_wish(self) -> bool:
        return (self._topics, self._regex) == (self._told_topics, self._told_regex)

    def _by_id(self, partitions: frozenset[Partition]) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for topic, number in sorted(partitions):
            found.setdefault(self._ids[topic], []).append(number)
        return found

    # --- falling out ---

    def _expelled(self, code: int, now_ms: float) -> list[Effect]:
        """The coordinator does not know this member, or not in this epoch."""
        error = error_for(code, f"this consumer is no member of {self._name()} any more")
        LOGGER.warning("%s; joining again", error)
        self._forget()
        return [*self._lose(f"{error.name} from the coordinator", now_ms), *self.advance(now_ms)]

    def _lose(self, reason: str, now_ms: float) -> list[Effect]:
        adopting = self.phase is Phase.ADOPTING
        self._enter_join(now_ms)
        if not (self.owned or adopting):
            return []
        LOGGER.info("%s: partitions are lost, %s", self._name(), reason)
        self.phase = Phase.RELEASING
        self._duty += 1
        return [Release(self._duty, lost=True)]

    def _stop(self) -> None:
        self.phase = Phase.OUTSIDE

    def _forget(self) -> None:
        self.identity = self._identity(JOIN_EPOCH)
        self._introduced = False
        self._assigned = {}
        self._say_all()

    def _farewell(self, reason: str) -> list[Effect]:
        if not (self._introduced and self.has_coordinator):
            return []
        LOGGER.info("%s: leaving, %s", self._name(), reason)
        is_static = self._settings.group_instance_id is not None
        identity = self._identity(LEAVE_STATIC_EPOCH if is_static else LEAVE_EPOCH)
        return [Send(requests.consumer_group_heartbeat(self._settings.group_id, identity), identity)]

    # --- within ---

    def _enter_join(self, now_ms: float) -> None:
        self.phase = Phase.JOINING
        self._liveness.begin(now_ms)
        self._liveness.hurry(now_ms)

    def _say_all(self) -> None:
        """The next heartbeat leaves nothing out: it is not known what the coordinator has of this member."""
        self._told_topics = self._told_owned = None

    def _needs_polls(self) -> bool:
        return self.phase not in (Phase.OUTSIDE, Phase.JOINING) and not self.away

    def _beats(self) -> bool:
        if self.phase is Phase.JOINING:
            return not self.away
        return self.phase in (Phase.ADOPTING, Phase.STABLE)

    def _later(self, now_ms: float) -> None:
        super()._later(now_ms)
        self._liveness.missed(self._retry_at_ms)

    def _identity(self, epoch: int) -> Identity:
        return Identity(epoch, self._settings.member_id, self._settings.group_instance_id)
