"""The client's picture of the cluster: brokers, their ZeroMQ endpoints, topics, partitions and leaders."""

from __future__ import annotations

import math
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastlog.client.addresses import parse_bootstrap
from fastlog.client.backoff import Backoff
from fastlog.client.connection import DEFAULT_REQUEST_TIMEOUT_MS, Connection, monotonic_ms
from fastlog.client.leader_hint import with_leader
from fastlog.client.topic_map import TopicMap
from fastlog.errors import KafkaError, NotReachableError, error_for
from fastlog.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastlog.client.leader_hint import LeaderHint

LEADER_NOT_AVAILABLE = 5
INVALID_TOPIC = 17
NO_LEADER = -1
#: a broker that takes longer is left for the others, where there are others: one that is stopped or cut off says
#: nothing. Twice as long with each round, since a request may take its time
PATIENCE_MS = 1_000.0


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens. `zmq_endpoint` is HOST:PORT, None where the broker has no ZeroMQ listener."""

    node_id: int
    host: str
    port: int
    rack: str | None = None
    zmq_endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class PartitionImage:
    """One partition as the metadata has it; `leader` is -1 where there is none."""

    index: int
    leader: int
    leader_epoch: int
    replicas: tuple[int, ...] = ()
    isr: tuple[int, ...] = ()
    offline_replicas: tuple[int, ...] = ()
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class TopicImage:
    """One topic; `partitions` is ordered by index without holes. `error_code` is not 0 where the topic cannot be
    used.
    """

    name: str
    topic_id: bytes
    partitions: tuple[PartitionImage, ...]
    is_internal: bool = False
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class ClusterImage:
    """Everything known at one time; never changed, only replaced."""

    cluster_id: str | None = None
    controller_id: int = -1
    brokers: Mapping[int, BrokerAddress] = field(default_factory=dict)
    topics: TopicMap[TopicImage] = field(default_factory=TopicMap)

    def knows(self, topic: str, partition: int) -> bool:
        """Whether there is such a partition, led or not."""
        known = self.topics.get(topic)
        return known is not None and partition < len(known.partitions)

    def leader(self, topic: str, partition: int) -> int:
        """The broker id of the partition's leader; -1 where none is known or it is not among the brokers."""
        known = self.topics.get(topic)
        if known is None or partition >= len(known.partitions):
            return NO_LEADER
        leader = known.partitions[partition].leader
        return leader if leader in self.brokers else NO_LEADER


def merge(old: ClusterImage, response: Any, asked: Iterable[str] | None) -> ClusterImage:
    """`old`, brought up to date by a Metadata response about the topics `asked` (None: about all topics).

    A partition's leader is kept where the response tells an older leader epoch of the same topic id: it comes from a
    broker that lags behind.
    """
    brokers = {
        broker.node_id: BrokerAddress(
            broker.node_id, broker.host, broker.port, broker.rack, broker.zmq_endpoint
        )
        for broker in response.brokers
    }
    told = {
        answer.name: merge_topic(old.topics.get(answer.name), answer)
        for answer in response.topics
        if answer.name is not None
    }
    topics = TopicMap(told) if asked is None else old.topics.with_topics(told)
    return ClusterImage(response.cluster_id, response.controller_id, brokers, topics)


def merge_topic(old: TopicImage | None, answer: Any) -> TopicImage:
    """The image of one topic of a Metadata response, given what was known of it.

    A topic's partitions are numbered from 0 without holes, so an answer that names n of them can mean no index beyond
    n - 1: what does is left out, and no memory is taken for a claim.
    """
    topic_id = answer.topic_id
    count = len(answer.partitions)
    by_index = {}
    for partition in answer.partitions:
        if not 0 <= partition.partition_index < count:
            continue
        image = PartitionImage(
            partition.partition_index,
            partition.leader_id if partition.error_code != LEADER_NOT_AVAILABLE else NO_LEADER,
            partition.leader_epoch,
            tuple(partition.replica_nodes),
            tuple(partition.isr_nodes),
            tuple(partition.offline_replicas),
            partition.error_code,
        )
        if old is not None and old.topic_id == topic_id and image.index < len(old.partitions):
            known = old.partitions[image.index]
            image = known if known.leader_epoch > image.leader_epoch >= 0 else image
        by_index[image.index] = image
    partitions = tuple(by_index.get(index, PartitionImage(index, NO_LEADER, -1)) for index in range(count))
    return TopicImage(answer.name, topic_id, partitions, answer.is_internal, answer.error_code)


