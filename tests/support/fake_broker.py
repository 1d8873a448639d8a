"""A broker double for client tests: Kafka's protocol over TCP and ZeroMQ, a log in memory, and faults on demand."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zmq

from fastlog.native._engine import open_batch
from fastlog.native._records import RecordBatch
from fastlog.protocol import codec
from fastlog.protocol.api import ApiKey
from fastlog.protocol.messages import api_versions, init_producer_id, metadata, produce

OFFERED = {
    ApiKey.PRODUCE: (3, 9),
    ApiKey.METADATA: (0, 12),
    ApiKey.API_VERSIONS: (0, 4),
    ApiKey.INIT_PRODUCER_ID: (0, 5),
}
IDENTITY = struct.Struct(">qhi")
IDENTITY_POSITION = 43
REMEMBERED = 5
UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER = 3, 6
UNKNOWN_TOPIC_ID = 100
#: from these versions of Produce on an answer names the new leader, and topics have ids
HINTS_FROM, IDS_FROM = 10, 13


@dataclass
class Written:
    """One record in the double's log."""

    key: bytes | None
    value: bytes | None


@dataclass
class Partition:
    """A log with Kafka's rules about producers' sequences."""

    records: list[Written] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    recent: dict[int, deque[tuple[int, int, int]]] = field(default_factory=dict)

    def append(self, batch: bytes) -> tuple[int, int]:
        """(error code, base offset)."""
        producer_id, epoch, sequence = IDENTITY.unpack_from(batch, IDENTITY_POSITION)
        records = [Written(record.key, record.value) for record in RecordBatch(open_batch(batch), "t", 0)]
        last = sequence + len(records) - 1
        if producer_id >= 0:
            code, offset = self._check(producer_id, epoch, sequence, last)
            if code or offset >= 0:
                return code, offset
        offset = len(self.records)
        self.records += records
        if producer_id >= 0:
            if self.epochs.get(producer_id) != epoch:
                self.epochs[producer_id] = epoch
                self.recent[producer_id] = deque(maxlen=REMEMBERED)
            self.recent[producer_id].append((sequence, last, offset))
        return 0, offset

    def _check(self, producer_id: int, epoch: int, sequence: int, last: int) -> tuple[int, int]:
        known = self.epochs.get(producer_id)
        if known is None:
            return 0, -1
        if epoch < known:
            return 47, -1
        if epoch > known:
            return (0 if sequence == 0 else 45), -1
        for entry in self.recent[producer_id]:
            if entry[:2] == (sequence, last):
                return 0, entry[2]
        return (0 if sequence == self.recent[producer_id][-1][1] + 1 else 45), -1


#: what a fault returns: nothing special, drop the connection before or after the append, say nothing, or an error code
Fault = str | int | None


class FakeCluster:
    """Topics, leaders and logs, shared by its brokers."""

    def __init__(self, topics: dict[str, int]) -> None:
        self.lock = threading.Lock()
        self.brokers: list[FakeBroker] = []
        self.partitions: dict[tuple[str, int], Partition] = {}
        self.leaders: dict[tuple[str, int], int] = {}
        #: by how often each partition changed its leader
        self.epochs: dict[tuple[str, int], int] = defaultdict(int)
        #: lowest and highest; from 10 on the answers name the new leader
        self.produce_versions = OFFERED[ApiKey.PRODUCE]
        #: of those that have one
        self.topic_ids: dict[str, bytes] = {}
        #: the versions of Produce requests that came
        self.versions_seen: set[int] = set()
        #: requests for metadata are not answered while this is not set
        self.tells_metadata = threading.Event()
        self.tells_metadata.set()
        self.max_batch_bytes = 1_048_588
        for topic, count in topics.items():
            self.add_topic(topic, count)
        self.next_producer_id = 1000

    def add_topic(self, topic: str, count: int) -> None:
        """Creates a topic, led by the first broker."""
        for index in range(count):
            self.partitions[topic, index] = Partition()
            self.leaders[topic, index] = 1

    def make_anew(self, topic: str, count: int = 1) -> dict[tuple[str, int], Partition]:
        """Deletes the topic and makes it again, with a new id; its logs of before."""
        with self.lock:
            gone = {place: self.partitions.pop(place) for place in list(self.partitions) if place[0] == topic}
            self.topic_ids[topic] = uuid.uuid4().bytes
            self.add_topic(topic, count)
        return gone

    def delete(self, topic: str) -> None:
        """Deletes the topic."""
        with self.lock:
            self.topic_ids.pop(topic, None)
            for place in [place for place in self.partitions if place[0] == topic]:
                del self.partitions[place]

    def move(self, topic: str, partition: int, leader: int) -> None:
        """Has another broker lead a partition, in the next epoch."""
        with self.lock:
            self.leaders[topic, partition] = leader
            self.epochs[topic, partition] += 1

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        """The values in a partition's log."""
        with self.lock:
            return [record.value for record in self.partitions[topic, partition].records]


