"""Drives `state.controller.Controller`: events in, effects carried out in order, one term after the other.

The controller's step and everything that is told is done on the cluster worker's thread. Calls of the store block, so
another thread makes them, one after the other, and their outcomes come back as events: notices go on while ZooKeeper is
slow. An outcome of a term that is over is dropped.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from fastlog.broker.controller import store_calls
from fastlog.broker.controller.config_writes import ConfigWrites
from fastlog.broker.controller.orders import Orders
from fastlog.broker.controller.publishing import Publishing
from fastlog.broker.controller.replies import not_controller, reply
from fastlog.broker.controller.settings_book import SettingsBook
from fastlog.broker.controller.term import Term
from fastlog.broker.peers.messages import Answer
from fastlog.events import EventLog
from fastlog.state.controller import effects as ef
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastlog.broker.controller.ports import Executor, Facts, Replicas, Schedule
    from fastlog.broker.peers.messages import SetConfigs
    from fastlog.broker.peers.ports import Notices, Peers
    from fastlog.ports import FencedError, MetadataStore, Registration, Snapshot
    from fastlog.state.controller.settings import ControllerSettings

    Answered = Callable[[Answer], None]

#: writes of up to 99 partitions that the store pipelines; the leaders that move first are told of before the rest
WRITES_AT_ONCE = 10


class Office:
    """What a controller has for one term."""

    def __init__(
        self, term: Term, book: SettingsBook, publishing: Publishing, orders: Orders, configs: ConfigWrites
    ) -> None:
        self.term = term
        self.book = book
        self.publishing = publishing
        self.orders = orders
        self.configs = configs


class ControllerDriver:
    """The controller of one broker. All calls come from the schedule's thread."""

    def __init__(
        self,
        broker_id: int,
        *,
        settings: ControllerSettings,
        facts: Facts,
        schedule: Schedule,
        stores: Executor,
        peers: Peers,
        notices: Notices,
        replicas: Replicas,
        resigned: Callable[[], None],
    ) -> None:
        """`stores` makes the store's calls; `resigned` is told when a term has ended because it was fenced."""
        self._id = broker_id
        self._settings = settings
        self._facts = facts
        self._schedule = schedule
        self._stores = stores
        self._peers = peers
        self._notices = notices
        self._replicas = replicas
        self._resigned = resigned
        self._controller = Controller(settings)
        self._office: Office | None = None
        self._log = EventLog("controller")

    @property
    def is_active(self) -> bool:
        """Whether it controls, as far as it knows."""
        return self._office is not None

    # --- terms ---

    def begin(
        self, store: MetadataStore, epoch: int, stored: Snapshot, registrations: Sequence[Registration]
    ) -> None:
        """An election was won, with `store` under its fence, and everything read after it."""
        self.end()
        for broken in stored.broken:
            self._log.error("metadata is garbage", path=broken.path, reason=broken.reason)
        topics = {it.topic_id: it.name for it in stored.topics}
        unreadable = tuple(sorted({it.topic for it in stored.broken if it.topic is not None}))
        book = SettingsBook(self._facts, stored.configs, topics)
        self._office = office = self._open(store, epoch, book, unreadable)
        office.orders.know(registrations)
        self._log.info("controller elected", epoch=epoch, topics=len(topics), brokers=len(registrations))
        self.step(
            ev.Elected(
                controller_epoch=epoch,
                topics=stored.topics,
                registrations=tuple(registrations),
                facts={it: office.book.facts_of(it) for it in topics},
                deletions=stored.deletions,
                taken_names=unreadable,
            )
        )

    def _open(
        self, store: MetadataStore, epoch: int, book: SettingsBook, unreadable: tuple[str, ...]
    ) -> Office:
        term = Term(store, epoch, schedule=self._schedule, stores=self._stores, fenced=self._fenced)
        controller = self._controller
        publishing = Publishing(
            controller_id=self._id,
            controller_epoch=epoch,
            notices=self._notices,
            replicas=self._replicas,
            image=controller.image,
            book=book,
            unreadable=unreadable,
        )
        orders = Orders(self._peers, self._schedule, self.step)
        return Office(term, book, publishing, orders, ConfigWrites(term, book, publishing, self.step))

    def _fenced(self, error: FencedError) -> None:
        self._log.warning("controller fenced", reason=str(error))
        self.end()
        self._resigned()

    def end(self) -> None:
        """The term is over: whoever waits is told to look for another controller. Without a term nothing happens."""
        if self._leave():
            for effect in self._controller.step(ev.Fenced(), self._schedule.now_ms()):
                if isinstance(effect, ef.Reply):
                    reply(effect)

    def abandon(self) -> None:
        """As `end`, after an error of ours: nothing of what the controller thought is kept, not even who waits."""
        self._leave()
        self._controller = Controller(self._settings)

    def _leave(self) -> bool:
        office, self._office = self._office, None
        if office is None:
            return False
        self._log.info("controller resigned", epoch=office.term.epoch)
        office.term.end()
        office.orders.end()
        return True

    # --- events ---

    def step(self, event: ev.Event) -> None:
        """Takes in an event, and carries out what follows. Whoever is told something only hands it over."""
        self._carry_out(self._controller.step(event, self._schedule.now_ms()))

    def brokers(self, registrations: Sequence[Registration]) -> None:
        """Who is registered now."""
        if self._office is not None:
            self._office.orders.know(registrations)
            self.step(ev.BrokersChanged(registrations=tuple(registrations)))

    def tick(self) -> None:
        """Time has passed; wanted every half second."""
        if self._office is not None:
            self._office.configs.tick()
            self.step(ev.Tick())

    def beacon(self) -> None:
        """Repeats how far the notices go; wanted every quarter of a second."""
        if self._office is not None:
            self._office.publishing.beacon()

    # --- commands ---

    def ask(self, command: ev.Event, answered: Answered) -> None:
        """A request to the controller; its token is the way back from here on."""
        office = self._office
        if office is None:
            answered(not_controller())
            return
        if isinstance(command, ev.Suspected):
            if command.refused:
                office.orders.look_at(command)
            self.step(command)
            answered(Answer())
            return
        if isinstance(command, ev.CreateAsked):
            # by the same defaults as the facts of all other topics
            command = msgspec.structs.replace(command, facts=office.book.facts(command.configs))
        self.step(msgspec.structs.replace(command, token=answered))

    def ask_snapshot(self, answered: Answered) -> None:
        """Everything."""
        office = self._office
        answered(not_controller() if office is None else Answer(body=office.publishing.snapshot()))

    def set_configs(self, command: SetConfigs, answered: Answered) -> None:
        """See ConfigWrites."""
        if self._office is None:
            answered(not_controller())
        else:
            self._office.configs.set(command, answered)

    # --- effects ---

    def _carry_out(self, effects: Sequence[ef.Effect]) -> None:
        office = self._office
        for kind, group in groupby(effects, type):
            if kind is ef.Reply:
                for effect in group:
                    reply(effect)  # type: ignore[arg-type]
            elif office is not None:
                self._do(office, list(group))

    def _do(self, office: Office, effects: Sequence[ef.Effect]) -> None:
        """Effects of one kind."""
        term = office.term
        writes = [it for it in effects if isinstance(it, ef.Write)]
        for at in range(0, len(writes), WRITES_AT_ONCE):
            some = writes[at : at + WRITES_AT_ONCE]
            term.call(partial(store_calls.write, term.store, some), self._step_all)
        for effect in effects:
            if isinstance(effect, ef.Publish):
                office.publishing.publish(effect)
            elif isinstance(effect, ef.StopReplicas | ef.AskLogEnds):
                office.orders.give(effect)
            elif isinstance(effect, ef.Read):
                term.call(partial(store_calls.read, term.store, effect), self.step)
            elif isinstance(effect, ef.TopicWrite):
                if isinstance(effect, ef.CreateTopic):
                    office.book.making(effect.topic.topic_id, effect.configs)
                term.call(partial(store_calls.write_topic, term.store, effect), self.step)

    def _step_all(self, outcomes: list[ev.Event]) -> None:
        for event in outcomes:
            self.step(event)
