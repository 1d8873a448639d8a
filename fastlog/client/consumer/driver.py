"""The consumer's background thread: metadata, offset look-ups, and what the fetcher reports."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING

from fastlog.client.backoff import Backoff
from fastlog.client.connection import Connection
from fastlog.client.consumer.offset_lookup import Found, OffsetLookup, Question
from fastlog.client.consumer.partition_state import NO_BROKER
from fastlog.client.leader_hint import LeaderHint
from fastlog.client.metadata import BrokerAddress, Metadata, topic_error
from fastlog.errors import (
    ClosedError,
    FastlogError,
    KafkaError,
    KafkaStorageError,
    NotReachableError,
    UnknownTopicOrPartitionError,
    error_for,
)
from fastlog.native._engine import PartitionFailed

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable

    from fastlog.client.consumer.assignment import Assignment
    from fastlog.client.consumer.options import ConsumerOptions
    from fastlog.client.consumer.partition_state import PartitionState
    from fastlog.client.consumer.topic_partition import TopicPartition
    from fastlog.client.metadata import ClusterImage
    from fastlog.native._engine import BrokerFailed, Fetcher

LOGGER = logging.getLogger("fastlog.consumer")
#: the metadata of a topic that was just made takes a moment to reach every broker
UNKNOWN_TOPIC_GRACE_MS = 3_000
#: one request for metadata is given up after this; the next follows after a back-off
REFRESH_TIMEOUT_MS = 5_000
#: one turn waits no longer than this for events
TURN_MS_MAX = 1_000
#: one line per broker in this time, however often it is tried
WARNING_INTERVAL_MS = 10_000
OFFSET_OUT_OF_RANGE = 1
UNKNOWN_TOPIC_OR_PARTITION = 3
LEADER_NOT_AVAILABLE = 5
UNSUPPORTED_VERSION = 35
UNKNOWN_SERVER_ERROR = -1


def leader_hint(tp: TopicPartition, told: tuple[int, int, tuple[str, int, str | None] | None]) -> LeaderHint:
    """What the fetcher was told of a partition's leader."""
    leader, leader_epoch, endpoint = told
    node = None if endpoint is None else BrokerAddress(leader, *endpoint)
    return LeaderHint(tp.topic, tp.partition, leader, leader_epoch, node)


def monotonic_ms() -> float:
    """The clock of the driver's deadlines."""
    return time.monotonic() * 1000