MakeCluster = Callable[..., FakeCluster]


class FakeBroker:
    """One broker of a FakeCluster, on loopback ports the system picks. `fault` decides over each Produce request."""

    def __init__(
        self, cluster: FakeCluster, *, zmq_listener: bool = False, fault: Callable[[int], Fault] | None = None
    ) -> None:
        self.cluster = cluster
        self.node_id = len(cluster.brokers) + 1
        cluster.brokers.append(self)
        self.fault = fault or (lambda number: None)
        self.produce_requests = 0
        self.produced_over: dict[str, int] = defaultdict(int)
        self.connections: set[socket.socket] = set()
        self.held: list[Callable[[], None]] = []
        self._zmq_listener = zmq_listener
        self._stopping = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.zmq_port = 0
        if zmq_listener:
            self._start_router()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def bootstrap(self) -> str:
        """The Kafka listener's address."""
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Closes everything, as if the process had died."""
        self._stopping = True
        self._listener.close()
        for connection in list(self.connections):
            self._drop(connection)
        if self._zmq_listener:
            self.stop_router()

    def stop_router(self) -> None:
        """Ends the ZeroMQ listener alone."""
        self._router_stop.set()
        self._router_thread.join()

    def restart_router(self) -> None:
        """Starts the ZeroMQ listener again on its old port."""
        self._start_router()

    # -- transports ------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            while head := stream.read(4):
                answer = self.handle(stream.read(int.from_bytes(head, "big")), "tcp")
                if answer == "drop":
                    break
                if isinstance(answer, bytes):
                    connection.sendall(len(answer).to_bytes(4, "big") + answer)
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self.connections.discard(connection)
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    def _start_router(self) -> None:
        self._router_stop = threading.Event()
        started = threading.Event()
        self._router_thread = threading.Thread(target=self._route, args=(started,), daemon=True)
        self._router_thread.start()
        assert started.wait(10)

    def _route(self, started: threading.Event) -> None:
        with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
            router.linger = 0
            if self.zmq_port:
                router.bind(f"tcp://127.0.0.1:{self.zmq_port}")
            else:
                self.zmq_port = router.bind_to_random_port("tcp://127.0.0.1")
            started.set()
            while not self._router_stop.is_set():
                if not router.poll(20):
                    continue
                identity, *frames = router.recv_multipart()
                answer = self.handle(b"".join(frames), "zmq")
                if answer == "drop":
                    self._router_stop.set()
                    threading.Timer(0.05, self.restart_router).start()
                elif isinstance(answer, bytes):
                    router.send_multipart([identity, answer])

    # -- requests --------------------------------------------------------------------------------------------------

    def handle(self, request: bytes, transport: str) -> bytes | str | None:
        """The response's bytes, None for no response, or "drop"."""
        key, version, correlation_id, _, offset = codec.decode_request_header(request)
        if key == ApiKey.API_VERSIONS:
            response: Any = self._api_versions()
        else:
            message = codec.decode_request(key, version, request, offset)
            if key == ApiKey.METADATA and not self.cluster.tells_metadata.is_set():
                return None
            if key == ApiKey.PRODUCE:
                return self._produce(message, version, correlation_id, transport)
            response = self._metadata(message) if key == ApiKey.METADATA else self._init_producer_id()
        return codec.encode_response_frame(key, version, correlation_id, response)

    def _api_versions(self) -> api_versions.ApiVersionsResponse:
        return api_versions.ApiVersionsResponse(
            api_keys=[
                api_versions.ApiVersion(api_key=int(key), min_version=low, max_version=high)
                for key, (low, high) in {**OFFERED, ApiKey.PRODUCE: self.cluster.produce_versions}.items()
            ]
        )

    def _metadata(self, request: metadata.MetadataRequest) -> metadata.MetadataResponse:
        cluster = self.cluster
        with cluster.lock:
            counts: dict[str, int] = defaultdict(int)
            for topic, _ in cluster.partitions:
                counts[topic] += 1
            wanted = list(counts) if request.topics is None else [str(topic.name) for topic in request.topics]
            return metadata.MetadataResponse(
                brokers=[broker.address() for broker in cluster.brokers if not broker._stopping],
                cluster_id="fake",
                controller_id=1,
                topics=[self._topic(name, counts.get(name, 0)) for name in wanted],
            )

    def address(self) -> metadata.MetadataResponseBroker:
        """This broker's entry in the metadata."""
        return metadata.MetadataResponseBroker(
            node_id=self.node_id,
            host="127.0.0.1",
            port=self.port,
            zmq_endpoint=f"127.0.0.1:{self.zmq_port}" if self._zmq_listener else None,
        )

    def _topic(self, name: str, count: int) -> metadata.MetadataResponseTopic:
        partitions = [
            metadata.MetadataResponsePartition(
                partition_index=index,
                leader_id=self.cluster.leaders[name, index],
                leader_epoch=self.cluster.epochs[name, index],
                replica_nodes=[1],
                isr_nodes=[1],
            )
            for index in range(count)
        ]
        return metadata.MetadataResponseTopic(
            name=name,
            topic_id=self.cluster.topic_ids.get(name, bytes(16)),
            error_code=0 if count else 3,
            partitions=partitions,
        )

    def _init_producer_id(self) -> init_producer_id.InitProducerIdResponse:
        with self.cluster.lock:
            self.cluster.next_producer_id += 1
            return init_producer_id.InitProducerIdResponse(producer_id=self.cluster.next_producer_id)

    def _produce(
        self, request: produce.ProduceRequest, version: int, correlation_id: int, transport: str
    ) -> bytes | str | None:
        with self.cluster.lock:
            number = self.produce_requests
            self.produce_requests += 1
            self.produced_over[transport] += 1
            self.cluster.versions_seen.add(version)
            fault = self.fault(number)
            if fault == "drop before":
                return "drop"
            names = {topic_id: name for name, topic_id in self.cluster.topic_ids.items()}
            responses = [
                produce.TopicProduceResponse(
                    name=topic.name,
                    topic_id=topic.topic_id,
                    partition_responses=[
                        self._append(
                            names.get(topic.topic_id) if version >= IDS_FROM else topic.name, entry, fault
                        )
                        for entry in topic.partition_data
                    ],
                )
                for topic in request.topic_data
            ]
        if fault == "drop after":
            return "drop"
        if fault == "silence" or request.acks == 0:
            return None
        response = produce.ProduceResponse(
            responses=responses, node_endpoints=self._nodes(transport) if version >= HINTS_FROM else []
        )
        return codec.encode_response_frame(int(ApiKey.PRODUCE), version, correlation_id, response)

    def _nodes(self, transport: str) -> list[produce.NodeEndpoint]:
        """Where all brokers are by the listener that was asked on."""
        return [
            produce.NodeEndpoint(it.node_id, "127.0.0.1", it.zmq_port if transport == "zmq" else it.port)
            for it in self.cluster.brokers
        ]

    def _append(self, topic: str | None, entry: Any, fault: Fault) -> produce.PartitionProduceResponse:
        batch = bytes(entry.records)
        code, offset = 0, -1
        if topic is None:
            return produce.PartitionProduceResponse(entry.index, UNKNOWN_TOPIC_ID, -1)
        if isinstance(fault, int):
            code = fault
        elif (topic, entry.index) not in self.cluster.partitions:
            code = UNKNOWN_TOPIC_OR_PARTITION
        elif self.cluster.leaders[topic, entry.index] != self.node_id:
            code = NOT_LEADER
        elif len(batch) > self.cluster.max_batch_bytes:
            code = 10
        else:
            code, offset = self.cluster.partitions[topic, entry.index].append(batch)
        answer = produce.PartitionProduceResponse(index=entry.index, error_code=code, base_offset=offset)
        if code == NOT_LEADER:
            place = (topic, entry.index)
            # not on the wire before version 10
            answer.current_leader = produce.LeaderIdAndEpoch(
                self.cluster.leaders[place], self.cluster.epochs[place]
            )
        return answer
