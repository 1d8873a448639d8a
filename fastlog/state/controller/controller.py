"""The controller: one event and the time in, effects out. docs/cluster.md has the rules and why they are so.

Everything is decided on what is known to be written: an event marks the partitions that it concerns, and each that has
no write on its way is settled; a request waits until its partition is settled and free. So a conflict is nothing but a
new state, and what comes while a write is on its way is decided on what the write left.
"""

from __future__ import annotations

from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any

from fastlog.errors import (
    ElectionNotNeededError,
    InvalidRequestError,
    KafkaError,
    NotControllerError,
    StaleBrokerEpochError,
)
from fastlog.state.controller import events as ev
from fastlog.state.controller.asks import ElectAsk, IsrAsk, Pending, ReassignAsk
from fastlog.state.controller.brokers import Brokers
from fastlog.state.controller.decide.balance import imbalanced
from fastlog.state.controller.decide.reassignment import is_reassigning
from fastlog.state.controller.effects import Effect, Image, Item, Publish, Reply, Resign
from fastlog.state.controller.log_ends import LogEnds
from fastlog.state.controller.offline import OfflineReplicas
from fastlog.state.controller.partitions import Partitions
from fastlog.state.controller.settings import ControllerSettings, TopicFacts
from fastlog.state.controller.settling import Settling
from fastlog.state.controller.suspicion import Suspicions
from fastlog.state.controller.topics import Change, TopicChanges, refused
from fastlog.state.controller.writes import Writes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastlog.ports import PartitionKey, PartitionState, Registration, Topic, TopicId

NOT_CONTROLLER = "this broker is not the controller: look for it anew"


