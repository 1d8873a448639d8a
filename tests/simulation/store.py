"""The store: states written conditionally under a fence, sessions with ephemeral registrations, watches. As ZooKeeper.

Everything is one history. A call may get lost on its way there or back, which the caller cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from fastlog.ports import (
    Conflict,
    PartitionKey,
    PartitionState,
    PartitionWrite,
    Registration,
    Topic,
    WriteResult,
    Written,
)
from fastlog.state.controller import events as ev
from fastlog.state.controller.settings import TopicFacts
from tests.simulation.checks import Judge
from tests.simulation.events import Agenda
from tests.simulation.network import STORE, Network

SESSION_MS = 4_000
#: how long after the first sign of trouble a client gives an operation up, as kazoo does at its session's end
CALL_MS = 1_500


class Session(msgspec.Struct):
    """One broker process's session."""

    number: int
    broker: int
    heard_ms: int
    over: bool = False


class Store:
    """What a real one keeps, and the fence. `on_change` is told of brokers and controllers that come and go."""

    def __init__(
        self, agenda: Agenda, network: Network, judge: Judge, topic: Topic, facts: TopicFacts
    ) -> None:
        self._agenda = agenda
        self._network = network
        self._judge = judge
        self._topic = topic
        self._facts = facts
        self.states: dict[PartitionKey, PartitionState] = {
            PartitionKey(topic.topic_id, index): state for index, state in enumerate(topic.partitions)
        }
        self.sessions: dict[int, Session] = {}
        self.registrations: dict[int, tuple[Registration, Session]] = {}
        self.controller: tuple[int, Session] | None = None
        self.controller_epoch = 0
        self.is_down = False
        self._transactions = 100
        self._changes = 0
        #: planted bugs: writes of a former controller are taken, and those made from an older state
        self.ignores_fence = self.ignores_versions = False
        self.watchers: dict[int, Callable[[], None]] = {}
        #: is told of each state that is written, before and after
        self.on_write: Callable[[PartitionState, PartitionState], None] = lambda before, after: None

    # -- sessions --------------------------------------------------------------------------------------------------

    def open_session(self, broker: int) -> Session:
        """A broker process connects."""
        self._transactions += 1
        session = Session(number=self._transactions, broker=broker, heard_ms=self._agenda.now_ms)
        self.sessions[session.number] = session
        self._expect(session)
        return session

    def heard(self, session: Session) -> None:
        """The session's client has shown that it lives."""
        session.heard_ms = self._agenda.now_ms

    def _expect(self, session: Session) -> None:
        self._agenda.after(SESSION_MS + 1, lambda: self._look(session))

    def _look(self, session: Session) -> None:
        if session.over:
            return
        if self.is_down:
            # a store that comes back gives every session its whole time again
            session.heard_ms = self._agenda.now_ms
        left = session.heard_ms + SESSION_MS - self._agenda.now_ms
        if left > 0:
            self._agenda.after(left + 1, lambda: self._look(session))
        else:
            self.end(session)

    def end(self, session: Session) -> None:
        """The session is over: what was ephemeral goes with it."""
        if session.over:
            return
        session.over = True
        self.sessions.pop(session.number, None)
        changed = False
        for broker, (_, owner) in list(self.registrations.items()):
            if owner is session:
                del self.registrations[broker]
                changed = True
        if self.controller is not None and self.controller[1] is session:
            self.controller = None
            changed = True
        if changed:
            self._tell()

    def _tell(self) -> None:
        self._changes += 1
        for broker in sorted(self.watchers):
            self._network.send(STORE, broker, self.watchers[broker])

    # -- operations, as they happen in the store -------------------------------------------------------------------

    def register(
        self, session: Session, incarnation: UUID, *, previous: UUID | None, clean: bool
    ) -> Registration | None:
        """Registers a broker process. None where another one holds its id: not the one of which its directory says that
        it follows it, `previous`; or where the session is over.
        """
        broker = session.broker
        held = self.registrations.get(broker)
        if session.over or (held is not None and held[0].incarnation not in (incarnation, previous)):
            return None
        if held is not None and held[0].incarnation == incarnation and held[1] is session:
            return held[0]
        self._transactions += 1
        registration = Registration(
            broker_id=broker,
            broker_epoch=self._transactions,
            incarnation=incarnation,
            endpoints={"BROKER": ("broker", broker)},
            clean_start=clean,
        )
        self.registrations[broker] = (registration, session)
        self._tell()
        return registration

    def touch(self, session: Session) -> tuple[int, int] | None:
        """The write that renews a lease: the broker epoch under which the session is registered; and how many changes
        there were, since a client that has its connection again is told what it missed.
        """
        if session.over:
            return None
        held = self.registrations.get(session.broker)
        return None if held is None or held[1] is not session else (held[0].broker_epoch, self._changes)

    def elect(self, session: Session) -> ev.Elected | None:
        """Becomes the controller where there is none, and reads everything."""
        if session.over or (self.controller is not None and self.controller[1] is not session):
            return None
        if self.controller is None:
            self.controller_epoch += 1
            self.controller = (session.broker, session)
            self._tell()
        return ev.Elected(
            controller_epoch=self.controller_epoch,
            topics=(self.topic(),),
            registrations=self.registered(),
            facts={self._topic.topic_id: self._facts},
        )

    def write(
        self, controller_epoch: int, items: tuple[PartitionWrite, ...]
    ) -> tuple[WriteResult, ...] | None:
        """Conditional writes under the fence; None where another controller has taken it."""
        if controller_epoch != self.controller_epoch and not self.ignores_fence:
            return None
        results: list[WriteResult] = []
        for item in items:
            actual = self.states[item.key]
            if actual.version != item.state.version and not self.ignores_versions:
                results.append(Conflict(actual))
                continue
            fresh = msgspec.structs.replace(item.state, version=actual.version + 1)
            self._judge.stored(item.key, actual, fresh, controller_epoch, self.controller_epoch)
            self.states[item.key] = fresh
            self.on_write(actual, fresh)
            results.append(Written(fresh.version))
        return tuple(results)

    def read(self, keys: tuple[PartitionKey, ...]) -> tuple[PartitionState | None, ...]:
        """What is stored."""
        return tuple(self.states.get(key) for key in keys)

    def look(self) -> tuple[int, tuple[Registration, ...]]:
        """Who is registered, and as of which change."""
        return self._changes, self.registered()

    def registered(self) -> tuple[Registration, ...]:
        """Who is registered, by id."""
        return tuple(self.registrations[broker][0] for broker in sorted(self.registrations))

    def topic(self) -> Topic:
        """The topic as it is stored."""
        count = len(self._topic.partitions)
        keys = [PartitionKey(self._topic.topic_id, index) for index in range(count)]
        return msgspec.structs.replace(self._topic, partitions=tuple(self.states[key] for key in keys))
