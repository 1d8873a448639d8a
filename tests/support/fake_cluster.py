"""Scripted Kafka brokers on loopback: what a consumer asks of a cluster, with faults on order."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fastlog.protocol import codec
from fastlog.protocol.messages import api_versions, fetch, list_offsets, metadata
from tests.support.batches import NOW_MS, seal, with_fields

API_VERSIONS, FETCH, LIST_OFFSETS, METADATA = 18, 1, 2, 3
OFFERED = {FETCH: (4, 12), LIST_OFFSETS: (1, 7), METADATA: (0, 12), API_VERSIONS: (0, 3)}
UNSUPPORTED_VERSION = 35
#: from these versions of Fetch on topics have ids, and answers name the new leader
IDS_FROM, HINTS_FROM = 13, 16


@dataclass
class FakePartition:
    """One partition's log."""

    leader: int = 0
    leader_epoch: int = 0
    log_start: int = 0
    end: int = 0
    #: (offset after it, bytes), in order
    batches: list[tuple[int, bytes]] = field(default_factory=list)
    aborted: list[tuple[int, int]] = field(default_factory=list)
    #: error codes for the next fetches, one each
    fetch_errors: deque[int] = field(default_factory=deque)
    #: error codes for the next offset look-ups
    lookup_errors: deque[int] = field(default_factory=deque)
    #: bends the record bytes of an answer
    mangle: Callable[[bytes], bytes] = bytes
    preferred_replica: int = -1
    #: where epochs ended whose tail was cut off, by epoch
    cut: dict[int, int] = field(default_factory=dict)

    def append(self, *values: bytes | None, compression: int = 0, **fields: int) -> int:
        """Appends a batch; returns its base offset."""
        rows = [(NOW_MS + self.end + i, None, value, ()) for i, value in enumerate(values)]
        return self.append_batch(
            with_fields(seal(rows, compression), base_offset=self.end, **fields), len(values)
        )

    def append_batch(self, batch: bytes, span: int) -> int:
        """Appends a batch that takes `span` offsets."""
        base, self.end = self.end, self.end + span
        self.batches.append((self.end, batch))
        return base

    def skip(self, count: int) -> None:
        """Leaves a gap of offsets, as a cleaner does."""
        self.end += count

    def truncate(self, end: int) -> None:
        """Loses the batches from the one that begins at `end` on, as an unclean election does."""
        self.cut[self.leader_epoch] = end
        self.batches = [it for it in self.batches if it[0] <= end]
        self.end = end

    def read(self, offset: int, max_bytes: int) -> bytes:
        """The batches from the one with `offset` on."""
        found = [batch for end, batch in self.batches if end > offset]
        out = b""
        for batch in found:
            if out and len(out) + len(batch) > max_bytes:
                return out + batch[: max(0, max_bytes - len(out))]
            out += batch
        return out


@dataclass
class FakeTopic:
    """A topic with its id."""

    topic_id: bytes
    partitions: list[FakePartition]


class FakeCluster:
    """Brokers 0, 1, … that share topics. A context manager; all are started."""

    def __init__(self, brokers: int = 1) -> None:
        self.topics: dict[str, FakeTopic] = {}
        self.requests: Counter[int] = Counter()
        #: fetch requests as they came
        self.fetches: deque[fetch.FetchRequest] = deque(maxlen=1000)
        #: top-level error codes for the next fetches
        self.fetch_errors: deque[int] = deque()
        #: answers are held back while this is not set
        self.answering = threading.Event()
        self.answering.set()
        self.offered = dict(OFFERED)
        #: answers to more APIs, given the broker's id and the request
        self.more: dict[int, Callable[[int, Any], Any]] = {}
        self.changed = threading.Condition()
        self.brokers = [FakeBroker(self, broker_id) for broker_id in range(brokers)]

    def __enter__(self) -> FakeCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.answering.set()
        for broker in self.brokers:
            broker.stop()

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers)

    def create(self, name: str, partitions: int = 1) -> list[FakePartition]:
        """Makes a topic anew; partitions are led by the brokers in turn."""
        made = [FakePartition(leader=i % len(self.brokers)) for i in range(partitions)]
        self.topics[name] = FakeTopic(uuid.uuid4().bytes, made)
        return made

    def notify(self) -> None:
        """Has waiting fetches look again."""
        with self.changed:
            self.changed.notify_all()