class Driver:
    """Keeps an assignment going. Its thread is the only one that asks brokers, besides the fetcher's."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        options: ConsumerOptions,
        fetcher: Fetcher,
        assignment: Assignment,
    ) -> None:
        """Connects to nobody yet. Raises ConfigError where `bootstrap` names no broker."""
        self._options = options
        self._fetcher = fetcher
        self._assignment = assignment
        self._closed = threading.Event()
        self._backoff = Backoff(options.retry_backoff_ms, options.retry_backoff_max_ms, random.random)
        self._metadata = Metadata(
            bootstrap,
            client_id=options.client_id,
            request_timeout_ms=options.request_timeout_ms,
            connect_timeout_ms=options.connect_timeout_ms,
            retry_backoff_ms=options.retry_backoff_ms,
            retry_backoff_max_ms=options.retry_backoff_max_ms,
            sleep=self._sleep,
        )
        self._lookup = OffsetLookup(isolation_level=int(options.read_committed), connect=self._connect)
        #: told every new picture of the cluster, on the thread
        self.on_image: Callable[[ClusterImage], None] | None = None
        #: the subscription is whatever topics match
        self.pattern: re.Pattern[str] | None = None
        #: a pattern that the group's coordinator matches: what is assigned comes by topic ids
        self.by_group = False
        self._expected: re.Pattern[str] | None = None
        self._unnamed: frozenset[bytes] = frozenset()
        self._pattern_lock = threading.Lock()
        self._refresh_at_ms = 0.0
        self._refreshes = 0
        self._asked: set[str] = set()
        self._started_ms = monotonic_ms()
        self._reached = False
        self._quiet_until_ms: dict[int, float] = {}
        self._quiet_storage_ms: dict[TopicPartition, float] = {}
        self._missing_since: dict[str, float] = {}
        self._told_missing: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="fastlog-consumer", daemon=True)

    @property
    def closing(self) -> bool:
        """Whether the end has begun."""
        return self._closed.is_set()

    def start(self) -> None:
        """Starts the thread, once."""
        if self._thread.ident is None:
            self._thread.start()

    def wake(self) -> None:
        """Has the thread look at the assignment now."""
        self._fetcher.wake_events()

    def refresh_soon(self) -> None:
        """Has the thread ask for metadata now."""
        self._refresh_at_ms = 0.0
        self.wake()

    def expect(self, pattern: re.Pattern[str] | None, *, by_group: bool = False) -> None:
        """Wants topics that match, or no longer; `by_group`: the group says which these are."""
        with self._pattern_lock:
            self._expected, self.by_group, self._unnamed = pattern, by_group, frozenset()
            self.pattern = None if by_group else pattern

    def match_here(self) -> None:
        """The group does not say what matches, so that is looked for here."""
        with self._pattern_lock:
            if not self.by_group:
                return
            self.by_group, self._unnamed = False, frozenset()
            self.pattern = self._expected
        self.refresh_soon()

    def name_topics(self, ids: frozenset[bytes]) -> None:
        """Has the thread ask for metadata until it has the names of these topics."""
        with self._pattern_lock:
            if ids == self._unnamed or not self.by_group:
                return
            self._unnamed = ids
        self.refresh_soon()

    def brokers(self) -> list[tuple[str, int]]:
        """The addresses of known brokers in random order, then those of the bootstrap list."""
        known = [(broker.host, broker.port) for broker in self._metadata.image.brokers.values()]
        random.shuffle(known)
        return [*known, *self._metadata.bootstrap]

    def call_application(self) -> None:
        """Has the application's thread look after its group, also while it waits for records."""
        self._assignment.call_application()
        self._fetcher.wake()

    def close(self, timeout_ms: float) -> None:
        """Ends the thread and the fetcher; waits at most `timeout_ms`. What still connects then ends by itself."""
        deadline = monotonic_ms() + timeout_ms
        self._closed.set()
        self._fetcher.wake()
        self._fetcher.wake_events()
        self._fetcher.close(max(0, round(timeout_ms)))
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, deadline - monotonic_ms()) / 1000)

    # --- the thread ---

    def _run(self) -> None:
        while not self.closing:
            try:
                wait_ms = self._turn(monotonic_ms())
                self._take_events(wait_ms)
            except ClosedError:
                break
            except FastlogError as error:
                self._assignment.fail(error)
                self._sleep_quietly(self._options.retry_backoff_max_ms)
            except Exception as error:
                # a bug of ours: the application has to learn that its consumer does not go on
                LOGGER.exception("the consumer's background thread failed")
                self._assignment.fail(
                    FastlogError(f"the consumer's background thread failed: {error!r}; make a new consumer")
                )
                raise
            self._fetcher_wake_if_alarmed()
        self._lookup.close()
        self._metadata.close()

    def _turn(self, now_ms: float) -> float:
        """Does what is due; returns for how long nothing more will be."""
        topics = self._assignment.topics()
        wanted = bool(topics) or self.pattern is not None or self._wants_all()
        if wanted and (now_ms >= self._refresh_at_ms or not topics <= self._asked):
            self._refresh(topics)
        elif self._assignment.unplaced:
            self._assignment.apply(self._metadata.image, now_ms)
            if self._assignment.unsettled():
                self._refresh_soon(now_ms)
        self._look_up(monotonic_ms())
        now_ms = monotonic_ms()
        self._assignment.restart(now_ms)
        due_ms = min(self._refresh_at_ms if wanted else float("inf"), self._assignment.next_retry_ms())
        return min(max(0.0, due_ms - now_ms), TURN_MS_MAX)

    def _take_events(self, wait_ms: float) -> None:
        event = self._fetcher.next_event(round(wait_ms))
        while event is not None and not self.closing:
            if isinstance(event, PartitionFailed):
                self._partition_failed(event)
            else:
                self._broker_failed(event)
            event = self._fetcher.next_event(0)

    def _fetcher_wake_if_alarmed(self) -> None:
        if self._assignment.alarm:
            self._fetcher.wake()

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise ClosedError("the consumer is being closed")

    def _sleep_quietly(self, ms: float) -> None:
        self._closed.wait(ms / 1000)

    # --- metadata ---

    def _wants_all(self) -> bool:
        """Whether topics are looked for that nobody names."""
        if self.by_group:
            return bool(self._unnamed) or not self._assignment.has_seen_topics
        return self.pattern is not None

    def _see_topics(self, image: ClusterImage) -> None:
        self._assignment.see_topics(image)
        with self._pattern_lock:
            self._unnamed -= {topic.topic_id for topic in image.topics.values()}

    def _refresh(self, topics: set[str]) -> None:
        known = len(self._asked)
        timeout_ms = REFRESH_TIMEOUT_MS
        if not self._reached:
            timeout_ms = max(1, min(timeout_ms, self._options.bootstrap_timeout_ms))
        try:
            asked = None if self._wants_all() else topics
            image = self._metadata.refresh(asked, timeout_ms=timeout_ms)
        except NotReachableError as error:
            self._not_reached(error)
            return
        self._reached = True
        # the application may take it back meanwhile
        pattern = self.pattern
        if self.by_group and asked is None:
            self._see_topics(image)
        elif pattern is not None and asked is None:
            self._assignment.match(pattern, image)
            topics = self._assignment.topics()
        self._asked = topics
        now_ms = monotonic_ms()
        if self.on_image is not None:
            self.on_image(image)
        self._assignment.apply(image, now_ms)
        if not self.by_group:
            self._look_for_missing(image, self._assignment.own_topics(), now_ms)
        if self._assignment.unsettled() or self._unnamed:
            # the first look at a topic may find no leader yet: that is not a failure of ours
            self._refreshes = self._refreshes + 1 if known else 1
            self._refresh_at_ms = now_ms + self._backoff.delay_ms(self._refreshes)
        else:
            self._refreshes = 0
            self._refresh_at_ms = now_ms + self._options.metadata_max_age_ms

    def _not_reached(self, error: NotReachableError) -> None:
        now_ms = monotonic_ms()
        self._refreshes += 1
        self._refresh_at_ms = now_ms + self._backoff.delay_ms(self._refreshes)
        self._assignment.broker_failed(NO_BROKER, error)
        if self._reached:
            LOGGER.warning("%s Trying on.", error)
        elif now_ms - self._started_ms >= self._options.bootstrap_timeout_ms:
            self._assignment.fail(error)

    def _refresh_soon(self, now_ms: float) -> None:
        """Wants new metadata: at once the first time, then with back-off."""
        if self._refreshes == 0:
            self._refreshes = 1
            self._refresh_at_ms = now_ms
        else:
            self._refresh_at_ms = min(self._refresh_at_ms, now_ms + self._backoff.delay_ms(self._refreshes))

    def _look_for_missing(self, image: ClusterImage, topics: set[str], now_ms: float) -> None:
        for name in sorted(topics):
            topic = image.topics.get(name)
            code = UNKNOWN_TOPIC_OR_PARTITION if topic is None else topic.error_code
            absent = self._assignment.absent_partitions(name, 0 if topic is None else len(topic.partitions))
            if code in (0, LEADER_NOT_AVAILABLE) and not absent:
                self._missing_since.pop(name, None)
                self._told_missing.discard(name)
            elif code in (0, LEADER_NOT_AVAILABLE, UNKNOWN_TOPIC_OR_PARTITION):
                since = self._missing_since.setdefault(name, now_ms)
                if now_ms - since >= UNKNOWN_TOPIC_GRACE_MS:
                    self._tell_missing(name, absent)
            elif name not in self._told_missing:
                self._told_missing.add(name)
                self._assignment.fail(topic_error(name, code, self._metadata.bootstrap_text))

    def _tell_missing(self, name: str, absent: list[int]) -> None:
        if name in self._told_missing:
            return
        self._told_missing.add(name)
        partitions = ", ".join(map(str, absent))
        what = (
            f"the partitions {partitions} of topic {name!r} do not" if absent else f"topic {name!r} does not"
        )
        message = (
            f"{what} exist in the cluster at {self._metadata.bootstrap_text}: create it, or check the name"
        )
        self._assignment.fail(UnknownTopicOrPartitionError(message))

    # --- offsets ---

    def _look_up(self, now_ms: float) -> None:
        for leader, resets in sorted(self._assignment.resets_due(now_ms).items()):
            broker = self._metadata.image.brokers.get(leader)
            if broker is None:
                continue
            questions = [Question(state.tp, state.leader_epoch, timestamp) for state, _, timestamp in resets]
            failure: FastlogError | None = None
            try:
                answers = self._lookup.ask(broker, questions)
            except NotReachableError as error:
                LOGGER.warning("cannot look up offsets: %s", error)
                answers, failure = {}, error
            for state, generation, timestamp in resets:
                found = answers.get(state.tp)
                if found is None:
                    self._retry(state, generation, failure)
                else:
                    self._found(state, generation, timestamp, found)

    def _found(self, state: PartitionState, generation: int, timestamp: int, found: Found) -> None:
        if found.error_code:
            error = error_for(found.error_code, f"the position of {state.tp} cannot be looked up")
            self._failed(state, generation, error)
        elif found.offset >= 0:
            self._assignment.resolve(state, generation, found.offset)
        elif timestamp >= 0:
            self._assignment.look_up_end(state, generation)
            self.wake()
        else:
            self._retry(state, generation)

    # --- what the fetcher reports ---

    def _partition_failed(self, event: PartitionFailed) -> None:
        state = self._assignment.current(event.slot, event.generation)
        if state is None:
            return
        if event.leader is not None and self._metadata.adopt(leader_hint(state.tp, event.leader)):
            now_ms = monotonic_ms()
            self._assignment.apply(self._metadata.image, now_ms)
            # the rest of the picture has time: other partitions' leaders may be named meanwhile
            self._refresh_at_ms = min(self._refresh_at_ms, now_ms + self._backoff.delay_ms(1))
        elif event.diverging is not None:
            self._assignment.truncated(state, event.diverging[1])
        elif event.code == 0 and event.preferred_replica is not None:
            self._assignment.read_from_replica(state, event.preferred_replica)
        elif event.code == OFFSET_OUT_OF_RANGE and state.source == state.leader:
            # the topic may have been made anew: metadata first, then the reset
            self._refresh_soon(monotonic_ms())
            self._assignment.out_of_range(state, event.offset)
        else:
            error = error_for(event.code, f"{state.tp} cannot be fetched at offset {event.offset}")
            self._failed(state, event.generation, error)

    def _failed(self, state: PartitionState, generation: int, error: KafkaError) -> None:
        passes = error.retriable or error.code in (UNKNOWN_SERVER_ERROR, OFFSET_OUT_OF_RANGE)
        if passes:
            self._tell_retry(state, error)
            self._retry(state, generation, error)
        elif self._assignment.current(state.slot, generation) is not None:
            self._assignment.fail_partition(state, error)

    def _tell_retry(self, state: PartitionState, error: KafkaError) -> None:
        now_ms = monotonic_ms()
        # a disk that failed or records that are damaged do not pass by themselves: whoever waits must hear of it
        if isinstance(error, KafkaStorageError) and now_ms >= self._quiet_storage_ms.get(state.tp, 0.0):
            self._quiet_storage_ms[state.tp] = now_ms + WARNING_INTERVAL_MS
            LOGGER.warning("%s; trying again. The broker's log has the reason, and where to seek to", error)
        else:
            LOGGER.info("%s (%s); trying again", error, error.name)

    def _retry(self, state: PartitionState, generation: int, failure: FastlogError | None = None) -> None:
        now_ms = monotonic_ms()
        retry_at_ms = now_ms + self._backoff.delay_ms(state.failures + 1)
        self._assignment.delay(state, generation, retry_at_ms, failure)
        self._refresh_soon(now_ms)

    def _broker_failed(self, event: BrokerFailed) -> None:
        now_ms = monotonic_ms()
        if now_ms >= self._quiet_until_ms.get(event.broker_id, 0.0):
            self._quiet_until_ms[event.broker_id] = now_ms + WARNING_INTERVAL_MS
            LOGGER.warning("%s", event.message)
        self._assignment.broker_failed(event.broker_id, NotReachableError(event.message))
        if event.code == UNSUPPORTED_VERSION:
            self._assignment.fail(error_for(event.code, event.message))
        self._refresh_soon(now_ms)

    def _connect(self, broker: BrokerAddress) -> Connection:
        return Connection(
            broker.host,
            broker.port,
            client_id=self._options.client_id,
            connect_timeout_ms=self._options.connect_timeout_ms,
            request_timeout_ms=self._options.request_timeout_ms,
        )
