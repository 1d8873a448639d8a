"""What a broker's process does as the controller: its calls of the store, its term, what others ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fastlog.broker.controller.orders import Orders
from fastlog.broker.controller.publishing import Publishing
from fastlog.broker.controller.settings_book import MIN_ISR, SettingsBook, facts_from
from fastlog.broker.peers.messages import Answer, AskSnapshot
from fastlog.errors import NotControllerError
from fastlog.ports import PartitionKey, Unknown
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from tests.simulation.network import STORE
from tests.simulation.replicas import Replicas
from tests.simulation.schedule import Schedule
from tests.simulation.store import CALL_MS

RETRY_MS = 200


class Controlling(Replicas):
    """The controller that a process may be."""

    def __init__(self, broker_id: int, **parts: Any) -> None:
        self._publishing: Publishing | None = None
        self._orders: Orders | None = None
        super().__init__(broker_id, **parts)
        self.on(ev.IsrAsked, self._asked)
        self.on(ev.ShutdownAsked, self._asked)
        self.on(ev.Suspected, self._suspected)
        self.on(AskSnapshot, self._give_snapshot)

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

    def _asked(self, asked: ev.Event, back: Callable[[Answer], None]) -> None:
        self._decide(msgspec.structs.replace(asked, token=lambda reply: back(Answer(body=reply))))

    def _suspected(self, suspected: ev.Suspected, back: Callable[[Answer], None]) -> None:
        self._decide(suspected)
        back(Answer())

    def reassign(self, key: PartitionKey, replicas: tuple[int, ...] | None) -> None:
        """An administrator asks for other replicas, or to have those back that there were."""
        self._decide(ev.ReassignAsked(token=lambda reply: None, targets=((key, replicas),)))

    def _give_snapshot(self, asked: AskSnapshot, back: Callable[[Answer], None]) -> None:
        if self.controller.is_active and self._publishing is not None:
            back(Answer(body=self._publishing.snapshot()))
        else:
            back(Answer(code=NotControllerError.code))

    def _look_at_store(self) -> None:
        """A watch has fired."""
        raise NotImplementedError
