"""A controller with a store that does what ZooKeeper would, and brokers that come and go.

Every write that reaches the store is held to the invariants of docs/cluster.md, whatever test it comes from.
"""

from __future__ import annotations

from collections import deque
from typing import Any
from uuid import UUID

import msgspec

from fastlog.ports import (
    Conflict,
    Deletion,
    PartitionKey,
    PartitionState,
    Registration,
    Topic,
    Unknown,
    Written,
)
from fastlog.state.controller import events as ev
from fastlog.state.controller.controller import Controller
from fastlog.state.controller.effects import (
    AddPartitions,
    CreateTopic,
    DeleteTopic,
    Effect,
    ForgetDeletion,
    Publish,
    Read,
    Reply,
    Resign,
    TopicWrite,
    Write,
)
from fastlog.state.controller.settings import ControllerSettings, TopicFacts


class Store:
    """Topics, registrations and the fence."""

    def __init__(self) -> None:
        self.epoch = 0
        self.topics: dict[UUID, str] = {}
        self.counts: dict[UUID, int] = {}
        self.facts: dict[UUID, TopicFacts] = {}
        self.states: dict[PartitionKey, PartitionState] = {}
        self.deletions: dict[UUID, Deletion] = {}
        self.registrations: dict[int, Registration] = {}
        self.next_broker_epoch = 10
        # who led each partition in each epoch, as a process: (broker, broker epoch)
        self.leaders: dict[tuple[PartitionKey, int], tuple[int, int]] = {}
        self.rejected = 0

    def write(self, effect: Write) -> tuple[Written | Conflict, ...]:
        """Each by itself at its version."""
        results: list[Written | Conflict] = []
        for item in effect.items:
            actual = self.states.get(item.key)
            if actual is None or actual.version != item.state.version:
                self.rejected += 1
                results.append(Conflict(actual))
                continue
            fresh = msgspec.structs.replace(item.state, version=actual.version + 1)
            self.check(item.key, actual, fresh)
            self.states[item.key] = fresh
            results.append(Written(fresh.version))
        return tuple(results)

    def check(self, key: PartitionKey, before: PartitionState, after: PartitionState) -> None:
        """I1, I4 and I6, and that no field contradicts another."""
        told = (key, before, after)
        assert msgspec.structs.replace(before, version=after.version) != after, ("nothing changed", told)
        assert len(after.isr) == len(after.isr_epochs), told
        for members in (
            after.replicas,
            after.isr,
            after.elr,
            after.last_known_elr,
            after.adding,
            after.removing,
        ):
            assert len(set(members)) == len(members), told
            assert set(members) <= set(after.replicas), told
        assert after.leader in after.isr or after.leader == -1, told
        assert (after.leader == -1) == (not after.isr), told
        counted = (*after.isr, *after.elr, *after.last_known_elr)
        assert len(set(counted)) == len(counted), told
        assert after.leader_epoch >= before.leader_epoch, told
        if after.leader != before.leader:
            assert after.leader_epoch > before.leader_epoch, told
        if after.leader != -1:
            process = (after.leader, after.isr_epochs[after.isr.index(after.leader)])
            assert self.leaders.setdefault((key, after.leader_epoch), process) == process, told

    def add(self, topic: Topic) -> None:
        self.topics[topic.topic_id] = topic.name
        self.facts.setdefault(topic.topic_id, TopicFacts())
        self.counts[topic.topic_id] = 0
        self.grow(topic.topic_id, topic.partitions)

    def grow(self, topic_id: UUID, partitions: tuple[PartitionState, ...]) -> None:
        for state in partitions:
            key = PartitionKey(topic_id, self.counts[topic_id])
            self.states[key] = state
            self.counts[topic_id] += 1
            if state.leader != -1 and state.isr_epochs:
                process = (state.leader, state.isr_epochs[state.isr.index(state.leader)])
                self.leaders[key, state.leader_epoch] = process

    def delete(self, topic_id: UUID, replicas: tuple[int, ...]) -> None:
        name, count = self.topics.pop(topic_id), self.counts.pop(topic_id)
        for index in range(count):
            del self.states[PartitionKey(topic_id, index)]
        self.deletions[topic_id] = Deletion(
            name=name, topic_id=topic_id, partition_count=count, replicas=replicas
        )

    def topic(self, topic_id: UUID) -> Topic | None:
        if topic_id not in self.topics:
            return None
        states = tuple(self.states[PartitionKey(topic_id, it)] for it in range(self.counts[topic_id]))
        return Topic(name=self.topics[topic_id], topic_id=topic_id, partitions=states)

    def elected(self) -> ev.Elected:
        """The fence is taken, and everything is read."""
        self.epoch += 1
        topics = (self.topic(it) for it in sorted(self.topics))
        return ev.Elected(
            controller_epoch=self.epoch,
            topics=tuple(it for it in topics if it is not None),
            registrations=self.registered(),
            facts=dict(self.facts),
            deletions=tuple(self.deletions.values()),
        )

    def registered(self) -> tuple[Registration, ...]:
        return tuple(self.registrations[it] for it in sorted(self.registrations))

    def register(self, broker: int, *, clean: bool = True, rack: str | None = None) -> Registration:
        self.next_broker_epoch += 1
        self.registrations[broker] = Registration(
            broker_id=broker,
            broker_epoch=self.next_broker_epoch,
            incarnation=UUID(int=self.next_broker_epoch),
            endpoints={},
            rack=rack,
            clean_start=clean,
        )
        return self.registrations[broker]


