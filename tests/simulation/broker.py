"""A broker's process: its session, the controller that it may be, what it hears of the cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastlog.ports import PartitionKey, Registration, Unknown
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from fastlog.state.replica.lease import Lease
from tests.simulation.network import STORE
from tests.simulation.replicas import Replicas
from tests.simulation.store import CALL_MS, SESSION_MS, Session

TICK_MS = 500
BEACON_MS = 250
SILENCE_MS = 1_000
RETRY_MS = 200


class Broker(Replicas):
    """One process, from its start to its death."""

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
        # what was led was led by the registration that is over: a new one's lease must not vouch for it
        for key in sorted(self.led):
            self._step_down(key)

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
        previous, clean = self.disk.incarnation, self.disk.clean

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
            self.disk.incarnation = self._incarnation
            self.lease = Lease(broker_epoch=found.broker_epoch, session_ms=SESSION_MS)
            self._renew()
            self._stand()
            # states that name this process may have come before it knew its own epoch
            for key, state in sorted(self.states.items()):
                if key not in self.led and self._is_mine(state):
                    self._lead(key, state)

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
            self._controller_epoch = elected.controller_epoch
            self._decide(elected)
            # who came between the reads of the election and now found nobody to be told
            self._look_at_store()

        self._call(lambda: self._store.elect(session), done, lambda: self.later(RETRY_MS, self._stand))

    def _step_down_as_controller(self) -> None:
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
            for target in sorted(self._epochs.keys() | {self.id} | set(self._everybody())):
                self._tell(target, effect)
        elif isinstance(effect, ef.Reply):
            effect.token(effect)
        elif isinstance(effect, ef.AskLogEnds):
            self._ask_log_ends(effect)
        elif isinstance(effect, ef.Resign):
            self._stand()

    def _everybody(self) -> list[int]:
        return [registration.broker_id for registration in self.controller.image().brokers]

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

        self._call(lambda: self._store.write(epoch, effect.items), done, lost)

    def _ask_log_ends(self, effect: ef.AskLogEnds) -> None:
        def asked(peer: Broker) -> None:
            if peer.registration is None or peer.registration.broker_epoch != effect.broker_epoch:
                return
            ends = tuple(
                ev.LogEnd(key=key, last_epoch=peer.log(key).last_epoch, log_end_offset=peer.log(key).end)
                for key in effect.keys
            )
            told = ev.LogEndsTold(broker_id=effect.broker_id, broker_epoch=effect.broker_epoch, ends=ends)
            peer._back(self, lambda: self._decide(told))

        self._to(effect.broker_id, asked)

    # -- metadata --------------------------------------------------------------------------------------------------

    def _tell(self, target: int, delta: ef.Publish) -> None:
        self._to(target, lambda peer: peer._published(delta, self.id))

    def _beacon(self) -> None:
        """The controller repeats how far its deltas go; who is behind asks for everything."""
        if self.controller.is_active:
            image = self.controller.image()
            for target in self._everybody():
                self._to(target, lambda peer: peer._heard_beacon(image, self.id))
        elif self.clock_ms - self._heard_ms > SILENCE_MS and self._controller_at is not None:
            self._ask_snapshot()

    def _heard_beacon(self, image: ef.Image, controller: int) -> None:
        reached = (image.controller_epoch, image.sequence)
        if reached[0] < self._image[0]:
            return
        self._heard_ms, self._controller_at = self.clock_ms, controller
        if reached > self._image:
            self._ask_snapshot()

    def _ask_snapshot(self) -> None:
        if self._controller_at is None:
            return

        def asked(peer: Broker) -> None:
            if peer.controller.is_active:
                image = peer.controller.image()
                peer._back(self, lambda: self._snapshot(image, peer.id))

        self._to(self._controller_at, asked)

    def _published(self, delta: ef.Publish, controller: int) -> None:
        if (delta.controller_epoch, delta.sequence) <= self._image:
            return
        self._heard_ms, self._controller_at = self.clock_ms, controller
        if (delta.controller_epoch, delta.sequence) != (self._image[0], self._image[1] + 1):
            self._ask_snapshot()
            return
        self._image = (delta.controller_epoch, delta.sequence)
        if delta.brokers is not None:
            self._know_brokers(delta.brokers)
        for key, state in delta.partitions:
            self._become(key, state)

    def _snapshot(self, image: ef.Image, controller: int) -> None:
        if (image.controller_epoch, image.sequence) < self._image:
            return
        self._controller_at = controller
        self._image = (image.controller_epoch, image.sequence)
        self._know_brokers(image.brokers)
        for topic in image.topics:
            for index, state in enumerate(topic.partitions):
                self._become(PartitionKey(topic.topic_id, index), state)

    def _know_brokers(self, brokers: tuple[Registration, ...]) -> None:
        self._epochs = {it.broker_id: it.broker_epoch for it in brokers}
        if self.registration is not None and self._epochs.get(self.id) == self.registration.broker_epoch:
            # Only now does nobody count on what was here before an unclean start. A process that died earlier and said
            # that it stopped clean would be elected for a log that it does not have.
            self.disk.clean = True
        for leader in self.isrs.values():
            leader.brokers(self._epochs)

    # -- time ------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self.controller.is_active:
            self._decide(ev.Tick())
        elif self.registration is not None and self._store.controller is None:
            self._stand()
        for key in sorted(self.led):
            self._advance(key)
            self._look(key)
        for leader in sorted(self._fetchers):
            self._fetch(leader)
        if self._rng.random() < 0.3:
            for log in self.disk.logs.values():
                log.flush()