class FakeBroker:
    """One broker: a listener, a thread per connection."""

    def __init__(self, cluster: FakeCluster, broker_id: int) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.port = 0
        self.connections: list[socket.socket] = []
        self.accepted = 0
        #: this broker's answers are held back while it is not set
        self.answering = threading.Event()
        self.answering.set()
        self.listener: socket.socket | None = None
        self.start()

    def start(self) -> None:
        """Listens, on the same port as before."""
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def stop(self) -> None:
        """Ends the listener and all connections."""
        self.answering.set()
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """Ends all connections; new ones are accepted."""
        while self.connections:
            connection = self.connections.pop()
            # the client may have been quicker
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.cluster.notify()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            self.connections.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            while True:
                (length,) = struct.unpack(">i", receive(connection, 4))
                frame = receive(connection, length)
                answer = self._answer(frame)
                self.cluster.answering.wait()
                self.answering.wait()
                connection.sendall(struct.pack(">i", len(answer)) + answer)

    def _answer(self, frame: bytes) -> bytes:
        key, version, correlation_id, _, body = codec.decode_request_header(frame)
        self.cluster.requests[key] += 1
        if key == API_VERSIONS and version > self.cluster.offered[API_VERSIONS][1]:
            message = api_versions.ApiVersionsResponse(error_code=UNSUPPORTED_VERSION)
            return codec.encode_response_frame(key, 0, correlation_id, message)
        request = codec.decode_request(key, version, frame, body)
        handlers: dict[int, Callable[[Any], Any]] = {
            API_VERSIONS: self._api_versions,
            METADATA: self._metadata,
            LIST_OFFSETS: self._list_offsets,
            FETCH: self._fetch,
        }
        if key in self.cluster.more:
            response = self.cluster.more[key](self.broker_id, request)
        else:
            response = handlers[key](request)
        return codec.encode_response_frame(key, version, correlation_id, response)

    def _api_versions(self, _: object) -> api_versions.ApiVersionsResponse:
        keys = [
            api_versions.ApiVersion(api_key=key, min_version=low, max_version=high)
            for key, (low, high) in self.cluster.offered.items()
        ]
        return api_versions.ApiVersionsResponse(api_keys=keys)

    def _metadata(self, request: metadata.MetadataRequest) -> metadata.MetadataResponse:
        brokers = [
            metadata.MetadataResponseBroker(node_id=broker.broker_id, host="127.0.0.1", port=broker.port)
            for broker in self.cluster.brokers
        ]
        names = (
            sorted(self.cluster.topics) if request.topics is None else [one.name for one in request.topics]
        )
        topics = [self._metadata_topic(name or "") for name in names]
        return metadata.MetadataResponse(brokers=brokers, cluster_id="fake", controller_id=0, topics=topics)

    def _metadata_topic(self, name: str) -> metadata.MetadataResponseTopic:
        topic = self.cluster.topics.get(name)
        if topic is None:
            return metadata.MetadataResponseTopic(name=name, error_code=3)
        partitions = [
            metadata.MetadataResponsePartition(
                partition_index=index, leader_id=one.leader, leader_epoch=one.leader_epoch
            )
            for index, one in enumerate(topic.partitions)
        ]
        return metadata.MetadataResponseTopic(name=name, topic_id=topic.topic_id, partitions=partitions)

    def _list_offsets(self, request: list_offsets.ListOffsetsRequest) -> list_offsets.ListOffsetsResponse:
        topics = []
        for topic in request.topics:
            partitions = []
            for asked in topic.partitions:
                code, offset = self._offset(topic.name, asked)
                partitions.append(
                    list_offsets.ListOffsetsPartitionResponse(
                        partition_index=asked.partition_index, error_code=code, offset=offset
                    )
                )
            topics.append(list_offsets.ListOffsetsTopicResponse(name=topic.name, partitions=partitions))
        return list_offsets.ListOffsetsResponse(topics=topics)

    def _offset(self, name: str, asked: list_offsets.ListOffsetsPartition) -> tuple[int, int]:
        partition = self._find(name, asked.partition_index)
        if partition is None:
            return 3, -1
        if partition.lookup_errors:
            return partition.lookup_errors.popleft(), -1
        if partition.leader != self.broker_id:
            return 6, -1
        if asked.timestamp in (-1, -2):
            return 0, partition.end if asked.timestamp == -1 else partition.log_start
        # the record at offset n has the timestamp NOW_MS + n
        offset = max(partition.log_start, asked.timestamp - NOW_MS)
        return 0, offset if offset < partition.end else -1

    def _fetch(self, request: fetch.FetchRequest) -> fetch.FetchResponse:
        self.cluster.fetches.append(request)
        if self.cluster.fetch_errors:
            return fetch.FetchResponse(error_code=self.cluster.fetch_errors.popleft())
        deadline = time.monotonic() + request.max_wait_ms / 1000
        while True:
            topics = [self._fetch_topic(topic) for topic in request.topics]
            told = any(
                one.records or one.error_code or one.diverging_epoch.end_offset >= 0
                for topic in topics
                for one in topic.partitions
            )
            left = deadline - time.monotonic()
            if told or left <= 0 or self.listener is None:
                return fetch.FetchResponse(responses=topics, node_endpoints=self._nodes())
            with self.cluster.changed:
                self.cluster.changed.wait(min(left, 0.02))

    def _fetch_topic(self, topic: fetch.FetchTopic) -> fetch.FetchableTopicResponse:
        name, code = topic.topic, 3
        if self.cluster.offered[FETCH][1] >= IDS_FROM:
            code = 100
            ids = {known.topic_id: name for name, known in self.cluster.topics.items()}
            name = ids.get(topic.topic_id, "")
        partitions = [self._fetch_partition(name, asked, code) for asked in topic.partitions]
        return fetch.FetchableTopicResponse(topic=topic.topic, topic_id=topic.topic_id, partitions=partitions)

    def _nodes(self) -> list[fetch.NodeEndpoint]:
        return [fetch.NodeEndpoint(it.broker_id, "127.0.0.1", it.port) for it in self.cluster.brokers]

    def _fetch_partition(self, name: str, asked: fetch.FetchPartition, unknown: int) -> fetch.PartitionData:
        partition = self._find(name, asked.partition)
        answer = fetch.PartitionData(partition_index=asked.partition, aborted_transactions=None)
        if partition is None:
            answer.error_code = unknown
            return answer
        answer.error_code = self._fetch_error(partition, asked)
        if answer.error_code in (6, 74) and self.cluster.offered[FETCH][1] >= HINTS_FROM:
            answer.current_leader = fetch.LeaderIdAndEpoch(partition.leader, partition.leader_epoch)
        answer.high_watermark = answer.last_stable_offset = partition.end
        answer.log_start_offset = partition.log_start
        if answer.error_code:
            return answer
        cut = partition.cut.get(asked.last_fetched_epoch)
        if cut is not None and asked.fetch_offset > cut:
            answer.diverging_epoch = fetch.EpochEndOffset(asked.last_fetched_epoch, cut)
            return answer
        if partition.preferred_replica not in (-1, self.broker_id):
            answer.preferred_read_replica = partition.preferred_replica
            return answer
        answer.aborted_transactions = [
            fetch.AbortedTransaction(producer_id=producer_id, first_offset=first)
            for producer_id, first in partition.aborted
        ]
        answer.records = partition.mangle(partition.read(asked.fetch_offset, asked.partition_max_bytes))
        return answer

    def _fetch_error(self, partition: FakePartition, asked: fetch.FetchPartition) -> int:
        if partition.fetch_errors:
            return partition.fetch_errors.popleft()
        if self.broker_id not in (partition.leader, partition.preferred_replica):
            return 6
        if -1 < asked.current_leader_epoch != partition.leader_epoch:
            return 74 if asked.current_leader_epoch < partition.leader_epoch else 75
        return 0 if partition.log_start <= asked.fetch_offset <= partition.end else 1

    def _find(self, name: str, index: int) -> FakePartition | None:
        topic = self.cluster.topics.get(name)
        return topic.partitions[index] if topic is not None and index < len(topic.partitions) else None


def receive(connection: socket.socket, count: int) -> bytes:
    """Exactly `count` bytes; raises EOFError where the connection ends before."""
    out = b""
    while len(out) < count:
        data = connection.recv(count - len(out))
        if not data:
            raise EOFError
        out += data
    return out