class Metadata:
    """Fetches and keeps the ClusterImage. Thread-safe; one request at a time."""

    def __init__(
        self,
        bootstrap: str | Iterable[str],
        *,
        client_id: str = "fastlog",
        request_timeout_ms: float = DEFAULT_REQUEST_TIMEOUT_MS,
        connect_timeout_ms: float = 10_000,
        bootstrap_timeout_ms: float = math.inf,
        retry_backoff_ms: float = 100,
        retry_backoff_max_ms: float = 1_000,
        clock_ms: Callable[[], float] = monotonic_ms,
        sleep: Callable[[float], object] = time.sleep,
        shuffle: Callable[[list[tuple[str, int]]], None] = random.shuffle,
    ) -> None:
        """Connects to nobody yet. Raises ConfigError where `bootstrap` names no broker.

        A request gives up after `bootstrap_timeout_ms` as long as no broker was ever connected to.
        """
        self.bootstrap = parse_bootstrap(bootstrap)
        #: the newest picture; replaced as a whole
        self.image = ClusterImage()
        self._client_id = client_id
        self._request_timeout_ms = request_timeout_ms
        self._connect_timeout_ms = connect_timeout_ms
        self._bootstrap_timeout_ms = bootstrap_timeout_ms
        self._was_connected = False
        self._retry_backoff_max_ms = retry_backoff_max_ms
        self._backoff = Backoff(retry_backoff_ms, retry_backoff_max_ms, random.random)
        self._clock_ms = clock_ms
        self._sleep = sleep
        self._shuffle = shuffle
        self._lock = threading.Lock()
        #: held for moments, while the image is replaced by one that was made of it
        self._image_lock = threading.Lock()
        self._aborted = False
        self._connection: Connection | None = None
        #: when brokers failed last, by address
        self._failed_ms: dict[tuple[str, int], float] = {}
        self._connection_address = self.bootstrap[0]

    @property
    def bootstrap_text(self) -> str:
        """The bootstrap list as users write it, for messages."""
        return ",".join(f"{host}:{port}" for host, port in self.bootstrap)

    def refresh(
        self, topics: Iterable[str] | None, *, timeout_ms: float, create: bool = False
    ) -> ClusterImage:
        """Asks a broker about `topics` (None: all, empty: only the brokers), and returns the new image.

        Tries every known broker and the bootstrap list, with back-off, until `timeout_ms` has passed; then raises
        NotReachableError, which names what was tried. `create`: brokers may create topics that do not exist.
        """
        names = None if topics is None else sorted(set(topics))
        request = MetadataRequest(
            topics=None if names is None else [MetadataRequestTopic(name=name) for name in names],
            allow_auto_topic_creation=create,
        )
        with self._lock:
            response = self._ask(request, timeout_ms, [])
            with self._image_lock:
                self.image = merge(self.image, response, names)
                return self.image

    def adopt(self, hint: LeaderHint) -> bool:
        """Takes in the leader that a broker named; whether that is news. Does not wait for a request."""
        with self._image_lock:
            before, self.image = self.image, with_leader(self.image, hint)
            return self.image is not before

    def request(self, request: Any, *, timeout_ms: float, unanswered: list[str] | None = None) -> Any:
        """Sends `request`, which any broker may answer, to the first broker that is reachable.

        Like `refresh` it goes on trying until `timeout_ms` has passed, so `request` must bear being sent twice. Brokers
        that it was sent to and that did not answer, so that they may have done what it asks, are added to `unanswered`.
        """
        with self._lock:
            return self._ask(request, timeout_ms, [] if unanswered is None else unanswered)

    def abort(self) -> None:
        """Lets requests that other threads wait for fail soon, and all later ones at once."""
        self._aborted = True

    def close(self) -> None:
        """Ends the connection; a later request makes a new one."""
        with self._lock:
            self._drop_connection()

    def _ask(self, request: Any, timeout_ms: float, unanswered: list[str]) -> Any:
        start = self._clock_ms()
        deadline = start + timeout_ms
        rounds = 0
        while True:
            failures: list[str] = []
            candidates = self._candidates()
            others = len(set(candidates)) - 1
            patience = PATIENCE_MS * 2.0**rounds if others else math.inf
            while candidates:
                address = candidates.pop(0)
                left = deadline - self._clock_ms()
                if (left <= 0 or self._aborted) and failures:
                    break
                try:
                    left = self._time_for_one(left, patience, others)
                    return self._ask_one(address, request, left, unanswered)
                except NotReachableError as error:
                    self._drop_connection()
                    self._failed_ms[address] = self._clock_ms()
                    candidates.sort(key=self._last_failure)
                    failures.append(str(error))
            rounds += 1
            if not self._was_connected:
                deadline = min(deadline, start + self._bootstrap_timeout_ms)
            delay = self._backoff.delay_ms(rounds)
            if self._aborted or self._clock_ms() + delay >= deadline:
                raise NotReachableError(
                    f"no broker answered within {deadline - start:.0f} ms: {'; '.join(failures)}. "
                    "Is a broker running there, and is the bootstrap address that of a PLAINTEXT listener?"
                )
            self._sleep(delay / 1000)

    def _time_for_one(self, left_ms: float, patience_ms: float, others: int) -> float:
        """What one of several may take: the others are tried once more, however patient one is by then."""
        kept_ms = others * PATIENCE_MS + self._retry_backoff_max_ms if others else 0.0
        return max(1.0, min(patience_ms, max(left_ms - kept_ms, min(left_ms, PATIENCE_MS))))

    def _candidates(self) -> list[tuple[str, int]]:
        """The brokers to try: the one in use, known ones in random order, then the bootstrap list.

        Those that failed come last, that which failed longest ago first.
        """
        known = [(broker.host, broker.port) for broker in self.image.brokers.values()]
        self._shuffle(known)
        candidates = sorted(dict.fromkeys([*known, *self.bootstrap]), key=self._last_failure)
        if self._connection is None:
            return candidates
        # the one in use comes again below: a broker closes idle connections, a fresh one may do
        return [self._connection_address, *candidates]

    def _last_failure(self, address: tuple[str, int]) -> float:
        return self._failed_ms.get(address, -math.inf)

    def _ask_one(self, address: tuple[str, int], request: Any, left_ms: float, unanswered: list[str]) -> Any:
        """Connects, where that is to be, and asks, both within `left_ms`."""
        deadline = self._clock_ms() + left_ms
        if self._connection is None or self._connection_address != address:
            self._drop_connection()
            self._connection = Connection(
                *address,
                client_id=self._client_id,
                connect_timeout_ms=min(self._connect_timeout_ms, self._bootstrap_timeout_ms, left_ms),
                request_timeout_ms=self._request_timeout_ms,
            )
            self._connection_address = address
            self._was_connected = True
        left_ms = max(1.0, deadline - self._clock_ms())
        timeout_ms = min(self._request_timeout_ms, left_ms)
        try:
            answer = self._connection.request(request, timeout_ms=timeout_ms)
        except NotReachableError:
            unanswered.append(f"{address[0]}:{address[1]}")
            raise
        self._failed_ms.pop(address, None)
        return answer

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def topic_error(name: str, code: int, asked_of: str) -> KafkaError:
    """The exception for a topic whose metadata came with an error; Metadata has no room for the broker's reason."""
    what = f"asking {asked_of} for the partitions of topic {name!r}"
    if code == INVALID_TOPIC:
        what += (
            ": a name has 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and is not '.' or '..'"
        )
    return error_for(code, what)
