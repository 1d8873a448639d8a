"""The partitions of a consumer: positions, pauses, resets, leaders. No I/O, threads or clocks of its own.

Every method takes the lock, which is held for moments only; the fetcher's calls made under it do not block.
"""

from __future__ import annotations

import itertools
import logging
import threading
from typing import TYPE_CHECKING, Protocol

from fastlog.client.consumer.partition_state import (
    EARLIEST,
    LATEST,
    NO_BROKER,
    NO_TOPIC_ID,
    PartitionState,
)
from fastlog.client.consumer.topic_partition import TopicPartition
from fastlog.errors import LeaderNotAvailableError, NoPositionError, OffsetOutOfRangeError

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Mapping

    from fastlog.client.metadata import ClusterImage, TopicImage
    from fastlog.errors import FastlogError
    from fastlog.state.assignors import Partition

LOGGER = logging.getLogger("fastlog.consumer")
RESET_TIMESTAMPS = {"earliest": EARLIEST, "latest": LATEST, "none": None}

#: slot, generation, topic, topic id, partition, broker id, leader epoch, offset
Target = tuple[int, int, str, bytes, int, int, int, int]


class FetcherPort(Protocol):
    """What the assignment needs of the fetcher (`fastlog.native._engine.Fetcher`)."""

    def set_brokers(self, brokers: list[tuple[int, str, int]], /) -> None:
        """Says where the brokers are."""

    def fetch(self, targets: list[Target], /) -> None:
        """Fetches partitions from their offsets on, dropping what their slots held."""

    def move_to(self, slot: int, generation: int, broker_id: int, leader_epoch: int, /) -> bool:
        """Goes on from another broker, keeping what the slot holds."""

    def stop(self, slots: list[int], /) -> None:
        """Stops fetching partitions and drops what their slots held."""


