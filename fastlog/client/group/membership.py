"""A member of a group under Kafka's classic protocol: what it does when, without sockets, threads or clocks.

Each method is an event and returns what is to be done. Eager groups (KIP-62) give up all partitions before each
generation, cooperative ones (KIP-429) keep theirs and join again where one has to move. Kafka: AbstractCoordinator and
ConsumerCoordinator.
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
    Release,
    Send,
    Watch,
)
from fastlog.client.group.leading import Leadership
from fastlog.client.group.liveness import Liveness
from fastlog.client.group.member import GroupMember
from fastlog.errors import InconsistentGroupProtocolError, MalformedMessageError, error_for
from fastlog.protocol.api import ApiKey
from fastlog.state.assignors import (
    PROTOCOL_TYPE,
    Subscription,
    decode_assignment,
    encode_subscription,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastlog.client.backoff import Backoff
    from fastlog.state.assignors import Assignor, Partition

LOGGER = logging.getLogger("fastlog.consumer")
LOADING, UNAVAILABLE, NOT_COORDINATOR = 14, 15, 16
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCING = 22, 25, 27
MEMBER_ID_REQUIRED, FENCED = 79, 82
NO_GENERATION = -1
#: the coordinator holds a JoinGroup for as long as members may take to join; Kafka's client adds this for the way
JOIN_LAPSE_MS = 5_000


class Phase(Enum):
    """Where a member stands."""

    OUTSIDE = auto()
    """Not wanted, or given up after an error."""
    RELEASING = auto()
    """The application has to give partitions up before it joins."""
    JOINING = auto()
    """JoinGroup is under way, or is to be sent."""
    ASSIGNING = auto()
    """It leads, and waits for the numbers of partitions."""
    SYNCING = auto()
    """SyncGroup is under way."""
    ADOPTING = auto()
    """The application has to take its assignment."""
    STABLE = auto()
    """It reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSettings:
    """What a member is told once; times in milliseconds. Names and meanings are Kafka's."""

    group_id: str
    group_instance_id: str | None
    session_timeout_ms: int
    heartbeat_interval_ms: int
    max_poll_interval_ms: int
    assignors: Sequence[Assignor]
    rack: str = ""


