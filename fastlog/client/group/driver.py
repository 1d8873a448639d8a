"""The group's thread: heartbeats, joining, commits. It never runs the application's code but `Ask.done`."""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from fastlog.client.connection import monotonic_ms
from fastlog.client.group import requests
from fastlog.client.group.asking import NOT_THE_COORDINATOR, Ask, AskQueue
from fastlog.client.group.effects import (
    Adopt,
    Effect,
    Fail,
    FindCoordinator,
    LoseCoordinator,
    MatchHere,
    NameTopics,
    Release,
    Send,
    Watch,
)
from fastlog.client.group.links import Broken, Links, Outcome, PatternsUnsupportedError, Role
from fastlog.client.wakeup import Wakeup
from fastlog.errors import ClosedError, FastlogError, KafkaError, error_for
from fastlog.protocol.api import ApiKey

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.client.backoff import Backoff
    from fastlog.client.group.effects import Identity
    from fastlog.client.group.member import GroupMember

LOGGER = logging.getLogger("fastlog.consumer")
#: one line in this time about a coordinator that cannot be reached
WARNING_INTERVAL_MS = 10_000
HEARTBEATS = (ApiKey.HEARTBEAT, ApiKey.CONSUMER_GROUP_HEARTBEAT)
#: a coordinator answers heartbeats at once, and any broker takes connections and tells whom to ask: one that does not
#: may be stopped or cut off, and where there are others they are asked
HEARTBEAT_TIMEOUT_MS = 5_000.0
PATIENCE_MS = 2_000.0
#: one turn waits no longer than this
TURN_MS_MAX = 1_000.0


class Application(Protocol):
    """The application's side, as this thread sees it. Nothing in it blocks."""

    def last_poll_ms(self, now_ms: float) -> float:
        """When the application last asked for records; `now_ms` while it waits for them."""

    def call(self, duty: Release | Adopt) -> None:
        """Has the application do something with its next poll, in place of what it was to do before."""

    def fail(self, error: FastlogError, *, lasting: bool) -> None:
        """Has the application's next poll raise `error`."""

    def watch(self, topics: frozenset[str]) -> None:
        """Wants the numbers of partitions of `topics`."""

    def name_topics(self, ids: frozenset[bytes]) -> None:
        """Wants the names of these topics, and no others."""

    def match_here(self) -> None:
        """Wants what matches the pattern."""

    def tick(self, now_ms: float) -> float:
        """Has the application commit where that is due; returns when it will be again."""