class Assignment:
    """The table of a consumer's partitions."""

    def __init__(self, fetcher: FetcherPort, auto_offset_reset: str) -> None:
        """An empty table."""
        self._fetcher = fetcher
        self._policy = auto_offset_reset
        self._slots = itertools.count(1)
        self._by_slot: dict[int, PartitionState] = {}
        self._failure: FastlogError | None = None
        #: notified when a position becomes known, the set of partitions changes, or an error has to be raised
        self.changed = threading.Condition(threading.RLock())
        self.states: dict[TopicPartition, PartitionState] = {}
        #: topics whose partitions are all wanted; None if partitions were assigned one by one
        self.subscription: frozenset[str] | None = None
        #: subscribed topics whose partitions are in the table
        self.known_topics: set[str] = set()
        #: something has to be raised or done by the application's thread: a cheap look without the lock
        self.alarm = False
        #: its partitions come from a group, or their positions do
        self.of_group = False
        #: the application's thread has something to do for its group
        self.called = False
        #: partitions were added since the last metadata: their leaders are to be looked for in it
        self.unplaced = False
        #: topics that a group's leader watches for the others
        self.watched: frozenset[str] = frozenset()
        #: the partitions that each subscribed topic had when it was first seen
        self.first_counts: dict[str, int] = {}
        #: ids of all topics seen since a pattern is expected that a group matches; None until then
        self._seen_ids: set[bytes] | None = None

    # --- what the application asks for ---

    def subscribe(self, topics: frozenset[str]) -> None:
        """Wants all partitions of `topics`; those of other topics are dropped."""
        with self.changed:
            self._drop([state for state in self.states.values() if state.tp.topic not in topics])
            self.subscription = topics
            self._keep_first_counts(topics)
            self.known_topics = {state.tp.topic for state in self.states.values()}

    def expect(self) -> None:
        """Wants what matches a pattern; nothing is known of that yet."""
        with self.changed:
            self.subscription = None
            self.first_counts, self._seen_ids = {}, None

    def assign(self, positions: Mapping[TopicPartition, int | None]) -> None:
        """Wants these partitions alone; where no position is given, the one it has stays.

        Else the group's position counts, if there is a group, and then the policy.
        """
        with self.changed:
            self.subscription = None
            self._drop([state for state in self.states.values() if state.tp not in positions])
            for tp, position in positions.items():
                if tp not in self.states:
                    self._add(tp)
                    if position is None:
                        self._begin(self.states[tp])
                if position is not None:
                    self.seek(tp, position)
            self.changed.notify_all()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """The next record delivered is the one at `offset`, or the first one after it."""
        with self.changed:
            state = self.states[tp]
            self._forget_fetched(state)
            state.position, state.reset, state.error, state.asks_group = offset, None, None, False
            self.start([state])
            self.changed.notify_all()

    def seek_to(self, tp: TopicPartition, timestamp: int) -> None:
        """The position is looked up: EARLIEST, LATEST, or the first record of at least this timestamp."""
        with self.changed:
            state = self.states[tp]
            state.error = None
            state.asks_group = False
            self._reset(state, timestamp)

    def pause(self, tp: TopicPartition, position: int | None = None) -> None:
        """Delivers nothing of the partition until it is resumed; what was fetched ahead is dropped.

        `position` is where the reader stands, if it is within a batch.
        """
        with self.changed:
            state = self.states[tp]
            if not state.paused:
                state.paused = True
                state.position = state.position if position is None else position
                self._forget_fetched(state)

    def resume(self, tp: TopicPartition) -> None:
        """Goes on with a paused partition at its position."""
        with self.changed:
            state = self.states[tp]
            if state.paused:
                state.paused = False
                self.start([state])

    # --- what the application does for its group ---

    def subscribe_in_group(self, topics: frozenset[str]) -> None:
        """Wants those partitions of `topics` that the group gives it; the partitions are the group's business."""
        with self.changed:
            self.subscription = topics
            self.known_topics &= topics
            self._keep_first_counts(topics)

    def take(self, partitions: Iterable[Partition]) -> None:
        """Reads more partitions, from the group's positions on."""
        with self.changed:
            for topic, number in partitions:
                tp = TopicPartition(topic, number)
                if tp not in self.states:
                    self._begin(self._add(tp))
            self.changed.notify_all()

    def release(self, partitions: Iterable[Partition]) -> None:
        """Reads these partitions no longer."""
        with self.changed:
            self._drop([self.states[TopicPartition(*one)] for one in partitions])
            self.changed.notify_all()

    def call_application(self) -> None:
        """Has the application's thread look after its group with its next poll."""
        with self.changed:
            self.called = self.alarm = True

    def positions_to_ask(self) -> dict[TopicPartition, int]:
        """The partitions whose position is the group's, with their slots."""
        with self.changed:
            return {tp: state.slot for tp, state in self.states.items() if state.asks_group}

    def told_by_group(self, tp: TopicPartition, slot: int, offset: int) -> None:
        """Begins at the group's position; where there is none (-1), where the policy says.

        A partition that came after the subscription is read from its start: all of it was written since.
        """
        with self.changed:
            state = self.states.get(tp)
            if state is None or state.slot != slot or not state.asks_group:
                return
            if offset >= 0:
                self.seek(tp, offset)
                return
            state.asks_group = False
            is_new = tp.partition >= self.first_counts.get(tp.topic, tp.partition + 1)
            self._reset(state, EARLIEST if is_new else RESET_TIMESTAMPS[self._policy])

    def refused_by_group(self, tp: TopicPartition, slot: int, error: FastlogError) -> None:
        """The group does not tell its position: every poll raises `error` until one seeks."""
        with self.changed:
            state = self.states.get(tp)
            if state is not None and state.slot == slot and state.asks_group:
                self.fail_partition(state, error)

    def match(self, pattern: re.Pattern[str], image: ClusterImage) -> frozenset[str]:
        """Subscribes to the topics whose whole names match, never to the brokers' own; returns them.

        All of a topic that appears later was written since, so it is read from its start.
        """
        with self.changed:
            matched = frozenset(
                name
                for name, topic in image.topics.items()
                if not topic.is_internal and not topic.error_code and pattern.fullmatch(name)
            )
            before = self.subscription
            if matched != before:
                (self.subscribe_in_group if self.of_group else self.subscribe)(matched)
            if before is not None:
                self.first_counts.update(dict.fromkeys(matched - before, 0))
            return matched

    @property
    def has_seen_topics(self) -> bool:
        """Whether `see_topics` was called since the pattern is expected."""
        return self._seen_ids is not None

    def see_topics(self, image: ClusterImage) -> None:
        """All topics there are, some of which the group's pattern matches: those that come later are read whole."""
        with self.changed:
            is_first, seen = self._seen_ids is None, self._seen_ids or set()
            for topic in image.topics.values():
                if topic.topic_id not in seen:
                    self.first_counts[topic.name] = len(topic.partitions) if is_first else 0
                    seen.add(topic.topic_id)
            self._seen_ids = seen

    # --- what the reader tells ---

    def current(self, slot: int, generation: int) -> PartitionState | None:
        """The partition of a chunk, if the chunk still counts."""
        state = self._by_slot.get(slot)
        return state if state is not None and state.generation == generation else None

    def advance(self, state: PartitionState, generation: int, position: int) -> bool:
        """Moves the position past what was delivered. Returns whether a reset has become due."""
        with self.changed:
            if state.generation != generation:
                return False
            state.position, state.failures, state.failure = position, 0, None
            if state.reset_after is None or position < state.reset_after:
                return False
            self._reset(state, RESET_TIMESTAMPS[self._policy])
            return True

    def read_again(
        self, state: PartitionState, generation: int, position: int, failure: FastlogError
    ) -> None:
        """Fetches again from `position`, where a batch could not be read."""
        with self.changed:
            if state.generation == generation:
                self.seek(state.tp, position)
                state.failure = failure

    # --- errors for the application ---

    def fail(self, error: FastlogError) -> None:
        """Has the next poll raise `error`, once."""
        with self.changed:
            self._failure = error
            self.alarm = True
            self.changed.notify_all()

    def fail_partition(self, state: PartitionState, error: FastlogError) -> None:
        """Has every poll raise `error` until the partition's position is changed."""
        with self.changed:
            state.error = error
            state.resting = True
            self.alarm = True
            self.changed.notify_all()

    def error_to_raise(self) -> FastlogError | None:
        """The error that is due."""
        with self.changed:
            failure, self._failure = self._failure, None
            if failure is None:
                errors = (state.error for state in self.states.values() if not state.paused)
                failure = next((error for error in errors if error is not None), None)
                self.alarm = failure is not None or self.called
            return failure

    def broker_failed(self, broker_id: int, failure: FastlogError) -> None:
        """Notes why nothing is read from a broker; NO_BROKER is that of partitions whose leader is not known."""
        with self.changed:
            for state in self.states.values():
                if state.source == broker_id:
                    state.failure = failure

    def failures(self) -> dict[TopicPartition, FastlogError]:
        """Why partitions could not be read when they were last tried; those that have no leader too."""
        with self.changed:
            found = {}
            for tp, state in self.states.items():
                failure = state.error or state.failure
                if failure is None and state.leader == NO_BROKER:
                    failure = LeaderNotAvailableError(f"no leader of {tp} is known; look at its replicas")
                if failure is not None:
                    found[tp] = failure
            return found

    # --- what the driver does ---

    def topics(self) -> set[str]:
        """The topics that metadata is needed of."""
        with self.changed:
            return {*self.own_topics(), *self.watched}

    def own_topics(self) -> set[str]:
        """The topics that the application wants."""
        with self.changed:
            return {*(self.subscription or ()), *(tp.topic for tp in self.states)}

    def absent_partitions(self, topic: str, count: int) -> list[int]:
        """The partitions of a topic that were assigned one by one but are not among the `count` that it has."""
        with self.changed:
            return sorted(tp.partition for tp in self.states if tp.topic == topic and tp.partition >= count)

    def apply(self, image: ClusterImage, now_ms: float) -> None:
        """Takes new metadata in: partitions of the subscription, leaders, recreated topics."""
        with self.changed:
            self.unplaced = False
            brokers = [(broker.node_id, broker.host, broker.port) for broker in image.brokers.values()]
            self._fetcher.set_brokers(brokers)
            for topic in sorted(self.subscription or ()):
                self._apply_subscribed(image.topics.get(topic))
            for state in list(self.states.values()):
                self._apply_topic(state, image)
            self.restart(now_ms)
            self.changed.notify_all()

    def restart(self, now_ms: float) -> None:
        """Fetches what should be fetched and is not, as far as its back-off is over."""
        with self.changed:
            due = [state for state in self.states.values() if state.retry_at_ms <= now_ms]
            for state in due:
                if state.resting and state.error is None and state.source != NO_BROKER and not state.paused:
                    state.resting = not self._move(state)
            self.start(due)

    def start(self, states: Iterable[PartitionState]) -> None:
        """Hands those of `states` to the fetcher that are ready for it."""
        with self.changed:
            targets: list[Target] = []
            for state in states:
                ready = not (state.fetching or state.paused or state.error is not None)
                if ready and state.position is not None and state.source != NO_BROKER:
                    state.fetching, state.resting = True, False
                    targets.append(
                        (
                            state.slot,
                            state.generation,
                            state.tp.topic,
                            state.topic_id,
                            state.tp.partition,
                            state.source,
                            state.leader_epoch,
                            state.position,
                        )
                    )
            if targets:
                self._fetcher.fetch(targets)

    def resets_due(self, now_ms: float) -> dict[int, list[tuple[PartitionState, int, int]]]:
        """By leader: partitions whose position has to be looked up, with their generation and what to look up."""
        with self.changed:
            due: dict[int, list[tuple[PartitionState, int, int]]] = {}
            for state in self.states.values():
                if state.reset is not None and state.leader != NO_BROKER and state.retry_at_ms <= now_ms:
                    due.setdefault(state.leader, []).append((state, state.generation, state.reset))
            return due

    def resolve(self, state: PartitionState, generation: int, offset: int) -> None:
        """Sets a position that was looked up, unless the application has changed its mind."""
        with self.changed:
            if state.generation == generation and state.reset is not None:
                state.position, state.reset, state.failures, state.failure = offset, None, 0, None
                self.start([state])
                self.changed.notify_all()

    def look_up_end(self, state: PartitionState, generation: int) -> None:
        """Looks the end up instead: no record is as young as the timestamp asked for."""
        with self.changed:
            if state.generation == generation and state.reset is not None:
                state.reset = LATEST

    def delay(
        self,
        state: PartitionState,
        generation: int,
        retry_at_ms: float,
        failure: FastlogError | None = None,
    ) -> None:
        """Lets a partition wait after a failure that may pass."""
        with self.changed:
            if state.generation == generation:
                state.failures += 1
                state.failure = failure
                state.retry_at_ms = retry_at_ms
                state.resting = state.fetching
                state.replica = NO_BROKER

    def read_from_replica(self, state: PartitionState, replica: int) -> None:
        """Fetches from the replica that the leader named."""
        with self.changed:
            state.replica = replica
            state.resting = not self._move(state)

    def out_of_range(self, state: PartitionState, offset: int) -> None:
        """Resets by the policy once all before `offset` is delivered, or has the application told."""
        with self.changed:
            state.resting = True
            if self._policy == "none":
                message = (
                    f"offset {offset} of {state.tp} is not in its log, and auto_offset_reset is 'none': "
                    "seek to an offset that is there, or choose 'earliest' or 'latest'"
                )
                self.fail_partition(state, OffsetOutOfRangeError(message))
                return
            LOGGER.warning(
                "offset %d of %s is not in its log; going to the %s", offset, state.tp, self._policy
            )
            state.reset_after = offset
            if state.position == offset:
                self._reset(state, RESET_TIMESTAMPS[self._policy])

    def truncated(self, state: PartitionState, end_offset: int) -> None:
        """Goes back to where the broker's log parts from what was fetched."""
        with self.changed:
            if self._policy == "none" or state.position is None:
                message = f"the log of {state.tp} was cut at offset {end_offset} and written anew from there"
                self.fail_partition(state, OffsetOutOfRangeError(message))
                return
            LOGGER.warning("the log of %s was cut at offset %d; going on there", state.tp, end_offset)
            self.seek(state.tp, min(state.position, end_offset))

    def unsettled(self) -> bool:
        """Whether better metadata is needed."""
        with self.changed:
            missing = (self.subscription or frozenset()) - self.known_topics
            return bool(missing) or any(
                state.error is None and (state.resting or state.leader == NO_BROKER)
                for state in self.states.values()
            )

    def next_retry_ms(self) -> float:
        """When the first delayed partition is to be tried again; infinity if none is delayed."""
        with self.changed:
            delayed = [
                state.retry_at_ms
                for state in self.states.values()
                if state.error is None
                and (state.resting or state.reset is not None)
                and state.leader != NO_BROKER
            ]
            return min(delayed, default=float("inf"))

    # --- within ---

    def _keep_first_counts(self, topics: frozenset[str]) -> None:
        self.first_counts = {topic: count for topic, count in self.first_counts.items() if topic in topics}

    def _begin(self, state: PartitionState) -> None:
        if self.of_group:
            state.asks_group = True
        else:
            self._reset(state, RESET_TIMESTAMPS[self._policy])

    def _add(self, tp: TopicPartition) -> PartitionState:
        state = PartitionState(next(self._slots), tp)
        self.unplaced = True
        self.states[tp] = self._by_slot[state.slot] = state
        return state

    def _drop(self, states: list[PartitionState]) -> None:
        for state in states:
            state.generation += 1
            del self.states[state.tp], self._by_slot[state.slot]
        if states:
            self._fetcher.stop([state.slot for state in states])

    def _forget_fetched(self, state: PartitionState) -> None:
        state.generation += 1
        state.reset_after = state.failure = None
        if state.fetching:
            state.fetching = state.resting = False
            self._fetcher.stop([state.slot])

    def _reset(self, state: PartitionState, timestamp: int | None) -> None:
        self._forget_fetched(state)
        state.position, state.reset = None, timestamp
        if timestamp is None:
            message = (
                f"{state.tp} has no position, and auto_offset_reset is 'none': "
                "seek, assign with positions, or choose 'earliest' or 'latest'"
            )
            self.fail_partition(state, NoPositionError(message))

    def _move(self, state: PartitionState) -> bool:
        return self._fetcher.move_to(state.slot, state.generation, state.source, state.leader_epoch)

    def _apply_subscribed(self, topic: TopicImage | None) -> None:
        if topic is None or topic.error_code:
            return
        count = len(topic.partitions)
        self.first_counts.setdefault(topic.name, count)
        if self.of_group:
            self.known_topics.add(topic.name)
            return
        self._drop([s for s in self.states.values() if s.tp.topic == topic.name and s.tp.partition >= count])
        # a partition that came after the subscription is read from its start: all of it was written since
        is_new = topic.name in self.known_topics or self.first_counts[topic.name] == 0
        first = EARLIEST if is_new else RESET_TIMESTAMPS[self._policy]
        for partition in range(count):
            tp = TopicPartition(topic.name, partition)
            if tp not in self.states:
                self._reset(self._add(tp), first)
        self.known_topics.add(topic.name)

    def _apply_topic(self, state: PartitionState, image: ClusterImage) -> None:
        topic = image.topics.get(state.tp.topic)
        if topic is None or topic.error_code or state.tp.partition >= len(topic.partitions):
            state.leader = NO_BROKER
            return
        if topic.topic_id not in (state.topic_id, NO_TOPIC_ID):
            self._recreated(state, topic.topic_id)
        partition = topic.partitions[state.tp.partition]
        leader = image.leader(state.tp.topic, state.tp.partition)
        if (leader, partition.leader_epoch) == (state.leader, state.leader_epoch):
            return
        state.leader, state.leader_epoch, state.replica = leader, partition.leader_epoch, NO_BROKER
        if leader != NO_BROKER:
            # what failed with the leader before says nothing of this one
            state.retry_at_ms, state.failure = 0.0, None
        if state.fetching and not state.resting and leader != NO_BROKER:
            self._move(state)

    def _recreated(self, state: PartitionState, topic_id: bytes) -> None:
        known, state.topic_id = state.topic_id, topic_id
        if known == NO_TOPIC_ID:
            return
        LOGGER.warning(
            "topic %s was deleted and made anew; reading %s from its start", state.tp.topic, state.tp
        )
        self._reset(state, None if self._policy == "none" else EARLIEST)
        state.leader_epoch = -1