class Membership(GroupMember):
    """One member. Times are of the caller's clock, in milliseconds."""

    def __init__(self, settings: GroupSettings, backoff: Backoff) -> None:
        """See GroupMember."""
        liveness = Liveness(
            session_timeout_ms=settings.session_timeout_ms,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            max_poll_interval_ms=settings.max_poll_interval_ms,
        )
        super().__init__(
            settings.group_id,
            liveness=liveness,
            max_poll_interval_ms=settings.max_poll_interval_ms,
            backoff=backoff,
        )
        self._settings = settings
        #: Kafka's rule: eager unless all assignors can do without
        self.cooperative = all(assignor.cooperative for assignor in settings.assignors)
        self.phase = Phase.OUTSIDE
        self.identity = Identity(instance_id=settings.group_instance_id)
        self._joined_topics: frozenset[str] = frozenset()
        self._protocol = ""
        self._reason = ""
        #: a rebalance is due as soon as the present one is done
        self._again = ""
        self._in_flight = False
        self._target: frozenset[Partition] = frozenset()
        self._last_given: tuple[tuple[Partition, ...], int] = ((), NO_GENERATION)
        self._leadership = Leadership()

    # --- what the application wants ---

    def subscribe(self, topics: frozenset[str], now_ms: float) -> list[Effect]:
        """Wants partitions of `topics`, in place of those before."""
        changed, self._topics = topics != self._joined_topics, topics
        if self.phase is Phase.OUTSIDE:
            self._liveness.polled(now_ms)
            self.phase, self._reason = Phase.JOINING, "subscribed"
        elif changed:
            self._rejoin("the subscription has changed")
            return self._started_rebalance(now_ms)
        return self.advance(now_ms)

    def leave(self, reason: str) -> list[Effect]:
        """Ends the membership. A static member says no farewell: it may come back within its session."""
        effects = self._farewell(reason)
        self._topics, self._joined_topics, self.phase = None, frozenset(), Phase.OUTSIDE
        self.away = False
        self._forget()
        return effects

    def released(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application has given up what Release named and reads `owned` now."""
        self.owned = owned
        if duty != self._duty or self.phase is not Phase.RELEASING:
            return []
        self.phase = Phase.JOINING
        return self.advance(now_ms)

    def adopted(self, duty: int, owned: frozenset[Partition], now_ms: float) -> list[Effect]:
        """The application reads its assignment."""
        gave_up = self.owned - self._target
        self.owned = owned
        if duty != self._duty or self.phase is not Phase.ADOPTING:
            return []
        self.phase = Phase.STABLE
        if gave_up and self.cooperative:
            self._again = self._again or "partitions were given up for others"
        if self._topics != self._joined_topics:
            self._again = "the subscription has changed"
        return self._started_rebalance(now_ms)

    # --- what the world tells ---

    def coordinator_lost(self, now_ms: float) -> list[Effect]:
        """The coordinator cannot be reached, or is one no longer; what was asked of it has an unknown fate."""
        self.has_coordinator = self._finding = False
        self._liveness.missed(now_ms)
        self._later(now_ms)
        if self.phase is Phase.SYNCING:
            self._enter_join("the coordinator was lost")
        self._in_flight = False
        return self.advance(now_ms)

    def topics_known(
        self, counts: Mapping[str, int], _names: Mapping[bytes, str], now_ms: float
    ) -> list[Effect]:
        """Topics have so many partitions, 0 for one that is not there."""
        is_stale = self._leadership.note(counts)
        if self.phase is Phase.ASSIGNING:
            return self._assign_if_known(now_ms)
        if not is_stale:
            return []
        self._leadership.resign()
        self._rejoin("the partitions of a topic have changed")
        return self._started_rebalance(now_ms)

    def answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        """The coordinator's answer to a request."""
        match int(sent.request.API_KEY):
            case ApiKey.JOIN_GROUP:
                return self._join_answered(sent, response, now_ms)
            case ApiKey.SYNC_GROUP:
                return self._sync_answered(sent, response, now_ms)
            case ApiKey.HEARTBEAT:
                return self._heartbeat_answered(sent, response.error_code, now_ms)
        return []

    def commit_refused(self, code: int, identity: Identity, now_ms: float) -> list[Effect]:
        """A commit came back with an error that concerns the membership."""
        if code == REBALANCING:
            return self._rebalancing(now_ms)
        if identity != self.identity:
            return []
        return self._expelled(code, now_ms)

    # --- time ---

    def commit_identity(self) -> Identity | None:
        """What to send with a commit; None while the group is between two generations."""
        has_one = self.identity.generation != NO_GENERATION
        between = self.phase in (Phase.ASSIGNING, Phase.SYNCING)
        return self.identity if has_one and not between else None

    @property
    def wanted(self) -> bool:
        """Whether it is to be a member."""
        return self._topics is not None and self.phase is not Phase.OUTSIDE

    @property
    def joining(self) -> bool:
        """Whether a generation is being made that this member will be in."""
        return self.phase in (Phase.JOINING, Phase.ASSIGNING, Phase.SYNCING)

    # --- joining ---

    def _send_due(self, now_ms: float) -> list[Effect]:
        if self._beats() and self._liveness.session_expired(now_ms):
            LOGGER.warning(
                "%s: its coordinator was silent for session_timeout_ms; looking for it", self._name()
            )
            self._liveness.begin(now_ms)
            return [LoseCoordinator(), *self.coordinator_lost(now_ms)]
        if self._beats() and self._liveness.heartbeat_due(now_ms):
            self._liveness.sent(now_ms)
            return [
                Send(requests.heartbeat(self._settings.group_id, self.identity), self.identity),
                *self._send_join(now_ms),
            ]
        return self._send_join(now_ms)

    def _next_send_ms(self) -> float:
        waits_to_join = self.phase is Phase.JOINING and not (self._in_flight or self.away)
        due = self._retry_at_ms if waits_to_join else math.inf
        return min(due, self._liveness.next_beat_ms()) if self._beats() else due

    def _send_join(self, now_ms: float) -> list[Effect]:
        waits = self._in_flight or self.away or now_ms < self._retry_at_ms
        if self.phase is not Phase.JOINING or waits or self._topics is None:
            return []
        self._in_flight, self._joined_topics, self._again = True, self._topics, ""
        request = requests.join_group(
            self._settings.group_id,
            self.identity,
            session_timeout_ms=self._settings.session_timeout_ms,
            rebalance_timeout_ms=self._settings.max_poll_interval_ms,
            protocols={
                assignor.name: encode_subscription(self._subscription(assignor))
                for assignor in self._settings.assignors
            },
            reason=self._reason,
        )
        return [Send(request, self.identity, self._settings.max_poll_interval_ms + JOIN_LAPSE_MS)]

    def _subscription(self, assignor: Assignor) -> Subscription:
        last, generation = self._last_given
        return Subscription(
            topics=tuple(self._joined_topics),
            user_data=assignor.user_data(last, generation),
            owned_partitions=tuple(self.owned),
            generation_id=self.identity.generation,
            rack_id=self._settings.rack or None,
        )

    def _join_answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        if self.phase is not Phase.JOINING or not self._in_flight:
            return []
        self._in_flight = False
        code = response.error_code
        if code == 0:
            return self._joined(response, now_ms)
        if code == MEMBER_ID_REQUIRED:
            self.identity = Identity(NO_GENERATION, response.member_id, self._settings.group_instance_id)
            return self.advance(now_ms)
        if code == UNKNOWN_MEMBER:
            return self._expelled(code, now_ms)
        if code in (UNAVAILABLE, NOT_COORDINATOR):
            return [LoseCoordinator(), *self.coordinator_lost(now_ms)]
        error = error_for(code, f"joining {self._name()}")
        if error.retriable or code == REBALANCING:
            self._later(now_ms)
            return self.advance(now_ms)
        return self._give_up(error, now_ms)

    def _joined(self, response: Any, now_ms: float) -> list[Effect]:
        instance = self._settings.group_instance_id
        self.identity = Identity(response.generation_id, response.member_id, instance)
        self._failures = 0
        self._leadership.resign()
        self._liveness.begin(now_ms)
        self._protocol = response.protocol_name or ""
        known = any(assignor.name == self._protocol for assignor in self._settings.assignors)
        if not known or response.protocol_type not in (None, PROTOCOL_TYPE):
            what = f"{self._name()} chose the protocol {response.protocol_type!r} {self._protocol!r}"
            return self._give_up(
                InconsistentGroupProtocolError(f"{what}, which this consumer does not have"), now_ms
            )
        if response.leader != response.member_id:
            return self._sync({})
        try:
            wanted = self._leadership.begin(response.members)
        except MalformedMessageError as error:
            return self._give_up(error_for(-1, f"leading {self._name()}: {error}"), now_ms)
        if response.skip_assignment:
            # a static leader that came back: all keep what they have, and it goes on watching the topics (KIP-814)
            self._leadership.keep(wanted)
            return [Watch(wanted), *self._sync({})]
        self.phase = Phase.ASSIGNING
        return [Watch(wanted), *self._assign_if_known(now_ms)]

    def _assign_if_known(self, now_ms: float) -> list[Effect]:
        (assignor,) = [one for one in self._settings.assignors if one.name == self._protocol]
        assignments = self._leadership.assign(assignor)
        return self.advance(now_ms) if assignments is None else self._sync(assignments)

    def _sync(self, assignments: Mapping[str, bytes]) -> list[Effect]:
        self.phase, self._in_flight = Phase.SYNCING, True
        request = requests.sync_group(self._settings.group_id, self.identity, self._protocol, assignments)
        timeout_ms = self._settings.max_poll_interval_ms + JOIN_LAPSE_MS
        return [Send(request, self.identity, timeout_ms)]

    def _sync_answered(self, sent: Send, response: Any, now_ms: float) -> list[Effect]:
        if self.phase is not Phase.SYNCING or sent.identity != self.identity:
            return []
        self._in_flight = False
        code = response.error_code
        if code == 0:
            return self._synced(response, now_ms)
        if code in (UNKNOWN_MEMBER, ILLEGAL_GENERATION):
            return self._expelled(code, now_ms)
        if code in (UNAVAILABLE, NOT_COORDINATOR):
            return [LoseCoordinator(), *self.coordinator_lost(now_ms)]
        error = error_for(code, f"asking for the assignment of {self._name()}")
        if error.retriable or code == REBALANCING:
            if code != REBALANCING:
                self._later(now_ms)
            self._enter_join("the group began another rebalance")
            return self.advance(now_ms)
        return self._give_up(error, now_ms)

    def _synced(self, response: Any, now_ms: float) -> list[Effect]:
        try:
            given = decode_assignment(response.assignment)
        except MalformedMessageError as error:
            return self._give_up(error_for(-1, f"reading the assignment of {self._name()}: {error}"), now_ms)
        LOGGER.info("%s: generation %d, %d partitions", self._name(), self.identity.generation, len(given))
        self._target = frozenset(given)
        self._last_given = (tuple(given), self.identity.generation)
        # it had no chance to poll while others joined
        self._liveness.polled(now_ms)
        self.phase = Phase.ADOPTING
        self._duty += 1
        return [Adopt(self._duty, self._target), *self.advance(now_ms)]

    # --- staying ---

    def _heartbeat_answered(self, sent: Send, code: int, now_ms: float) -> list[Effect]:
        if code in (0, REBALANCING):
            self._liveness.heard(now_ms)
            return self._rebalancing(now_ms) if code else []
        self._liveness.missed(now_ms + self._backoff.delay_ms(1))
        if code in (UNAVAILABLE, NOT_COORDINATOR):
            return [LoseCoordinator(), *self.coordinator_lost(now_ms)]
        if sent.identity != self.identity or error_for(code).retriable:
            return []
        if code in (UNKNOWN_MEMBER, ILLEGAL_GENERATION, FENCED):
            return self._expelled(code, now_ms)
        return self._give_up(error_for(code, f"a heartbeat to {self._name()}"), now_ms)

    def _rebalancing(self, now_ms: float) -> list[Effect]:
        if self.phase in (Phase.STABLE, Phase.ADOPTING):
            self._rejoin("the group is rebalancing")
        return self._started_rebalance(now_ms)

    def _rejoin(self, reason: str) -> None:
        self._again = self._again or reason

    def _started_rebalance(self, now_ms: float) -> list[Effect]:
        """Begins to join again where that is due and nothing else is under way."""
        if not self._again or self.phase is not Phase.STABLE:
            return self.advance(now_ms)
        self._reason, self._again = self._again, ""
        keep = (self._topics or frozenset()) if self.cooperative else frozenset()
        if all(topic in keep for topic, _ in self.owned):
            self.phase = Phase.JOINING
            return self.advance(now_ms)
        return [self._release(lost=False, keep=keep), *self.advance(now_ms)]

    def _release(self, *, lost: bool, keep: frozenset[str] = frozenset()) -> Release:
        self.phase = Phase.RELEASING
        self._duty += 1
        return Release(self._duty, lost, keep)

    def _enter_join(self, reason: str) -> None:
        self.phase, self._reason, self._in_flight = Phase.JOINING, reason, False

    # --- falling out ---

    def _expelled(self, code: int, now_ms: float) -> list[Effect]:
        """The coordinator does not know this member, or not in this generation."""
        error = error_for(code, f"this consumer is no member of {self._name()} any more")
        if code == FENCED:
            error.message += (
                f": another consumer has joined as the static member {self._settings.group_instance_id!r}; "
                "give each its own group_instance_id"
            )
            return self._give_up(error, now_ms, lasting=True)
        LOGGER.warning("%s; joining again", error)
        self._forget(keep_member_id=code == ILLEGAL_GENERATION)
        return [*self._lose(f"{error.name} from the coordinator", now_ms), *self.advance(now_ms)]

    def _lose(self, reason: str, now_ms: float) -> list[Effect]:
        adopting = self.phase is Phase.ADOPTING
        self._enter_join(reason)
        return [self._release(lost=True)] if self.owned or adopting else []

    def _stop(self) -> None:
        self.phase = Phase.OUTSIDE

    def _forget(self, *, keep_member_id: bool = False) -> None:
        member_id = self.identity.member_id if keep_member_id else ""
        self.identity = Identity(NO_GENERATION, member_id, self._settings.group_instance_id)
        self._again, self._in_flight = "", False
        self._leadership.resign()

    def _farewell(self, reason: str) -> list[Effect]:
        dynamic = self._settings.group_instance_id is None
        if not (dynamic and self.identity.member_id and self.has_coordinator):
            return []
        request = requests.leave_group(self._settings.group_id, self.identity, reason)
        return [Send(request, self.identity)]

    # --- within ---

    def _needs_polls(self) -> bool:
        waits_for_nobody = self.phase in (Phase.OUTSIDE, Phase.JOINING, Phase.SYNCING, Phase.ASSIGNING)
        return not (waits_for_nobody or self.away)

    def _beats(self) -> bool:
        in_one = self.identity.generation != NO_GENERATION
        return in_one and self.phase not in (Phase.OUTSIDE, Phase.JOINING)