class Controller:
    """Decides while it is elected, and refuses while it is not. Its caller carries out the effects in their order."""

    def __init__(self, settings: ControllerSettings | None = None) -> None:
        self._settings = settings or ControllerSettings()
        self._is_active = False
        self._epoch = 0
        self._first_write = 1
        self._reset(0)

    def _reset(self, now_ms: int) -> None:
        settings = self._settings
        self._sequence = 0
        self._brokers = Brokers()
        self._offline = OfflineReplicas(self._brokers)
        self._partitions = Partitions()
        self._writes = Writes(settings.write_items, self._first_write)
        self._log_ends = LogEnds(settings.log_end_wait_ms)
        self._suspicions = Suspicions(
            interval_ms=settings.suspicion_interval_ms, peers_min=settings.suspecting_peers
        )
        self._settling = Settling(
            partitions=self._partitions,
            brokers=self._offline,
            writes=self._writes,
            log_ends=self._log_ends,
            asks_max=settings.asks_per_partition,
        )
        self._topics = TopicChanges(self._partitions, self._brokers, self._writes)
        self._shutdowns: list[tuple[Any, int]] = []
        self._balance_ms = now_ms + settings.imbalance_check_ms
        self._balancing: list[PartitionKey] = []
        self._retry_ms = now_ms
        self._log_end_ms = now_ms
        self._is_retrying = self._is_reading = False
        # of this step
        self._told: list[Effect] = []
        self._replies: list[Reply] = []
        self._created: list[Topic] = []
        self._deleted: list[TopicId] = []
        self._published: tuple[Registration, ...] | None = None

    # --- the way in and out ---

    @property
    def is_active(self) -> bool:
        """Whether it is elected, as far as it knows."""
        return self._is_active

    @property
    def position(self) -> tuple[int, int]:
        """(controller epoch, sequence) of the last delta, for those who ask whether they have missed any."""
        return self._epoch, self._sequence

    def is_quiet(self) -> bool:
        """Whether nothing about a partition waits to be decided, written or answered."""
        return self._settling.is_quiet(self._partitions) and not self._shutdowns

    def step(self, event: ev.Event, now_ms: int) -> list[Effect]:
        """Takes in one event; `now_ms` is monotonic. Writes come before everything that they are the reason for."""
        if isinstance(event, ev.Elected):
            resigned = self._refuse_everybody() if self._is_active else []
            self._load(event, now_ms)
            return [*resigned, *self._effects(now_ms)]
        if not self._is_active:
            token = getattr(event, "token", None)
            return [] if token is None else [refused(token, NotControllerError(NOT_CONTROLLER))]
        if isinstance(event, ev.Fenced):
            return [*self._refuse_everybody(), Resign()]
        try:
            self._on(event, now_ms)
        except KafkaError as error:
            self._replies.append(refused(getattr(event, "token", None), error))
        return self._effects(now_ms)

    def image(self) -> Image:
        """A snapshot of what is written, as of the last delta; to be taken between two steps."""
        return Image(
            controller_epoch=self._epoch,
            sequence=self._sequence,
            brokers=self._accepted(),
            topics=self._partitions.image(),
        )

    def reassignments(self, keys: Iterable[PartitionKey] | None) -> list[tuple[PartitionKey, PartitionState]]:
        """ListPartitionReassignments: those of `keys`, or of all for None, that are being reassigned."""
        wanted = sorted(self._partitions) if keys is None else [it for it in keys if it in self._partitions]
        found = ((it, self._partitions[it]) for it in wanted)
        return [(key, state) for key, state in found if is_reassigning(state)]

    def _load(self, event: ev.Elected, now_ms: int) -> None:
        self._first_write = self._writes.number()
        self._reset(now_ms)
        self._is_active = True
        self._epoch = event.controller_epoch
        for topic in event.topics:
            self._partitions.add_topic(topic, event.facts.get(topic.topic_id, TopicFacts()))
        self._topics.load(event.deletions, event.taken_names)
        self._brokers.register(event.registrations)
        for registration in event.registrations:
            if self._partitions.admitted(registration):
                self._brokers.accept_known(registration.broker_id)
        self._settling.mark(self._partitions)

    def _refuse_everybody(self) -> list[Effect]:
        error = NotControllerError(NOT_CONTROLLER)
        answers: list[Effect] = [
            *self._settling.refuse_all(error),
            *(refused(token, error) for token, _ in self._shutdowns),
            *self._topics.give_up(),
        ]
        self._first_write = self._writes.number()
        self._reset(0)
        self._is_active = False
        return answers

    def _effects(self, now_ms: int) -> list[Effect]:
        """Decides all that came up, and answers it in the order in which it must happen."""
        while True:
            self._settling.run(now_ms)
            accepted = self._brokers.accept(self._counts_on_former)
            if not accepted:
                break
            for broker in accepted:
                self._settling.accepted(broker)
        effects: list[Effect] = [*self._writes.effects(), *self._told]
        if self._is_retrying:
            effects += self._topics.retry()
        if self._is_retrying or self._is_reading:
            effects += self._writes.read_uncertain()
        effects += [*self._topics.stop_replicas(), *self._log_ends.effects(self._brokers)]
        effects += [*self._publish(), *self._settling.replies, *self._replies, *self._shut_down()]
        self._told, self._replies, self._settling.replies, self._is_retrying = [], [], [], False
        self._is_reading = False
        return effects

    def _counts_on_former(self, registration: Registration) -> bool:
        return self._partitions.counts_on_former(registration) or self._writes.counts_on_former(registration)

    def _accepted(self) -> tuple[Registration, ...]:
        return tuple(it for it in self._brokers.registrations() if self._brokers.is_accepted(it.broker_id))

    def _publish(self) -> list[Effect]:
        accepted = self._accepted()
        fresh = {it.topic_id for it in self._created}
        changed = tuple((k, v) for k, v in sorted(self._settling.changed.items()) if k.topic_id not in fresh)
        if not (changed or self._created or self._deleted) and accepted == self._published:
            return []
        self._sequence += 1
        delta = Publish(
            controller_epoch=self._epoch,
            sequence=self._sequence,
            topics=tuple(self._created),
            partitions=changed,
            deleted=tuple(self._deleted),
            brokers=None if accepted == self._published else accepted,
        )
        self._published, self._created, self._deleted, self._settling.changed = accepted, [], [], {}
        return [delta]

    # --- events ---

    @singledispatchmethod
    def _on(self, event: ev.Event, now_ms: int) -> None:
        raise NotImplementedError(type(event).__name__)

    @_on.register
    def _(self, event: ev.BrokersChanged, now_ms: int) -> None:
        changed = self._brokers.register(event.registrations)
        self._offline.forget(changed)
        for broker in sorted(changed):
            self._settling.mark(self._partitions.hosted_by(broker))
        self._judge(now_ms)

    @_on.register
    def _(self, event: ev.Suspected, now_ms: int) -> None:
        self._suspicions.tell(event, self._brokers)
        self._judge(now_ms)

    def _judge(self, now_ms: int) -> None:
        for broker in sorted(self._brokers.suspect(self._suspicions.decide(self._brokers, now_ms))):
            self._settling.mark(self._partitions.hosted_by(broker))

    @_on.register
    def _(self, event: ev.FactsChanged, now_ms: int) -> None:
        self._partitions.set_facts(event.topic_id, event.facts)
        self._settling.mark(self._partitions.keys_of(event.topic_id))

    @_on.register
    def _(self, event: ev.LogEndsTold, now_ms: int) -> None:
        self._settling.mark(self._log_ends.told(event))

    @_on.register
    def _(self, event: ev.Tick, now_ms: int) -> None:
        self._judge(now_ms)
        self._balance(now_ms)
        if now_ms - self._retry_ms >= self._settings.retry_ms:
            self._retry_ms = now_ms
            self._is_retrying = True
        if now_ms - self._log_end_ms >= self._settings.log_end_wait_ms:
            self._log_end_ms = now_ms
            self._settling.mark(self._log_ends.ask_again())

    def _balance(self, now_ms: int) -> None:
        settings = self._settings
        if not settings.auto_leader_rebalance or now_ms < self._balance_ms:
            return
        if not self._settling.is_quiet(self._balancing):
            return
        wanted = imbalanced(self._partitions.states(), self._brokers, settings.imbalance_percent)
        self._balancing = wanted[: settings.balance_batch]
        if not self._balancing:
            self._balance_ms = now_ms + settings.imbalance_check_ms
        for key in self._balancing:
            self._settling.ask(ElectAsk(key, None, 0, "preferred"))

    @_on.register
    def _(self, event: ev.WriteEnded, now_ms: int) -> None:
        self._settling.landed(self._writes.ended(event.write_id, event.results))
        # at once; what cannot be read either waits for a tick
        self._is_reading = True

    @_on.register
    def _(self, event: ev.ReadBack, now_ms: int) -> None:
        self._settling.landed(self._writes.read_back(event.read_id, event.states))

    # --- requests about partitions ---

    @_on.register
    def _(self, event: ev.IsrAsked, now_ms: int) -> None:
        self._check_broker(event.broker_id, event.broker_epoch)
        pending = self._pending(event.token, [it.key for it in event.proposals])
        for index, proposed in enumerate(event.proposals):
            self._settling.ask(IsrAsk(pending, index, event.broker_id, event.broker_epoch, proposed))

    @_on.register
    def _(self, event: ev.ReplicasOffline, now_ms: int) -> None:
        self._check_broker(event.broker_id, event.broker_epoch)
        changed = self._offline.tell(event.broker_id, event.keys)
        self._settling.mark(it for it in changed if it in self._partitions)
        self._replies.append(Reply(token=event.token))

    @_on.register
    def _(self, event: ev.ReassignAsked, now_ms: int) -> None:
        keys = [key for key, _ in event.targets]
        if twice := {it for it in keys if keys.count(it) > 1} if len(set(keys)) < len(keys) else set():
            raise InvalidRequestError(f"the request has two targets for {sorted(twice)[0]}: give one")
        pending = self._pending(event.token, keys)
        for index, (key, replicas) in enumerate(event.targets):
            self._settling.ask(ReassignAsk(key, pending, index, replicas))

    @_on.register
    def _(self, event: ev.ElectAsked, now_ms: int) -> None:
        keys = sorted(self._partitions) if event.keys is None else list(event.keys)
        leave_out = ElectionNotNeededError.code if event.keys is None else None
        pending = self._pending(event.token, keys, leave_out)
        for index, key in enumerate(keys):
            self._settling.ask(ElectAsk(key, pending, index, event.kind))

    def _pending(self, token: Any, keys: list[PartitionKey], leave_out: int | None = None) -> Pending:
        pending = Pending(token, keys, leave_out)
        if not keys:
            self._replies.append(pending.reply())
        return pending

    def _check_broker(self, broker: int, epoch: int) -> None:
        if not self._brokers.is_registered(broker, epoch):
            raise StaleBrokerEpochError(f"broker {broker} is not registered with the broker epoch {epoch}")

    @_on.register
    def _(self, event: ev.ShutdownAsked, now_ms: int) -> None:
        self._check_broker(event.broker_id, event.broker_epoch)
        self._brokers.shut_down(event.broker_id)
        self._settling.mark(self._partitions.hosted_by(event.broker_id))
        self._shutdowns.append((event.token, event.broker_id))

    def _shut_down(self) -> list[Effect]:
        """Answers those who shut down and of whose partitions nothing moves any more, with what they still lead."""
        answers: list[Effect] = []
        for waiting in list(self._shutdowns):
            token, broker = waiting
            hosted = self._partitions.hosted_by(broker)
            if self._settling.is_quiet(hosted):
                self._shutdowns.remove(waiting)
                states = ((it, self._partitions[it]) for it in sorted(hosted))
                led = [(it, state) for it, state in states if state.leader == broker]
                answers.append(Reply(token=token, items=tuple(Item(it, state=state) for it, state in led)))
        return answers

    # --- requests about topics ---

    @_on.register
    def _(self, event: ev.CreateAsked, now_ms: int) -> None:
        self._tell(self._topics.create(event))

    @_on.register
    def _(self, event: ev.GrowAsked, now_ms: int) -> None:
        self._tell(self._topics.grow(event))

    @_on.register
    def _(self, event: ev.DeleteAsked, now_ms: int) -> None:
        self._tell(self._topics.delete(event))

    def _tell(self, effect: Effect) -> None:
        if isinstance(effect, Reply):
            self._replies.append(effect)
        else:
            self._told.append(effect)

    @_on.register
    def _(self, event: ev.ReplicasStopped, now_ms: int) -> None:
        self._topics.stopped(event)

    @_on.register
    def _(self, event: ev.TopicWriteEnded, now_ms: int) -> None:
        change, reply = self._topics.ended(event)
        self._take_in(change)
        if reply is not None:
            self._replies.append(reply)

    def _take_in(self, change: Change) -> None:
        if change.created is not None:
            self._partitions.add_topic(change.created, change.facts)
            self._created.append(change.created)
            self._settling.mark(self._partitions.keys_of(change.created.topic_id))
        if change.grown is not None:
            fresh = self._partitions.grow(change.grown)
            self._settling.changed.update({it: self._partitions[it] for it in fresh})
            self._settling.mark(fresh)
        if change.deleted is not None:
            self._settling.drop(change.deleted)
            self._partitions.remove_topic(change.deleted)
            self._deleted.append(change.deleted)