class World:
    """One controller after the other over one store. What it wants done is done at once, unless it is held."""

    def __init__(self, settings: ControllerSettings | None = None) -> None:
        self.store = Store()
        self.settings = settings or ControllerSettings()
        self.controller = Controller(self.settings)
        self.now_ms = 0
        self.is_held = False
        # of what is delivered next: applied, lost, late, or read in vain
        self.outcomes: deque[str] = deque()
        self.outstanding: deque[tuple[Effect, int, Controller]] = deque()
        self.late: list[tuple[Write, int]] = []
        # all that is not done to the store, in order
        self.told: list[Effect] = []

    def elect(self) -> None:
        """Another controller wins, with the store's fence; what the one before has on its way is fenced off."""
        self.controller = Controller(self.settings)
        self.step(self.store.elected())

    def step(self, event: ev.Event, controller: Controller | None = None) -> None:
        """Of the present controller, or of a former one."""
        controller = controller or self.controller
        epoch = controller.image().controller_epoch
        if isinstance(event, ev.Elected):
            epoch = event.controller_epoch
        for effect in controller.step(event, self.now_ms):
            if isinstance(effect, Write | Read | TopicWrite):
                self.outstanding.append((effect, epoch, controller))
            else:
                self.told.append(effect)
        if not self.is_held:
            self.deliver_all()

    def deliver_all(self) -> None:
        while self.outstanding:
            self.deliver(*self.outstanding.popleft())

    def deliver(self, effect: Effect, epoch: int, controller: Controller) -> None:
        """One write or read reaches the store, and its outcome the controller."""
        outcome = self.outcomes.popleft() if self.outcomes else ""
        if epoch != self.store.epoch:
            self.step(ev.Fenced(), controller)
            return
        event = self.outcome_of(effect, outcome)
        if event is not None:
            self.step(event, controller)

    def outcome_of(self, effect: Effect, outcome: str) -> ev.Event | None:
        """What the controller is told. `lost`, `late` and `applied` are all unknown to it."""
        if isinstance(effect, Write):
            if outcome == "late":
                self.late.append((effect, self.store.epoch))
            elif outcome != "lost":
                results: tuple[Any, ...] = self.store.write(effect)
            if outcome:
                results = (Unknown("the connection was lost"),) * len(effect.items)
            return ev.WriteEnded(write_id=effect.write_id, results=results)
        if isinstance(effect, Read):
            if not outcome:
                self.settle_late(set(effect.keys))
            states = tuple(self.store.states.get(it) for it in effect.keys)
            return ev.ReadBack(read_id=effect.read_id, states=None if outcome else states)
        if isinstance(effect, TopicWrite):
            done, topic = (False, None) if outcome == "lost" else self.write_topic(effect)
            word: Any = "unknown" if outcome else "done" if done else "refused"
            return ev.TopicWriteEnded(write_id=effect.write_id, outcome=word, topic=topic)
        return None

    def settle_late(self, keys: set[PartitionKey]) -> None:
        """What is read back is certain: ZooKeeper's sync and read come behind all that the session sent before, and
        what a server still has of a session that went on to another is refused (SessionTrackerImpl.checkSession).
        """
        settled = [it for it in self.late if keys & {item.key for item in it[0].items}]
        for it in settled:
            self.late.remove(it)
            effect, epoch = it
            # either may be
            if epoch == self.store.epoch and effect.write_id % 2:
                self.store.write(effect)

    def land_late(self) -> None:
        """A write of which nobody expects anything any more reaches the store, unless it is fenced off by now."""
        effect, epoch = self.late.pop()
        if epoch == self.store.epoch:
            self.store.write(effect)

    def write_topic(self, effect: TopicWrite) -> tuple[bool, Topic | None]:
        """As the port says: repeated, it does no harm."""
        store = self.store
        if isinstance(effect, CreateTopic):
            topic = effect.topic
            if topic.topic_id not in store.topics and topic.name in store.topics.values():
                return False, None
            if topic.topic_id not in store.topics:
                store.add(topic)
            return True, None
        if isinstance(effect, AddPartitions):
            done = store.counts.get(effect.topic_id) == effect.expected_count
            if done:
                store.grow(effect.topic_id, effect.partitions)
            return done, store.topic(effect.topic_id)
        if isinstance(effect, DeleteTopic):
            if effect.topic_id in store.topics:
                store.delete(effect.topic_id, effect.replicas)
            return effect.topic_id in store.deletions, None
        assert isinstance(effect, ForgetDeletion)
        store.deletions.pop(effect.topic_id, None)
        return True, None

    def brokers_changed(self) -> None:
        self.step(ev.BrokersChanged(registrations=self.store.registered()))

    def replies(self) -> list[Reply]:
        return [it for it in self.told if isinstance(it, Reply)]

    def published(self) -> list[Publish]:
        return [it for it in self.told if isinstance(it, Publish)]

    def has_resigned(self) -> bool:
        return any(isinstance(it, Resign) for it in self.told)
