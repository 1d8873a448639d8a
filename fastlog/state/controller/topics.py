"""Topics made, grown and deleted: what is on its way to the store, and the replicas of deleted ones still there.

Create: store, then delta. Delete: the store takes the topic away and notes the deletion, then the delta, then every
broker that has a replica is told to put it away; the note goes when all have, which a broker that is down does when it
is back. Names and settings were checked by who asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from fastlog.errors import (
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    KafkaError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicIdError,
)
from fastlog.ports import PartitionState, Topic, TopicId
from fastlog.state.controller.decide.placement import check_assignments, place
from fastlog.state.controller.effects import (
    AddPartitions,
    CreateTopic,
    DeleteTopic,
    Effect,
    ForgetDeletion,
    Reply,
    StopReplicas,
    TopicWrite,
)
from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from fastlog.ports import Deletion
    from fastlog.state.controller.brokers import Brokers
    from fastlog.state.controller.events import (
        CreateAsked,
        DeleteAsked,
        GrowAsked,
        ReplicasStopped,
        TopicWriteEnded,
    )
    from fastlog.state.controller.partitions import KnownTopic, Partitions
    from fastlog.state.controller.writes import Writes


class Going(msgspec.Struct):
    """A deleted topic."""

    name: str
    topic_id: TopicId
    waiting: set[int]
    """Brokers that have not said yet that their replicas are gone."""
    leader_epochs: Mapping[int, int]
    is_known: bool = True
    """Whether `waiting` was written down; without, every broker that is registered is asked."""
    asked: dict[int, int] = {}
    """Broker epoch by broker."""
    write_id: int = 0
    """Of the ForgetDeletion on its way, 0 for none."""
    is_uncertain: bool = False
    """Whether what became of that is not known."""


#: why a request whose write is on its way has no certain answer
RESIGNED = "the controller resigned while the change was on its way: it may have been made"


class Change(msgspec.Struct):
    """What a topic write brought about."""

    created: Topic | None = None
    facts: TopicFacts = TopicFacts()
    """Of the created one."""
    grown: Topic | None = None
    deleted: TopicId | None = None


class TopicChanges:
    """Requests that change which topics and partitions there are. One at a time for each topic."""

    def __init__(self, partitions: Partitions, brokers: Brokers, writes: Writes) -> None:
        self._partitions = partitions
        self._brokers = brokers
        self._writes = writes
        self._on_the_way: dict[int, tuple[Any, TopicWrite]] = {}
        self._busy: set[TopicId] = set()
        self._names: set[str] = set()
        self._taken: frozenset[str] = frozenset()
        self._again: dict[int, None] = {}
        self._facts: dict[int, TopicFacts] = {}
        self._going: dict[TopicId, Going] = {}

    def load(self, deletions: tuple[Deletion, ...], taken_names: tuple[str, ...]) -> None:
        """Takes in what a former controller left to be done."""
        self._taken = frozenset(taken_names)
        for it in deletions:
            known = bool(it.replicas)
            self._going[it.topic_id] = Going(it.name, it.topic_id, set(it.replicas), {}, is_known=known)

    # --- requests ---

    def create(self, event: CreateAsked) -> Effect:
        """The write, or the answer; raises the KafkaError of the answer."""
        if self._partitions.named(event.name) or event.name in self._names or event.name in self._taken:
            raise TopicAlreadyExistsError(f"topic {event.name!r} already exists")
        if event.assignments:
            rows = check_assignments(
                event.assignments, event.partition_count, event.replication_factor, self._brokers.ids()
            )
        else:
            rows = self._place(event.partition_count, event.replication_factor)
        topic = Topic(name=event.name, topic_id=event.topic_id, partitions=self._new_states(rows))
        if event.validate_only:
            return Reply(token=event.token, topic=topic)
        self._names.add(event.name)
        effect = CreateTopic(write_id=self._writes.number(), topic=topic, configs=event.configs)
        self._facts[effect.write_id] = event.facts
        return self._send(event.token, effect)

    def grow(self, event: GrowAsked) -> Effect:
        """As `create`."""
        topic = self._free(event.topic_id)
        present = topic.partition_count
        if event.count <= present:
            raise InvalidPartitionsError(
                f"topic {topic.name!r} has {present} partitions; {event.count} would not be more"
            )
        states = self._partitions.states_of(event.topic_id)
        added = event.count - present
        if event.assignments is not None:
            given = dict(enumerate(event.assignments))
            rows = check_assignments(given, -1, -1, self._brokers.ids(), expected=added)
        else:
            first = states[0]
            rows = self._place(added, len(first.replicas) - len(first.adding), start=present)
        fresh = self._new_states(rows)
        if event.validate_only:
            whole = Topic(name=topic.name, topic_id=topic.topic_id, partitions=(*states, *fresh))
            return Reply(token=event.token, topic=whole)
        self._busy.add(event.topic_id)
        effect = AddPartitions(
            write_id=self._writes.number(), topic_id=event.topic_id, expected_count=present, partitions=fresh
        )
        return self._send(event.token, effect)

    def delete(self, event: DeleteAsked) -> Effect:
        """As `create`."""
        self._free(event.topic_id)
        states = self._partitions.states_of(event.topic_id)
        replicas = tuple(sorted({broker for state in states for broker in state.replicas}))
        self._busy.add(event.topic_id)
        effect = DeleteTopic(write_id=self._writes.number(), topic_id=event.topic_id, replicas=replicas)
        return self._send(event.token, effect)

    def _free(self, topic_id: TopicId) -> KnownTopic:
        topic = self._partitions.topic(topic_id)
        if topic is None:
            raise UnknownTopicIdError(f"no topic has the id {topic_id}")
        if topic_id in self._busy:
            raise RequestTimedOutError(f"topic {topic.name!r} is being changed already: ask again")
        return topic

    def _send(self, token: Any, effect: TopicWrite) -> Effect:
        self._on_the_way[effect.write_id] = (token, effect)
        return effect

    def _place(
        self, partition_count: int, replication_factor: int, start: int | None = None
    ) -> list[tuple[int, ...]]:
        usable = self._brokers.usable()
        racks = {it.broker_id: it.rack for it in usable}
        if start is None:
            start = len(self._partitions)
        return place(partition_count, replication_factor, sorted(racks), racks=racks, start=start)

    def _new_states(self, rows: list[tuple[int, ...]]) -> tuple[PartitionState, ...]:
        return tuple(self._new_state(it) for it in rows)

    def _new_state(self, replicas: tuple[int, ...]) -> PartitionState:
        isr = tuple(it for it in replicas if self._brokers.may_lead(it))
        if not isr:
            raise InvalidReplicationFactorError(
                f"none of the brokers {list(replicas)} can lead a new partition now"
            )
        return PartitionState(
            replicas=replicas,
            leader=isr[0],
            leader_epoch=0,
            isr=isr,
            isr_epochs=tuple(self._brokers.epoch_of(it) for it in isr),
        )

    # --- what became of them ---

    def ended(self, event: TopicWriteEnded) -> tuple[Change, Reply | None]:
        """What is to be taken in and published, and the answer; an unknown outcome is tried again by `retry`."""
        nothing = Change()
        if event.write_id not in self._on_the_way:
            self._forgotten(event)
            return nothing, None
        if event.outcome == "unknown":
            self._again[event.write_id] = None
            return nothing, None
        token, effect = self._on_the_way.pop(event.write_id)
        if isinstance(effect, CreateTopic):
            return self._created(token, effect, event)
        if isinstance(effect, AddPartitions):
            return self._grown(token, effect, event)
        if isinstance(effect, DeleteTopic):
            return self._deleted(token, effect, event)
        return nothing, None

    def _created(
        self, token: Any, effect: CreateTopic, event: TopicWriteEnded
    ) -> tuple[Change, Reply | None]:
        self._names.discard(effect.topic.name)
        facts = self._facts.pop(effect.write_id)
        if event.outcome == "refused":
            refusal = TopicAlreadyExistsError(f"topic {effect.topic.name!r} already exists")
            return Change(), refused(token, refusal)
        return Change(created=effect.topic, facts=facts), Reply(token=token, topic=effect.topic)

    def _grown(
        self, token: Any, effect: AddPartitions, event: TopicWriteEnded
    ) -> tuple[Change, Reply | None]:
        self._busy.discard(effect.topic_id)
        topic = event.topic
        if topic is None:
            return Change(), refused(token, UnknownTopicIdError(f"no topic has the id {effect.topic_id}"))
        # refused, and yet there: the first try had taken effect
        ours = tuple(it.replicas for it in topic.partitions[effect.expected_count :])
        if ours != tuple(it.replicas for it in effect.partitions):
            refusal = InvalidPartitionsError(
                f"topic {topic.name!r} has {len(topic.partitions)} partitions by now"
            )
            return Change(grown=topic), refused(token, refusal)
        return Change(grown=topic), Reply(token=token, topic=topic)

    def _deleted(
        self, token: Any, effect: DeleteTopic, event: TopicWriteEnded
    ) -> tuple[Change, Reply | None]:
        topic_id = effect.topic_id
        self._busy.discard(topic_id)
        topic = self._partitions.topic(topic_id)
        if event.outcome == "refused" or topic is None:
            return Change(), refused(token, UnknownTopicIdError(f"no topic has the id {topic_id}"))
        states = self._partitions.states_of(topic_id)
        epochs = {index: it.leader_epoch for index, it in enumerate(states)}
        waiting = {broker for state in states for broker in state.replicas}
        self._going[topic_id] = Going(topic.name, topic_id, waiting, epochs)
        return Change(deleted=topic_id), Reply(token=token)

    def retry(self) -> list[Effect]:
        """The writes whose outcome is not known, again: they are made so that a second time does no harm."""
        again, self._again = list(self._again), {}
        for going in self._going.values():
            if going.is_uncertain:
                going.write_id, going.is_uncertain = 0, False
        return [self._on_the_way[it][1] for it in again if it in self._on_the_way]

    def give_up(self) -> list[Effect]:
        """Answers everybody who waits that what becomes of the write is not known: it is on its way, and may land."""
        waiting, self._on_the_way = list(self._on_the_way.values()), {}
        return [refused(token, RequestTimedOutError(RESIGNED)) for token, _ in waiting]

    # --- replicas of deleted topics ---

    def stopped(self, event: ReplicasStopped) -> None:
        """A broker has put its replicas away."""
        going = self._going.get(event.topic_id)
        if going is not None and going.asked.get(event.broker_id) == event.broker_epoch:
            going.waiting.discard(event.broker_id)

    def stop_replicas(self) -> list[Effect]:
        """Tells who is there and was not told, and forgets the deletions that are done."""
        found: list[Effect] = []
        for topic_id in sorted(self._going):
            going = self._going[topic_id]
            if not going.is_known and not going.asked:
                going.waiting = set(self._brokers.ids())
                if not going.waiting:
                    continue
            here = [it for it in sorted(going.waiting) if it in self._brokers]
            not_asked = [it for it in here if going.asked.get(it) != self._brokers.epoch_of(it)]
            found.extend(self._stop(going, it) for it in not_asked)
            if not going.waiting and not going.write_id:
                going.write_id = self._writes.number()
                found.append(ForgetDeletion(write_id=going.write_id, topic_id=topic_id))
        return found

    def _stop(self, going: Going, broker: int) -> StopReplicas:
        going.asked[broker] = self._brokers.epoch_of(broker)
        return StopReplicas(
            broker_id=broker,
            broker_epoch=going.asked[broker],
            topic_id=going.topic_id,
            name=going.name,
            leader_epochs=going.leader_epochs,
        )

    def _forgotten(self, event: TopicWriteEnded) -> None:
        for topic_id, going in list(self._going.items()):
            if going.write_id == event.write_id:
                if event.outcome == "unknown":
                    going.is_uncertain = True
                else:
                    del self._going[topic_id]


def refused(token: object, error: KafkaError) -> Reply:
    """The answer to a request that cannot be done."""
    return Reply(token=token, code=error.code, message=error.message)
