"""A broker as far as its replicas go: engine, listener for brokers, ReplicaManager; clients speak to its engine."""

from __future__ import annotations

import select
import threading
import time
from typing import TYPE_CHECKING, Any

from fastlog.broker.replicas.leader_fetcher import LeaderFetcher
from fastlog.broker.replicas.manager import ReplicaManager
from fastlog.broker.system import SystemClock
from fastlog.config import load
from fastlog.native._engine import Engine, open_batches
from fastlog.native._records import read_batches
from fastlog.protocol.api import ApiKey
from fastlog.protocol.codec import decode_response_frame, encode_request_frame
from fastlog.protocol.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from fastlog.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from fastlog.transport.connections import ConnectionLimits
from fastlog.transport.dealer import DealerContext
from fastlog.transport.router import RouterLimits, RouterListener
from tests.support.batches import NOW_MS, seal
from tests.support.replica_wiring import WiredCommands

if TYPE_CHECKING:
    from pathlib import Path

    from fastlog.broker.replicas.settings import ReplicaSettings
    from tests.support.replica_wiring import Wiring

CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAQ"
PRODUCE_VERSION, FETCH_VERSION = 9, 12
LIMITS = RouterLimits(
    message_bytes_max=1 << 27,
    queue_messages=1000,
    peer_requests_max=100,
    parked_answers_max=1000,
    handshake_ms=5_000,
    connections=ConnectionLimits(connections_max=100, connections_per_ip_max=100, frame_timeout_ms=30_000),
)


class ReplicaNode:
    """One process, from its construction to `stop` or `kill`."""

    def __init__(self, node_id: int, path: Path, wiring: Wiring, settings: ReplicaSettings) -> None:
        self.node_id = node_id
        config = load(assignments=[f"node.id={node_id}", f"replica.lag.time.max.ms={settings.lag_ms}"])
        self.engine = Engine(config.broker())
        self.last_stop, _ = self.engine.open_directories([str(path)], CLUSTER_ID)
        self.commands = WiredCommands()
        self.peers = wiring.peers_of(node_id)
        self.accepted: list[tuple[int, int]] = []
        self._dealers = DealerContext()
        self.manager = ReplicaManager(
            node_id=node_id,
            config=config,
            engine=self.engine,
            peers=self.peers,
            commands=self.commands,
            clock=SystemClock(),
            fetching=lambda leader: LeaderFetcher(
                leader,
                node_id,
                self.engine,
                lambda host, port: self._dealers.open(host, port, settings.handshake_timeout_ms),
                settings,
            ),
            settings=settings,
            accepted=lambda *epochs: self.accepted.append(epochs),
        )
        self._router = RouterListener(LIMITS)
        self.port = self._router.bind("127.0.0.1", 0)
        self._router.start(self.engine.zmq_intake("BROKER", "127.0.0.1", self.port, inter_broker=True))
        self._is_over = False
        self._loop = threading.Thread(target=self._watch, name="control", daemon=True)
        self._loop.start()
        self.manager.start()
        self._intake = self.engine.zmq_intake("ZMQ", "127.0.0.1", 1)
        self._number = 0

    def _watch(self) -> None:
        """The control loop's part: hands over what the engine noticed."""
        descriptor = self.engine.control_fd()
        while not self._is_over:
            if select.select([descriptor], [], [], 0.1)[0]:
                self.engine.drain_control(64)
                self.engine.drain_events()
                self.manager.noticed()

    def kill(self) -> None:
        """As kill -9 leaves it: nothing is marked as closed."""
        self._end()
        self.engine.shutdown()

    def stop(self) -> None:
        """Closes the logs."""
        self._end()
        self.engine.close_directories()
        self.engine.shutdown()

    def _end(self) -> None:
        self._router.stop()
        self.manager.stop()
        self._is_over = True
        self._loop.join()
        self._dealers.close()

    # --- clients ---

    def produce(
        self, topic: str, values: list[bytes], *, index: int = 0, acks: int = -1, timeout_ms: int = 10_000
    ) -> tuple[int, int]:
        """Kafka's error code and the base offset."""
        batch = seal([(NOW_MS, None, value, ()) for value in values])
        data = TopicProduceData(name=topic, partition_data=[PartitionProduceData(index=index, records=batch)])
        request = ProduceRequest(acks=acks, timeout_ms=timeout_ms, topic_data=[data])
        answer = self._ask(ApiKey.PRODUCE, request, PRODUCE_VERSION)
        (found,) = answer.responses[0].partition_responses
        return found.error_code, found.base_offset

    def consume(self, topic: str, *, index: int = 0, offset: int = 0) -> tuple[int, int, list[bytes]]:
        """Kafka's error code, the high watermark, the values of what is shown."""
        wanted = FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=1 << 24)
        request = FetchRequest(topics=[FetchTopic(topic=topic, partitions=[wanted])])
        answer = self._ask(ApiKey.FETCH, request, FETCH_VERSION)
        (found,) = answer.responses[0].partitions
        batches = read_batches(open_batches(found.records or b""), from_offset=offset)
        values = [record.value or b"" for batch in batches for record in batch if record.offset >= offset]
        return found.error_code, found.high_watermark, values

    def place(self, topic: str, index: int = 0) -> tuple[int, int, int, int, int] | None:
        """Log end, last epoch, durable end, log start, high watermark."""
        return self.engine.fetch_positions([(topic, index)])[0]

    def log_end(self, topic: str, index: int = 0) -> int:
        """-1 where it is not open."""
        place = self.place(topic, index)
        return -1 if place is None else place[0]

    def high_watermark(self, topic: str, index: int = 0) -> int:
        """-1 where it is not open."""
        place = self.place(topic, index)
        return -1 if place is None else place[4]

    def _ask(self, key: ApiKey, request: Any, version: int) -> Any:
        self._number += 1
        frame = encode_request_frame(request, version, 1, "test")
        answer = self._intake.submit(self._number, [frame])
        deadline = time.monotonic() + 30
        while answer is None:
            assert time.monotonic() < deadline
            select.select([self._intake.completions_fd()], [], [], 1)
            for number, found in self._intake.drain_completions(1 << 24):
                if number == self._number:
                    answer = found
        return decode_response_frame(key, version, answer)[1]
