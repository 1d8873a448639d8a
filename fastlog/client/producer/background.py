"""The producer's thread for rare, blocking requests: metadata and producer ids. The sender never waits for it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from fastlog.client.metadata import topic_error
from fastlog.errors import FastlogError, NotReachableError, UnknownTopicOrPartitionError, error_for
from fastlog.protocol.messages.init_producer_id import InitProducerIdRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fastlog.client.backoff import Backoff
    from fastlog.client.leader_hint import LeaderHint
    from fastlog.client.metadata import ClusterImage, Metadata, TopicImage

logger = logging.getLogger("fastlog.producer")

#: Kafka's metadata.max.age.ms
METADATA_AGE_MS_MAX = 300_000.0
#: one try at reaching any broker; then whoever waits is told what went wrong so far
ROUND_TIMEOUT_MS = 5_000.0


class Background(threading.Thread):
    """Keeps the cluster image fresh and fetches producer ids, when asked to.

    `on_image` is called on this thread after each new image, with the topics that were asked for, `on_identity` after
    each new producer id.
    """

    def __init__(
        self,
        metadata: Metadata,
        *,
        backoff: Backoff,
        clock_ms: Callable[[], float],
        on_image: Callable[[ClusterImage, Collection[str]], None],
        on_identity: Callable[[], None],
    ) -> None:
        super().__init__(name="fastlog-producer-metadata", daemon=True)
        #: what went wrong last; empty while all is well
        self.last_problem = ""
        self._metadata = metadata
        self._backoff = backoff
        self._clock_ms = clock_ms
        self._on_image = on_image
        self._on_identity = on_identity
        self._condition = threading.Condition()
        self._topics: set[str] = set()
        #: those that somebody waits for: with thousands of topics in use, one more is not to cost an answer about all
        self._missing: set[str] = set()
        self._wants_refresh = False
        self._wants_identity = False
        self._identity: tuple[int, int] | None = None
        self._last_error: FastlogError | None = None
        self._failures = 0
        self._closed = False

    @property
    def image(self) -> ClusterImage:
        """The newest image of the cluster."""
        return self._metadata.image

    def adopt(self, hint: LeaderHint) -> None:
        """Takes in the leader that a broker named beside an error. Does not block."""
        self._metadata.adopt(hint)

    def request_refresh(self, topic: str | None = None) -> None:
        """Wants a new image, about `topic` too. Does not block."""
        with self._condition:
            if topic is not None:
                self._topics.add(topic)
            self._wants_refresh = True
            self._condition.notify_all()

    def identity_after(self, producer_id: int) -> tuple[int, int] | None:
        """A producer id other than `producer_id`, with its epoch; None where it has yet to come. Does not block."""
        identity = self._identity
        if identity is not None and identity[0] != producer_id:
            return identity
        with self._condition:
            self._wants_identity = True
            self._condition.notify_all()
        return None

    def topic(self, name: str, timeout_ms: float) -> TopicImage:
        """The image of a topic; blocks until there is one with partitions.

        Raises the topic's error where waiting cannot help, or when `timeout_ms` has passed; NotReachableError where no
        broker answered in that time.
        """
        deadline = self._clock_ms() + timeout_ms
        while True:
            with self._condition:
                if self._closed:
                    raise FastlogError("the producer was closed while it asked for metadata")
                known = self.image.topics.get(name)
                if known is not None and known.partitions and not known.error_code:
                    return known
                error = None
                if known is not None and known.error_code:
                    error = topic_error(name, known.error_code, self._asked())
                if error is not None and not error.retriable:
                    raise error
                left = deadline - self._clock_ms()
                if left <= 0:
                    raise self._topic_missing(name, timeout_ms, error)
                self._topics.add(name)
                self._missing.add(name)
                self._condition.notify_all()
                self._condition.wait(left / 1000)

    def close(self) -> None:
        """Asks the thread to end; it may still be inside one request."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._metadata.abort()

    def run(self) -> None:
        """The thread's body."""
        try:
            while self._wait_for_work():
                self._work()
        finally:
            self._metadata.close()

    def _asked(self) -> str:
        return self._metadata.bootstrap_text

    def _topic_missing(self, name: str, timeout_ms: float, error: FastlogError | None) -> FastlogError:
        if error is None and self._last_error is not None:
            return self._last_error
        if error is None:
            return NotReachableError(
                f"no metadata of topic {name!r} came from {self._asked()} within max_block_ms={timeout_ms:.0f}"
            )
        if isinstance(error, UnknownTopicOrPartitionError):
            return UnknownTopicOrPartitionError(
                f"topic {name!r} does not exist at {self._asked()} and was not created within "
                f"max_block_ms={timeout_ms:.0f}; create it first, or let the broker do so (auto.create.topics.enable)"
            )
        return error

    def _wait_for_work(self) -> bool:
        with self._condition:
            if not self._wants_something():
                self._condition.wait(METADATA_AGE_MS_MAX / 1000)
                if not self._wants_something():
                    self._wants_refresh = True
            return not self._closed

    def _wants_something(self) -> bool:
        return self._wants_refresh or self._wants_identity or bool(self._missing)

    def _work(self) -> None:
        try:
            if self._wants_refresh or self._missing:
                self._refresh()
            if self._wants_identity:
                self._fetch_identity()
        except FastlogError as error:
            self._failed(error)
        else:
            self._failures = 0
            self.last_problem, self._last_error = "", None
        with self._condition:
            self._condition.notify_all()
            if not self._closed and (self._wants_something() or self._failures):
                # what is wanted again so soon is not there yet: a leader being elected, a topic being created
                self._condition.wait(self._backoff.delay_ms(max(self._failures, 1)) / 1000)

    def _refresh(self) -> None:
        with self._condition:
            topics = set(self._topics if self._wants_refresh else self._missing)
            self._missing.clear()
            self._wants_refresh = False
        try:
            image = self._metadata.refresh(topics, timeout_ms=ROUND_TIMEOUT_MS, create=True)
        except FastlogError:
            self._wants_refresh = True
            raise
        self._on_image(image, topics)

    def _fetch_identity(self) -> None:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=60_000)
        response = self._metadata.request(request, timeout_ms=ROUND_TIMEOUT_MS)
        if response.error_code:
            raise error_for(
                response.error_code, f"a producer id was asked of {self._asked()} (InitProducerId)"
            )
        self._identity = (response.producer_id, response.producer_epoch)
        with self._condition:
            self._wants_identity = False
        self._on_identity()

    def _failed(self, error: FastlogError) -> None:
        self._failures += 1
        self._last_error = error
        self.last_problem = str(error)
        logger.debug("metadata or a producer id could not be fetched: %s", error)
