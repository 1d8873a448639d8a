"""A broker's process: its session, the controller that it may be, what it hears of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fastlog.broker.controller.orders import Orders
from fastlog.broker.controller.publishing import Publishing
from fastlog.broker.controller.settings_book import MIN_ISR, SettingsBook, facts_from
from fastlog.broker.peers.messages import Answer, AskSnapshot
from fastlog.errors import NotControllerError
from fastlog.ports import Registration, Unknown
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from fastlog.state.replica.lease import Lease
from tests.simulation.network import STORE
from tests.simulation.replicas import Replicas
from tests.simulation.schedule import Schedule
from tests.simulation.store import CALL_MS, SESSION_MS, Session

TICK_MS = 500
BEACON_MS = 250
RETRY_MS = 200


class Broker(Replicas):
    """One process, from its start to its death."""

    def __init__(self, broker_id: int, **parts: Any) -> None:
        self._publishing: Publishing | None = None
        self._orders: Orders | None = None
        super().__init__(broker_id, **parts)
        self.on(ev.IsrAsked, self._propose)
        self.on(AskSnapshot, self._give_snapshot)

    def start(self) -> None:
        """Connects to the store and goes on until it dies."""
        self._connect()
        self._every(TICK_MS, self._tick)
        self._every(BEACON_MS, self._beacon)

    # -- the store -------------------------------------------------------------------------------------------------

    def _call(
        self, operation: Callable[[], Any], done: Callable[[Any], None], lost: Callable[[], None]
    ) -> None:
        """An operation of the store; exactly one of `done` and `lost` is called, `lost` where nobody knows its fate."""
        is_over = False

        def finish(result: Any) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                done(result)

        def give_up() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                lost()

        def arrive() -> None:
            if self._store.is_down:
                return
            if self._session is not None:
                self._store.heard(self._session)
            result = operation()
            self._network.send(STORE, self.id, lambda: self.now(lambda: finish(result)))

        self._network.send(self.id, STORE, arrive)
        self.later(CALL_MS, give_up)

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

    # -- the controller --------------------------------------------------------------------------------------------

    def _stand(self) -> None:
        """Stands for election; who loses waits for the watch."""
        session = self._session
        if session is None or self.registration is None or self.controller.is_active:
            return

        def done(elected: ev.Elected | None) -> None:
            if elected is None or session is not self._session or self.controller.is_active:
                return
            self._begin_term(elected)
            self._decide(elected)
            # who came between the reads of the election and now found nobody to be told
            self._look_at_store()

        self._call(lambda: self._store.elect(session), done, lambda: self.later(RETRY_MS, self._stand))

    def _begin_term(self, elected: ev.Elected) -> None:
        me: Any = self
        self._controller_epoch = elected.controller_epoch
        names = {topic.topic_id: topic.name for topic in elected.topics}
        self._publishing = Publishing(
            controller_id=self.id,
            controller_epoch=elected.controller_epoch,
            notices=me,
            replicas=me,
            image=self.controller.image,
            book=SettingsBook(facts_from({MIN_ISR: str(self._bugs.min_isr)}), {}, names),
        )
        self._end_orders()
        self._orders = Orders(me, Schedule(self), self._decide)

    def _end_orders(self) -> None:
        if self._orders is not None:
            self._orders.end()

    def _step_down_as_controller(self) -> None:
        self._end_orders()
        if self.controller.is_active:
            self._decide(ev.Fenced())

    def _decide(self, event: ev.Event) -> None:
        for effect in self.controller.step(event, self.clock_ms):
            self._carry_out(effect)

    def _carry_out(self, effect: ef.Effect) -> None:
        if isinstance(effect, ef.Write):
            self._write(effect)
        elif isinstance(effect, ef.Read):
            keys, number = effect.keys, effect.read_id
            self._call(
                lambda: self._store.read(keys),
                lambda states: self._decide(ev.ReadBack(read_id=number, states=states)),
                lambda: self._decide(ev.ReadBack(read_id=number, states=None)),
            )
        elif isinstance(effect, ef.Publish):
            assert self._publishing is not None
            self._publishing.publish(effect)
        elif isinstance(effect, ef.Reply):
            effect.token(effect)
        elif isinstance(effect, ef.AskLogEnds | ef.StopReplicas):
            assert self._orders is not None
            self._orders.give(effect)
        elif isinstance(effect, ef.Resign):
            self._stand()

    def _write(self, effect: ef.Write) -> None:
        epoch = self._controller_epoch

        def done(results: Any) -> None:
            if results is None:
                if epoch == self._controller_epoch:
                    self._decide(ev.Fenced())
                return
            self._decide(ev.WriteEnded(write_id=effect.write_id, results=results))

        def lost() -> None:
            unknown = (Unknown("the connection to the store was lost"),) * len(effect.items)
            self._decide(ev.WriteEnded(write_id=effect.write_id, results=unknown))

        self.on_write()
        self._call(lambda: self._store.write(epoch, effect.items), done, lost)

    def _propose(self, asked: ev.IsrAsked, back: Callable[[Answer], None]) -> None:
        self._decide(msgspec.structs.replace(asked, token=lambda reply: back(Answer(body=reply))))

    def _give_snapshot(self, asked: AskSnapshot, back: Callable[[Answer], None]) -> None:
        if self.controller.is_active and self._publishing is not None:
            back(Answer(body=self._publishing.snapshot()))
        else:
            back(Answer(code=NotControllerError.code))

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
