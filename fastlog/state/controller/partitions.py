"""Every partition's last written state, and who holds what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from fastlog.ports import PartitionKey, PartitionState, Topic, TopicId
from fastlog.state.controller.settings import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastlog.ports import Registration

DEFAULTS = TopicFacts()


class KnownTopic(msgspec.Struct):
    """A topic without its partitions' states."""

    name: str
    topic_id: TopicId
    partition_count: int
    facts: TopicFacts


class Partitions:
    """The table of partitions: what is written, and nothing else."""

    def __init__(self) -> None:
        self._topics: dict[TopicId, KnownTopic] = {}
        self._by_name: dict[str, TopicId] = {}
        self._states: dict[PartitionKey, PartitionState] = {}
        self._hosted: dict[int, set[PartitionKey]] = {}
        # where a broker is in the ISR or eligible
        self._counted_on: dict[int, set[PartitionKey]] = {}

    def __contains__(self, key: PartitionKey) -> bool:
        """Whether there is such a partition."""
        return key in self._states

    def __iter__(self) -> Iterator[PartitionKey]:
        """The keys, in no order."""
        return iter(self._states)

    def __len__(self) -> int:
        """How many partitions there are."""
        return len(self._states)

    def __getitem__(self, key: PartitionKey) -> PartitionState:
        """The last written state of a partition that exists."""
        return self._states[key]

    def get(self, key: PartitionKey) -> PartitionState | None:
        """The last written state, or None."""
        return self._states.get(key)

    def topic(self, topic_id: TopicId) -> KnownTopic | None:
        """The topic with an id, or None."""
        return self._topics.get(topic_id)

    def named(self, name: str) -> KnownTopic | None:
        """The topic with a name, or None."""
        topic_id = self._by_name.get(name)
        return None if topic_id is None else self._topics[topic_id]

    def facts(self, topic_id: TopicId) -> TopicFacts:
        """What a topic's settings say; the defaults for a topic that is not there."""
        topic = self._topics.get(topic_id)
        return DEFAULTS if topic is None else topic.facts

    def keys_of(self, topic_id: TopicId) -> list[PartitionKey]:
        """A topic's partitions in order."""
        topic = self._topics.get(topic_id)
        return [] if topic is None else [PartitionKey(topic_id, it) for it in range(topic.partition_count)]

    def states_of(self, topic_id: TopicId) -> list[PartitionState]:
        """The states of a topic's partitions in order."""
        return [self._states[it] for it in self.keys_of(topic_id)]

    def states(self) -> Mapping[PartitionKey, PartitionState]:
        """Every partition's state."""
        return self._states

    def hosted_by(self, broker: int) -> set[PartitionKey]:
        """The partitions that a broker has a replica of, or is to get one of."""
        return self._hosted.get(broker, set())

    def counts_on_former(self, registration: Registration) -> bool:
        """Whether a state still relies on what a registered broker was before it started again."""
        broker, epoch = registration.broker_id, registration.broker_epoch
        for key in self._counted_on.get(broker, ()):
            state = self._states[key]
            if broker in state.isr:
                # one without epochs was never given out by a cluster, and is settled first
                if dict(zip(state.isr, state.isr_epochs, strict=False)).get(broker) != epoch:
                    return True
            elif not registration.clean_start:
                return True
        return False

    def admitted(self, registration: Registration) -> bool:
        """Whether some ISR names the broker with its present epoch: then a controller has accepted it before."""
        broker, epoch = registration.broker_id, registration.broker_epoch
        return any(
            (broker, epoch) in zip(state.isr, state.isr_epochs, strict=False)
            for state in (self._states[it] for it in self._counted_on.get(broker, ()))
        )

    def image(self) -> tuple[Topic, ...]:
        """All topics, sorted by name."""
        return tuple(
            Topic(
                name=name,
                topic_id=topic_id,
                partitions=tuple(self._states[it] for it in self.keys_of(topic_id)),
            )
            for name, topic_id in sorted(self._by_name.items())
        )

    # --- what changes ---

    def add_topic(self, topic: Topic, facts: TopicFacts) -> None:
        """Takes in a topic with all its partitions."""
        self._topics[topic.topic_id] = KnownTopic(topic.name, topic.topic_id, 0, facts)
        self._by_name[topic.name] = topic.topic_id
        self.grow(topic)

    def grow(self, topic: Topic) -> list[PartitionKey]:
        """Takes in the partitions of a topic that are not known yet, and answers them."""
        known = self._topics[topic.topic_id]
        fresh = range(known.partition_count, len(topic.partitions))
        for index in fresh:
            self.put(PartitionKey(topic.topic_id, index), topic.partitions[index])
        known.partition_count = len(topic.partitions)
        return [PartitionKey(topic.topic_id, it) for it in fresh]

    def set_facts(self, topic_id: TopicId, facts: TopicFacts) -> None:
        """Replaces what a topic's settings say."""
        topic = self._topics.get(topic_id)
        if topic is not None:
            topic.facts = facts

    def put(self, key: PartitionKey, state: PartitionState) -> None:
        """Takes in what is written."""
        self._forget(key)
        self._states[key] = state
        for broker in state.replicas:
            self._hosted.setdefault(broker, set()).add(key)
        for broker in (*state.isr, *state.elr):
            self._counted_on.setdefault(broker, set()).add(key)

    def remove_topic(self, topic_id: TopicId) -> None:
        """Drops a topic and its partitions."""
        for key in self.keys_of(topic_id):
            self._forget(key)
            del self._states[key]
        del self._by_name[self._topics.pop(topic_id).name]

    def _forget(self, key: PartitionKey) -> None:
        state = self._states.get(key)
        if state is None:
            return
        for broker in state.replicas:
            self._hosted[broker].discard(key)
        for broker in (*state.isr, *state.elr):
            self._counted_on[broker].discard(key)