class GroupDriver:
    """One thread that waits at all the group's connections."""

    def __init__(
        self,
        *,
        group_id: str,
        membership: GroupMember,
        backoff: Backoff,
        links: Links,
        brokers: Callable[[], Sequence[tuple[str, int]]],
        application: Application,
    ) -> None:
        """Connects to nobody yet. `brokers` gives the addresses of those that may know the coordinator."""
        self._group_id = group_id
        self._membership = membership
        self._links = links
        self._brokers = brokers
        self._application = application
        self._commits = AskQueue(group_id, membership, backoff)
        self._questions = AskQueue(group_id, membership, backoff)
        self._lock = threading.Lock()
        self._inbox: deque[Callable[[float], list[Effect]]] = deque()
        self._wakeup = Wakeup()
        self._tries = itertools.count()
        self._coordinator: tuple[str, int] | None = None
        self._is_member = False
        self._quiet_until_ms = 0.0
        self._end_ms: float | None = None
        self._leaving: Send | None = None
        self._ended = False
        #: the membership waits for a poll, which then has to wake this thread
        self.waits_for_poll = False
        self._thread = threading.Thread(target=self._run, name="fastlog-group", daemon=True)

    # --- for other threads ---

    def post(self, event: Callable[[float], list[Effect]]) -> None:
        """Has the thread call `event` with the time; starts the thread."""
        with self._lock:
            self._inbox.append(event)
            if self._ended:
                return
            self._wakeup.signal()
            if self._thread.ident is None:
                self._thread.start()

    def ask(self, ask: Ask) -> None:
        """Has the thread ask the coordinator; `ask.done` is called in any case, on that thread or on this one."""
        queue = self._questions if ask.offsets is None else self._commits

        def add(_now_ms: float) -> list[Effect]:
            queue.add(ask)
            return []

        self.post(add)
        if self._ended:
            self._refuse_rest()

    def member(self, *, wanted: bool) -> None:
        """Whether commits are a member's; without a membership they need none."""
        self._is_member = wanted

    def wake(self) -> None:
        """Ends the thread's sleep."""
        with self._lock:
            if not self._ended:
                self._wakeup.signal()

    def close(self, timeout_ms: float) -> None:
        """Settles what was asked, leaves the group and ends the thread; waits at most `timeout_ms`."""
        with self._lock:
            if self._end_ms is None:
                self._end_ms = monotonic_ms() + timeout_ms
            started = self._thread.ident is not None
            if not self._ended:
                self._wakeup.signal()
        if started and self._thread is not threading.current_thread():
            self._thread.join(timeout_ms / 1000)
        if not started:
            self._finish()

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._is_over(monotonic_ms()):
                self._turn()
        except Exception as error:
            # a bug of ours: the application has to learn that its group does not go on
            LOGGER.exception("the consumer's group thread failed")
            failure = FastlogError(f"the consumer's group thread failed: {error!r}; make a new consumer")
            self._application.fail(failure, lasting=True)
            raise
        finally:
            self._finish()

    def _turn(self) -> None:
        for event in self._take_inbox():
            self._do(event(monotonic_ms()))
        now_ms = monotonic_ms()
        for outcome in list(self._links.process(now_ms)):
            self._take(outcome, now_ms)
        self._membership.polled(self._application.last_poll_ms(now_ms))
        self._membership.requests_wait = bool(self._commits) or bool(self._questions)
        self._commits.expire(now_ms)
        self._questions.expire(now_ms)
        self._do(self._membership.advance(now_ms))
        self._pump(now_ms)
        self.waits_for_poll = self._membership.away
        tick_ms = self._application.tick(now_ms)
        self._links.wait(self._sleep_ms(tick_ms), self._wakeup.descriptor)

    def _take_inbox(self) -> list[Callable[[float], list[Effect]]]:
        with self._lock:
            self._wakeup.acknowledge_all()
            events = list(self._inbox)
            self._inbox.clear()
        return events

    def _sleep_ms(self, tick_ms: float) -> float:
        can_send = self._membership.has_coordinator
        due_ms = min(
            tick_ms,
            self._membership.next_deadline_ms(),
            self._links.next_deadline_ms(),
            self._commits.next_deadline_ms(can_send=can_send),
            self._questions.next_deadline_ms(can_send=can_send),
            float("inf") if self._end_ms is None else self._end_ms,
        )
        return max(0.0, min(due_ms - monotonic_ms(), TURN_MS_MAX))

    def _is_over(self, now_ms: float) -> bool:
        """Whether the end was asked for and has come; begins to leave when all else is settled."""
        if self._end_ms is None:
            return False
        if now_ms >= self._end_ms:
            return True
        with self._lock:
            unsettled = bool(self._inbox)
        if unsettled or self._commits:
            return False
        if self._leaving is None:
            effects = [
                one for one in self._membership.leave("the consumer is closed") if isinstance(one, Send)
            ]
            if not effects:
                return True
            self._leaving = effects[0]
            self._do(effects)
            return not self._links.is_open(Role.WORK)
        return False

    def _finish(self) -> None:
        with self._lock:
            self._ended = True
        self._links.close()
        self._refuse_rest()
        with self._lock:
            self._wakeup.close()

    def _refuse_rest(self) -> None:
        """Settles what nobody will do any more."""
        for event in self._leftovers():
            event(monotonic_ms())
        error = ClosedError(
            f"the consumer of group {self._group_id!r} was closed before its coordinator answered"
        )
        self._commits.fail_all(error)
        self._questions.fail_all(error)

    def _leftovers(self) -> list[Callable[[float], list[Effect]]]:
        with self._lock:
            events = list(self._inbox)
            self._inbox.clear()
        return events

    # --- what the membership wants ---

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case FindCoordinator():
                    self._find()
                case LoseCoordinator():
                    self._drop_coordinator("it coordinates the group no longer")
                case Send():
                    self._send(effect)
                case Release() | Adopt():
                    self._application.call(effect)
                case Watch(topics):
                    self._application.watch(topics)
                case NameTopics(ids):
                    self._application.name_topics(ids)
                case MatchHere():
                    self._application.match_here()
                case Fail(error, lasting):
                    self._application.fail(error, lasting=lasting)

    def _find(self) -> None:
        brokers = self._brokers()
        address = brokers[next(self._tries) % len(brokers)]
        self._open(Role.FIND, address)
        request = requests.find_coordinator(self._group_id)
        self._links.send(Role.FIND, request, None, at_most_ms=self._patience_ms())

    def _patience_ms(self) -> float:
        return PATIENCE_MS if len(set(self._brokers())) > 1 else math.inf

    def _open(self, role: Role, address: tuple[str, int]) -> None:
        self._links.open(role, address, monotonic_ms(), at_most_ms=self._patience_ms())

    def _send(self, send: Send) -> None:
        role = Role.JOIN if send.request.API_KEY in (ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP) else Role.WORK
        if not self._links.is_open(role) and self._coordinator is not None:
            self._open(role, self._coordinator)
        at_most_ms = HEARTBEAT_TIMEOUT_MS if send.request.API_KEY in HEARTBEATS else math.inf
        self._links.send(role, send.request, send, send.timeout_ms, at_most_ms=at_most_ms)

    def _pump(self, now_ms: float) -> None:
        if not self._membership.has_coordinator:
            return
        for queue in (self._commits, self._questions):
            next_one = queue.next_request(now_ms, is_member=self._is_member)
            if next_one is not None:
                self._links.send(Role.WORK, *next_one)
        # what the links were just given is sent at once where they can
        for outcome in list(self._links.process(now_ms)):
            self._take(outcome, now_ms)

    # --- what came ---

    def _take(self, outcome: Outcome | Broken, now_ms: float) -> None:
        if isinstance(outcome, Broken):
            self._broken(outcome, now_ms)
        elif isinstance(outcome.token, Ask):
            self._ask_answered(outcome.token, outcome, now_ms)
        elif isinstance(outcome.token, Send):
            self._member_answered(outcome.token, outcome, now_ms)
        else:
            self._found(outcome, now_ms)

    def _broken(self, broken: Broken, now_ms: float) -> None:
        if self._leaving is not None and broken.role is Role.WORK:
            self._end_ms = now_ms
        if now_ms >= self._quiet_until_ms and self._end_ms is None:
            self._quiet_until_ms = now_ms + WARNING_INTERVAL_MS
            LOGGER.warning("the coordinator of group %r: %s; trying on", self._group_id, broken.reason)
        if broken.role is Role.FIND:
            self._questions.explain(broken.reason)
            self._commits.explain(broken.reason)
        self._drop_coordinator(broken.reason)
        self._do(self._membership.coordinator_lost(now_ms))

    def _drop_coordinator(self, reason: str) -> None:
        self._links.close()
        self._coordinator = None
        now_ms = monotonic_ms()
        self._commits.lost(now_ms, reason)
        self._questions.lost(now_ms, reason)

    def _found(self, outcome: Outcome, now_ms: float) -> None:
        self._links.close(Role.FIND)
        code = requests.group_error(outcome.response) if outcome.response is not None else 0
        error = outcome.error or (
            error_for(code, f"finding the coordinator of group {self._group_id!r}") if code else None
        )
        if error is None:
            found = (outcome.response.coordinators or [outcome.response])[0]
            self._coordinator = (found.host, found.port)
            self._open(Role.WORK, self._coordinator)
            self._do(self._membership.coordinator_found(now_ms))
        elif isinstance(error, KafkaError) and error.retriable:
            self._commits.explain(str(error))
            self._questions.explain(str(error))
            self._do(self._membership.coordinator_lost(now_ms))
        else:
            self._refused(error, now_ms)

    def _refused(self, error: FastlogError, now_ms: float) -> None:
        """The coordinator cannot be found or asked, and that will not change."""
        self._commits.fail_all(error)
        self._questions.fail_all(error)
        kafka_error = error if isinstance(error, KafkaError) else error_for(-1, str(error))
        self._do(self._membership.coordinator_refused(kafka_error, now_ms))

    def _member_answered(self, send: Send, outcome: Outcome, now_ms: float) -> None:
        key = send.request.API_KEY
        if isinstance(outcome.error, PatternsUnsupportedError):
            self._do(self._membership.patterns_unsupported(now_ms))
            return
        if outcome.error is not None:
            self._refused(outcome.error, now_ms)
            return
        if send is self._leaving:
            self._end_ms = now_ms
        if key == ApiKey.SYNC_GROUP:
            # rebalances are rare: a connection that idles between them is ended by the broker, as if it were lost
            self._links.close(Role.JOIN)
        self._do(self._membership.answered(send, outcome.response, now_ms))

    def _ask_answered(self, ask: Ask, outcome: Outcome, now_ms: float) -> None:
        queue = self._questions if ask.offsets is None else self._commits
        if outcome.error is not None:
            queue.refused(ask, outcome.error)
            return
        queue.answered(ask, outcome.response, now_ms, partial(self._group_refused, now_ms))

    def _group_refused(self, now_ms: float, code: int, identity: Identity) -> None:
        if code in NOT_THE_COORDINATOR:
            self._drop_coordinator("it coordinates the group no longer")
            self._do(self._membership.coordinator_lost(now_ms))
        elif self._is_member:
            self._do(self._membership.commit_refused(code, identity, now_ms))
