"""A broker's process: its session, the controller that it may be, what it hears of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlog.broker.peers.messages import Answer
from fastlog.ports import PartitionKey, Registration
from fastlog.state.controller import events as ev
from fastlog.state.controller.effects import Reply
from fastlog.state.replica.lease import Lease
from tests.simulation.controlling import RETRY_MS, Controlling
from tests.simulation.machine import TOPIC
from tests.simulation.network import STORE
from tests.simulation.records import NOW_MS
from tests.simulation.store import SESSION_MS, Session

TICK_MS = 500
BEACON_MS = 250
#: how long a controlled shutdown waits for an answer, and how often it asks
LEAVE_MS, LEAVE_TRIES = 1_000, 3


class Broker(Controlling):
    """One process, from its start to its death."""

    def start(self) -> None:
        """Connects to the store and goes on until it dies."""
        self._connect()
        self._every(TICK_MS, self._tick)
        self._every(BEACON_MS, self._beacon)

    # -- the store -------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """A new session, and a registration in it."""
        self.registration, self.lease, self._session = None, None, None
        self._step_down_as_controller()
        self.engine.set_lease(0)
        # what was led was led by the registration that is over: a new one's lease must not vouch for it
        self.manager.resign()

        def open_session() -> Session:
            session = self._store.open_session(self.id)
            self._store.watchers[self.id] = lambda: self.now(self._look_at_store)
            return session

        def opened(session: Session) -> None:
            if self._session is None:
                self._session = session
                self._register()

        self._call(open_session, opened, lambda: self.later(RETRY_MS, self._reconnect))

    def _reconnect(self) -> None:
        if self._session is None:
            self._connect()

    def _register(self) -> None:
        session = self._session
        if session is None:
            return
        previous, clean = self.machine.incarnation, self.machine.is_clean

        def done(found: Registration | None) -> None:
            if session is not self._session or self.registration is not None:
                return
            if found is None:
                if session.over:
                    self._connect()
                else:
                    self.later(RETRY_MS, self._register)
                return
            self.registration = found
            self.machine.incarnation = self._incarnation
            self.lease = Lease(broker_epoch=found.broker_epoch, session_ms=SESSION_MS)
            self._renew()
            self._stand()
            self.manager.registered(found)

        self._call(
            lambda: self._store.register(session, self._incarnation, previous=previous, clean=clean),
            done,
            lambda: self.later(RETRY_MS, self._register),
        )

    def _renew(self) -> None:
        lease, session, sent_ms = self.lease, self._session, self.clock_ms
        if lease is None or session is None:
            return

        def done(found: tuple[int, int] | None) -> None:
            if lease is not self.lease:
                return
            if found is None or self.registration is None or found[0] != self.registration.broker_epoch:
                lease.lost()
                self._connect()
                return
            lease.renewed(sent_ms=sent_ms, broker_epoch=found[0])
            if lease.until_ms is not None:
                self.engine.set_lease(self._machine_ms(lease.until_ms) * 1_000_000)
            if found[1] != self._changes:
                self._changes = found[1]
                self._look_at_store()

        self._call(lambda: self._store.touch(session), done, lambda: None)
        self.later(lease.interval_ms, lambda: self._renew() if lease is self.lease else None)

    def _look_at_store(self) -> None:
        """A watch has fired: brokers or the controller have changed."""
        if self.controller.is_active:
            self._call(self._store.look, self._seen, lambda: self.later(RETRY_MS, self._look_at_store))
        else:
            self._stand()

    def _seen(self, found: tuple[int, tuple[Registration, ...]]) -> None:
        # an answer that was overtaken would bring back who is gone
        if found[0] >= self._seen_change:
            self._seen_change = found[0]
            self._decide(ev.BrokersChanged(registrations=found[1]))

    # -- metadata --------------------------------------------------------------------------------------------------

    def publish(self, notice: Any) -> None:
        """See Notices."""
        for target in sorted(
            {it.broker_id for it in self.controller.image().brokers} | set(self.image.brokers)
        ):
            if target != self.id:
                self._to(target, lambda peer: peer.told(notice))

    def told(self, notice: Any) -> None:
        """A notice came."""
        self.manager.told(notice)

    def _beacon(self) -> None:
        """The controller repeats how far its deltas go; who is behind asks for everything."""
        if self.controller.is_active and self._publishing is not None:
            self._publishing.beacon()
        self.manager.tick()

    def _accepted(self, broker_epoch: int, controller_epoch: int) -> None:
        """Only now does nobody count on what was here before an unclean start: a process that died earlier and said
        that it stopped clean would be elected for a log that it does not have. Unless the controller that published
        it was replaced by one that has read an older registration.
        """

        def seen(epoch: int) -> None:
            is_same = self.registration is not None and self.registration.broker_epoch == broker_epoch
            if is_same and epoch == controller_epoch:
                self.machine.is_clean = True

        self._call(lambda: self._store.controller_epoch, seen, lambda: None)

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.controller.is_active:
            self._decide(ev.Tick())
        elif self.registration is not None and self._store.controller is None:
            self._stand()
        self.engine.forget_others()
        if self._rng.random() < 0.3:
            self.machine.flush()
            self.engine.enforce_retention(0, NOW_MS + self.machine.now_ms)

    # -- what is asked of it ---------------------------------------------------------------------------------------

    def leave(self, gone: Callable[[], None]) -> None:
        """A controlled shutdown: the controller moves elsewhere what is led here, then the process may go."""
        self.is_leaving = True
        tries = iter(range(LEAVE_TRIES))

        def ask() -> None:
            own = self.registration
            if own is None or next(tries, None) is None:
                gone()
                return
            asked = ev.ShutdownAsked(token=None, broker_id=self.id, broker_epoch=own.broker_epoch)
            self.ask(self.image.controller_id, asked, answered, timeout_ms=LEAVE_MS, lane="")

        def answered(answer: Answer) -> None:
            if answer.code == 0 and isinstance(answer.body, Reply) and not answer.body.items:
                gone()
            else:
                self.later(RETRY_MS, ask)

        ask()

    def close_session(self) -> None:
        """Its last message to the store: nobody has to wait for the session's end."""
        session, store = self._session, self._store
        if session is not None:
            self._network.send(self.id, STORE, lambda: None if store.is_down else store.end(session))

    def suspect(self, other: Registration, *, refused: bool) -> None:
        """A peer's listener refuses, or does no longer."""
        own = self.registration
        if own is not None:
            told = ev.Suspected(
                by=self.id,
                by_epoch=own.broker_epoch,
                of=other.broker_id,
                of_epoch=other.broker_epoch,
                refused=refused,
            )

            def answered(answer: Answer) -> None:
                if answer.code:
                    self.later(RETRY_MS, lambda: self.suspect(other, refused=refused))

            self.ask(self.image.controller_id, told, answered, timeout_ms=LEAVE_MS, lane="")

    def delete_records(self, key: PartitionKey, share: float, at_most: int) -> None:
        """DeleteRecords of a part of what is committed, of none from `at_most` on."""
        log = self.machine.log(key)
        if key in self.led() and log is not None:
            self.engine.look()
            before = log.start + int((log.high_watermark - log.start) * share)
            self.engine.delete_records(TOPIC, key.partition, max(log.start, min(before, at_most)))
